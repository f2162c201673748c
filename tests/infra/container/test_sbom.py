"""The SBOM: each package of the locks, with its version and its hashes, in a document that CycloneDX's own schema takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from infra.container.locks import ROOT, packages
from infra.container.sbom import LOCKS, ListedError, bill

SCHEMAS = ROOT / ".cache" / "cyclonedx" / "res" / "schema"
PROJECT = (ROOT / "pyproject.toml").read_text()
DEBIAN = "bubblewrap\t0.8.0-2+deb12u1\tamd64\nlibc6:amd64\t2.36-9+deb12u13\tamd64\nlibstdc++6:amd64\t12.2.0-14\tamd64\n"


def schema(name: str) -> Any:
    return json.loads((SCHEMAS / f"{name}.SNAPSHOT.schema.json").read_text())


@pytest.fixture(scope="module")
def validator() -> Draft7Validator:
    """It refers to two others by names of files."""
    beside = [schema(name) for name in ("spdx", "jsf-0.82", "cryptography-defs")]
    registry: Registry[Any] = Registry().with_resources(
        [(one["$id"], Resource.from_contents(one, default_specification=DRAFT7)) for one in beside]
    )
    return Draft7Validator(
        schema("bom-1.6"), registry=registry, format_checker=Draft7Validator.FORMAT_CHECKER
    )


def locks() -> list[str]:
    return [(ROOT / lock).read_text() for lock in LOCKS]


def listed(document: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {one["name"]: one for one in document["components"] if one["purl"].startswith(f"pkg:{kind}/")}


def test_each_package_of_the_locks_is_in_it_with_its_version_and_its_hashes() -> None:
    found = listed(bill(PROJECT, locks()), "pypi")
    locked = {one.name: one for lock in locks() for one in packages(lock)}
    assert found.keys() == locked.keys()
    assert {"torch", "fastapi"} <= found.keys()
    for name, one in locked.items():
        assert found[name]["version"] == one.version
        assert [each["content"] for each in found[name]["hashes"]] == list(one.hashes)
        assert {each["alg"] for each in found[name]["hashes"]} == {"SHA-256"}
        assert one.hashes


def test_debians_packages_are_in_it_as_package_urls() -> None:
    found = listed(bill(PROJECT, locks(), DEBIAN), "deb")
    assert found["bubblewrap"]["version"] == "0.8.0-2+deb12u1"
    assert (
        found["libstdc++6"]["purl"] == "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12"
    )
    assert found.keys() == {"bubblewrap", "libc6", "libstdc++6"}


@pytest.mark.parametrize("debian", ["", DEBIAN])
def test_it_is_what_cyclonedx_says_one_is_and_says_what_is_not_in_it(
    validator: Draft7Validator, debian: str
) -> None:
    document = bill(PROJECT, locks(), debian)
    assert [error.message for error in validator.iter_errors(document)] == []
    said = {one["name"]: one["value"] for one in document["metadata"]["properties"]}
    assert said["magicode:debian"] == ("listed" if debian else "not listed")
    assert document["compositions"][0]["aggregate"] == "incomplete"


def test_the_schema_is_not_blind(validator: Draft7Validator) -> None:
    for part, wrong in (("specVersion", 16), ("serialNumber", "x"), ("components", [{"type": "library"}])):
        assert not validator.is_valid({**bill(PROJECT, locks()), part: wrong}), part


def test_no_two_components_have_one_reference_and_the_same_locks_give_the_same_bytes() -> None:
    document = bill(PROJECT, locks(), DEBIAN)
    references = [one["bom-ref"] for one in document["components"]]
    assert len(set(references)) == len(references)
    assert json.dumps(document) == json.dumps(bill(PROJECT, locks(), DEBIAN))
    assert document["serialNumber"] != bill(PROJECT, locks())["serialNumber"]


@pytest.mark.parametrize("line", ["bubblewrap", "bubblewrap 0.8.0 amd64", "bubblewrap\t\tamd64"])
def test_a_list_that_is_not_dpkgs_is_an_error(line: str) -> None:
    with pytest.raises(ListedError):
        bill(PROJECT, locks(), line + "\n")


def test_the_program_writes_it(tmp_path: Path) -> None:
    (tmp_path / "debian.tsv").write_text(DEBIAN)
    done = subprocess.run(
        [sys.executable, "-m", "infra.container.sbom", str(tmp_path / "debian.tsv")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == bill(PROJECT, locks(), DEBIAN)
