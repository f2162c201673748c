"""What plain code remarks on, whatever a model says about the change."""

from __future__ import annotations

import pytest

from app.agent.remarks import remarks
from app.nouns import FileEdit


@pytest.mark.parametrize("path", ["package-lock.json", "web/yarn.lock", "Cargo.lock", "go.sum", "uv.lock"])
def test_a_lock_file_that_is_written_is_remarked_on(path: str) -> None:
    (said,) = remarks([FileEdit(path, b"a\n", b"b\n")])
    assert said.startswith("A lock file written by hand")
    assert f"`{path}`" in said


def test_a_lock_file_that_is_deleted_is_remarked_on() -> None:
    (said,) = remarks([FileEdit("uv.lock", b"a\n", None)])
    assert said.startswith("A lock file deleted")


@pytest.mark.parametrize("path", ["package.json", "locks.py", "docs/yarn.lock.md"])
def test_other_files_are_not(path: str) -> None:
    assert remarks([FileEdit(path, b"a\n", b"b\n")]) == ()


def test_tests_are_remarked_on_first() -> None:
    edits = [
        FileEdit("go.sum", None, b"b\n"),
        FileEdit("tests/test_a.py", b"def test_a():\n    pass\n", None),
    ]
    assert [one.split(":")[0] for one in remarks(edits)] == ["Tests deleted", "A lock file written by hand"]
