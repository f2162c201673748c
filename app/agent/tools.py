"""The tools that the model has. They read the workspace and change a draft in memory; they have no other effect.

Arguments are checked before anything runs, and whatever the model did wrong is answered with what would be right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.agent import prompt
from app.agent.draft import Draft
from app.agent.edits import ToolError, decode, is_binary, replace
from app.agent.grep import grep, select
from app.nouns import ToolCall, ToolResult, ToolSpec
from app.ports import Search, Workspace

MAX_OUTPUT = 24_000
MAX_LINES = 500
MAX_LINE = 2_000
MAX_LISTED = 400
MAX_WRITTEN = 500_000
MAX_CALLS = 16
MAX_TURN_OUTPUT = 80_000

FilePath = Annotated[
    str, Field(min_length=1, max_length=1000, description="Relative to the repository, like src/a.py.")
]
Piece = Annotated[str, Field(max_length=MAX_WRITTEN)]
Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SearchFor(Arguments):
    question: Annotated[
        str, Field(min_length=1, max_length=1000, description="What the code does, in words.")
    ]
    limit: Annotated[int, Field(ge=1, le=20, description="How many places.")] = 8


class GrepFor(Arguments):
    pattern: Annotated[str, Field(min_length=1, max_length=1000, description="A regular expression (RE2).")]
    glob: Annotated[str, Field(max_length=1000, description="Only these files, like src/**/*.py.")] | None = (
        None
    )


class ListIn(Arguments):
    path: Annotated[str, Field(max_length=1000, description="A folder.")] | None = None
    glob: Annotated[str, Field(max_length=1000, description="A pattern, like tests/**/*.py.")] | None = None


class ReadLines(Arguments):
    path: FilePath
    start_line: Annotated[int, Field(ge=1, description="First line, counted from 1.")] | None = None
    end_line: Annotated[int, Field(ge=1, description="Last line, included.")] | None = None


class EditFile(Arguments):
    path: FilePath
    old: Annotated[Piece, Field(description="The exact text to replace; it must occur once.")]
    new: Annotated[Piece, Field(description="The text to put in its place.")]


class CreateFile(Arguments):
    path: FilePath
    text: Annotated[Piece, Field(description="The whole file.")]


class DeleteFile(Arguments):
    path: FilePath


class Finish(Arguments):
    title: Annotated[Words, Field(max_length=120, description="The pull request's title, one line.")]
    summary: Annotated[Words, Field(max_length=8000, description="What was wrong, what changed, and why.")]
    checked_how: Annotated[
        str,
        Field(
            max_length=4000, description="What you looked at to be sure. Do not claim to have run anything."
        ),
    ]


class Answer(Arguments):
    text: Annotated[Words, Field(max_length=20_000, description="For the asker, in Markdown.")]


class Finished(Exception):  # noqa: N818 (an ending, not an error)
    """The model handed in its change."""

    def __init__(self, words: Finish) -> None:
        super().__init__()
        self.words = words


class Answered(Exception):  # noqa: N818 (an ending, not an error)
    """The model ended with words instead of a change."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    arguments: type[Arguments]
    run: Callable[[Any], Awaitable[str]]
    reads_only: bool

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, prompt.load(f"tool_{self.name}"), _schema(self.arguments))


class Toolbox:
    """The tools over one draft. `looked_at` lists the files whose text the model was shown, in that order."""

    def __init__(self, workspace: Workspace, draft: Draft, search: Search) -> None:
        self._workspace = workspace
        self._draft = draft
        self._search = search
        self._looked_at: dict[str, None] = {}
        tools = (
            Tool("search", SearchFor, self._run_search, reads_only=True),
            Tool("grep", GrepFor, self._run_grep, reads_only=True),
            Tool("list", ListIn, self._run_list, reads_only=True),
            Tool("read", ReadLines, self._run_read, reads_only=True),
            Tool("edit", EditFile, self._run_edit, reads_only=False),
            Tool("create", CreateFile, self._run_create, reads_only=False),
            Tool("delete", DeleteFile, self._run_delete, reads_only=False),
            Tool("finish", Finish, self._run_finish, reads_only=False),
            Tool("answer", Answer, self._run_answer, reads_only=False),
        )
        self._tools = {tool.name: tool for tool in tools}
        self._failed_write = False
        self.specs = tuple(tool.spec for tool in tools)

    @property
    def looked_at(self) -> tuple[str, ...]:
        return tuple(self._looked_at)

    def saw(self, paths: Sequence[str]) -> None:
        self._looked_at.update(dict.fromkeys(paths))

    async def run(self, calls: Sequence[ToolCall]) -> list[ToolResult]:
        """Results in the order of the calls. Neighbouring calls that only read run side by side.

        Raises Finished or Answered.
        """
        results: list[ToolResult] = []
        self._failed_write = False
        at = 0
        calls, rest = calls[:MAX_CALLS], calls[MAX_CALLS:]
        while at < len(calls):
            behind = at + 1
            while self._reads_only(calls[at]) and behind < len(calls) and self._reads_only(calls[behind]):
                behind += 1
            results += await asyncio.gather(*(self._one(call) for call in calls[at:behind]))
            at = behind
        late = f"Not carried out: at most {MAX_CALLS} calls can be made in one turn. Make it again."
        return _fitting(results) + [ToolResult(call.id, late, is_error=True) for call in rest]

    def _reads_only(self, call: ToolCall) -> bool:
        tool = self._tools.get(call.name)
        return tool is not None and tool.reads_only

    async def _one(self, call: ToolCall) -> ToolResult:
        try:
            tool, arguments = self._understand(call)
            return ToolResult(call.id, prompt.trim(await tool.run(arguments), MAX_OUTPUT))
        except ToolError as error:
            self._failed_write = self._failed_write or not self._reads_only(call)
            return ToolResult(call.id, prompt.trim(str(error), MAX_OUTPUT), is_error=True)

    def _understand(self, call: ToolCall) -> tuple[Tool, Arguments]:
        tool = self._tools.get(call.name)
        if tool is None:
            raise ToolError(f"There is no tool `{call.name[:80]}`. The tools are {', '.join(self._tools)}.")
        fields = ", ".join(tool.arguments.model_fields)
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
        return await asyncio.to_thread(grep, self._draft, wanted.pattern, wanted.glob)

    async def _run_list(self, wanted: ListIn) -> str:
        if wanted.path and wanted.glob:
            raise ToolError("Give `path` or `glob`, not both.")
        paths = self._draft.paths()
        lines = select(paths, wanted.glob) if wanted.glob else _folder(paths, wanted.path or "")
        lines = sorted(lines)
        more = f"\n[{len(lines):,} in all; the first {MAX_LISTED} are shown. Narrow the pattern.]"
        return "\n".join(lines[:MAX_LISTED]) + (more if len(lines) > MAX_LISTED else "") or "No file matches."

    async def _run_read(self, wanted: ReadLines) -> str:
        data = self._draft.read(wanted.path)
        if is_binary(data):
            raise ToolError(f"`{wanted.path}` is a binary file of {len(data):,} bytes and cannot be shown.")
        self.saw([wanted.path])
        return show(wanted.path, data, wanted.start_line, wanted.end_line)

    async def _run_edit(self, wanted: EditFile) -> str:
        done = replace(self._draft.read(wanted.path), _sendable(wanted.old), _sendable(wanted.new))
        self._draft.write(wanted.path, done.data)
        self.saw([wanted.path])
        return show(wanted.path, done.data, max(1, done.start_line - 3), done.end_line + 3)

    async def _run_create(self, wanted: CreateFile) -> str:
        data = _sendable(wanted.text).encode("utf-8")
        self._draft.create(wanted.path, data)
        return f"Created `{wanted.path}` ({len(data):,} bytes)."

    async def _run_delete(self, wanted: DeleteFile) -> str:
        self._draft.delete(wanted.path)
        return f"Deleted `{wanted.path}`."

    async def _run_finish(self, wanted: Finish) -> str:
        if self._failed_write:
            raise ToolError(
                "A change in this same turn failed, so the work is not finished. Mend it, then finish."
            )
        if not self._draft.edits():
            raise ToolError(
                "The draft holds no change. Make it first, or call `answer` and say why none is needed."
            )
        raise Finished(wanted)

    async def _run_answer(self, wanted: Answer) -> str:
        raise Answered(wanted.text)


def show(path: str, data: bytes, start: int | None, end: int | None) -> str:
    """Numbered lines of a text file, as many as fit, and a note on what was left out and how to see it."""
    text = decode(data)
    lines = text.lines()
    if not lines:
        return f"`{path}` is empty."
    first = start or 1
    if first > len(lines):
        raise ToolError(f"`{path}` has {len(lines):,} lines; line {first:,} is behind its end.")
    if end is not None and end < first:
        raise ToolError("`end_line` is before `start_line`.")
    shown: list[str] = []
    room = MAX_OUTPUT - 1000
    for number, line in enumerate(lines[first - 1 : min(end or len(lines), first - 1 + MAX_LINES)], first):
        whole = prompt.numbered(number, line[:MAX_LINE])
        if len(line) > MAX_LINE:
            whole += f" [this line goes on for {len(line) - MAX_LINE:,} characters more]"
        room -= len(whole) + 1
        if room < 0 and shown:
            break
        shown.append(whole)
    last = first + len(shown) - 1
    body = "\n".join(shown)
    return f"{body}\n[{'; '.join(_notes(path, data, first, last, end))}]{prompt.hidden_note(body)}"


def _notes(path: str, data: bytes, first: int, last: int, end: int | None) -> list[str]:
    text = decode(data)
    total = len(text.lines())
    notes = [f"`{path}` lines {first}-{last} of {total}"]
    if last < min(end or total, total):
        notes.append(f"for more, read with start_line={last + 1}")
    if text.codec != "utf-8":
        notes.append("not UTF-8; shown as Latin-1")
    if "\r\n" in text.body:
        notes.append("line ends are CRLF and stay so")
    if last == total and not text.body.endswith("\n"):
        notes.append("no newline at the end")
    return notes


def _fitting(results: Sequence[ToolResult]) -> list[ToolResult]:
    """The results of one turn within their common cap; the last ones are cut first."""
    room, out = MAX_TURN_OUTPUT, []
    for result in results:
        out.append(replace_fields(result, text=prompt.trim(result.text, max(room, 500))))
        room -= len(out[-1].text)
    return out


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


def _schema(arguments: type[Arguments]) -> dict[str, object]:
    """JSON Schema without pydantic's titles, which tell the model nothing."""
    schema: dict[str, Any] = arguments.model_json_schema()
    for field in schema.get("properties", {}).values():
        field.pop("title", None)
    return {
        "type": "object",
        "properties": schema.get("properties", {}),
        "required": schema.get("required", []),
        "additionalProperties": False,
    }
