"""Runs the repository's own checks on a change, in a sandbox, and says what they are worth.

A check that fails is run once more without the change, so that what was broken before is not called broken by it. What
could not be run is said, never passed over. Only the tree as it was before the change is there while package indexes
can be reached: nothing that a model wrote ever runs with a way out.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from app.change import commands
from app.change.commands import Found
from app.errors import DefectError, RefusedError
from app.nouns import CheckRun, ChecksReport, FileEdit, Finished, RoomLimits
from app.ports import Room, RunChecks, Sandbox, Workspace
from app.repofile import PATH as REPOFILE_PATH
from app.repofile import RepoFile

log = logging.getLogger(__name__)

_SHELL_MISSES = re.compile(
    r"^(?:\S*sh: )?(?:line )?(?:\d+: )?([\w./+-]+): (?:command )?not found$", re.MULTILINE
)
_PYTHON_MISSES = re.compile(r"^\S*python[\d.]*: No module named ([\w.]+)", re.MULTILINE)
_MAKE_MISSES = re.compile(
    r"^make(?:\[\d+\])?: (?:([\w./+-]+): No such file or directory|\*\*\* .* Error 127)$", re.MULTILINE
)
_NOT_FOUND = 127
_LEAST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class CheckLimits:
    """Seconds for one call in all, for one command, and for the installation; how many commands are run at most."""

    seconds: float = 600
    command_seconds: float = 300
    install_seconds: float = 300
    commands: int = 10
    room: RoomLimits = field(default_factory=RoomLimits)


@asynccontextmanager
async def open_checks(
    workspace: Workspace,
    *,
    repofile: RepoFile,
    sandbox: Sandbox,
    limits: CheckLimits | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> AsyncIterator[RunChecks]:
    """The checks of one run. Nothing is started before they are called; what was started is gone when the block ends."""
    checks = _Checks(workspace, repofile, sandbox, limits or CheckLimits(), monotonic)
    try:
        yield checks
    finally:
        await checks.close()


class _NotRun(Exception):  # noqa: N818 - an answer, not a mistake
    """Why there is nothing to report, as a sentence part that follows "because"."""


@dataclass(slots=True)
class _Call:
    """One call under way: when it has to end, what was run, and why something was not."""

    until: float
    runs: list[CheckRun] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def report(self) -> ChecksReport:
        return ChecksReport(tuple(self.runs), "; ".join(dict.fromkeys(self.left_out)) or None)


class _Checks:
    """Implements `app.ports.RunChecks`. One room serves all calls, so that dependencies are installed once."""

    def __init__(
        self,
        workspace: Workspace,
        repofile: RepoFile,
        sandbox: Sandbox,
        limits: CheckLimits,
        monotonic: Callable[[], float],
    ) -> None:
        self._workspace = workspace
        self._repofile = repofile
        self._sandbox = sandbox
        self._limits = limits
        self._monotonic = monotonic
        self._base = {entry.path: entry.mode for entry in workspace.entries()}
        self._room: Room | None = None
        self._stack = AsyncExitStack()
        self._before: dict[str, Finished] = {}
        self._last: tuple[Sequence[FileEdit], ChecksReport] | None = None
        self._turn = asyncio.Lock()

    async def __call__(self, edits: Sequence[FileEdit]) -> ChecksReport:
        async with self._turn:
            if self._last is not None and list(self._last[0]) == list(edits):
                return self._last[1]
            report = await self._report(edits)
            self._last = (tuple(edits), report) if report.runs else None
            return report

    async def close(self) -> None:
        self._room = None
        await self._stack.aclose()

    async def _report(self, edits: Sequence[FileEdit]) -> ChecksReport:
        call = _Call(self._monotonic() + self._limits.seconds)
        try:
            found = self._found()
            why_not = await self._sandbox.why_not()
            if why_not is not None:
                raise _NotRun(why_not)
            await self._check(call, found, edits)
        except _NotRun as because:
            call.left_out.append(str(because))
        except (DefectError, RefusedError) as error:
            await self.close()
            log.warning("checks ended early", extra={"reason": error.reason})
            call.left_out.append(_early(error))
        return call.report()

    def _found(self) -> Sequence[Found]:
        if self._repofile.checks == ():
            raise _NotRun(f"`{REPOFILE_PATH}` switches them off")
        found = commands.find(self._workspace, self._repofile)
        if not found:
            raise _NotRun("no command was found that runs them")
        return found

    async def _check(self, call: _Call, found: Sequence[Found], edits: Sequence[FileEdit]) -> None:
        room = await self._opened(call)
        modes, contents = self._edited(edits)
        await self._lay(room, modes, contents)
        ended: list[tuple[Found, Finished]] = []
        try:
            await self._run_all(room, found, call, ended)
            bad = [one for one, finished in ended if not _ok(finished)]
            await self._run_before(room, bad, call)
        finally:
            for one, finished in ended:
                self._judge(call, one, finished)

    async def _run_all(
        self, room: Room, found: Sequence[Found], call: _Call, ended: list[tuple[Found, Finished]]
    ) -> None:
        for one in found[: self._limits.commands]:
            finished = await self._run(room, one.command, call)
            if finished is None:
                call.left_out.append("the time for them ran out")
                break
            ended.append((one, finished))
        if len(found) > self._limits.commands:
            call.left_out.append(f"only the first {self._limits.commands} are run")

    def _judge(self, call: _Call, one: Found, finished: Finished) -> None:
        """A tool that is missing with and without the change is nobody's failure, and no check."""
        before = self._before.get(one.command)
        tool = missing(one.command, finished)
        if tool is not None and before is not None and missing(one.command, before) is not None:
            call.left_out.append(f"`{tool}` is not there for `{one.command}`")
            return
        failed_before = None if before is None or _ok(finished) else not _ok(before)
        call.runs.append(
            CheckRun(
                one.command,
                finished.ended,
                finished.exit_code,
                finished.seconds,
                finished.output,
                failed_before,
            )
        )

    async def _run_before(self, room: Room, bad: Sequence[Found], call: _Call) -> None:
        """What fails is run once on the tree without the change, as far as time allows; a change of nothing needs it too,
        since a tool may be missing."""
        unknown = [one for one in bad if one.command not in self._before]
        if not unknown or call.until - self._monotonic() < _LEAST_SECONDS:
            return
        await self._lay(room, self._base, {})
        for one in unknown:
            finished = await self._run(room, one.command, call, at_least_once=False)
            if finished is not None:
                self._before[one.command] = finished

    async def _run(
        self, room: Room, command: str, call: _Call, *, at_least_once: bool = True
    ) -> Finished | None:
        """None when there is no time left. Half a second command's time says nothing about the change, so without
        `at_least_once` an end that only the whole call's time brought is none."""
        left = call.until - self._monotonic()
        seconds = min(left, self._limits.command_seconds)
        if seconds < _LEAST_SECONDS:
            return None
        finished = await room.run(command, seconds=seconds)
        cut_short = finished.ended == "timed_out" and seconds < self._limits.command_seconds
        return None if cut_short and not at_least_once else finished

    # --- the room ----------------------------------------------------------------------------------------------------

    async def _opened(self, call: _Call) -> Room:
        if self._room is not None:
            return self._room
        self._before.clear()
        room = await self._stack.enter_async_context(self._sandbox.open(self._limits.room))
        try:
            await self._install(room, call)
        except BaseException:
            await self._stack.aclose()
            raise
        self._room = room
        return room

    async def _install(self, room: Room, call: _Call) -> None:
        """Raises _NotRun when a command fails: checks without their dependencies would say nothing."""
        wanted = commands.find_install(self._workspace, self._repofile)
        if not wanted:
            return
        await self._lay(room, self._base, {})
        until = self._monotonic() + self._limits.install_seconds
        for one in wanted:
            left = until - self._monotonic()
            if left < _LEAST_SECONDS:
                raise _NotRun("the time for installing their dependencies ran out")
            finished = await room.run(one.command, seconds=left, indexes=True)
            tool = missing(one.command, finished)
            if tool is not None:
                raise _NotRun(f"their dependencies could not be installed: `{tool}` is not there")
            if not _ok(finished):
                raise _NotRun(f"their dependencies could not be installed: `{one.command}` failed")
        await room.keep()
        call.until += self._limits.install_seconds - (until - self._monotonic())

    async def _lay(self, room: Room, modes: Mapping[str, str], contents: Mapping[str, bytes]) -> None:
        def read(path: str) -> bytes:
            return contents[path] if path in contents else self._workspace.read(path)

        await room.lay(modes, read)

    def _edited(self, edits: Sequence[FileEdit]) -> tuple[dict[str, str], dict[str, bytes]]:
        """The tree with the edits: modes by path, and the content of what is new. Raises _NotRun for what is no tree."""
        modes = dict(self._base)
        contents: dict[str, bytes] = {}
        for edit in edits:
            if edit.after is None:
                modes.pop(edit.path, None)
                contents.pop(edit.path, None)
            else:
                modes[edit.path] = edit.mode
                contents[edit.path] = edit.after
        for path in contents:
            parts = path.split("/")
            if any("/".join(parts[:end]) in modes for end in range(1, len(parts))):
                raise _NotRun(f"`{path}` cannot be inside a file")
        return modes, contents


def missing(command: str, finished: Finished) -> str | None:
    """The tool that was not there to run this command, None where it ran. By what the shell (127,
    https://pubs.opengroup.org/onlinepubs/9699919799/utilities/V3_chap02.html#tag_18_08_02), Python and make say."""
    if finished.ended != "exited" or not finished.exit_code:
        return None
    said = _SHELL_MISSES.search(finished.output)
    if finished.exit_code == _NOT_FOUND:
        return said.group(1) if said else command.split(maxsplit=1)[0]
    module = _PYTHON_MISSES.search(finished.output)
    if module is not None and f"-m {module.group(1)}" in command:
        return module.group(1)
    target = _MAKE_MISSES.search(finished.output)
    if target is not None and command.split(maxsplit=1)[0] == "make":
        return target.group(1) or (said.group(1) if said else "make's tool")
    return None


def _ok(finished: Finished) -> bool:
    return finished.ended == "exited" and finished.exit_code == 0


def _early(error: DefectError | RefusedError) -> str:
    if error.reason == "sandbox_unusable":
        return error.message
    if error.reason == "sandbox_full":
        return "the repository does not fit into the sandbox"
    return "the sandbox had to be ended"
