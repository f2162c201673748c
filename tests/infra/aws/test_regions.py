"""Two regions have nothing in common, and each template is one that CloudFormation takes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.aws.parameters import ParameterError
from tests.infra.aws.conftest import REGIONS, Written, context
from tests.infra.aws.reading import Template, of, strings

WITHIN = {
    ("RDS::DBInstance", "DBName"),
    ("RDS::DBInstance", "CACertificateIdentifier"),
    ("ServiceDiscovery::Service", "Name"),
    ("CloudWatch::Alarm", "MetricName"),
    ("IAM::Policy", "PolicyName"),
}
"""Names inside of something that is a region's own, and names that are Amazon's."""

_ARN = re.compile(r"arn:aws:[a-z0-9-]+:[a-z0-9-]*:[0-9]*:\S+")


def arns(template: Template) -> set[str]:
    return {found for text in strings(dict(template["Resources"])) for found in _ARN.findall(text)}


def names(template: Template) -> set[tuple[str, str, str]]:
    """Kind, property and name of whatever is given a name of its own."""
    return {
        (one["Type"].removeprefix("AWS::"), key, value)
        for one in template["Resources"].values()
        for key, value in one.get("Properties", {}).items()
        if isinstance(value, str) and key.endswith(("Name", "Identifier"))
    }


def test_no_arn_and_no_name_stands_in_both(eu: Template, us: Template) -> None:
    assert not arns(eu) & arns(us)
    assert {(kind, key) for kind, key, _ in names(eu) & names(us)} == WITHIN


@pytest.mark.parametrize("region", REGIONS)
def test_neither_template_names_the_other_region(region: str, eu: Template, us: Template) -> None:
    own, other = (eu, us) if region == REGIONS[0] else (us, eu)
    assert any(region in text for text in strings(dict(own["Resources"])))
    assert not [text for text in strings(dict(other["Resources"])) if region in text]


def test_nothing_is_imported_from_another_stack_or_replicated(template: Template) -> None:
    text = set(strings(dict(template)))
    assert not text & {"Fn::ImportValue", "ReplicationConfiguration", "ReplicaRegions", "MultiRegion"}
    assert not [one for one in template["Outputs"].values() if "Export" in one]


def test_nothing_has_to_be_uploaded_first(template: Template) -> None:
    """So a template can be read, and is all that is deployed: no function of Lambda runs beside the service."""
    assert "AWS::Lambda::Function" not in {one["Type"] for one in template["Resources"].values()}
    assert not template.get("Parameters")


@pytest.mark.parametrize("region", REGIONS)
def test_cfn_lint_finds_nothing(request: pytest.FixtureRequest, region: str) -> None:
    """W3005: CDK says for safety that a trail comes after its role, which its reference says too."""
    template = request.getfixturevalue(region[:2])
    found = subprocess.run(
        [
            str(Path(sys.executable).with_name("cfn-lint")),
            "--regions",
            region,
            "--ignore-checks",
            "W3005",
            "--",
            template["path"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_what_cdk_nag_finds_and_nobody_accepted_ends_the_synthesis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infra.aws import network
    from infra.aws.app import synthesize

    monkeypatch.setattr(network, "accept", lambda *_: None)
    with pytest.raises(RuntimeError, match="Validation"):
        synthesize(context(REGIONS[0]), tmp_path)


def test_with_a_qdrant_elsewhere_there_is_none_here(written: Written) -> None:
    template = written(REGIONS[0], qdrant_url="https://qdrant.example.com:6333", qdrant_image="")
    assert len(of(template, "ECS::Service")) == 2
    assert "https://qdrant.example.com:6333" in set(strings(dict(template["Resources"])))
    assert not of(template, "ServiceDiscovery::PrivateDnsNamespace")


def test_before_there_are_secrets_everything_stands_and_nothing_runs(written: Written) -> None:
    template = written(REGIONS[0], web_tasks="0", worker_tasks="0")
    assert {one["DesiredCount"] for one in of(template, "ECS::Service").values()} == {0}
    assert not of(template, "ApplicationAutoScaling::ScalableTarget")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("digest", "latest"),
        ("digest", ""),
        ("qdrant_image", "docker.io/qdrant/qdrant:v1.17"),
        ("collector_image", "public.ecr.aws/aws-observability/aws-otel-collector"),
        (
            "certificate",
            "arn:aws:acm:us-east-1:111122223333:certificate/12345678-1234-1234-1234-123456789012",
        ),
        ("domain", "https://magicode.example.com"),
        ("region", "mars-north-1"),
        ("region", "us-gov-west-1"),
        ("qdrant_url", "http://qdrant.example.com:6333"),
        ("cidr", "8.8.0.0/16"),
        ("web_tasks", "0"),
        ("worker_tasks_most", "1"),
        ("dedicated", "[7]"),
        ("dedicated", "7"),
        ("dedicated", "7:0"),
        ("dedicated", "0:1"),
        ("dedicated", "7:1,7:2"),
        ("dedicated", "7:1;8:1"),
    ],
)
def test_a_parameter_that_means_something_else_is_refused_and_named(
    name: str, value: str, unread: Callable[[dict[str, str]], None]
) -> None:
    given = {**context(REGIONS[0]), name: value}
    with pytest.raises(ParameterError, match=name):
        unread({key: one for key, one in given.items() if one})


@pytest.fixture
def unread() -> Callable[[dict[str, str]], None]:
    def read_only(given: dict[str, str]) -> None:
        from infra.aws.parameters import read

        read(given.get)

    return read_only


def test_the_readme_says_what_each_parameter_is_for(root: Path) -> None:
    source = (root / "infra/aws/parameters.py").read_text()
    (listed,) = re.findall(r"^_NAMES = \(([^)]+)\)", source, re.MULTILINE)
    said = (root / "infra/aws/README.md").read_text()
    rows = [line.split("|")[1] for line in said.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert set(re.findall(r'"([a-z_]+)"', listed)) <= named
