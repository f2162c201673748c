"""What the Dockerfile, its ignore file and the composition say, read for the tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
ROOM = ROOT / "infra" / "container"
DOCKERFILE = (ROOM / "Dockerfile").read_text()
LAST_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOM / "compose.yaml").read_text())
SERVICES: Mapping[str, Any] = COMPOSE["services"]


def image_environ() -> dict[str, str]:
    """What the image sets."""
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", LAST_STAGE, re.MULTILINE)
    assert block is not None
    return dict(pair.split("=", 1) for pair in block[1].replace("\\\n", " ").split())


def said(value: str) -> str:
    """With every variable at its default, or at a word that stands for what has none."""
    return re.sub(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", lambda found: found[2] or f"<{found[1]}>", value)


def service_environ(name: str) -> dict[str, str]:
    """What the composition sets for one of our processes."""
    return {key: said(value) for key, value in SERVICES[name]["environment"].items()}


def goes_to_the_build(path: str) -> bool:
    """https://docs.docker.com/build/concepts/context/#dockerignore-files: the last line that fits decides. Folders stand for
    what is in them."""
    gone = False
    for line in (ROOM / "Dockerfile.dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = path.split("/")
        heads = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        deep = pattern.removeprefix("**/")
        if any(fnmatch(head, pattern) for head in heads) or (
            deep != pattern and any(fnmatch(part, deep) for part in parts)
        ):
            gone = not line.startswith("!")
    return not gone
