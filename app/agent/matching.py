"""Finds where a piece of text stands in a file: exactly, or else apart from white space that carries no meaning.

Never apart from anything else: letter case, white space inside a line, blank lines and punctuation have to agree.
Each level is looked at only when the one before it found nothing, so a looser reading never competes with a stricter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import accumulate

BLANK = " \t"  # no other white space is ever looked past: a no-break space or a form feed is a character like others
MAX_LINES = 2_000_000  # of a file that is read apart from white space
MAX_COUNTED = 1_000
MAX_COMPARED = 300_000  # lines, while looking for a block apart from its indentation
_WIDTHS = (2, 3, 4, 8)


class Tolerance(StrEnum):
    """Apart from what the text was found; the value completes the sentence "matched apart from …"."""

    EXACT = "nothing"
    LINE_ENDS = "line ends"
    TRAILING_SPACE = "white space at line ends"
    INDENTATION = "indentation"


class Indents(StrEnum):
    """What white space at the beginning of a line means in a file."""

    STYLE = "style"  # tabs and spaces can stand for each other
    STRUCTURE = "structure"  # a block can be moved as a whole
    TOKEN = "token"  # it is part of the text  # noqa: S105


_STYLE = frozenset([
    "c", "cc", "cpp", "cxx", "h", "hh", "hpp", "hxx", "m", "mm", "java", "js", "jsx", "mjs", "cjs", "ts",
    "tsx", "mts", "cts", "cs", "go", "rs", "php", "swift", "kt", "kts", "groovy", "gradle", "dart", "css",
    "scss", "less", "json", "jsonc", "json5", "sql", "lua", "rb", "pl", "pm", "r", "jl", "ex", "exs",
    "erl", "proto", "tf", "hcl", "zig", "d", "v", "sv", "vhd", "vhdl", "sol", "graphql", "glsl",
])  # fmt: skip
_TOKEN = frozenset([
    "mk", "mak", "diff", "patch", "rej", "tsv", "tab", "f", "for", "f77", "ftn", "cob", "cbl", "cpy",
    "ws", "snap",
])  # fmt: skip
_TOKEN_NAMES = frozenset({"makefile", "gnumakefile", "bsdmakefile"})


def indents(path: str) -> Indents:
    """What is not known to be free with its indentation is taken to mean something by it."""
    name = path.rpartition("/")[2].lower()
    suffix = name.rpartition(".")[2] if "." in name else ""
    if suffix in _TOKEN or name in _TOKEN_NAMES or name.startswith("makefile."):
        return Indents.TOKEN
    return Indents.STYLE if suffix in _STYLE else Indents.STRUCTURE


@dataclass(frozen=True, slots=True)
class Shift:
    """How a block's indentation in the file follows from the one it was asked for with.

    `seen` holds what the block itself shows, `rules` the readings that agree with it; `mixed` says that lines of the
    block in the file are indented with both tabs and spaces.
    """

    seen: dict[str, str]
    rules: tuple[Callable[[str], str | None], ...]
    mixed: bool

    def line(self, text: str) -> str | None:
        """`text` indented as the file would have it; None where the block does not tell how."""
        if not text.strip(BLANK):
            return text
        given = indent(text)
        found = {self.seen[given]} if given in self.seen else {rule(given) for rule in self.rules}
        put = found.pop() if len(found) == 1 else None
        if put is None or (given not in self.seen and not self.mixed and " " in put and "\t" in put):
            return None
        return put + text[len(given) :]


@dataclass(frozen=True, slots=True)
class Place:
    """A range of the view, `end` excluded. An `end` past the view's own counts a final newline that the file lacks."""

    start: int
    end: int
    line: int  # of `start`, from 0
    shift: Shift | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The places at the first level that has any, at most MAX_COUNTED. `gave_up`: too many to be looked at."""

    places: tuple[Place, ...]
    tolerance: Tolerance = Tolerance.EXACT
    gave_up: bool = False

    @property
    def more(self) -> bool:
        """Whether there may be others behind these."""
        return len(self.places) == MAX_COUNTED


class Reading:
    """A text with plain line ends. What the looser levels need is made when it is first asked for."""

    def __init__(self, view: str) -> None:
        self.view = view

    @cached_property
    def framed(self) -> str:
        """With a newline before the first line and after the last, so that whole lines can be looked for."""
        return "\n" + self.view + ("\n" if self.view and not self.view.endswith("\n") else "")

    @cached_property
    def lines(self) -> list[str]:
        return self.framed[1:-1].split("\n") if self.view else []

    @cached_property
    def trimmed(self) -> str:
        return "".join(["\n", *(line.rstrip(BLANK) + "\n" for line in self.lines)])

    @cached_property
    def bare(self) -> str:
        return "".join(["\n", *(line.strip(BLANK) + "\n" for line in self.lines)])

    @cached_property
    def many_lines(self) -> bool:
        return self.view.count("\n") > MAX_LINES

    @cached_property
    def starts(self) -> list[int]:
        """Where each line begins in the view, and the one behind the last; past the view's end where that is unended."""
        return list(accumulate((len(line) + 1 for line in self.lines), initial=0))


def find(reading: Reading, old: str, *, whole: bool, means: Indents) -> Found:
    """Where `old` stands. `whole`: it is complete lines, and ends with a newline."""
    places = _exact(reading, old, whole)
    if places:
        return Found(tuple(places), Tolerance.EXACT)
    if not old.strip() or reading.many_lines:
        return Found((), gave_up=reading.many_lines)
    places = _trimmed(reading, old, whole)
    if places:
        return Found(tuple(places), Tolerance.TRAILING_SPACE)
    if means is Indents.TOKEN:
        return Found(())
    return _shifted(reading, old, means)


def _exact(reading: Reading, old: str, whole: bool) -> list[Place]:
    framed = reading.framed
    # The newline that an unended file lacks may be asked for with its last line, but not alone.
    stop = len(framed) if old.strip("\n") else len(reading.view) + 1
    if whole:
        spans = [(at, at + len(old)) for at in _occurrences(framed, "\n" + old, 0, stop)]
    else:
        spans = [(at - 1, at - 1 + len(old)) for at in _occurrences(framed, old, 1, stop)]
    return [Place(start, end, line) for (start, end), line in _numbered(reading.view, spans)]


def _trimmed(reading: Reading, old: str, whole: bool) -> list[Place]:
    parts = old.split("\n")
    needle = "\n".join(part.rstrip(BLANK) for part in parts)
    tail = 0
    if parts[-1] != parts[-1].rstrip(BLANK):
        needle, tail = needle + "\n", 1  # white space at the end of `old` is white space at the end of a line
    head = 1 if whole else 0
    if not needle.strip("\n"):
        return []
    hay = reading.trimmed
    spans = [
        (at + head, at + len(needle) + head - tail)
        for at in _occurrences(hay, "\n" * head + needle, 1 - head)
    ]
    places = []
    for (start, end), ended in _numbered(hay, spans):
        line, last = ended - 1, ended - 1 + hay.count("\n", start, end)
        begin = hay.rfind("\n", 0, start) + 1
        end_column = end - (hay.rfind("\n", 0, end) + 1)
        places.append(Place(reading.starts[line] + start - begin, reading.starts[last] + end_column, line))
    return places


def _shifted(reading: Reading, old: str, means: Indents) -> Found:
    parts = old.removesuffix("\n").split("\n")
    needle = "\n" + "".join(part.strip(BLANK) + "\n" for part in parts)
    places: list[Place] = []
    left = MAX_COMPARED
    for _, line in _numbered(reading.bare, ((at, at) for at in _every(reading.bare, needle))):
        left -= len(parts)
        if left < 0 or len(places) == MAX_COUNTED:
            return Found(tuple(places), Tolerance.INDENTATION, gave_up=left < 0)
        there = reading.lines[line : line + len(parts)]
        shift = _shift(parts, there, means)
        if shift is not None:
            start = reading.starts[line]
            ended = old.endswith("\n")
            places.append(
                Place(start, start + sum(map(len, there)) + len(there) - (0 if ended else 1), line, shift)
            )
    return Found(tuple(places), Tolerance.INDENTATION)


def _every(hay: str, needle: str, start: int = 0, stop: int | None = None) -> Iterator[int]:
    at = hay.find(needle, start, stop)
    while at >= 0:
        yield at
        at = hay.find(needle, at + 1, stop)


def _occurrences(hay: str, needle: str, start: int, stop: int | None = None) -> list[int]:
    return [at for at, _ in zip(_every(hay, needle, start, stop), range(MAX_COUNTED), strict=False)]


def _numbered(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[tuple[int, int], int]]:
    """Each span with the number of newlines before its start. They come in order, so each newline is counted once."""
    counted = line = 0
    for span in spans:
        line += text.count("\n", counted, span[0])
        counted = span[0]
        yield span, line


# --- indentation -----------------------------------------------------------------------------------------------------


def indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(BLANK))]


def _shift(asked: Sequence[str], there: Sequence[str], means: Indents) -> Shift | None:
    """The one difference in indentation between two blocks whose lines are otherwise the same, or None."""
    pairs = [(indent(a), indent(t)) for a, t in zip(asked, there, strict=True) if a.strip(BLANK)]
    rules = _moved(pairs)
    if not rules and means is Indents.STYLE:
        rules = _columns(pairs)
    if not rules:
        return None
    return Shift(dict(pairs), rules, any(" " in t and "\t" in t for _, t in pairs))


def _moved(pairs: Sequence[tuple[str, str]]) -> tuple[Callable[[str], str | None], ...]:
    """All lines have the same white space in front, more or less of it than was asked for."""
    asked, there = pairs[0]
    if there.endswith(asked):
        more = there[: len(there) - len(asked)]
        if all(t == more + a for a, t in pairs):
            return (lambda given: more + given,)
    if asked.endswith(there):
        less = asked[: len(asked) - len(there)]
        if all(a == less + t for a, t in pairs):
            return (lambda given: given[len(less) :] if given.startswith(less) else None,)
    return ()


def _columns(pairs: Sequence[tuple[str, str]]) -> tuple[Callable[[str], str | None], ...]:
    """Tabs stand where spaces were asked for, or the other way round, at one width. No move is preferred to a move."""
    if not any("\t" in a or "\t" in t for a, t in pairs):
        return ()
    still: list[Callable[[str], str | None]] = []
    moving: list[Callable[[str], str | None]] = []
    tabs = any("\t" in t for _, t in pairs)
    for width in _WIDTHS:
        columns = [(_column(a, width), _column(t, width)) for a, t in pairs]
        moves = {None if a is None or t is None else t - a for a, t in columns}
        by = moves.pop()
        if moves or by is None or any(_indent_of(_column(t, width), width, tabs) != t for _, t in pairs):
            continue
        (moving if by else still).append(_by_columns(width, by, tabs))
    return tuple(still or moving)


def _by_columns(width: int, by: int, tabs: bool) -> Callable[[str], str | None]:
    def rule(given: str) -> str | None:
        column = _column(given, width)
        return None if column is None else _indent_of(column + by, width, tabs)

    return rule


def _column(white: str, width: int) -> int | None:
    """How wide it is; None where a space stands before a tab."""
    spaces = len(white.lstrip("\t"))
    return None if "\t" in white[len(white) - spaces :] else (len(white) - spaces) * width + spaces


def _indent_of(column: int | None, width: int, tabs: bool) -> str | None:
    if column is None or column < 0:
        return None
    return "\t" * (column // width) + " " * (column % width) if tabs else " " * column
