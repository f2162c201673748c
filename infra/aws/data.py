"""What is kept: PostgreSQL, the exports' bucket, the list of deletions, the secrets, and the bucket that holds the logs of access."""

from __future__ import annotations

import json
from collections.abc import Sequence

from aws_cdk import CfnElement, Duration, RemovalPolicy, Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_rds as rds
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from infra.aws.accepted import accept
from infra.aws.keys import Keys
from infra.aws.network import DATABASE_PORT, ISOLATED, Network

DATABASE = "magicode"
OWNER = "magicode_admin"
SERVICE_ROLE = "magicode_service"
"""The role that migrations make: infra/postgres/tables.py."""

EXPORTS_DAYS = 8
"""An export can be fetched for a week; the service deletes it then, and this is what stands behind that."""

_KEEP = ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
_BACKUP_DAYS = 30
"""What a receipt of a deletion says of backups: README.md."""


class Data(Construct):
    def __init__(
        self, scope: Construct, name: str, *, keys: Keys, network: Network, database_class: str
    ) -> None:
        super().__init__(scope, name)
        self._keys = keys
        self.access_logs = self._access_logs()
        self.exports = self._exports()
        self.backups = self._backups()
        self.database = self._database(network, database_class)
        self.app_secrets = self._app_secrets()
        self.service_password = self._made(
            "ServicePassword",
            "MagiCode: the password of the service's own role in PostgreSQL",
            "It is set by the migration task, from here; a new one needs both at once, and so does the rotation.",
        )
        self.metrics_token = self._made(
            "MetricsToken",
            "MagiCode: who shows it may read /metrics",
            "It opens figures alone, and nothing outside the task reaches them; a new one takes a restart of the tasks.",
        )

    @property
    def owner_secret(self) -> secretsmanager.ISecret:
        """Made and rotated by RDS itself, every seven days.
        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-secrets-manager.html"""
        found = self.database.secret
        if found is None:
            raise AssertionError("RDS manages the owner's password")
        return found

    def url(self, user: str, ca: str) -> str:
        """Without a password: libpq takes that from PGPASSWORD. `ca` is a file of the image with RDS's certificates; without
        one the connection is encrypted and the server's name is not checked.
        https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html"""
        checked = f"sslmode=verify-full&sslrootcert={ca}" if ca else "sslmode=require"
        host = self.database.db_instance_endpoint_address
        return f"postgresql://{user}@{host}:{DATABASE_PORT}/{DATABASE}?{checked}"

    def let_read_exports(self, role: iam.IRole) -> None:
        """The calls of infra/objects/s3.py that hand out and count."""
        self._let(role, self.exports, ["s3:GetObject"])
        self._let_key(role, self.exports, ["kms:Decrypt"])

    def let_keep_exports(self, role: iam.IRole) -> None:
        """Its calls that put and delete. A part of an upload is read back by S3 under the caller's rights, so it takes Decrypt:
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions"""
        self._let(role, self.exports, _KEEP)
        self._let_key(role, self.exports, ["kms:GenerateDataKey", "kms:Decrypt"])

    def let_list_backups(self, role: iam.IRole) -> None:
        """What is asked before anything is served: the names of the list's entries."""
        self._let(role, self.backups)

    def let_keep_backups(self, role: iam.IRole) -> None:
        """And read them: `magicode restored` runs as a task of the worker's."""
        self._let(role, self.backups, ["s3:GetObject", *_KEEP])
        self._let_key(role, self.backups, ["kms:GenerateDataKey", "kms:Decrypt"])

    def _let(self, role: iam.IRole, bucket: s3.Bucket, of_objects: Sequence[str] = ()) -> None:
        """And to list it."""
        add = role.add_to_principal_policy
        listing = ["s3:ListBucket", "s3:ListBucketMultipartUploads"]
        add(iam.PolicyStatement(actions=listing, resources=[bucket.bucket_arn]))
        if not of_objects:
            return
        add(iam.PolicyStatement(actions=list(of_objects), resources=[bucket.arn_for_objects("*")]))
        named = Stack.of(self).get_logical_id(_resource(bucket))
        accept(role, f"IAM5[Resource::<{named}.Arn>/*]", "Of this bucket every object, of nothing else any.")

    def _let_key(self, role: iam.IRole, bucket: s3.Bucket, calls: list[str]) -> None:
        """By way of S3 and for this bucket alone.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingKMSEncryption.html#encryption-context"""
        role.add_to_principal_policy(
            iam.PolicyStatement(
                actions=calls,
                resources=[self._keys.data.key_arn],
                conditions={
                    "StringLike": {"kms:EncryptionContext:aws:s3:arn": bucket.arn_for_objects("*")},
                },
            )
        )

    # --- what there is -----------------------------------------------------------------------------------------------

    def _access_logs(self) -> s3.Bucket:
        """Under S3's own key, since load balancers write under no other:
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/enable-access-logging.html"""
        bucket = s3.Bucket(
            self,
            "AccessLogs",
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            lifecycle_rules=[s3.LifecycleRule(expiration=Duration.days(90))],
            removal_policy=RemovalPolicy.RETAIN,
        )
        accept(bucket, "S1", "It is where the logs of access go: a log of itself would never end.")
        return bucket

    def _exports(self) -> s3.Bucket:
        """Without versions: what an installation has destroyed is to be gone."""
        return self._bucket("Exports", expiration=Duration.days(EXPORTS_DAYS))

    def _backups(self) -> s3.Bucket:
        """The list of deletions, which RDS's snapshots are held against, and wrapped keys. It never ends; without versions too, since a
        key that was destroyed there is to be gone."""
        return self._bucket("Backups", expiration=None)

    def _bucket(self, name: str, *, expiration: Duration | None) -> s3.Bucket:
        return s3.Bucket(
            self,
            name,
            encryption=s3.BucketEncryption.KMS,
            encryption_key=self._keys.data,
            bucket_key_enabled=False,  # with one, a call's encryption context names the bucket and not the object
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=False,
            server_access_logs_bucket=self.access_logs,
            server_access_logs_prefix=f"{name.lower()}/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=expiration, abort_incomplete_multipart_upload_after=Duration.days(1)
                )
            ],
            removal_policy=RemovalPolicy.RETAIN,
        )

    def _database(self, network: Network, database_class: str) -> rds.DatabaseInstance:
        engine = rds.DatabaseInstanceEngine.postgres(version=rds.PostgresEngineVersion.VER_18)
        database = rds.DatabaseInstance(
            self,
            "Database",
            engine=engine,
            instance_type=ec2.InstanceType(database_class),
            vpc=network.vpc,
            vpc_subnets=ISOLATED,
            security_groups=[network.database],
            port=DATABASE_PORT,
            database_name=DATABASE,
            credentials=rds.Credentials.from_username(OWNER, encryption_key=self._keys.data),
            manage_master_user_password=True,
            parameter_group=rds.ParameterGroup(
                self, "Parameters", engine=engine, parameters={"rds.force_ssl": "1"}
            ),
            multi_az=True,
            publicly_accessible=False,
            storage_encrypted=True,
            storage_encryption_key=self._keys.data,
            storage_type=rds.StorageType.GP3,
            allocated_storage=100,
            max_allocated_storage=1000,
            backup_retention=Duration.days(_BACKUP_DAYS),
            copy_tags_to_snapshot=True,
            deletion_protection=True,
            auto_minor_version_upgrade=True,
            ca_certificate=rds.CaCertificate.RDS_CA_RSA4096_G1,
            enable_performance_insights=True,
            performance_insight_encryption_key=self._keys.data,
            removal_policy=RemovalPolicy.RETAIN,
        )
        accept(
            database, "RDS11", "Its usual port, in subnets without a way in or out: another hides nothing."
        )
        accept(database, "SMG4", "RDS rotates the owner's password itself, every seven days.")
        return database

    def _app_secrets(self) -> secretsmanager.Secret:
        """Empty: what goes in is known to GitHub and to the models' providers, and never to a template."""
        secret = secretsmanager.Secret(
            self,
            "AppSecrets",
            description="MagiCode: what MAGICODE_SECRETS names, a JSON object of names and texts",
            encryption_key=self._keys.data,
            removal_policy=RemovalPolicy.RETAIN,
        )
        found = secret.node.default_child
        if not isinstance(found, secretsmanager.CfnSecret):
            raise AssertionError("a secret is a CfnSecret")
        found.generate_secret_string = None
        accept(
            secret,
            "SMG4",
            "GitHub and the models' providers make these, in a browser: no function can rotate them. The service takes a "
            "webhook secret up while it runs, beside the one before it.",
        )
        return secret

    def _made(self, name: str, what: str, why_not_rotated: str) -> secretsmanager.Secret:
        secret = secretsmanager.Secret(
            self,
            name,
            description=what,
            encryption_key=self._keys.data,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template=json.dumps({}),
                generate_string_key="value",
                password_length=48,
                exclude_punctuation=True,
            ),
            removal_policy=RemovalPolicy.RETAIN,
        )
        accept(secret, "SMG4", why_not_rotated)
        return secret


def _resource(bucket: s3.Bucket) -> CfnElement:
    found = bucket.node.default_child
    if not isinstance(found, CfnElement):
        raise AssertionError("a bucket is an element of the template")
    return found


def let_read(secret: secretsmanager.ISecret, key: kms.IKey, role: iam.IRole) -> None:
    """The one call of infra/secrets/secretsmanager.py that the running service makes.
    https://docs.aws.amazon.com/secretsmanager/latest/userguide/security-encryption.html"""
    add = role.add_to_principal_policy
    add(iam.PolicyStatement(actions=["secretsmanager:GetSecretValue"], resources=[secret.secret_arn]))
    add(
        iam.PolicyStatement(
            actions=["kms:Decrypt"],
            resources=[key.key_arn],
            conditions={"StringEquals": {"kms:EncryptionContext:SecretARN": secret.secret_arn}},
        )
    )
