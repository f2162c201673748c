"""The lock of the image: what the service needs at run time, at the hashes of the whole lock, and no developer's tool."""

from __future__ import annotations

import tomllib

import pytest

from infra.container.locks import ROOT, LockedError, needed, packages, runtime_lock

LOCK = ROOT / "requirements.lock"
RUNTIME = ROOT / "infra" / "container" / "runtime.lock"
PROJECT = ROOT / "pyproject.toml"


def names(lock: str) -> set[str]:
    return {one.name for one in packages(lock)}


def test_it_is_what_the_installed_packages_ask_for() -> None:
    assert RUNTIME.read_text() == runtime_lock(LOCK.read_text(), PROJECT.read_text()), "run .ci/lock"


def test_it_holds_everything_that_the_project_asks_for_but_pytorch_and_nothing_of_its_developers() -> None:
    found = tomllib.loads(PROJECT.read_text())
    held = names(RUNTIME.read_text())
    assert needed(found["project"]["dependencies"]) - held == {"torch"}
    tools = {"pytest", "mypy", "ruff", "hypothesis", "playwright", "moto", "schemathesis", "import-linter"}
    assert tools <= names(LOCK.read_text())
    assert not tools & held


def test_each_of_its_packages_has_the_version_and_the_hashes_of_the_whole_lock() -> None:
    whole = set(packages(LOCK.read_text()))
    ours = set(packages(RUNTIME.read_text()))
    assert ours < whole


def test_an_extra_that_is_asked_for_brings_what_it_names_and_one_that_is_not_does_not() -> None:
    assert "psycopg-binary" in needed(["psycopg[binary]"])
    assert "psycopg-binary" not in needed(["psycopg"])


def test_what_another_system_needs_is_left_out() -> None:
    assert "colorama" not in needed(["click"])  # https://github.com/pallets/click: on Windows alone


@pytest.mark.parametrize(
    "line", ["idna>=3", "idna==3.20", "idna @ git+https://github.com/kjd/idna", "--index-url x"]
)
def test_a_line_that_is_no_pin_with_hashes_is_an_error(line: str) -> None:
    with pytest.raises(LockedError):
        list(packages(f"anyio==1.0 \\\n    --hash=sha256:{'0' * 64}\n{line}\n"))
