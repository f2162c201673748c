"""The tools that the model has. They read the workspace and change a draft in memory; they have no other effect.

Arguments are checked before anything runs, and whatever the model did wrong is answered with what would be right.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from enum import Enum
from typing import Any

from pydantic import ValidationError

from app.agent import prompt, showing
from app.agent.apply_patch import Touched, apply_patch
from app.agent.arguments import (
    Answer,
    AnswerReplying,
    Arguments,
    CreateFile,
    DeleteFile,
    EditFile,
    Finish,
    FinishChecked,
    FinishCheckedReplying,
    FinishReplying,
    GrepFor,
    HandInPlan,
    ListIn,
    NoArguments,
    PatchFiles,
    ReadLines,
    ReadOutput,
    ReplyTo,
    SearchFor,
    schema,
)
from app.agent.cleaning import visible
from app.agent.draft import Draft
from app.agent.edits import ToolError, is_binary, replace
from app.agent.grep import grep, select
from app.agent.prompt import How, Mode
from app.agent.stuck import Circle, state
from app.nouns import ChecksReport, Plan, Reply, ReviewThread, ToolCall, ToolResult, ToolSpec
from app.ports import RunChecks, Search, Workspace

MAX_LISTED = 400
MAX_CALLS = 16
MAX_TURN_OUTPUT = 80_000
HANDED_IN = "Handed in."
MAX_CHECKS = 5
"""So often the checks are run for one request."""


class Ended(Exception):  # noqa: N818 (an ending, not an error)
    """The model ended its work. `results` are what its calls of this turn would be told if the work went on."""

    results: tuple[ToolResult, ...] = ()


class Finished(Ended):
    """The model handed in its change."""

    def __init__(self, words: Finish) -> None:
        super().__init__()
        self.words = words


class Planned(Ended):
    """The model handed in its plan."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan


class Answered(Ended):
    """The model ended with words instead of a change. `asks`: they are a question to the asker."""

    def __init__(self, text: str, *, asks: bool = False) -> None:
        super().__init__()
        self.text = text
        self.asks = asks


class Does(Enum):
    """What a tool does: calls that read run side by side, a failed write holds back the end of the same turn."""

    READ = 1
    WRITE = 2
    RUN = 3
    END = 4


@dataclass(frozen=True, slots=True)
class Tool:
    """`rest` says how to see what was left out of a result that was too long."""

    name: str
    arguments: type[Arguments]
    run: Callable[[Any], Awaitable[str]]
    does: Does
    rest: Callable[[Any, int, Sequence[str]], str] = showing.in_part

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, prompt.load(f"tool_{self.name}"), schema(self.arguments))


@dataclass(frozen=True, slots=True)
class _Shown:
    """A result, and what is said of its middle where that does not fit."""

    result: ToolResult
    rest: How


class Toolbox:
    """The tools over one draft. `looked_at` lists the files whose text the model was shown, in that order."""

    def __init__(
        self,
        workspace: Workspace,
        draft: Draft,
        search: Search,
        *,
        mode: Mode = Mode.CHANGE,
        checks: RunChecks | None = None,
        threads: Sequence[ReviewThread] = (),
        apply_patch: bool = False,
    ) -> None:
        self._patching = apply_patch
        self._workspace = workspace
        self._draft = draft
        self._search = search
        self._checks = checks
        self._looked_at: dict[str, None] = {}
        self._threads = [prompt.thread_id(one) for one in threads]
        self._replies: dict[int, str] = {}
        self._asked_once: set[str] = set()
        self._circle = Circle(draft.edits())
        self._checked: tuple[bytes, ChecksReport] | None = None
        self._checks_run = 0
        self._held_back = ""
        self.undoing = False
        self._tools = {tool.name: tool for tool in self._offered(mode)}
        self.specs = tuple(tool.spec for tool in self._tools.values())

    def _offered(self, mode: Mode) -> list[Tool]:
        replying = bool(self._threads)
        tools = [
            Tool("search", SearchFor, self._run_search, Does.READ, showing.of_search),
            Tool("grep", GrepFor, self._run_grep, Does.READ, showing.of_grep),
            Tool("list", ListIn, self._run_list, Does.READ, showing.of_list),
            Tool("read", ReadLines, self._run_read, Does.READ, showing.of_read),
        ]
        if mode is Mode.CHANGE:
            tools += self._changing(replying)
        if mode is Mode.PLAN:
            tools.append(Tool("plan", HandInPlan, self._run_plan, Does.END))
        return [*tools, Tool("answer", AnswerReplying if replying else Answer, self._run_answer, Does.END)]

    def _changing(self, replying: bool) -> list[Tool]:
        tools = [
            Tool("edit", EditFile, self._run_edit, Does.WRITE, showing.of_read),
            Tool("create", CreateFile, self._run_create, Does.WRITE),
            Tool("delete", DeleteFile, self._run_delete, Does.WRITE),
        ]
        if self._patching:
            tools.append(Tool("apply_patch", PatchFiles, self._run_apply_patch, Does.WRITE))
        if self._checks is not None:
            tools += [
                Tool("run_checks", NoArguments, self._run_checks, Does.RUN),
                Tool("read_output", ReadOutput, self._run_read_output, Does.READ, showing.of_output),
            ]
        finish = (FinishReplying if replying else Finish) if self._checks is None else (
            FinishCheckedReplying if replying else FinishChecked
        )  # fmt: skip
        return [*tools, Tool("finish", finish, self._run_finish, Does.END)]

    @property
    def looked_at(self) -> tuple[str, ...]:
        return tuple(self._looked_at)

    @property
    def replies(self) -> tuple[Reply, ...]:
        """What the model says in the review threads, in their order."""
        return tuple(Reply(one, self._replies[one]) for one in self._threads if one in self._replies)

    @property
    def ends(self) -> str:
        """The tools that end the work, as prose."""
        return " or ".join(f"`{tool.name}`" for tool in self._tools.values() if tool.does is Does.END)

    def saw(self, paths: Sequence[str]) -> None:
        self._looked_at.update(dict.fromkeys(paths))

    async def run(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Results in the order of the calls. Neighbouring calls that only read run side by side.

        `undoing` then says whether edits brought the draft back to an earlier state once too often. Raises Ended.
        """
        shown: list[_Shown] = []
        self._held_back, self.undoing = "", False
        at = 0
        calls, rest = calls[:MAX_CALLS], calls[MAX_CALLS:]
        while at < len(calls):
            behind = at + 1
            while self._reads(calls[at]) and behind < len(calls) and self._reads(calls[behind]):
                behind += 1
            try:
                shown += await asyncio.gather(*(self._one(call) for call in calls[at:behind]))
            except Ended as end:
                unmade = [ToolResult(call.id, "Not carried out.", is_error=True) for call in calls[behind:]]
                handed_in = ToolResult(calls[at].id, HANDED_IN)
                end.results = (*_fitting(shown), handed_in, *unmade, *_late(rest))
                raise
            at = behind
        return _fitting(shown) + _late(rest)

    def _does(self, call: ToolCall) -> Does | None:
        tool = self._tools.get(call.name)
        return None if tool is None else tool.does

    def _reads(self, call: ToolCall) -> bool:
        return self._does(call) is Does.READ

    async def _one(self, call: ToolCall) -> _Shown:
        try:
            tool, arguments = self._understand(call)
            said = await tool.run(arguments)
        except ToolError as error:
            if not self._reads(call) and self._does(call) is not Does.RUN:
                self._held_back = "A change in this same turn failed"
            text = prompt.trim(str(error), showing.MAX_OUTPUT)
            return _Shown(ToolResult(call.id, text, is_error=True), showing.unsaid)
        if tool.does is Does.WRITE:
            self.undoing = self._circle.moved(self._draft.edits()) or self.undoing

        def rest(first: int, lost: Sequence[str]) -> str:
            return tool.rest(arguments, first, lost)

        return _Shown(ToolResult(call.id, prompt.trim(said, showing.MAX_OUTPUT, rest)), rest)

    def _understand(self, call: ToolCall) -> tuple[Tool, Arguments]:
        tool = self._tools.get(call.name)
        if tool is None:
            raise ToolError(f"There is no tool `{call.name[:80]}`. The tools are {', '.join(self._tools)}.")
        fields = ", ".join(tool.arguments.model_fields) or "no arguments"
        if call.arguments is None:
            raise ToolError(f"The arguments of `{tool.name}` are not a JSON object. Send one with: {fields}.")
        try:
            return tool, tool.arguments.model_validate(dict(call.arguments))
        except ValidationError as error:
            wrong = "; ".join(
                f"`{'.'.join(map(str, one['loc']))}`: {one['msg']}" for one in error.errors()[:8]
            )
            raise ToolError(f"`{tool.name}` was not called: {wrong}. It takes: {fields}.") from error

    async def _run_search(self, wanted: SearchFor) -> str:
        found = await self._search(wanted.question, wanted.limit)
        blocks, paths = prompt.snippet_blocks(found, self._workspace)
        self.saw(paths)
        changed = "\n[The text is of the commit, without your edits.]" if self._draft.edits() else ""
        return "\n\n".join(blocks) + changed if blocks else "Nothing was found. Try `grep` with a name."

    async def _run_grep(self, wanted: GrepFor) -> str:
        return await asyncio.to_thread(grep, self._draft, wanted.pattern, wanted.glob, wanted.skip)

    async def _run_list(self, wanted: ListIn) -> str:
        if wanted.path and wanted.glob:
            raise ToolError("Give `path` or `glob`, not both.")
        paths = self._draft.paths()
        lines = select(paths, wanted.glob) if wanted.glob else _folder(paths, wanted.path or "")
        if not lines:
            return "No file matches."
        shown = sorted(lines)[wanted.skip : wanted.skip + MAX_LISTED]
        behind = wanted.skip + len(shown)
        more = (
            f"\n[{len(lines):,} in all; for more, the same with skip={behind}]" if behind < len(lines) else ""
        )
        return "\n".join(map(prompt.one_line, shown)) + more

    async def _run_read(self, wanted: ReadLines) -> str:
        data = self._draft.read(wanted.path)
        if is_binary(data):
            raise ToolError(f"`{wanted.path}` is a binary file of {len(data):,} bytes and cannot be shown.")
        self.saw([wanted.path])
        return showing.show(wanted.path, data, wanted.start_line, wanted.end_line)

    async def _run_edit(self, wanted: EditFile) -> str:
        old, new = _sendable(wanted.old), _sendable(wanted.new)
        data = self._draft.read(wanted.path)
        done = await asyncio.to_thread(replace, data, old, new, wanted.path)
        self._draft.write(wanted.path, done.data)
        self.saw([wanted.path])
        shown = showing.show(wanted.path, done.data, max(1, done.start_line - 3), done.end_line + 3)
        return f"{done.note}\n{shown}" if done.note else shown

    async def _run_apply_patch(self, wanted: PatchFiles) -> str:
        touched = apply_patch(self._draft, _sendable(wanted.patch))
        self.saw([one.path for one in touched if one.spans])
        return "\n\n".join(self._touched(one) for one in touched)

    def _touched(self, one: Touched) -> str:
        data = self._draft.read(one.path) if one.spans else b""
        shown = [showing.show(one.path, data, max(1, first - 3), last + 3) for first, last in one.spans]
        return "\n".join([str(one), *shown])

    async def _run_create(self, wanted: CreateFile) -> str:
        data = _sendable(wanted.text).encode("utf-8")
        self._draft.create(wanted.path, data)
        return f"Created `{wanted.path}` ({len(data):,} bytes)."

    async def _run_delete(self, wanted: DeleteFile) -> str:
        self._draft.delete(wanted.path)
        return f"Deleted `{wanted.path}`."

    async def _run_checks(self, _wanted: NoArguments) -> str:
        assert self._checks is not None
        now = state(self._draft.edits())
        again = ""
        if self._checked is not None and self._checked[0] == now:
            again = "\n[The draft is as it was when they were run last; they were not run again.]"
        elif self._checks_run == MAX_CHECKS:
            raise ToolError(
                f"The checks were run {MAX_CHECKS} times, which is the most for one request. Go on without, and say so."
            )
        else:
            self._checks_run += 1
            self._checked = (now, await self._checks(self._draft.edits()))
        report = self._checked[1]
        if report.broken:
            self._held_back = "The checks that you ran in this same turn did not all pass"
        return _report(report) + again

    async def _run_read_output(self, wanted: ReadOutput) -> str:
        runs = self._checked[1].runs if self._checked is not None else ()
        if wanted.command > len(runs):
            raise ToolError(f"The last `run_checks` ran {len(runs)} commands; `run_checks` shows them.")
        data = visible(runs[wanted.command - 1].output).encode("utf-8", "replace")
        name = f"output of command {wanted.command}"
        return prompt.block("output", showing.show(name, data, wanted.start_line, wanted.end_line))

    async def _run_finish(self, wanted: Finish) -> str:
        if self._held_back:
            raise ToolError(f"{self._held_back}, so the work is not finished. Mend it, then finish.")
        if not self._draft.edits():
            raise ToolError(
                "The draft holds no change. Make it first, or call `answer` and say why none is needed."
            )
        self._take(wanted.answers())
        missing = [one for one in self._threads if one not in self._replies]
        if missing and self._first_time("replies"):
            raise ToolError(
                "These review threads have no reply yet: comment_id "
                f"{', '.join(map(str, missing))}. Add them to `replies`, with what was done or why not."
            )
        raise Finished(wanted)

    async def _run_answer(self, wanted: Answer) -> str:
        asks = wanted.kind == "question"
        if asks and len(_QUESTIONS.findall(wanted.text)) > 1 and self._first_time("questions"):
            raise ToolError("That is more than one question. Ask the one whose answer you need to go on.")
        self._take(wanted.answers())
        raise Answered(wanted.text, asks=asks)

    async def _run_plan(self, wanted: HandInPlan) -> str:
        files = tuple((one.path, one.change) for one in wanted.files)
        raise Planned(Plan(wanted.summary, files, tuple(wanted.steps), tuple(wanted.risks)))

    def _take(self, replies: Sequence[ReplyTo]) -> None:
        unknown = [one.comment_id for one in replies if one.comment_id not in self._threads]
        if unknown:
            raise ToolError(
                f"No review thread has comment_id {', '.join(map(str, unknown))}. "
                f"The threads are {', '.join(map(str, self._threads))}."
            )
        self._replies.update((one.comment_id, one.text) for one in replies)

    def _first_time(self, what: str) -> bool:
        first = what not in self._asked_once
        self._asked_once.add(what)
        return first


_QUESTIONS = re.compile(r"\?(?=[\s*_)\"']|$)")


def _report(report: ChecksReport) -> str:
    """What the checks said, a block of output for each command."""
    if not report.runs:
        return f"The checks were not run, because {visible(report.not_run or 'none was found')}. Do not say that they passed."
    most = (showing.MAX_OUTPUT - 1000 * len(report.runs)) // len(report.runs)
    parts = []
    for number, run in enumerate(report.runs, 1):
        said = prompt.trim(visible(run.output).strip("\n"), max(most, 1000), showing.of_run(number))
        parts.append(
            f"{number}. {prompt.check_told(run)}\n{prompt.block('output', said or '(it printed nothing)')}"
        )
    if report.not_run is not None:
        parts.append(
            f"Not all of the checks were run, because {visible(report.not_run)}. Do not say that those passed."
        )
    return "\n".join(parts)


def _fitting(shown: Sequence[_Shown]) -> list[ToolResult]:
    """The results of one turn within their common cap; the last ones are cut first."""
    room, out = MAX_TURN_OUTPUT, []
    for one in shown:
        out.append(replace_fields(one.result, text=prompt.trim(one.result.text, max(room, 500), one.rest)))
        room -= len(out[-1].text)
    return out


def _late(calls: Sequence[ToolCall]) -> list[ToolResult]:
    said = f"Not carried out: at most {MAX_CALLS} calls can be made in one turn. Make it again."
    return [ToolResult(call.id, said, is_error=True) for call in calls]


def _folder(paths: Sequence[str], folder: str) -> list[str]:
    inside = "" if folder.strip("/") in ("", ".") else folder.strip("/") + "/"
    counts: dict[str, int] = {}
    for path in paths:
        if path.startswith(inside):
            name, deeper, _ = path[len(inside) :].partition("/")
            counts[name + deeper] = counts.get(name + deeper, 0) + 1
    if not counts:
        raise ToolError(f"There is no folder `{folder}`. Without `path` the top folder is shown.")
    return [
        f"{inside}{name} ({count:,} files)" if name.endswith("/") else inside + name
        for name, count in counts.items()
    ]


def _sendable(text: str) -> str:
    # JSON can carry half of a surrogate pair; no file can.
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ToolError(
            "The text holds half of a surrogate pair, which no file can hold. Send the character whole."
        ) from error
    if "\0" in text:
        raise ToolError("The text holds a NUL character; only text files can be written.")
    return text
