"""A rule of cdk-nag that does not hold here, with the reason, beside what it is said of."""

from __future__ import annotations

from aws_cdk import Acknowledgment, Validations
from constructs import IConstruct


def accept(construct: IConstruct, rule: str, reason: str) -> None:
    """For this construct and what is in it. `rule` is one finding of AwsSolutions, as `IAM5[Action::s3:*]`, where the rule tells
    several apart. https://github.com/cdklabs/cdk-nag#acknowledging-a-rule"""
    Validations.of(construct).acknowledge(
        Acknowledgment(id=f"AwsSolutions::AwsSolutions-{rule}", reason=reason)
    )
