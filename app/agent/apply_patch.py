"""Reads a patch in the form that OpenAI's models are trained on (V4A) and applies it to the draft: all of it or nothing.

The form: https://github.com/openai/codex/blob/main/codex-rs/apply-patch/apply_patch_tool_instructions.md. Read more
strictly than there: a hunk has to have one place, a `@@` line has to be found, a file that exists is not written over, and
what is not of the form is refused with the line of the patch that is wrong.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from app.agent import nearest
from app.agent.draft import NEW_FILE_MODE, Draft
from app.agent.edits import Page, Splice, ToolError, say, shifted, the_one
from app.agent.matching import BLANK, Found, Place, Reading, Tolerance, find, indent
from app.agent.rewriting import Step, compose

_BEGIN, _END, _EOF = "*** Begin Patch", "*** End Patch", "*** End of File"
_ADD, _DELETE, _UPDATE, _MOVE = "*** Add File:", "*** Delete File:", "*** Update File:", "*** Move to:"
_NUMBERED = re.compile(r"@@ -\d+(,\d+)? \+\d+(,\d+)? @@.*")
_UNIFIED = re.compile(r"(diff --git |--- (a/|/dev/null)|\+\+\+ (b/|/dev/null)|Index: )")
_WORD = re.compile(r"[\w@#]")
_WRAPS = (
    (re.compile(r"(```+|~~~+)[\w+#.-]*"), re.compile(r"(```+|~~~+)")),
    (re.compile(r"(apply_patch )?<<-? ?['\"]?(\w+)['\"]?"), re.compile(r"\w+")),
)


@dataclass(frozen=True, slots=True)
class Hunk:
    """One change of a file. `headers` are its `@@` lines; `lines` have a sign (` `, `-`, `+`) and a text each."""

    line: int  # of the patch, from 1
    headers: tuple[str, ...]
    lines: tuple[tuple[str, str], ...]
    at_end: bool = False

    @property
    def old(self) -> tuple[str, ...]:
        return tuple(text for sign, text in self.lines if sign != "+")

    @property
    def told(self) -> list[Step]:
        """The new lines, told by the old ones that stay."""
        out: list[Step] = []
        at = 0
        for sign, text in self.lines:
            out += [text] if sign == "+" else [at] if sign == " " else []
            at += sign != "+"
        return out


@dataclass(frozen=True, slots=True)
class Add:
    line: int
    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Delete:
    line: int
    path: str


@dataclass(frozen=True, slots=True)
class Update:
    line: int
    path: str
    move_to: str | None
    hunks: tuple[Hunk, ...]


Operation = Add | Delete | Update


@dataclass(frozen=True, slots=True)
class Touched:
    """What became of a file. `spans` are the lines (1-based, inclusive) where changed text stands now, in order."""

    path: str
    did: str  # "Added", "Deleted", "Updated", "Moved"
    spans: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    moved_from: str | None = None

    def __str__(self) -> str:
        came = f" from `{self.moved_from}`" if self.moved_from is not None else ""
        said = "".join(f" {note}" for note in self.notes)
        return f"{self.did} `{self.path}`{came}.{said}"


def apply_patch(draft: Draft, text: str) -> tuple[Touched, ...]:
    """Changes the draft as the patch says, file after file. Raises ToolError, and has then changed nothing."""
    operations = parse(text)
    with draft.all_or_nothing():
        touched = [_carry_out(draft, one) for one in operations]
    # Lines are told of a file as it is in the end, so only by the last part of the patch that concerns it.
    last = {path: i for i, one in enumerate(touched) for path in (one.path, one.moved_from)}
    return tuple(one if last[one.path] == i else replace(one, spans=()) for i, one in enumerate(touched))


def _carry_out(draft: Draft, one: Operation) -> Touched:
    try:
        if isinstance(one, Add):
            draft.create(one.path, one.text.encode())
            return Touched(one.path, "Added")
        if isinstance(one, Delete):
            draft.delete(one.path)
            return Touched(one.path, "Deleted")
        before = draft.read(one.path)
        after, spans, notes = patched(before, one.hunks, one.path)
        if one.move_to is None:
            draft.write(one.path, after)
            return Touched(one.path, "Updated", spans, notes)
        if draft.mode(one.path) != NEW_FILE_MODE:
            raise ToolError(
                "It is executable, which a file at a new path cannot be here. Change it where it is."
            )
        draft.delete(one.path)
        draft.create(one.move_to, after)
        return Touched(one.move_to, "Moved", spans, notes, one.path)
    except ToolError as error:
        raise ToolError(
            f"Nothing of the patch was applied. `{one.path}` (line {one.line} of the patch): {error}"
        ) from error


# --- reading the patch -----------------------------------------------------------------------------------------------


def parse(text: str) -> tuple[Operation, ...]:
    """What a patch says. Raises ToolError with the line of the patch that is not of the form."""
    lines = _Lines(_envelope(text))
    operations: list[Operation] = []
    while lines.left:
        number, line = lines.take()
        if line.startswith(_ADD):
            operations.append(Add(number, _path(line, _ADD, number), _added(lines)))
        elif line.startswith(_DELETE):
            operations.append(Delete(number, _path(line, _DELETE, number)))
            lines.skip_blank()
        elif line.startswith(_UPDATE):
            operations.append(_update(lines, number, _path(line, _UPDATE, number)))
        elif line.strip():
            raise ToolError(_strange(number, line))
    if not operations:
        raise ToolError("The patch is empty: between its first and last line stands no file.")
    return tuple(operations)


class _Lines:
    """The lines of a patch, taken one after the other, with their numbers."""

    def __init__(self, lines: Sequence[tuple[int, str]]) -> None:
        self._lines = lines
        self._at = 0

    @property
    def left(self) -> bool:
        return self._at < len(self._lines)

    @property
    def next(self) -> str | None:
        return self._lines[self._at][1] if self.left else None

    def take(self) -> tuple[int, str]:
        self._at += 1
        return self._lines[self._at - 1]

    def skip_blank(self) -> None:
        while self.next is not None and not self.next.strip():
            self.take()


def _envelope(text: str) -> list[tuple[int, str]]:
    """The lines between the first and the last, numbered. A fence or a here-document around them is unmistakable,
    since the patch says itself where it begins and ends; nothing else may stand there."""
    lines = list(enumerate(text.replace("\r\n", "\n").split("\n"), 1))
    while lines and not lines[-1][1].strip():
        lines.pop()
    while lines and not lines[0][1].strip():
        lines.pop(0)
    if any(
        len(lines) > 2 and a.fullmatch(lines[0][1].strip()) and b.fullmatch(lines[-1][1].strip())
        for a, b in _WRAPS
    ):
        lines = lines[1:-1]
    if not lines or lines[0][1].strip() != _BEGIN:
        said = " This is a unified diff." if lines and _UNIFIED.match(lines[0][1]) else ""
        raise ToolError(f"The first line of a patch is `{_BEGIN}`.{said}")
    if lines[-1][1].strip() != _END:
        raise ToolError(f"The last line of a patch is `{_END}`. This one may have been cut off.")
    return lines[1:-1]


def _path(line: str, marker: str, number: int) -> str:
    path = line[len(marker) :].strip()
    if not path:
        raise ToolError(f"Line {number} of the patch names no file: `{line}`.")
    return path


def _strange(number: int, line: str) -> str:
    if line.startswith((_BEGIN, _END)):
        return f"Line {number} of the patch: `{line.strip()}` stands once, at its beginning or end. Send one patch."
    if line.startswith(_EOF):
        return f"Line {number} of the patch: `{_EOF}` ends a hunk, and there is none here."
    if line.startswith(_MOVE):
        return f"Line {number} of the patch: `{_MOVE}` stands right below `{_UPDATE} …`."
    if _UNIFIED.match(line):
        return (
            f"Line {number} of the patch is of a unified diff. Name the file with `{_UPDATE} path` instead."
        )
    return (
        f"Line {number} of the patch is not of the form: `{line[:200]}`. A file begins with `{_ADD} path`, `{_DELETE} path` or "
        f"`{_UPDATE} path`; each line of a hunk with a space, `-` or `+`; each line of an added file with `+`."
    )


def _added(lines: _Lines) -> str:
    out: list[str] = []
    while lines.next is not None and lines.next.startswith("+"):
        out.append(lines.take()[1][1:] + "\n")
    lines.skip_blank()
    return "".join(out)


def _update(lines: _Lines, number: int, path: str) -> Update:
    move_to = None
    if lines.next is not None and lines.next.startswith(_MOVE):
        at, line = lines.take()
        move_to = _path(line, _MOVE, at)
    hunks: list[Hunk] = []
    lines.skip_blank()
    while lines.next is not None and not lines.next.startswith("***"):
        hunks.append(_hunk(lines))
        lines.skip_blank()
    if not hunks and move_to is None:
        raise ToolError(f"Line {number} of the patch: the update of `{path}` says no change.")
    return Update(number, path, move_to, tuple(hunks))


def _hunk(lines: _Lines) -> Hunk:
    number = 0
    headers: list[str] = []
    while lines.next is not None and lines.next.startswith("@@"):
        at, line = lines.take()
        number = number or at
        # The line numbers of a unified diff are not what says where; the text is.
        said = "" if _NUMBERED.fullmatch(line) else line[2:].strip()
        headers += [said] if said else []
    body: list[tuple[str, str]] = []
    bare = 0  # lines without any sign at the end: they part this hunk from what follows, or are blank context
    while lines.next is not None and not lines.next.startswith(("@@", "***")):
        at, line = lines.take()
        number = number or at
        if line and line[0] not in " -+":
            raise ToolError(_strange(at, line))
        body.append((line[0], line[1:]) if line else (" ", ""))
        bare = 0 if line else bare + 1
    body = body[: len(body) - bare]
    at_end = lines.next is not None and lines.next.rstrip() == _EOF
    if at_end:
        lines.take()
    if all(sign == " " for sign, _ in body):
        raise ToolError(
            f"The hunk at line {number} of the patch changes nothing: it has no line with `-` or `+`."
        )
    return Hunk(number, tuple(headers), tuple(body), at_end)


# --- applying it to a file -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Placed:
    hunk: Hunk
    place: Place
    tolerance: Tolerance


def patched(
    data: bytes, hunks: Sequence[Hunk], path: str
) -> tuple[bytes, tuple[tuple[int, int], ...], tuple[str, ...]]:
    """A file's bytes after these hunks, the lines where their text stands then, and what the model should know.

    Each hunk is looked for in the file as it was. Raises ToolError.
    """
    if not hunks:
        return data, (), ()
    page = Page(data, path)
    placed = sorted((_placed(page, hunk) for hunk in hunks), key=lambda p: (p.place.start, p.place.end))
    for before, behind in pairwise(placed):
        if behind.place.start < before.place.end or behind.place.start == before.place.start:
            raise ToolError(
                f"The hunks at lines {before.hunk.line} and {behind.hunk.line} of the patch change the same lines "
                f"(from line {behind.place.line + 1} of the file). Make one hunk of them."
            )
    after = page.with_splices([_splice(page, one) for one in placed])
    if after == data:
        raise ToolError("The file has this text already; nothing would change.")
    notes = dict.fromkeys(note for one in placed if (note := say(one.tolerance)))
    return after, tuple(_spans(placed)), tuple(notes)


def _spans(placed: Sequence[_Placed]) -> Iterator[tuple[int, int]]:
    moved = 0
    for one in placed:
        first = one.place.line + 1 + moved
        count = len(one.hunk.told)
        yield first, max(first, first + count - 1)
        moved += count - len(one.hunk.old)


def _splice(page: Page, one: _Placed) -> Splice:
    view, told = page.reading.view, shifted(one.hunk.told, one.place.shift)
    start, end = page.at(one.place.start), page.at(min(one.place.end, len(view)))
    there = page.lines(start, end)
    old = one.hunk.old
    if len(there) > len(old):  # the range ends behind a line end, and so does what stands there afterwards
        return Splice(start, end, compose(there, [*told, len(old)], page.usual))
    return Splice(start, end, compose(there, told, page.usual))


def _placed(page: Page, hunk: Hunk) -> _Placed:
    name = f"the old text of the hunk at line {hunk.line} of the patch"
    old = "".join(line + "\n" for line in hunk.old)
    if not old:
        return _Placed(hunk, _for_insertion(page.reading, hunk), Tolerance.EXACT)
    if any(re.match(r" {2,5}\d+\t", line) for line in hunk.old[:1]) and old not in page.reading.view:
        raise ToolError(f"{name} begins its lines with the line numbers that `read` shows. Leave them out.")
    found = find(page.reading, old, whole=True, means=page.means)
    if found.more:
        the_one(
            page.reading, found, old, name
        )  # not all of them are known, so none can be told from the others
    if hunk.at_end and found.places:
        found = _at_end(page.reading, found, hunk)
    if hunk.headers and found.places:
        found = _below(page.reading, found, hunk)
    return _Placed(hunk, the_one(page.reading, found, old, name), found.tolerance)


def _for_insertion(reading: Reading, hunk: Hunk) -> Place:
    """Where a hunk goes that has no old lines: into an empty file, or behind the end of one."""
    if not reading.view or hunk.at_end:
        if reading.view and not reading.view.endswith("\n"):
            raise ToolError(
                f"the hunk at line {hunk.line} of the patch adds behind the last line, which has no newline at its end. "
                "Give that line as context."
            )
        return Place(len(reading.view), len(reading.view), len(reading.lines))
    raise ToolError(
        f"the hunk at line {hunk.line} of the patch only adds lines and does not say where. Give a line before or after "
        f"them as context, or end it with `{_EOF}`."
    )


def _at_end(reading: Reading, found: Found, hunk: Hunk) -> Found:
    places = tuple(place for place in found.places if place.end >= len(reading.view))
    if not places:
        lines = ", ".join(str(place.line + 1) for place in found.places[:10])
        raise ToolError(
            f"the hunk at line {hunk.line} of the patch ends with `{_EOF}`, but its text is not the end of the file; it "
            f"stands at line {lines} of {len(reading.lines)}. Leave `{_EOF}` out, or give the last lines."
        )
    return Found(places, found.tolerance)


# --- the `@@` lines --------------------------------------------------------------------------------------------------


def _below(reading: Reading, found: Found, hunk: Hunk) -> Found:
    """The places that stand below the hunk's `@@` lines; of several, the one that stands inside what they open."""
    chains = [(_chain(reading, hunk, header), _Scopes(reading.lines)) for header in hunk.headers]
    below, inside, elsewhere = [], [], None
    for place in found.places:
        upto, within = place.line + len(hunk.old), place.line
        nested = True
        for heads, scopes in reversed(chains):
            above = bisect_left(heads, upto) - 1
            if above < 0:
                break
            nested = nested and scopes.hold(heads[above], within)
            elsewhere = scopes.sibling(heads[above]) if elsewhere is None else elsewhere
            upto = within = heads[above]
        else:
            below.append(place)
            inside += [place] if nested else []
    lines = ", ".join(str(place.line + 1) for place in found.places[:10])
    said = f"the text of the hunk at line {hunk.line} of the patch stands at line {lines}, which is not"
    if not below:
        raise ToolError(
            f"{said} below `@@ {hunk.headers[-1]}`. Name what it stands in, or leave the `@@` line empty."
        )
    if len(below) == 1 and not inside and elsewhere is not None:
        raise ToolError(
            f"{said} inside `@@ {hunk.headers[-1]}` but below `{reading.lines[elsewhere].strip()[:200]}` at line "
            f"{elsewhere + 1}. Name what it stands in, or leave the `@@` line empty."
        )
    return Found(tuple(below if len(below) == 1 else inside or below), found.tolerance)


class _Scopes:
    """What lines open, as far as indentation tells: all below them up to a word that stands no deeper than they do.

    Asked for places in their order, each with the last head above it, it looks at each line once.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = lines
        self._looked: dict[int, int] = {}
        self._ended: dict[int, int] = {}

    def hold(self, head: int, line: int) -> bool:
        """Whether `line` is inside what `head` opens."""
        depth = len(indent(self._lines[head]))
        at = self._looked.get(head, head + 1)
        while head not in self._ended and at <= line:
            one = self._lines[at]
            if len(indent(one)) <= depth and _WORD.match(one.lstrip(BLANK)):
                self._ended[head] = at
            at += 1
        self._looked[head] = at
        return head not in self._ended

    def sibling(self, head: int) -> int | None:
        """The line, if one was come by, that opens another of the same kind right behind what `head` opens."""
        end = self._ended.get(head)
        if end is None or end == head + 1:
            return None
        this, other = self._lines[head], self._lines[end]
        opens = len(indent(self._lines[head + 1])) > len(indent(this))
        alike = indent(this) == indent(other) and _first_word(this) == _first_word(other)
        return end if opens and alike else None


def _first_word(line: str) -> str:
    return line.lstrip(BLANK).partition(" ")[0]


def _chain(reading: Reading, hunk: Hunk, header: str) -> list[int]:
    """The lines, from 0, that a `@@` line names: those that read so, or else those that begin so."""
    bare = header.strip(BLANK)
    same = [i for i, line in enumerate(reading.lines) if line.strip(BLANK) == bare]
    if same:
        return same
    begins = re.compile(re.escape(bare) + (r"(?!\w)" if bare[-1:].isalnum() or bare[-1:] == "_" else ""))
    same = [i for i, line in enumerate(reading.lines) if begins.match(line.strip(BLANK))]
    if same:
        return same
    near = nearest.describe(reading, bare)
    raise ToolError(
        f"no line of the file reads `{bare[:200]}`, which the hunk at line {hunk.line} of the patch has behind `@@`. {near or ''}"
    )
