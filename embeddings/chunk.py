"""Cuts a file into chunks with line ranges and names; never fails on a file, and says why it passes one over.

Programs are cut by their definitions (`languages.py`), prose by its headings, the rest at blank lines; everything after
that is the same for all of them.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from embeddings.languages import Definition, Structure, definitions
from embeddings.rules import BY_NAME, Reason, Rules

VERSION = "3"
"""Goes into each file's key: a change of the rules below that moves chunks must change it."""

MAX_TOKENS = 240  # of a whole passage, by `_TOKEN`: so that few have more than the 256 WordPiece tokens that MiniLM reads
_WHOLE = 1.06  # what is so little larger stays whole: its last line tells less than a cut costs
MAX_LINES = 100
MAX_CHARACTERS = 3200  # of one chunk's text: only a file whose lines have no end comes here
OVERLAP_LINES = 2
_HEADING = 200  # what is read of a heading; more would let a hostile line take quadratic time
_LEVELS = 2  # so many enclosing definitions are named in a context
_LEAST_ROOM = 100
_REPEATED = 20  # tokens that overlapping lines may have
_TOKEN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{1,8}|[A-Za-z]{1,3}|[0-9]{1,2}|[^\sA-Za-z0-9]")
"""About nine matches for ten WordPiece tokens of code, give or take 6 %: a word's first letters are mostly one piece, and
what follows is many."""

_DEFINITION = re.compile(
    r"^\s*(?:(?:export|default|public|private|protected|static|async|abstract|final|pub(?:\([a-z]+\))?|unsafe|open|"
    r"inline|override|virtual|local)\s+)*"
    r"(?:function\*?|class|interface|struct|enum|trait|impl|fn|func(?:\s*\([^)]*\))?|def|module|namespace|type|const)\s+"
    r"([A-Za-z_$][\w$.:]*)"
)
_TELLS = re.compile(r"(?!\s*(?:[)\]};,]+\s*(?://.*|/\*.*)?|#\s*endif\b.*|end[;.]?\s*)$).*[^\W_]")
"""A line that does more than close what stands above it."""

CODE = re.compile(
    r"\.(pyi?|[cm]?[jt]sx?|vue|svelte|go|rs|java|kts?|scala|[ch]|cc|[ch]pp|[ch]xx|hh|cs|fs|rb|php|swift|mm?|dart|exs?|erl|hs|ml|"
    r"clj|lua|p[lm]|r|jl|(ba|z)?sh|ps1|sql|proto|zig|nim|sol)$",
    re.IGNORECASE,
)
"""Names of programs' files: these are indexed first."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A line range (1-based, inclusive), the qualified name of what it holds (may be empty), and its text. `context` is
    what a reader needs of the lines above that are not in `text`: `class X(Base):` for a method, and the signature for
    the later pieces of a long definition, outermost first, one line each; may be empty. Never stored."""

    start_line: int
    end_line: int
    symbol: str
    text: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class Chunked:
    """A file's chunks, or the reason why it has none."""

    chunks: tuple[Chunk, ...]
    left_out: Reason | None = None


@dataclass(frozen=True, slots=True)
class _Unit:
    """Lines that belong together. `above`: the signatures around it."""

    start: int
    end: int
    symbol: str
    above: tuple[str, ...] = ()
    signature: str = ""


def chunk(path: str, content: bytes, rules: Rules = BY_NAME, structure: Structure = definitions) -> Chunked:
    """Cut one file, unless `rules`, those of its tree, leave it out. `structure` finds the definitions of a program."""
    reason = rules.reason_of(path, content)
    if reason is not None:
        return Chunked((), reason)
    lines = text_of(content).split("\n")
    cut = _PROSE.get(PurePosixPath(path).suffix.lower())
    found = structure(path, lines) if cut is None else None
    units = cut(lines) if cut else _blocks(lines) if found is None else _units(lines, found)
    costs = [_cost(line) for line in lines]
    chunks = tuple(piece for unit in units for piece in _pieces(path, lines, costs, unit))
    return Chunked(chunks, None if chunks else Reason.EMPTY)


def passage(path: str, chunk: Chunk) -> str:
    """What the model reads of a chunk: path and name, context, text, each on lines of its own."""
    head = f"{path} {chunk.symbol}".strip().encode("utf-8", "replace").decode("utf-8")
    return "\n".join(part for part in (head, chunk.context, chunk.text) if part)


def text_of(content: bytes) -> str:
    """Text with one line per `\\n` as git counts them; bytes that are not UTF-8 are read as Latin-1."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", " ")


# --- units: what belongs together ------------------------------------------------------------------------------------


def _blocks(lines: Sequence[str]) -> list[_Unit]:
    """Everything is one unit; the pieces are cut at blank lines and named by the definition that they hold."""
    return [_Unit(0, len(lines), "")]


def _units(lines: Sequence[str], held: Sequence[Definition]) -> list[_Unit]:
    """One for each innermost definition, and what stands between them under the name of what surrounds them."""
    units: list[_Unit] = []
    around = [_Around("", (), "", len(lines), 0)]
    for definition, following in itertools.zip_longest(held, held[1:]):
        while len(around) > 1 and definition.start >= around[-1].end:
            _close(lines, units, around)
        outer = around[-1]
        start, end = max(definition.start, outer.at), min(definition.end, outer.end)
        if start >= end:  # two definitions on one line
            continue
        start = _gap(lines, units, outer, start)
        symbol = f"{outer.symbol}.{definition.name}" if outer.symbol else definition.name
        if following is not None and following.start < end and following.end <= end > start + 1:
            around.append(_Around(symbol, outer.inside, definition.signature, end, start))
        else:
            units.append(_Unit(start, end, symbol, outer.inside, definition.signature))
        outer.at = end
    while around:
        _close(lines, units, around)
    return units


@dataclass(slots=True)
class _Around:
    """A definition that holds others, and up to which line it is cut."""

    symbol: str
    above: tuple[str, ...]
    signature: str
    end: int
    at: int
    begun: bool = False

    @property
    def inside(self) -> tuple[str, ...]:
        return (*self.above, self.signature)[-_LEVELS:] if self.signature else self.above


def _gap(lines: Sequence[str], units: list[_Unit], outer: _Around, end: int) -> int:
    """What stands before line `end`. Lines that only close something belong to what they close, or at
    a file's beginning to what follows. Where the next unit begins."""
    start, outer.at = outer.at, end
    if start < end and any(map(_TELLS.match, lines[start:end])):
        above, signature = (outer.inside, "") if outer.begun else (outer.above, outer.signature)
        units.append(_Unit(start, end, outer.symbol, above, signature))
    elif start < end and units:
        units[-1] = replace(units[-1], end=end)
    elif start < end:
        return start
    outer.begun = True
    return end


def _close(lines: Sequence[str], units: list[_Unit], around: list[_Around]) -> None:
    done = around.pop()
    begin = _gap(lines, units, done, done.end)
    if begin < done.end:  # a file without a word
        units.append(_Unit(begin, done.end, done.symbol))


def _markdown(lines: Sequence[str]) -> list[_Unit]:
    """Sections under their headings' path; a `#` in a fenced block is no heading."""
    starts: list[tuple[int, str]] = []
    above: list[tuple[int, str]] = []
    fence = ""
    for number, line in enumerate(lines):
        opened = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence:
            fence = "" if opened and opened[1].startswith(fence) else fence
            continue
        if opened:
            fence = opened[1]
            continue
        heading = re.match(r" {0,3}(#{1,6})\s+(.*?)\s*#*\s*$", line[:_HEADING])
        if heading:
            above = [pair for pair in above if pair[0] < len(heading[1])] + [(len(heading[1]), heading[2])]
            starts.append((number, " > ".join(text for _, text in above)))
    ends = [number for number, _ in starts[1:]] + [len(lines)]
    if not starts:
        return _blocks(lines)
    sections = [_Unit(number, end, symbol) for (number, symbol), end in zip(starts, ends, strict=True)]
    return [_Unit(0, starts[0][0], ""), *sections]


_PROSE: Mapping[str, Callable[[Sequence[str]], list[_Unit]]] = {".md": _markdown, ".markdown": _markdown}


# --- pieces: no unit larger than a model reads -----------------------------------------------------------------------


def _pieces(path: str, lines: Sequence[str], costs: Sequence[int], unit: _Unit) -> Iterator[Chunk]:
    """The unit whole, or about equal parts of it, the later ones with its signature."""
    later = (*unit.above, unit.signature)[-_LEVELS - 1 :] if unit.signature else unit.above
    context, below = "\n".join(unit.above), "\n".join(later)
    head = _cost(f"{path} {unit.symbol}")
    start, end = _trim(lines, unit.start, unit.end)
    left = sum(costs[start:end])
    while start < end:
        room = max(MAX_TOKENS - head - _cost(context), _LEAST_ROOM)
        stop = end
        if left > room * _WHOLE or end - start > MAX_LINES:
            room = max(MAX_TOKENS - head - _cost(below), _LEAST_ROOM) - _REPEATED
            stop = _cut(lines, costs, (start, end), left, room)
        first, last = _trim(lines, start, stop)
        symbol = unit.symbol or _defined(lines[first:last])
        yield Chunk(first + 1, last, symbol, "\n".join(lines[first:last])[:MAX_CHARACTERS], context)
        if stop >= end:
            return
        again, _ = _trim(lines, max(stop - _overlap(lines, costs, stop), start + 1), end)
        left -= sum(costs[start:again])
        start, context = again, below


def _cost(text: str) -> int:
    return len(_TOKEN.findall(text))


def _cut(lines: Sequence[str], costs: Sequence[int], span: tuple[int, int], left: int, room: int) -> int:
    """Where the first of about equal parts ends: near its share, where the next line stands furthest out."""
    start, end = span
    parts = max(-(-left // room), 1)
    share = left / parts
    earliest, latest = max(share * 0.6, left - room * (parts - 1)), min(share * 1.4, room)
    used = costs[start]
    best, least = start + 1, math.inf
    for number in range(start + 1, min(end, start + MAX_LINES)):
        if used > latest:
            break
        if used >= earliest:
            depth = _depth(lines, number) + 8 * abs(used - share) / share
            if depth <= least:
                best, least = number, depth
        elif least == math.inf:
            best = number
        used += costs[number]
    return best


def _depth(lines: Sequence[str], number: int) -> float:
    """How unwelcome a cut before this line is: by its indentation; after blank lines least."""
    line = lines[number][:_HEADING]
    told = line.lstrip()
    if not told:
        return math.inf
    closes = 6 if told[0] in ")]}" else 0
    indentation = len(line[: len(line) - len(told)].expandtabs(4))
    return indentation + closes - (0 if lines[number - 1].strip() else 6)


def _overlap(lines: Sequence[str], costs: Sequence[int], stop: int) -> int:
    repeated = range(max(stop - OVERLAP_LINES, 0), stop)
    small = sum(costs[number] for number in repeated) <= _REPEATED
    return OVERLAP_LINES if small and lines[stop - 1].strip() else 0


def _trim(lines: Sequence[str], start: int, end: int) -> tuple[int, int]:
    while start < end and not lines[start].strip():
        start += 1
    while end > start and not lines[end - 1].strip():
        end -= 1
    return start, end


def _defined(lines: Sequence[str]) -> str:
    for line in lines:
        if found := _DEFINITION.match(line[:300]):
            return found[1]
    return ""
