"""Cuts a file into chunks with line ranges and names; never fails on a file, and says why it passes one over.

Each language has one function from lines to units (`_UNITS`); everything after that is the same for all of them.
"""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

VERSION = "1"
"""Goes into each file's key: a change of the rules below that moves chunks must change it."""

MAX_LINES = 60
MAX_CHARACTERS = 1600  # about 400 tokens of code, what small models read of a text and somewhat more
OVERLAP_LINES = 6
MAX_FILE_BYTES = 512 << 10
_GENERATED_WITHIN = 2048
_MINIFIED_LINE = 5000
_HEADING = 200  # what is read of a heading; more would let a hostile line take quadratic time

_VENDORED = frozenset(
    [
        "node_modules",
        "bower_components",
        "vendor",
        "_vendor",
        "vendored",
        "third_party",
        "thirdparty",
        "site-packages",
        ".yarn",
        "Pods",
        "Godeps",
        "jspm_packages",
    ]
)
_LOCKS = frozenset(
    [
        "package-lock.json",
        "npm-shrinkwrap.json",
        "yarn.lock",
        "pnpm-lock.yaml",
        "bun.lockb",
        "go.sum",
        "Cargo.lock",
        "Gemfile.lock",
        "poetry.lock",
        "uv.lock",
        "Pipfile.lock",
        "composer.lock",
        "pdm.lock",
        "mix.lock",
        "flake.lock",
        "Podfile.lock",
        "packages.lock.json",
    ]
)
_GENERATED_NAME = re.compile(
    r"(\.min\.(js|css)|\.map|\.snap|_pb2(_grpc)?\.pyi?|\.pb\.go|\.g\.dart|\.designer\.cs)$", re.IGNORECASE
)
_GENERATED_SAYS = re.compile(
    rb"@generated\b|(code|auto-?|automatically)\s?generated.{0,200}do not (edit|modify)",
    re.IGNORECASE | re.DOTALL,
)
_NOT_TEXT = re.compile(
    r"\.(png|jpe?g|gif|ico|webp|bmp|svg|pdf|woff2?|ttf|otf|eot|zip|gz|tgz|bz2|xz|7z|jar|war|whl|so|dylib|dll|exe|o|a|"
    r"class|pyc|mp[34]|mov|avi|wav|flac|ogg|npz|npy|pkl|parquet|sqlite|db|bin|dat|csv|tsv)$",
    re.IGNORECASE,
)
_DEFINITION = re.compile(
    r"^\s*(?:(?:export|default|public|private|protected|static|async|abstract|final|pub(?:\([a-z]+\))?|unsafe|open|"
    r"inline|override|virtual|local)\s+)*"
    r"(?:function\*?|class|interface|struct|enum|trait|impl|fn|func(?:\s*\([^)]*\))?|def|module|namespace|type|const)\s+"
    r"([A-Za-z_$][\w$.:]*)"
)
_PARSING = threading.Lock()

CODE = re.compile(
    r"\.(pyi?|[cm]?[jt]sx?|vue|svelte|go|rs|java|kts?|scala|[ch]|cc|[ch]pp|[ch]xx|hh|cs|fs|rb|php|swift|mm?|dart|exs?|erl|hs|ml|"
    r"clj|lua|p[lm]|r|jl|(ba|z)?sh|ps1|sql|proto|zig|nim|sol)$",
    re.IGNORECASE,
)
"""Names of programs' files: these are indexed first."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A line range (1-based, inclusive), the name of what it holds (may be empty), and its text. Never stored."""

    start_line: int
    end_line: int
    symbol: str
    text: str


@dataclass(frozen=True, slots=True)
class Chunked:
    """A file's chunks, or the reason why it has none."""

    chunks: tuple[Chunk, ...]
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class _Unit:
    start: int  # 0-based
    end: int  # exclusive
    symbol: str


def left_out_by_name(path: str, size: int | None) -> str | None:
    """Why a file is passed over without reading it: `vendored`, `lock`, `generated`, `binary`, `very_large`; else None."""
    pure = PurePosixPath(path)
    if _VENDORED.intersection(pure.parts[:-1]):
        return "vendored"
    if pure.name in _LOCKS:
        return "lock"
    if _GENERATED_NAME.search(pure.name):
        return "generated"
    if _NOT_TEXT.search(pure.name):
        return "binary"
    if size is not None and size > MAX_FILE_BYTES:
        return "very_large"
    return None


def chunk(path: str, content: bytes) -> Chunked:
    """Cut one file. Besides the reasons of `left_out_by_name`: `minified`, `empty`."""
    reason = left_out_by_name(path, len(content)) or _left_out_by_content(content)
    if reason is not None:
        return Chunked((), reason)
    lines = text_of(content).split("\n")
    units = _UNITS.get(PurePosixPath(path).suffix.lower(), _blocks)(lines)
    chunks = tuple(piece for unit in units for piece in _pieces(lines, unit))
    return Chunked(chunks, None if chunks else "empty")


def text_of(content: bytes) -> str:
    """Text with one line per `\\n` as git counts them; bytes that are not UTF-8 are read as Latin-1."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", " ")


def _left_out_by_content(content: bytes) -> str | None:
    if b"\0" in content[:8000]:  # git's own rule for "binary"
        return "binary"
    if not content.strip():
        return "empty"
    if _GENERATED_SAYS.search(content[:_GENERATED_WITHIN]):
        return "generated"
    lines = content.split(b"\n")
    if max(map(len, lines)) > _MINIFIED_LINE and len(content) / len(lines) > 300:
        return "minified"
    return None


# --- units: what belongs together ------------------------------------------------------------------------------------


def _blocks(lines: Sequence[str]) -> list[_Unit]:
    """Everything is one unit; the pieces are cut at blank lines and named by the definition that they hold."""
    return [_Unit(0, len(lines), "")]


def _python(lines: Sequence[str]) -> list[_Unit]:
    """Functions, classes and methods by their qualified names, and what stands between them."""
    try:
        with _PARSING, warnings.catch_warnings():  # a stranger's odd escapes are no news for our log
            warnings.simplefilter("ignore")
            module = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _blocks(lines)
    return _with_gaps(0, len(lines), "", list(_definitions(module.body, "", lines)))


def _definitions(body: Sequence[ast.stmt], prefix: str, lines: Sequence[str]) -> Iterator[_Unit]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        symbol = prefix + node.name
        start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
        while start > 0 and lines[start - 1].lstrip().startswith("#"):
            start -= 1
        end = node.end_lineno or node.lineno
        if isinstance(node, ast.ClassDef):
            yield from _with_gaps(start, end, symbol, list(_definitions(node.body, f"{symbol}.", lines)))
        else:
            yield _Unit(start, end, symbol)


def _with_gaps(start: int, end: int, symbol: str, inner: Sequence[_Unit]) -> list[_Unit]:
    """`inner` in order, and the lines between them under the name of what surrounds them."""
    units: list[_Unit] = []
    at = start
    for unit in inner:
        if unit.end <= at:  # two definitions on one line
            continue
        if unit.start > at:
            units.append(_Unit(at, unit.start, symbol))
        units.append(_Unit(max(unit.start, at), unit.end, unit.symbol))
        at = unit.end
    if at < end:
        units.append(_Unit(at, end, symbol))
    return units


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
    sections = (
        [_Unit(number, end, symbol) for (number, symbol), end in zip(starts, ends, strict=True)]
        if starts
        else []
    )
    return _with_gaps(0, len(lines), "", sections)


_UNITS: Mapping[str, Callable[[Sequence[str]], list[_Unit]]] = {
    ".py": _python, ".pyi": _python, ".md": _markdown, ".markdown": _markdown,
}  # fmt: skip


# --- pieces: no unit larger than a model reads -----------------------------------------------------------------------


def _pieces(lines: Sequence[str], unit: _Unit) -> Iterator[Chunk]:
    start = unit.start
    while start < unit.end:
        end = _cut(lines, start, unit.end)
        first, last = _trim(lines, start, end)
        if first < last:
            symbol = unit.symbol or _defined(lines[first:last])
            yield Chunk(first + 1, last, symbol, "\n".join(lines[first:last])[: 2 * MAX_CHARACTERS])
        if end >= unit.end:
            return
        overlap = OVERLAP_LINES if lines[end - 1].strip() else 0
        start = max(end - overlap, start + 1)


def _cut(lines: Sequence[str], start: int, end: int) -> int:
    """Where a piece that begins at `start` ends: at the last blank line of its second half, else when it is full."""
    characters = 0
    blank = 0
    for number in range(start, end):
        characters += len(lines[number]) + 1
        full = number - start >= MAX_LINES or characters > MAX_CHARACTERS
        if full and number > start:
            return blank or number
        if not lines[number].strip() and characters > MAX_CHARACTERS // 2:
            blank = number + 1
    return end


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
