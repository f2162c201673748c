"""What is run, what it says about the change, and what is said where nothing could be run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from app.change import CheckLimits, open_checks
from app.change.checks import missing
from app.change.commands import find, find_install
from app.errors import DefectError, RefusedError
from app.nouns import ChecksReport, FileEdit, Finished, RoomLimits
from app.repofile import RepoFile
from tests.app.tree import Tree

Tells = Callable[[str, Mapping[str, bytes]], Finished]


def good(_command: str, _files: Mapping[str, bytes]) -> Finished:
    return Finished("exited", 0, 0.1, "ok\n")


def bad(output: str = "1 failed\n", code: int = 1) -> Finished:
    return Finished("exited", code, 0.1, output)


class FakeRoom:
    """A room whose commands end as the test says, by the files that they find."""

    def __init__(self, tells: Tells, sandbox: FakeSandbox) -> None:
        self._tells = tells
        self._sandbox = sandbox
        self.files: dict[str, bytes] = {}

    async def lay(self, modes: Mapping[str, str], read: Callable[[str], bytes]) -> None:
        self.files = {path: read(path) for path in modes}
        self._sandbox.modes = dict(modes)
        if self._sandbox.refuses is not None:
            raise self._sandbox.refuses

    async def run(self, command: str, *, seconds: float, indexes: bool = False) -> Finished:
        if self._sandbox.breaks_at == command:
            raise DefectError(reason="sandbox_closed")
        self._sandbox.ran.append((command, indexes, dict(self.files)))
        finished = self._tells(command, self.files)
        self._sandbox.now += finished.seconds
        if finished.seconds > seconds:
            self._sandbox.now += seconds - finished.seconds
            return Finished("timed_out", None, seconds, finished.output)
        return finished

    async def keep(self) -> None:
        self._sandbox.kept += 1


class FakeSandbox:
    def __init__(self, tells: Tells = good, why_not: str | None = None) -> None:
        self._tells = tells
        self._why_not = why_not
        self.ran: list[tuple[str, bool, dict[str, bytes]]] = []
        self.modes: dict[str, str] = {}
        self.opened = self.closed = self.kept = 0
        self.now = 0.0
        self.refuses: RefusedError | None = None
        self.breaks_at: str | None = None

    @property
    def commands(self) -> list[str]:
        return [command for command, _, _ in self.ran]

    async def why_not(self) -> str | None:
        return self._why_not

    @asynccontextmanager
    async def open(self, limits: RoomLimits) -> AsyncIterator[FakeRoom]:
        self.opened += 1
        try:
            yield FakeRoom(self._tells, self)
        finally:
            self.closed += 1


TREE = Tree({"a.py": b"old\n", "run.sh": b"", "pytest.ini": b""}, executable=["run.sh"])
EDIT = FileEdit("a.py", b"old\n", b"new\n")


async def checked(
    sandbox: FakeSandbox,
    *edits: FileEdit,
    tree: Tree = TREE,
    limits: CheckLimits | None = None,
    **repofile: object,
) -> ChecksReport:
    read = RepoFile.model_validate(repofile)
    async with open_checks(
        tree, repofile=read, sandbox=sandbox, limits=limits, monotonic=lambda: sandbox.now
    ) as checks:
        return await checks(edits)


# --- what is reported ------------------------------------------------------------------------------------------------


async def test_checks_run_on_the_tree_with_the_edits_applied() -> None:
    sandbox = FakeSandbox()
    edits = (EDIT, FileEdit("b/c.sh", None, b"#!", "100755"), FileEdit("run.sh", b"", None))
    report = await checked(sandbox, *edits, checks=["one", "two"])
    assert report.passed
    assert report.not_run is None
    assert sandbox.ran == [
        (command, False, {"a.py": b"new\n", "b/c.sh": b"#!", "pytest.ini": b""}) for command in ("one", "two")
    ]
    assert sandbox.modes == {"a.py": "100644", "b/c.sh": "100755", "pytest.ini": "100644"}
    assert (sandbox.opened, sandbox.closed) == (1, 1)


async def test_what_only_fails_with_the_change_is_broken_by_it() -> None:
    sandbox = FakeSandbox(lambda _, files: bad() if files["a.py"] == b"new\n" else good("", {}))
    report = await checked(sandbox, EDIT, checks=["test"])
    assert [run.failed_before for run in report.broken] == [False]
    assert report.broken[0].output == "1 failed\n"


async def test_what_failed_before_is_not_broken_by_the_change() -> None:
    report = await checked(FakeSandbox(lambda *_: bad()), EDIT, checks=["test"])
    assert not report.passed
    assert report.runs[0].failed_before is True
    assert report.broken == ()


async def test_the_unedited_tree_is_checked_once_and_only_where_something_fails() -> None:
    sandbox = FakeSandbox(lambda command, _: bad() if command == "red" else good("", {}))
    repofile = RepoFile(checks=("green", "red"))
    async with open_checks(TREE, repofile=repofile, sandbox=sandbox) as checks:
        await checks((EDIT,))
        await checks((FileEdit("a.py", b"old\n", b"newer\n"),))
    assert sandbox.commands == ["green", "red", "red", "green", "red"]
    assert sandbox.opened == 1


async def test_the_same_edits_are_not_checked_twice_in_a_row() -> None:
    sandbox = FakeSandbox()
    async with open_checks(TREE, repofile=RepoFile(checks=("test",)), sandbox=sandbox) as checks:
        assert await checks((EDIT,)) == await checks([EDIT])
        assert len(sandbox.ran) == 1
        await checks(())
    assert len(sandbox.ran) == 2


async def test_two_calls_at_once_wait_for_each_other() -> None:
    sandbox = FakeSandbox()
    async with open_checks(TREE, repofile=RepoFile(checks=("test",)), sandbox=sandbox) as checks:
        reports = await asyncio.gather(checks((EDIT,)), checks(()))
    assert all(report.passed for report in reports)
    assert sandbox.opened == 1


@pytest.mark.parametrize("ended", ["timed_out", "memory", "processes", "disk", "output", "killed"])
async def test_a_limit_that_ends_a_command_is_told_by_name(ended: str) -> None:
    report = await checked(FakeSandbox(lambda *_: Finished(ended, None, 1, "")), EDIT, checks=["test"])
    assert report.runs[0].ended == ended
    assert not report.passed


# --- what is not run -------------------------------------------------------------------------------------------------


async def test_where_there_is_no_sandbox_nothing_runs_and_the_reason_is_told() -> None:
    sandbox = FakeSandbox(why_not="bubblewrap is not installed where MagiCode runs")
    report = await checked(sandbox, EDIT)
    assert report == ChecksReport((), "bubblewrap is not installed where MagiCode runs")
    assert not report.passed
    assert sandbox.opened == 0


async def test_an_empty_list_switches_checks_off() -> None:
    report = await checked(FakeSandbox(), EDIT, checks=[])
    assert report == ChecksReport((), "`.github/magicode.yml` switches them off")


async def test_no_command_found_is_said() -> None:
    report = await checked(FakeSandbox(), tree=Tree({"README.md": b""}))
    assert report.not_run == "no command was found that runs them"
    assert not report.passed


async def test_a_tool_that_is_not_there_is_no_failure_of_the_change() -> None:
    sandbox = FakeSandbox(lambda *_: bad("/bin/sh: 1: npm: not found\n", 127))
    report = await checked(sandbox, EDIT, checks=["npm test"])
    assert report == ChecksReport((), "`npm` is not there for `npm test`")


async def test_one_missing_tool_among_several_is_said_beside_the_others() -> None:
    sandbox = FakeSandbox(lambda command, _: bad("", 127) if command == "npm test" else good("", {}))
    report = await checked(sandbox, EDIT, checks=["go test", "npm test"])
    assert [run.command for run in report.runs] == ["go test"]
    assert report.not_run == "`npm` is not there for `npm test`"


async def test_a_tool_that_the_change_took_away_is_its_failure() -> None:
    sandbox = FakeSandbox(lambda _, files: good("", {}) if "run.sh" in files else bad("", 127))
    report = await checked(sandbox, FileEdit("run.sh", b"", None), checks=["./run.sh"])
    assert report.not_run is None
    assert [run.failed_before for run in report.broken] == [False]


@pytest.mark.parametrize(
    ("command", "output", "code", "tool"),
    [
        ("npm test", "/bin/sh: 1: npm: not found\n", 127, "npm"),
        ("npm test", "bash: line 1: npm: command not found\n", 127, "npm"),
        ("npm test", "> jest\n\nsh: 1: jest: not found\n", 127, "jest"),
        ("npm test", "", 127, "npm"),
        ("python3 -m pytest", "/usr/bin/python3: No module named pytest\n", 1, "pytest"),
        ("python3 -m pytest", "ModuleNotFoundError: No module named 'numpy'\n", 2, None),
        ("python3 -m pytest", "python3: No module named nose\n", 1, None),
        ("make test", "make: pytest: No such file or directory\nmake: *** [Makefile:2: test] Error 127\n", 2, "pytest"),
        ("make test", "/bin/sh: 1: jest: not found\nmake: *** [Makefile:2: test] Error 127\n", 2, "jest"),
        ("make test", "make: *** [Makefile:2: test] Error 1\n", 2, None),
        ("npm test", "", 1, None),
        ("npm test", "/bin/sh: 1: npm: not found\n", 0, None),
    ],
)  # fmt: skip
def test_a_missing_tool_is_told_from_a_failure(
    command: str, output: str, code: int, tool: str | None
) -> None:
    assert missing(command, Finished("exited", code, 0, output)) == tool


async def test_no_more_commands_than_allowed_are_run_and_that_is_said() -> None:
    sandbox = FakeSandbox()
    report = await checked(sandbox, EDIT, checks=["1", "2", "3"], limits=CheckLimits(commands=2))
    assert sandbox.commands == ["1", "2"]
    assert report.not_run == "only the first 2 are run"


async def test_time_in_all_is_limited_and_what_it_left_out_is_said() -> None:
    sandbox = FakeSandbox(lambda *_: Finished("exited", 0, 60, ""))
    limits = CheckLimits(seconds=100, command_seconds=80)
    report = await checked(sandbox, EDIT, checks=["1", "2", "3"], limits=limits)
    assert [(run.command, run.ended) for run in report.runs] == [("1", "exited"), ("2", "timed_out")]
    assert report.not_run == "the time for them ran out"
    assert sandbox.now <= 100


async def test_a_look_at_the_unedited_tree_that_time_cuts_short_says_nothing() -> None:
    sandbox = FakeSandbox(lambda *_: Finished("exited", 1, 60, ""))
    report = await checked(sandbox, EDIT, checks=["1"], limits=CheckLimits(seconds=100, command_seconds=80))
    assert report.runs[0].failed_before is None
    assert len(report.broken) == 1


async def test_a_repository_that_does_not_fit_is_said() -> None:
    sandbox = FakeSandbox()
    sandbox.refuses = RefusedError(reason="sandbox_full")
    report = await checked(sandbox, EDIT)
    assert report == ChecksReport((), "the repository does not fit into the sandbox")
    assert sandbox.closed == 1


async def test_edits_that_make_no_tree_are_not_run() -> None:
    report = await checked(FakeSandbox(), FileEdit("a.py/b.py", None, b""))
    assert report == ChecksReport((), "`a.py/b.py` cannot be inside a file")


async def test_a_room_that_had_to_be_ended_is_followed_by_a_new_one() -> None:
    sandbox = FakeSandbox()
    async with open_checks(TREE, repofile=RepoFile(checks=("1", "2")), sandbox=sandbox) as checks:
        sandbox.breaks_at = "2"
        report = await checks((EDIT,))
        assert [run.command for run in report.runs] == ["1"]
        assert report.not_run == "the sandbox had to be ended"
        sandbox.breaks_at = None
        assert (await checks(())).passed
    assert (sandbox.opened, sandbox.closed) == (2, 2)


# --- installing ------------------------------------------------------------------------------------------------------


async def test_dependencies_are_installed_once_on_the_unedited_tree_and_only_then_with_a_way_out() -> None:
    sandbox = FakeSandbox()
    repofile = RepoFile(checks=("test",), install=("get", "it"))
    async with open_checks(TREE, repofile=repofile, sandbox=sandbox) as checks:
        await checks((EDIT,))
        await checks(())
    assert [(command, indexes, files["a.py"]) for command, indexes, files in sandbox.ran] == [
        ("get", True, b"old\n"),
        ("it", True, b"old\n"),
        ("test", False, b"new\n"),
        ("test", False, b"old\n"),
    ]
    assert sandbox.kept == 1


@pytest.mark.parametrize(
    ("finished", "why"),
    [
        (bad(), "their dependencies could not be installed: `npm ci` failed"),
        (bad("", 127), "their dependencies could not be installed: `npm` is not there"),
        (Finished("exited", 0, 999, ""), "their dependencies could not be installed: `npm ci` failed"),
    ],
)
async def test_checks_whose_dependencies_could_not_be_installed_are_not_run(
    finished: Finished, why: str
) -> None:
    sandbox = FakeSandbox(lambda *_: finished)
    report = await checked(sandbox, EDIT, checks=["npm test"], install=["npm ci"])
    assert report == ChecksReport((), why)
    assert sandbox.commands == ["npm ci"]
    assert sandbox.closed == 1


def test_nothing_is_installed_unless_the_repository_file_asks_for_it() -> None:
    tree = Tree({"requirements.txt": b"", "package.json": b"{}", "go.mod": b"", "Cargo.toml": b""})
    assert find_install(tree, RepoFile()) == ()


# --- finding ---------------------------------------------------------------------------------------------------------

PYTEST_TOML = b'[project]\nname = "x"\n[tool.pytest.ini_options]\n'
TOX = b"""[testenv]
deps = pytest
commands =
    python -m unittest {posargs:-v}
    - flake8 \\
        src
    echo {toxinidir}
"""


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"pyproject.toml": PYTEST_TOML}, [("python3 -m pytest", "pyproject.toml")]),
        ({"pytest.ini": b"", "tests/test_a.py": b""}, [("python3 -m pytest", "pytest.ini")]),
        ({"setup.cfg": b"[tool:pytest]\n"}, [("python3 -m pytest", "setup.cfg")]),
        ({"tests/conftest.py": b""}, [("python3 -m pytest", "tests/conftest.py")]),
        ({"requirements-dev.txt": b"black\npytest>=8\n"}, [("python3 -m pytest", "requirements-dev.txt")]),
        ({"pyproject.toml": b'[dependency-groups]\ndev = ["pytest>=8"]'}, [("python3 -m pytest", "pyproject.toml")]),
        ({"tests/__init__.py": b"", "tests/test_a.py": b""}, [("python3 -m unittest", "tests/test_a.py")]),
        ({"tests/test_a.py": b""}, [("python3 -m unittest discover -s tests", "tests/test_a.py")]),
        ({"test_a.py": b""}, [("python3 -m unittest", "test_a.py")]),
        ({"tox.ini": TOX}, [("python3 -m unittest", "tox.ini"), ("flake8 src", "tox.ini")]),
        ({"tox.ini": b"[testenv]\ncommands = {[other]x}\n"}, []),
        ({"tox.ini": b"not an ini"}, []),
        ({"package.json": b'{"scripts": {"test": "jest"}}'}, [("npm test", "package.json")]),
        ({"package.json": b'{"scripts": {"test": "jest"}}', "yarn.lock": b""}, [("yarn test", "package.json")]),
        ({"package.json": b'{"scripts": {"test": "a"}}', "pnpm-lock.yaml": b""}, [("pnpm test", "package.json")]),
        ({"package.json": b'{"scripts": {"test": "echo \\"Error: no test specified\\" && exit 1"}}'}, []),
        ({"package.json": b'{"scripts": []}'}, []),
        ({"package.json": b"[" * 100_000}, []),
        ({"package.json": b"{"}, []),
        ({"go.mod": b"module x\n"}, [("go test ./...", "go.mod")]),
        ({"Cargo.toml": b""}, [("cargo test", "Cargo.toml")]),
        ({"Makefile": b"all:\n\ntest: all\n\tx\n"}, [("make test", "Makefile")]),
        ({"Makefile": b"test:\n\tx\ncheck:\n\tx\n"}, [("make check", "Makefile")]),
        ({"Makefile": b"test := 1\ntests-all:\n"}, []),
        ({"Makefile": b"test:\n\tpytest\n", "pytest.ini": b""}, [("python3 -m pytest", "pytest.ini")]),
        ({"go.mod": b"", "package.json": b'{"scripts": {"test": "jest"}}'},
         [("npm test", "package.json"), ("go test ./...", "go.mod")]),
        ({"pyproject.toml": b"\xff not toml", "README.md": b""}, []),
        ({"vendor/thing/package.json": b'{"scripts": {"test": "jest"}}', "docs/Makefile": b"test:\n"}, []),
    ],
)  # fmt: skip
def test_commands_are_found_where_a_repository_says_them(
    files: dict[str, bytes], found: list[tuple[str, str]]
) -> None:
    assert [(one.command, one.source) for one in find(Tree(files), RepoFile())] == found


def test_what_the_repository_file_says_is_taken_instead_of_what_is_found() -> None:
    found = find(Tree({"pytest.ini": b""}), RepoFile(checks=("just test",)))
    assert [(one.command, one.source) for one in found] == [("just test", ".github/magicode.yml")]


VENV = 'python3 -m venv "$VIRTUAL_ENV"'
PIP = '"$VIRTUAL_ENV/bin/pip" install --quiet'


@pytest.mark.parametrize(
    ("files", "commands"),
    [
        ({"requirements.txt": b"", "test-requirements.txt": b""},
         [VENV, f"{PIP} -r requirements.txt -r test-requirements.txt"]),
        ({"pyproject.toml": PYTEST_TOML}, [VENV, f"{PIP} -e . pytest"]),
        ({"pyproject.toml": b'[project]\n[project.optional-dependencies]\ntest = ["pytest"]\ndocs = ["x"]\n'},
         [VENV, f"{PIP} -e '.[test]' pytest"]),
        ({"pyproject.toml": b'[dependency-groups]\ndev = ["pytest>=8", {include-group = "x"}]\n'},
         [VENV, f"{PIP} 'pytest>=8' pytest"]),
        ({"setup.py": b""}, [VENV, f"{PIP} -e ."]),
        ({"test_a.py": b""}, [VENV]),
        ({"package.json": b"{}", "package-lock.json": b"{}"}, ["npm ci"]),
        ({"package.json": b"{}"}, ["npm install --no-package-lock"]),
        ({"package.json": b"{}", "yarn.lock": b""}, ["yarn install --frozen-lockfile"]),
        ({"package.json": b"{}", "pnpm-lock.yaml": b""}, ["pnpm install --frozen-lockfile"]),
        ({"go.mod": b""}, ["go mod download"]),
        ({"Cargo.toml": b""}, ["cargo fetch"]),
        ({"README.md": b""}, []),
        ({"pyproject.toml": b'[project]\n[dependency-groups]\ndev = ["$(touch x); rm"]\n'},
         [VENV, f"{PIP} -e . '$(touch x); rm'"]),
    ],
)  # fmt: skip
def test_what_installs_the_dependencies_is_found(files: dict[str, bytes], commands: list[str]) -> None:
    assert [one.command for one in find_install(Tree(files), RepoFile(install=True))] == commands


def test_the_repository_files_own_commands_install() -> None:
    found = find_install(Tree({"go.mod": b""}), RepoFile(install=("make deps",)))
    assert [one.command for one in found] == ["make deps"]
