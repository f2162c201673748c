"""The two keys of KMS: one that encrypts what AWS keeps for us, one that is the service's own master key."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

PURPOSE = "magicode/data-key"
"""The encryption context that infra/secrets/kms.py sends with every call; a test holds the two to each other."""


class Keys(Construct):
    """Neither is ever deleted with the stack: what they encrypt would be gone with them, the backups too."""

    def __init__(self, scope: Construct, name: str) -> None:
        super().__init__(scope, name)
        self.data = _key(self, "Data", "MagiCode: database, exports, secrets, logs, volumes, alarms")
        self.master = _key(self, "Master", "MagiCode: wraps each installation's data key")
        _let_logs(self.data)
        _let_alarms(self.data)
        _let_trail(self.data)

    def let_wrap(self, role: iam.IRole) -> None:
        """The two calls of infra/secrets/kms.py, and for its own purpose alone: with these rights nothing else that somebody
        encrypted under the key can be opened.

        https://docs.aws.amazon.com/kms/latest/developerguide/conditions-kms.html#conditions-kms-encryption-context
        """
        role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=["kms:Encrypt", "kms:Decrypt"],
                resources=[self.master.key_arn],
                conditions={
                    "StringEquals": {"kms:EncryptionContext:purpose": PURPOSE},
                    "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["purpose"]},
                },
            )
        )


def _key(scope: Construct, name: str, what: str) -> kms.Key:
    return kms.Key(
        scope,
        name,
        description=what,
        enable_key_rotation=True,
        rotation_period=Duration.days(365),
        pending_window=Duration.days(30),
        removal_policy=RemovalPolicy.RETAIN,
    )


def _let_logs(key: kms.Key) -> None:
    """https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html"""
    here = Stack.of(key)
    key.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal(f"logs.{here.region}.amazonaws.com")],
            actions=[
                "kms:Encrypt",
                "kms:Decrypt",
                "kms:ReEncrypt*",
                "kms:GenerateDataKey*",
                "kms:DescribeKey",
            ],
            resources=["*"],  # of a key's own policy: this key
            conditions={
                "ArnLike": {
                    "kms:EncryptionContext:aws:logs:arn": f"arn:aws:logs:{here.region}:{here.account}:log-group:*"
                }
            },
        )
    )


def _let_alarms(key: kms.Key) -> None:
    """https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services"""
    key.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
            actions=["kms:Decrypt", "kms:GenerateDataKey*"],
            resources=["*"],  # of a key's own policy: this key
            conditions={"StringEquals": {"aws:SourceAccount": Stack.of(key).account}},
        )
    )


def _let_trail(key: kms.Key) -> None:
    """https://docs.aws.amazon.com/awscloudtrail/latest/userguide/create-kms-key-policy-for-cloudtrail.html"""
    here = Stack.of(key)
    trails = f"arn:aws:cloudtrail:{here.region}:{here.account}:trail/*"
    key.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal("cloudtrail.amazonaws.com")],
            actions=["kms:GenerateDataKey*"],
            resources=["*"],  # of a key's own policy: this key
            conditions={
                "StringEquals": {"aws:SourceAccount": here.account},
                "StringLike": {"kms:EncryptionContext:aws:cloudtrail:arn": trails},
            },
        )
    )
    key.add_to_resource_policy(
        iam.PolicyStatement(
            principals=[iam.ServicePrincipal("cloudtrail.amazonaws.com")],
            actions=["kms:DescribeKey"],
            resources=["*"],  # of a key's own policy: this key
            conditions={"StringEquals": {"aws:SourceAccount": here.account}},
        )
    )
