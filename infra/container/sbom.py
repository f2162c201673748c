"""Writes down what is in the image, as CycloneDX 1.6: each package of its locks with every file that the lock allows, and Debian's.

`make sbom` runs it. The same locks give the same bytes: there is no time and no chance in it.
https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

from infra.container.locks import ROOT, packages

LOCKS = ("torch.lock", "infra/container/runtime.lock")
DISTRIBUTION = "debian-12"


class ListedError(ValueError):
    """A line that is not a Debian package, its version and its architecture, with tabs between."""


def bill(project: str, locks: Sequence[str], debian: str = "") -> Mapping[str, Any]:
    """The document: `project` is a pyproject.toml, `debian` what dpkg-query said in the image; empty, and the document says
    itself that Debian's packages are not in it. Raises LockedError and ListedError."""
    named = tomllib.loads(project)["project"]
    components = [*_from_locks(locks), *_from_debian(debian)]
    content = json.dumps(components, sort_keys=True)
    root = f"pkg:pypi/{named['name']}@{named['version']}"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, root + content)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": root,
                "name": named["name"],
                "version": named["version"],
                "description": named["description"],
            },
            "properties": [
                {
                    "name": "magicode:hashes",
                    "value": "of each file that the lock allows for a package: one of them was installed",
                },
                {"name": "magicode:debian", "value": "listed" if debian else "not listed"},
                {
                    "name": "magicode:python",
                    "value": "the interpreter is the base image's own build and is not listed",
                },
            ],
        },
        "components": components,
        "compositions": [{"aggregate": "incomplete", "assemblies": [root]}],
    }


def _from_locks(locks: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    for one in sorted((one for lock in locks for one in packages(lock)), key=lambda one: one.name):
        purl = f"pkg:pypi/{one.name}@{quote(one.version)}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": one.name,
            "version": one.version,
            "purl": purl,
            "hashes": [{"alg": "SHA-256", "content": digest} for digest in one.hashes],
        }


def _from_debian(listed: str) -> Iterator[Mapping[str, Any]]:
    """https://github.com/package-url/purl-spec/blob/main/types-doc/deb-definition.md"""
    for line in listed.splitlines():
        parts = line.split("\t")
        if len(parts) != 3 or not all(parts):
            raise ListedError(line)
        name, version, architecture = parts[0].partition(":")[0], parts[1], parts[2]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}&distro={DISTRIBUTION}"
        yield {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    document = bill(
        (ROOT / "pyproject.toml").read_text(),
        [(ROOT / lock).read_text() for lock in LOCKS],
        Path(sys.argv[1]).read_text() if len(sys.argv) > 1 else "",
    )
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
