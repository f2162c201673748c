"""The stacks of two regions, written once: run by `make aws`, in whose environment AWS's library is."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("aws_cdk") is None:
    collect_ignore_glob = ["test_*.py"]

REGIONS = ("eu-central-1", "us-east-1")
DIGEST = f"sha256:{'ab' * 32}"

Template = dict[str, Any]
Written = Callable[..., Template]


def context(region: str) -> dict[str, str]:
    """Two deployments have nothing in common: not the account, the domain or the network."""
    eu = region.startswith("eu")
    account = "111122223333" if eu else "444455556666"
    one = ("1" if eu else "2") * 12
    return {
        "region": region,
        "domain": f"magicode.{region[:2]}.example.com",
        "certificate": f"arn:aws:acm:{region}:{account}:certificate/12345678-1234-1234-1234-{one}",
        "digest": DIGEST,
        "collector_image": f"public.ecr.aws/aws-observability/aws-otel-collector@{DIGEST}",
        "qdrant_image": f"docker.io/qdrant/qdrant@{DIGEST}",
        "alarm_email": "somebody@example.com",
    }


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The template for one region; cdk-nag has looked at it, or this fails."""

    def write(region: str = REGIONS[0], **more: str) -> Template:
        from infra.aws.app import synthesize

        given = {**context(region), **more}
        given = {name: value for name, value in given.items() if value}
        out = tmp_path_factory.mktemp(region)
        synthesize(given, out)
        (path,) = out.glob("*.template.json")
        return {**json.loads(path.read_text()), "path": str(path)}

    return write


@pytest.fixture(scope="session")
def eu(written: Written) -> Template:
    return written(REGIONS[0])


@pytest.fixture(scope="session")
def us(written: Written) -> Template:
    return written(REGIONS[1])


@pytest.fixture(scope="session", params=REGIONS)
def template(request: pytest.FixtureRequest) -> Template:
    found: Template = request.getfixturevalue(request.param[:2])
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[3]
