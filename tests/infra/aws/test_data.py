"""What is kept, and that nobody else reads it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from infra.aws.data import EXPORTS_DAYS, SERVICE_ROLE
from tests.infra.aws.reading import Template, of, only, strings


def test_every_bucket_blocks_the_public_and_speaks_tls_alone(template: Template) -> None:
    buckets = of(template, "S3::Bucket")
    assert len(buckets) == 4
    policies = {one["Bucket"]["Ref"]: json.dumps(one) for one in of(template, "S3::BucketPolicy").values()}
    for name, bucket in buckets.items():
        block = bucket["PublicAccessBlockConfiguration"]
        assert block == dict.fromkeys(
            ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
        )
        assert '"aws:SecureTransport": "false"' in policies[name]
        assert '"s3:TlsVersion": 1.2' in policies[name]
        assert bucket["BucketEncryption"]
        assert bucket["LifecycleConfiguration"]
        assert template["Resources"][name]["DeletionPolicy"] == "Retain"


def test_an_export_that_the_service_forgot_is_gone_after_a_week_and_a_day(template: Template) -> None:
    bucket = only(template, "S3::Bucket", "Exports")
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["ExpirationInDays"] == EXPORTS_DAYS == 8
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert "VersioningConfiguration" not in bucket, "a version would outlive a deletion"


def test_the_list_of_deletions_never_ends_and_has_no_versions(template: Template) -> None:
    bucket = only(template, "S3::Bucket", "Backups")
    (rule,) = bucket["LifecycleConfiguration"]["Rules"]
    assert not [name for name in rule if name.startswith(("Expiration", "Transition", "Noncurrent"))]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    assert "VersioningConfiguration" not in bucket, "a wrapped key that was destroyed would be there still"
    assert bucket["LoggingConfiguration"]["LogFilePrefix"] == "backups/"
    assert "KeysData" in json.dumps(bucket["BucketEncryption"])


def test_exports_are_under_our_key_and_who_fetched_one_is_written_down(template: Template) -> None:
    bucket = only(template, "S3::Bucket", "Exports")
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
    assert "KeysData" in json.dumps(rule)
    assert bucket["LoggingConfiguration"]["LogFilePrefix"] == "exports/"


def test_the_database_is_encrypted_backed_up_for_thirty_days_and_not_deleted_by_a_slip(
    template: Template,
) -> None:
    database = only(template, "RDS::DBInstance")
    assert database["StorageEncrypted"] is True
    assert "KeysData" in json.dumps(database["KmsKeyId"])
    assert database["BackupRetentionPeriod"] == 30
    assert database["DeletionProtection"] is True
    assert "KeysData" in json.dumps(database["PerformanceInsightsKMSKeyId"])
    assert int(database["EngineVersion"].partition(".")[0]) >= 16
    (name,) = of(template, "RDS::DBInstance")
    assert template["Resources"][name]["DeletionPolicy"] == "Retain"


def test_the_database_refuses_whoever_does_not_speak_tls(template: Template) -> None:
    database = only(template, "RDS::DBInstance")
    group = of(template, "RDS::DBParameterGroup")[database["DBParameterGroupName"]["Ref"]]
    assert group["Parameters"] == {"rds.force_ssl": "1"}


def test_the_owners_password_is_amazons_to_make_and_to_rotate(template: Template) -> None:
    database = only(template, "RDS::DBInstance")
    assert database["ManageMasterUserPassword"] is True
    assert "MasterUserPassword" not in database


def test_the_service_connects_as_the_role_that_migrations_make(root: Path) -> None:
    tables = (root / "infra/postgres/tables.py").read_text()
    assert re.findall(r'^SERVICE_ROLE = "([a-z_]+)"', tables, re.MULTILINE) == [SERVICE_ROLE]


def test_no_secret_has_a_value_in_the_template(template: Template) -> None:
    found = of(template, "SecretsManager::Secret")
    assert len(found) == 4
    for name, secret in found.items():
        assert "SecretString" not in secret, name
        assert "KeysData" in json.dumps(secret["KmsKeyId"]), name
        made = secret.get("GenerateSecretString")
        assert made is None or made["SecretStringTemplate"] == "{}"
    assert "GenerateSecretString" not in only(template, "SecretsManager::Secret", "AppSecrets")


def test_nothing_in_the_template_looks_like_a_key(template: Template) -> None:
    forms = r"AKIA[A-Z2-7]{16}|gh[pousr]_\w{20}|sk-[\w-]{20}|-----BEGIN|://[^/\s:]+:[^/\s@]+@"
    assert not [text for text in strings(dict(template["Resources"])) if re.search(forms, text)]


def test_every_log_group_is_under_our_key_and_kept_for_a_month(template: Template) -> None:
    groups = of(template, "Logs::LogGroup")
    assert groups
    for group in groups.values():
        assert group["RetentionInDays"] == 30
        assert "KeysData" in json.dumps(group["KmsKeyId"])


def test_qdrant_has_a_block_device_under_our_key_and_no_file_system_of_the_network(
    template: Template,
) -> None:
    assert not of(template, "EFS::FileSystem")
    service = only(template, "ECS::Service", "Vectors")
    (volume,) = service["VolumeConfigurations"]
    assert volume["ManagedEBSVolume"]["Encrypted"] is True
    assert "KeysData" in json.dumps(volume["ManagedEBSVolume"]["KmsKeyId"])
    task = only(template, "ECS::TaskDefinition", "Vectors")
    assert task["Volumes"] == [{"ConfiguredAtLaunch": True, "Name": volume["Name"]}]
    (container,) = task["ContainerDefinitions"]
    (mount,) = container["MountPoints"]
    assert mount["ContainerPath"] == "/qdrant/storage"


def test_two_qdrants_never_answer_in_turns(template: Template) -> None:
    service = only(template, "ECS::Service", "Vectors")
    assert service["DesiredCount"] == 1
    assert service["DeploymentConfiguration"]["MaximumPercent"] == 100
