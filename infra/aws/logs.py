"""Where logs go: groups under our own key, kept for a month."""

from __future__ import annotations

from aws_cdk import RemovalPolicy
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.aws.keys import Keys


def log_group(
    scope: Construct, name: str, keys: Keys, kept: logs.RetentionDays = logs.RetentionDays.ONE_MONTH
) -> logs.LogGroup:
    return logs.LogGroup(
        scope, name, encryption_key=keys.data, retention=kept, removal_policy=RemovalPolicy.DESTROY
    )
