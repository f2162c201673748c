"""Kinds of files, as people mean the words."""

from __future__ import annotations

import pytest

from app.custody.settings import Kind
from app.patterns import KINDS, kind_of


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("tests/test_split.py", "tests"),
        ("src/split_test.go", "tests"),
        ("web/src/__tests__/app.tsx", "tests"),
        ("web/app.spec.ts", "tests"),
        ("src/contest.py", None),
        ("src/latest/data.py", None),
        ("requirements-dev.txt", "dependencies"),
        ("web/package-lock.json", "dependencies"),
        ("crates/one/Cargo.toml", "dependencies"),
        ("package.json.md", "documentation"),
        ("deploy/main.tf", "infrastructure"),
        ("Dockerfile.dev", "infrastructure"),
        ("k8s/service.yaml", "infrastructure"),
        ("app/migrations/0001_first.py", "migrations"),
        ("docs/guide.html", "documentation"),
        ("README.md", "documentation"),
        ("src/app.py", None),
        ("tests\nand/src.py", None),
    ],
)
def test_a_path_is_of_the_kind_that_people_mean(path: str, kind: str | None) -> None:
    assert kind_of(path, KINDS) == kind
    assert kind_of(path, ()) is None
    assert kind_of(path, [one for one in KINDS if one != kind]) is None


def test_the_settings_know_each_kind() -> None:
    assert Kind.__args__ == tuple(KINDS)  # type: ignore[attr-defined]
