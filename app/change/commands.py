"""Finds the commands that run a repository's checks and install what they need, each with the file that says so.

It reads files of the base commit only and runs nothing. What it finds is a guess unless `.github/magicode.yml` says it.
"""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.ports import Workspace
from app.repofile import PATH as REPOFILE_PATH
from app.repofile import RepoFile

_MAX_BYTES = 1 << 20
_MAX_TOX_COMMANDS = 5
_NO_TEST = "no test specified"  # https://docs.npmjs.com/cli/commands/npm-init: what `npm init` writes
_REQUIREMENTS = re.compile(r"(?:(?:dev|test|tests)[-_.])?requirements(?:[-_.](?:dev|test|tests|ci))?\.txt")
_EXTRAS = ("dev", "test", "tests", "testing")
_TARGET = re.compile(r"^(check|test|tests)\s*:(?!=)", re.MULTILINE)
_CONTINUED = re.compile(
    r"(?<!\s)\s*+\\\n\s*"
)  # from the first space on, or a long run of them is read once for each
_RUNS = re.compile(r"(?<=\S)[^\S\n]{2,}")
_TEST_FILE = re.compile(r"(?:.*/)?(?:test_[^/]*|[^/]*_test)\.py")


@dataclass(frozen=True, slots=True)
class Found:
    """A shell command and the file that it comes from."""

    command: str
    source: str


def find(workspace: Workspace, repofile: RepoFile) -> tuple[Found, ...]:
    """What runs the checks: the repository file's own list, else what its files suggest."""
    if repofile.checks is not None:
        return tuple(Found(command, REPOFILE_PATH) for command in repofile.checks)
    files = _Files(workspace)
    found = [*_python(files), *_node(files), *_go_and_rust(files, "go test ./...", "cargo test")]
    return tuple(found or _make(files))


def find_install(workspace: Workspace, repofile: RepoFile) -> tuple[Found, ...]:
    """What installs the dependencies of the checks; nothing unless the repository file asks for it.

    `$VIRTUAL_ENV` names a folder beside the tree, whose `bin` is first on the path (`app.ports.Room`).
    """
    if isinstance(repofile.install, tuple):
        return tuple(Found(command, REPOFILE_PATH) for command in repofile.install)
    if not repofile.install:
        return ()
    files = _Files(workspace)
    return (
        *_install_python(files),
        *_install_node(files),
        *_go_and_rust(files, "go mod download", "cargo fetch"),
    )


class _Files:
    """The top folder's files as text; what cannot be read is empty."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._sizes = {entry.path: entry.size or 0 for entry in workspace.entries()}

    def __contains__(self, path: str) -> bool:
        return path in self._sizes

    def paths(self) -> Iterator[str]:
        return iter(self._sizes)

    def text(self, path: str) -> str:
        if self._sizes.get(path, _MAX_BYTES + 1) > _MAX_BYTES:
            return ""
        return self._workspace.read(path).decode("utf-8", "replace")

    def toml(self, path: str) -> Mapping[str, Any]:
        try:
            return tomllib.loads(self.text(path))
        except tomllib.TOMLDecodeError:
            return {}

    def json(self, path: str) -> Mapping[str, Any]:
        try:
            loaded = json.loads(self.text(path) or "{}")
        except (ValueError, RecursionError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def ini(self, path: str) -> configparser.RawConfigParser:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(
                _RUNS.sub(" ", self.text(path))
            )  # configparser reads a run once for each space
        except configparser.Error:
            return configparser.RawConfigParser()
        return parser


def _table(value: object, *names: str) -> Mapping[str, Any]:
    """The table below these names; an empty one for whatever is not there or no table."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


# --- Python ----------------------------------------------------------------------------------------------------------


def _python(files: _Files) -> list[Found]:
    if source := _pytest(files):
        return [Found("python3 -m pytest", source)]
    if tox := _tox(files):
        return tox
    tests = sorted(path for path in files.paths() if _TEST_FILE.fullmatch(path))
    if not tests:
        return []
    folders = {path.split("/")[0] for path in tests if "/" in path}
    loose = [name for name in ("tests", "test") if name in folders and f"{name}/__init__.py" not in files]
    # Without __init__.py unittest does not look into a folder unless it is named:
    # https://docs.python.org/3/library/unittest.html#test-discovery
    return [
        Found(f"python3 -m unittest discover -s {loose[0]}" if loose else "python3 -m unittest", tests[0])
    ]


def _pytest(files: _Files) -> str | None:
    """The file that says that tests are pytest's. https://docs.pytest.org/en/stable/reference/customize.html"""
    project = files.toml("pyproject.toml")
    named = [name for name in ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml") if name in files]
    if _table(project, "tool", "pytest") or re.search(r"""["']pytest\b""", files.text("pyproject.toml")):
        named.append("pyproject.toml")
    for name, section in (("tox.ini", "pytest"), ("setup.cfg", "tool:pytest")):
        if name in files and files.ini(name).has_section(section):
            named.append(name)
    for path in files.paths():
        if path.rpartition("/")[2] == "conftest.py" and path.count("/") <= 1:
            named.append(path)
        if _REQUIREMENTS.fullmatch(path) and re.search(r"(?mi)^pytest\b", files.text(path)):
            named.append(path)
    return named[0] if named else None


def _tox(files: _Files) -> list[Found]:
    """The commands that tox would run, without tox, which would want a network to make its own environment.

    https://tox.wiki/en/latest/config.html#commands
    """
    lines = files.ini("tox.ini").get("testenv", "commands", fallback="") if "tox.ini" in files else ""
    joined = _CONTINUED.sub(" ", lines)
    found = []
    for line in joined.splitlines():
        command = re.sub(r"\{posargs(?::[^{}]*)?\}", "", line).strip().lstrip("-@! ")
        if command and "{" not in command:
            found.append(Found(re.sub(r"^python(?=\s)", "python3", command), "tox.ini"))
    return found[:_MAX_TOX_COMMANDS]


def _install_python(files: _Files) -> list[Found]:
    requirements = [path for path in files.paths() if _REQUIREMENTS.fullmatch(path)]
    project = files.toml("pyproject.toml")
    packaged = "project" in project or "build-system" in project or "setup.py" in files
    commands = _python(files)
    if not (requirements or packaged or commands):
        return []
    wanted = [word for path in requirements for word in ("-r", path)]
    if packaged:
        extras = [name for name in _EXTRAS if name in _table(project, "project", "optional-dependencies")]
        wanted += ["-e", f".[{','.join(extras)}]" if extras else "."]
    for group in _EXTRAS:  # https://peps.python.org/pep-0735/; what includes another group is left out
        members = _table(project, "dependency-groups").get(group, [])
        wanted += [one for one in members if isinstance(one, str)] if isinstance(members, list) else []
    if any("pytest" in found.command for found in commands):
        wanted.append("pytest")
    source = requirements[0] if requirements else "pyproject.toml" if packaged else commands[0].source
    made = Found('python3 -m venv "$VIRTUAL_ENV"', source)
    if not wanted:
        return [made]
    return [made, Found(f'"$VIRTUAL_ENV/bin/pip" install --quiet {_quoted(wanted)}', source)]


def _quoted(words: Sequence[str]) -> str:
    return " ".join(shlex.quote(word) for word in words)


# --- the others ------------------------------------------------------------------------------------------------------


def _runner(files: _Files) -> str:
    if "pnpm-lock.yaml" in files:
        return "pnpm"
    return "yarn" if "yarn.lock" in files else "npm"


def _node(files: _Files) -> list[Found]:
    test = _table(files.json("package.json"), "scripts").get("test") if "package.json" in files else None
    if not isinstance(test, str) or not test.strip() or _NO_TEST in test:
        return []
    return [Found(f"{_runner(files)} test", "package.json")]


def _install_node(files: _Files) -> list[Found]:
    if "package.json" not in files:
        return []
    runner = _runner(files)
    if runner != "npm":
        lock = "pnpm-lock.yaml" if runner == "pnpm" else "yarn.lock"
        return [Found(f"{runner} install --frozen-lockfile", lock)]
    for lock in ("package-lock.json", "npm-shrinkwrap.json"):
        if lock in files:
            return [Found("npm ci", lock)]
    return [Found("npm install --no-package-lock", "package.json")]


def _go_and_rust(files: _Files, go: str, rust: str) -> list[Found]:
    return [Found(command, name) for name, command in (("go.mod", go), ("Cargo.toml", rust)) if name in files]


def _make(files: _Files) -> list[Found]:
    """Where nothing else says how: `make check` or `make test`, as GNU's conventions have them.

    https://www.gnu.org/prep/standards/html_node/Standard-Targets.html
    """
    for name in ("GNUmakefile", "makefile", "Makefile"):
        if name in files:
            targets = _TARGET.findall(files.text(name))
            return [
                Found(f"make {target}", name) for target in ("check", "test", "tests") if target in targets
            ][:1]
    return []
