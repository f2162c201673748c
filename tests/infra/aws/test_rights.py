"""What each role may, held to the calls that the code makes."""

from __future__ import annotations

import ast
import copy
import json
import re
from pathlib import Path

import pytest

from infra.aws.keys import PURPOSE
from tests.infra.aws.reading import Template, of, statements

EVERYWHERE = {"ecr:GetAuthorizationToken": "it knows no resource"}
"""https://docs.aws.amazon.com/AmazonECR/latest/userguide/security_iam_id-based-policy-examples.html"""

COMMON = {
    "kms:Decrypt",
    "kms:Encrypt",
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "secretsmanager:GetSecretValue",
}
TASKS = {
    "ServiceWebTaskTaskRole": COMMON | {"s3:GetObject"},
    "ServiceWorkerTaskTaskRole": COMMON
    | {"kms:GenerateDataKey", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"},
    "ServiceMigrationTaskTaskRole": set(),
    "VectorsTaskTaskRole": set(),
}


def of_role(template: Template, name: str) -> set[str]:
    (found,) = (held for role, held in statements(template).items() if role.startswith(name))
    assert all(one.effect == "Allow" for one in found)
    return {action for one in found for action in one.actions}


@pytest.mark.parametrize("role", TASKS)
def test_a_task_may_make_the_calls_of_its_code_and_no_other(template: Template, role: str) -> None:
    assert of_role(template, role) == TASKS[role]


def test_web_can_neither_put_nor_delete_an_export(template: Template) -> None:
    assert not of_role(template, "ServiceWebTaskTaskRole") & {"s3:DeleteObject", "s3:PutObject", "s3:*"}


def test_web_lists_the_deletions_and_reads_none_and_the_worker_reads_no_export(template: Template) -> None:
    buckets = of(template, "S3::Bucket")
    (exports,) = (name for name in buckets if "Exports" in name)
    (backups,) = (name for name in buckets if "Backups" in name)
    for role, bucket in (("ServiceWebTaskTaskRole", backups), ("ServiceWorkerTaskTaskRole", exports)):
        (held,) = (held for name, held in statements(template).items() if name.startswith(role))
        may = {action for one in held if bucket in one.resources for action in one.actions}
        assert "s3:ListBucket" in may
        assert "s3:GetObject" not in may


def too_wide(template: Template) -> list[str]:
    """Statements of roles about everything, and calls that are named by a part of their name."""
    found = []
    for role, held in statements(template).items():
        for one in held:
            if one.everywhere and not set(one.actions) <= EVERYWHERE.keys():
                found.append(f"{role}: {one.actions} on everything")
            found += [f"{role}: {action}" for action in one.actions if "*" in action]
    return found


def test_no_role_may_do_anything_everywhere(template: Template) -> None:
    assert too_wide(template) == []


def test_a_statement_about_everything_would_be_noticed(eu: Template) -> None:
    wide = copy.deepcopy(dict(eu))
    policy = next(name for name in of(eu, "IAM::Policy") if name.startswith("ServiceWebTaskTaskRole"))
    held = wide["Resources"][policy]["Properties"]["PolicyDocument"]["Statement"]
    held.append({"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "*"})
    held.append({"Effect": "Allow", "Action": "kms:*", "Resource": {"Fn::GetAtt": ["KeysMaster", "Arn"]}})
    assert len(too_wide(wide)) == 2


def test_managed_policies_are_those_of_amazon_for_volumes_alone(template: Template) -> None:
    found = [
        json.dumps(policy)
        for role in of(template, "IAM::Role").values()
        for policy in role.get("ManagedPolicyArns", [])
    ]
    assert len(found) == 1
    assert "AmazonECSInfrastructureRolePolicyForVolumes" in found[0]


def test_every_role_is_a_service_of_amazons_and_nobodys_else(template: Template) -> None:
    for name, role in of(template, "IAM::Role").items():
        for one in role["AssumeRolePolicyDocument"]["Statement"]:
            assert set(one["Principal"]) == {"Service"}, name


def test_the_master_key_wraps_for_one_purpose_alone(template: Template) -> None:
    (master,) = (name for name in of(template, "KMS::Key") if name.startswith("KeysMaster"))
    for role, held in statements(template).items():
        for one in held:
            if master not in one.resources:
                continue
            assert role.startswith(("ServiceWebTaskTaskRole", "ServiceWorkerTaskTaskRole"))
            assert set(one.actions) == {"kms:Decrypt", "kms:Encrypt"}
            assert json.loads(one.condition)["StringEquals"] == {"kms:EncryptionContext:purpose": PURPOSE}


def test_the_purpose_is_the_one_that_the_code_sends(root: Path) -> None:
    source = ast.parse((root / "infra/secrets/kms.py").read_text())
    (sent,) = (
        ast.literal_eval(one.value)
        for one in source.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "_CONTEXT"
    )
    assert sent == {"purpose": PURPOSE}


@pytest.mark.parametrize(
    ("module", "client", "known"),
    [
        ("infra/secrets/kms.py", "self._client", {"encrypt", "decrypt"}),
        (
            "infra/objects/s3.py",
            "self._client",
            {
                "create_multipart_upload",
                "upload_part",
                "complete_multipart_upload",
                "abort_multipart_upload",
                "put_object",
                "get_object",
                "delete_object",
                "get_paginator",
            },
        ),
    ],
)
def test_a_call_that_is_new_in_the_code_is_noticed_here(
    root: Path, module: str, client: str, known: set[str]
) -> None:
    """Whoever adds one finds out which right it takes, and adds that."""
    source = (root / module).read_text()
    assert set(re.findall(rf"{re.escape(client)}\.([a-z_]+)\(", source)) == known


def test_the_paginators_are_the_two_that_list(root: Path) -> None:
    source = (root / "infra/objects/s3.py").read_text()
    assert set(re.findall(r'get_paginator\("([a-z0-9_]+)"\)', source)) == {
        "list_objects_v2",
        "list_multipart_uploads",
    }


def test_a_key_of_kms_is_rotated_and_outlives_the_stack(template: Template) -> None:
    keys = of(template, "KMS::Key")
    assert len(keys) == 2
    for name, key in keys.items():
        assert key["EnableKeyRotation"] is True
        assert template["Resources"][name]["DeletionPolicy"] == "Retain"


def test_the_master_keys_own_policy_names_the_account_and_no_service(template: Template) -> None:
    (master,) = (key for name, key in of(template, "KMS::Key").items() if name.startswith("KeysMaster"))
    for one in master["KeyPolicy"]["Statement"]:
        assert set(one["Principal"]) == {"AWS"}
        assert "root" in json.dumps(one["Principal"])


def test_the_owners_password_is_told_to_the_migration_alone(template: Template) -> None:
    task = "ServiceMigrationTask"
    (database,) = of(template, "RDS::DBInstance")
    named = {
        name
        for name, one in of(template, "ECS::TaskDefinition").items()
        if f'["{database}", "MasterUserSecret' in json.dumps(one)
    }
    assert [name.startswith(task) for name in named] == [True]
    for role, held in statements(template).items():
        if any("MasterUserSecret" in one.resources for one in held):
            assert role.startswith(f"{task}ExecutionRole")
