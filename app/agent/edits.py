"""Replaces one piece of a file and leaves every other byte as it was: encoding, BOM, line ends, final newline.

Pure: bytes in, bytes out. Refuses what is not text, what it cannot find, and what it finds more than once. What it looks
past when it looks for a piece is white space that carries no meaning, and it says so; see `matching`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from app.agent import nearest
from app.agent.matching import BLANK, Found, Place, Reading, Shift, Tolerance, find, indent, indents
from app.agent.rewriting import Line, Step, Work, compose, steps

BOM = b"\xef\xbb\xbf"
_SNIFF = 8000  # how far git looks for a NUL: https://github.com/git/git/blob/master/xdiff-interface.c
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_NUMBER = re.compile(r" *(\d+)\t")
_FENCE = re.compile(r"(```+|~~~+)[\w+#.-]*")
_PROSE = (".md", ".mdx", ".markdown", ".rst", ".txt", ".adoc", ".org", ".ipynb", ".qmd", ".rmd")


class ToolError(Exception):
    """What the model did wrong and what would be right; it is told to the model and to nobody else."""


@dataclass(frozen=True, slots=True)
class Text:
    """A file's text, losslessly: `bom + body.encode(codec)` is the file again."""

    body: str
    codec: str
    bom: bytes = b""

    def encode(self) -> bytes:
        return self.bom + self.body.encode(self.codec)

    def lines(self) -> list[str]:
        """Without their line ends. A final newline does not begin another line."""
        lines = self.body.split("\n")
        if lines[-1] == "":
            lines.pop()
        return [line.removesuffix("\r") for line in lines]


@dataclass(frozen=True, slots=True)
class Replaced:
    """A file after an edit; the new text stands on these lines (1-based, inclusive). `note` is for the model: what was
    looked past to find the place, empty where nothing was."""

    data: bytes
    start_line: int
    end_line: int
    tolerance: Tolerance = Tolerance.EXACT
    note: str = ""


@dataclass(frozen=True, slots=True)
class Splice:
    """A range of a text's body and what is to stand there."""

    start: int
    end: int
    text: str


class Page:
    """A text file that is being changed: its text, how it reads with plain line ends, and how it ends its lines."""

    def __init__(self, data: bytes, path: str = "") -> None:
        if data.startswith(_WIDE):
            raise ToolError(
                "This file is UTF-16 or UTF-32, which cannot be edited here; only text in UTF-8 or Latin-1 can."
            )
        if is_binary(data):
            raise ToolError("This is a binary file; only text can be edited.")
        self.text = decode(data)
        self.reading = Reading(self.text.body.replace("\r\n", "\n"))
        self.means = indents(path)
        self._pairs = len(self.text.body) - len(self.reading.view)

    @property
    def usual(self) -> str:
        """The line end that most of the file has."""
        ended = self.reading.view.count("\n")
        if not ended:
            return "\r" if "\r" in self.text.body else "\n"
        return "\r\n" if self._pairs * 2 > ended else "\n"

    def at(self, place: int) -> int:
        """Where a place of the view is in the body."""
        if not self._pairs:
            return place
        view = self.reading.view
        line, column = view.count("\n", 0, place), place - (view.rfind("\n", 0, place) + 1)
        return len(self.text.body) - len(self.text.body.split("\n", line)[line]) + column

    def lines(self, start: int, end: int) -> list[Line]:
        """A range of the body, line by line; what is behind its last line end, if only nothing, is the last."""
        *ended, last = self.text.body[start:end].split("\n")
        out = [Line(t[:-1], "\r\n") if t.endswith("\r") else Line(t, "\n") for t in ended]
        return [*out, Line(last, "")]

    def with_splices(self, splices: Sequence[Splice]) -> bytes:
        """The file with ranges of its body replaced, none of which overlap. Raises ToolError."""
        body, parts, past = self.text.body, [], 0
        for one in sorted(splices, key=lambda s: s.start):
            self._check_letters(one)
            parts += [body[past : one.start], one.text]
            past = one.end
        changed = "".join([*parts, body[past:]])
        try:
            return Text(changed, self.text.codec, self.text.bom).encode()
        except UnicodeEncodeError as error:
            raise ToolError(
                f"{error.object[error.start]!r} has no place in this file's encoding ({self.text.codec}). "
                "Use only characters of that encoding."
            ) from error

    def _check_letters(self, one: Splice) -> None:
        # In Latin-1 the bytes 80 to 9F are control characters; a text that has them is in another encoding, and a
        # letter's byte there is not known.
        if self.text.codec == "utf-8" or not re.search("[\x80-\x9f]", self.text.body):
            return
        there = set(self.text.body[one.start : one.end])
        strange = next((c for c in one.text if not c.isascii() and c not in there), None)
        if strange is not None:
            raise ToolError(
                f"The file is neither UTF-8 nor Latin-1, so it is not known how it writes {strange!r}. "
                "Put in only plain ASCII characters, and leave the others where they are."
            )


def is_binary(data: bytes) -> bool:
    return b"\0" in data[:_SNIFF]


def decode(data: bytes) -> Text:
    """UTF-8 where it is, else Latin-1, which gives each byte its own character and loses none."""
    bom = BOM if data.startswith(BOM) else b""
    rest = data[len(bom) :]
    try:
        return Text(rest.decode("utf-8"), "utf-8", bom)
    except UnicodeDecodeError:
        return Text(rest.decode("latin-1"), "latin-1", bom)


def replace(data: bytes, old: str, new: str, path: str = "") -> Replaced:
    """`data` with its one occurrence of `old` replaced by `new`. Raises ToolError.

    Looked for as it stands, then apart from line ends, white space at line ends, and an indentation that differs in
    the same way on each line (`new` is then indented by the same rule); what `path` is decides what indentation means.
    Lines that `old` and `new` share keep the file's own bytes. New lines get the line end of the line that they
    replace, or else the one that most of the file has.
    """
    page = Page(data, path)
    given = old
    old, new = (each.replace("\r\n", "\n") for each in (old, new))
    if not old:
        raise ToolError("`old` is empty. Give the exact text to replace; `create` makes a new file.")
    if old == new:
        raise ToolError("`old` and `new` are the same; nothing would change.")
    found = find(page.reading, old, whole=False, means=page.means)
    place = the_one(page.reading, found, old, "`old`")
    _check_copied(new, old, place.line + 1, path)
    start, end, old, new = _whole_line(page.reading.view, place, old, new, found.tolerance)
    told = _told(old, new, found.tolerance, place.shift)
    first, last = page.at(start), page.at(end)
    there = page.lines(first, last)
    tolerance = found.tolerance
    if tolerance is Tolerance.EXACT and not page.text.body.startswith(given, first):
        tolerance = Tolerance.LINE_ENDS
    after = page.with_splices([Splice(first, last, compose(there, told, page.usual))])
    if after == data:
        raise ToolError(
            "The file has this text already: apart from white space, `old` and `new` are the same there."
        )
    ends_at = place.line + 1 + new.removesuffix("\n").count("\n")
    return Replaced(after, place.line + 1, ends_at, tolerance, say(tolerance))


def say(tolerance: Tolerance) -> str:
    """What the model is told about how the place was found."""
    if tolerance in (Tolerance.EXACT, Tolerance.LINE_ENDS):
        return ""  # what the model is shown never has line ends in it
    extra = " New lines were indented like the file's." if tolerance is Tolerance.INDENTATION else ""
    return f"Matched apart from {tolerance}; lines that did not change keep the file's own.{extra}"


def the_one(reading: Reading, found: Found, old: str, name: str) -> Place:
    """The place of the only match. Raises ToolError that says what is nearest, or where all of them are."""
    if len(found.places) == 1 and not found.gave_up:
        return found.places[0]
    if not found.places or found.gave_up:
        raise ToolError(_not_found(reading, old, name, found.gave_up))
    lines = ", ".join(str(place.line + 1) for place in found.places[:10])
    exact = found.tolerance is Tolerance.EXACT
    times = "1,000 or more" if found.more else str(len(found.places))
    apart = "" if exact else f"Apart from {found.tolerance}, "
    raise ToolError(
        f"{apart}{name} occurs {times} times (at lines {lines}). "
        "Give more of the lines around the one you mean, so that it occurs once."
    )


def _not_found(reading: Reading, old: str, name: str, gave_up: bool) -> str:
    said = f"{name} does not occur in the file"
    if gave_up:
        said += " as it stands, and has too many lines like it to be searched apart from white space"
    if not reading.view:
        return f"{said}: the file is empty. Delete it and `create` it with its text."
    parts = old.strip("\n").split("\n")
    if _NUMBER.match(parts[0]):
        return f"{said}. Leave out the line numbers that `read` shows in front of each line."
    if len(parts) > 2 and _FENCE.fullmatch(parts[0].strip()) and parts[-1].strip() in ("```", "~~~"):
        return f"{said}. Leave out the fence (```) around it."
    if "\\n" in old and old.replace("\\n", "\n") in reading.view:
        return f"{said}. It has a backslash and an n where the file has a line end; send the line end itself."
    near = nearest.describe(reading, old)
    if near is None:
        lone = "\n" not in reading.view and "\r" in reading.view and "\n" in old
        hint = (
            " Its lines end in a lone carriage return; write \\r for \\n."
            if lone
            else " Read the file again."
        )
        return f"{said}, nor anything like it.{hint}"
    return f"{said}. {near}\nCopy it exactly, without the line numbers."


def _check_copied(new: str, old: str, line: int, path: str) -> None:
    """Refuses a `new` in which what only the conversation has was left: `read`'s line numbers, a fence."""
    parts = new.strip("\n").split("\n")
    numbers = [_NUMBER.match(part) for part in parts]
    # The number has to be that of the line itself, so that a file which holds numbered lines can still be edited.
    if not _NUMBER.match(old) and all(
        match and int(match[1]) == line + i and match.end() >= 7 for i, match in enumerate(numbers)
    ):
        raise ToolError("`new` begins its lines with the line numbers that `read` shows. Leave them out.")
    fenced = len(parts) > 2 and _FENCE.fullmatch(parts[0]) and parts[-1] in ("```", "~~~")
    if fenced and "```" not in old and "~~~" not in old and not path.lower().endswith(_PROSE):
        raise ToolError(
            "`new` is wrapped in a fence (```), which would be written into the file. Leave it out; if the file is to have "
            "it, take the line before it into both `old` and `new`."
        )


def _whole_line(
    view: str, place: Place, old: str, new: str, tolerance: Tolerance
) -> tuple[int, int, str, str]:
    """The range with the newline of its last line, so that a line which stays keeps its own line end."""
    start, end = place.start, place.end
    if end > len(view):  # `old` counts a final newline that the file does not have, nor shall it get one
        return start, len(view), old[:-1], new.removesuffix("\n")
    if old.endswith("\n"):
        return start, end, old, new
    rest = end
    if tolerance is not Tolerance.EXACT:
        while rest < len(view) and view[rest] in BLANK:
            rest += 1
    if rest == len(view):
        return start, rest, old, new
    return (start, rest + 1, old + "\n", new + "\n") if view[rest] == "\n" else (start, end, old, new)


def _told(old: str, new: str, tolerance: Tolerance, shift: Shift | None) -> list[Step]:
    work = Work()
    told = steps(old.split("\n"), new.split("\n"), work)
    if work.gave_up and tolerance is not Tolerance.EXACT:
        raise ToolError(
            f"`old` occurs only apart from {tolerance}, and is too long for that. Copy it exactly, or make smaller edits."
        )
    return shifted(told, shift)


def shifted(told: Sequence[Step], shift: Shift | None) -> list[Step]:
    """The new lines indented as the file is. Raises ToolError where the matched lines do not tell how."""
    if shift is None:
        return list(told)
    out: list[Step] = []
    for step in told:
        put = shift.line(step) if isinstance(step, str) else step
        if put is None:
            asked, there = next((a, t) for a, t in shift.seen.items() if a != t)
            raise ToolError(
                f"The text occurs with another indentation ({there!r} where you have {asked!r}), which does not tell how "
                f"the new line {str(step).strip()[:200]!r} is to be indented ({indent(str(step))!r}). "
                "Copy the file's own indentation into both."
            )
        out.append(put)
    return out
