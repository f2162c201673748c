"""Reads a request as people write them: its title, what it says, what code and output it quotes, and what it names.

Issue templates, comments, and descriptions of machines are left out, since they say nothing about where the fault is.
A request is a stranger's text of any content: it is cut to a length and read in linear time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from embeddings.chunk import CODE

MAX_CHARACTERS = 120_000  # GitHub's own limit for an issue's body is 65,536
_LINE = 1000  # longer lines are read in pieces
_NAMES = 24
_FRAMES = 60
_WINDOW = 900  # characters of prose in about 220 tokens
_WINDOWS = 4

_SPAN = re.compile(r"`([^`\n]{1,200})`")
# Begins at a word's beginning and repeats a bounded number of times: questions are strangers' text of any length.
_FILE_NAME = re.compile(
    r"(?<![\w.@+-])[\w.@+-]{1,100}(?:(?:/[\w.@+-]{1,100}){0,30}\.[A-Za-z]\w{0,9}(?![\w/])|(?:/[\w.@+-]{1,100}){1,30})"
)
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*(?:(?:\.|::|#)[A-Za-z_]\w*)*")
_DOTTED = re.compile(r"(?<![\w./])[A-Za-z_]\w{0,80}(?:\.[A-Za-z_]\w{0,80}){1,12}(?![\w/])")
_IMPORT = re.compile(
    r"\s*(?:(?:>>>|\.\.\.|In \[\d+\]:)\s*)?from\s+([\w.]{1,200})\s+import\s+\(?([\w, ]{1,300})|"
    r"\s*(?:(?:>>>|\.\.\.|In \[\d+\]:)\s*)?import\s+([\w.]{1,200})"
)
_LINE_NUMBER = re.compile(r":([1-9]\d{0,6})\b|\"?,? line ([1-9]\d{0,6})\b|#L([1-9]\d{0,6})\b")
_FRAME_NAME = re.compile(r"\bline \d+, in (?:[\w.]+\.)?([A-Za-z_]\w*)")
_TELLING = re.compile(r"_|[a-z0-9][A-Z]|[A-Z]{2}[a-z]|\.|::|#")

# One frame of a stack trace to a line. Python, IPython (two kinds), pytest; JavaScript; Java and Kotlin; Go; Rust; Ruby.
_FRAMES_OF = tuple(
    (telling, re.compile(pattern))
    for telling, pattern in [
        (
            'File "',
            r'\s*File "(?P<file>[^"]{1,400})", line (?P<line>\d{1,7})(?:, in (?P<function>[\w.<>]{1,200}))?',
        ),
        ("File ", r"\s*File (?P<file>[^\s:]{1,400}):(?P<line>\d{1,7}),? in (?P<function>[\w.<>]{1,200})"),
        (".py in ", r"(?P<file>[~/.\w][^\s:()]{0,400}\.py) in (?P<function>[\w.<>]{1,200})\("),
        (
            ".py",
            r"(?P<file>[\w./~-]{1,400}\.pyx?):(?P<line>\d{1,7}): (?:in (?P<function>[\w.<>]{1,200})|[A-Z]\w+)",
        ),
        (
            "at ",
            r"\s*at (?P<function>[\w.$<>]{1,300})\((?P<file>[\w$-]{1,100}\.(?:java|kt|scala|groovy)):(?P<line>\d{1,7})\)",
        ),
        (
            "at ",
            r"\s*at (?:async )?(?:(?P<function>[\w.$<>\[\] ]{1,200}) \()?(?:file://|webpack://+)?(?P<file>[\w@./\\~+-]{1,400}\.(?:[cm]?[jt]sx?|vue|svelte)):(?P<line>\d{1,7})",
        ),
        (".go:", r"\s+(?P<file>[\w./@~+-]{1,400}\.go):(?P<line>\d{1,7})(?: \+0x[0-9a-f]+)?"),
        (".rs:", r"\s*at (?P<file>[\w./~+-]{1,400}\.rs):(?P<line>\d{1,7})"),
        (".rs:", r".{0,200}panicked at (?:'.{0,400}', )?(?P<file>[\w./~+-]{1,400}\.rs):(?P<line>\d{1,7})"),
        (
            ".rb:",
            r"\s*(?:from )?(?P<file>[\w./~+-]{1,400}\.rb):(?P<line>\d{1,7}):in [`'](?P<function>[\w .#?!]{1,200})'",
        ),
    ]
)
"""One frame of a stack trace to a line, with what such a line must hold. Python, IPython (two kinds), pytest; Java and
Kotlin; JavaScript; Go; Rust; Ruby."""
_FENCE = re.compile(r"\s{0,8}(`{3,}|~{3,})")
_PROMPT = re.compile(r"\s*(?:>>> ?|\.\.\.:? ?|In \[\d+\]: ?)")
_SESSION = re.compile(r"\s*(?:>>> |In \[\d+\]: )")
_TASK = re.compile(r"\s*[-*+] \[[ xX]\] ")
# These two read a line without its outer blanks, with single blanks inside, and only its beginning.
_HEADING = re.compile(
    r"(?:#{1,6} (?P<marks>[^#]+)#*|\*\*(?P<bold>[^*]{1,80})\*\*:?|(?P<plain>[A-Z][\w /'&()?,-]{2,60}):?)$"
)
_VERSION = re.compile(
    r"(?:[-*] )?\*{0,2}[\w.()/-]{1,40}(?: [\w.()/-]{1,40}){0,3}\*{0,2} ?(?:==|:|=| ) ?\*{0,2} ?"
    r"(?:v?\d+(?:\.\w+)+.{0,40}|None|True|False|N/?A|(?:Linux|macOS|Windows|Darwin|Ubuntu).{0,80})$"
)
_BLOB = re.compile(
    r"https?://[\w.-]{1,100}/[\w.-]{1,100}/[\w.-]{1,100}/(?:blob|blame|tree|raw)/[\w.-]{1,100}/([\w./@+-]{1,300}(?:#L\d+)?)\S{0,300}"
)
_ADDRESS = re.compile(r"https?://\S{1,2000}")
_IMAGE = re.compile(r"!\[[^\]\n]{0,200}\]|<img [^>\n]{0,1000}>")
_TAG = re.compile(
    r"</?(?:details|summary|p|br|b|i|code|pre|tt|hr|div|span|sub|sup)\b[^>\n]{0,200}>", re.IGNORECASE
)
_SILENT = re.compile(
    r"(?:(?:my|your|the|about|system|installed|package|python|environment|relevant|library|software|os|other|full|dependency|"
    r"operating|pip|output|of|run) ){0,3}(?:environment|versions?|system|info|information|code of conduct|search before asking|"
    r"mvce confirmation|checklist|os|platform|reproducibility|are you willing|who can help|prerequisites|show_versions|"
    r"pip (?:list|freeze)|first check|initial checks|confirmation|operating|dependencies)\b|(?:[\w-]{1,30} ){1,2}versions?$"
)
_TEMPLATE = frozenset(
    """describe the bug to reproduce expected behavior behaviour actual result results screenshots additional context
    steps what happened did you expect happen anything else we need know relevant log output minimal complete command
    verifiable example is your feature request related a problem solution d like alternatives considered used
    description summary issue background motivation current bug report code sample self contained copy pastable
    and possible fix implementation detailed question use case reproduction how proposal please of observed
    this it i have no yes in with""".split()  # noqa: SIM905 - a list would be ten times as long
)


@dataclass(frozen=True, slots=True)
class Names:
    """What a question names outright: files, lines of files (1-based), and identifiers by their last part."""

    files: tuple[str, ...]
    symbols: tuple[str, ...]
    lines: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stack trace; `line` is 0 and `function` empty where it tells none."""

    file: str
    line: int
    function: str


@dataclass(frozen=True, slots=True)
class Question:
    """A request, taken apart. `frames` end with the innermost; `modules` are dotted names as written;
    `text` is all that was left after cleaning."""

    title: str
    prose: str
    code: tuple[str, ...]
    frames: tuple[Frame, ...]
    names: Names
    modules: tuple[str, ...]
    text: str

    def windows(self) -> tuple[str, ...]:
        """The request in pieces that a model of 256 tokens reads whole, each under its title."""
        room = max(_WINDOW - len(self.title), _WINDOW // 3)
        pieces = list(_pieces(self.prose, room))[:_WINDOWS]
        return tuple(f"{self.title}\n{piece}" for piece in pieces) or (self.title,)


@lru_cache(maxsize=4)
def read(text: str) -> Question:
    """Take a request apart. Its first line is its title. Never fails."""
    clean = _without_comments(text[:MAX_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n"))
    clean = _ADDRESS.sub(" ", _BLOB.sub(r" \1 ", _IMAGE.sub(" ", clean)))
    lines = [
        line[start : start + _LINE]
        for line in clean.split("\n")
        for start in range(0, max(len(line), 1), _LINE)
    ]
    at = next((number for number, line in enumerate(lines) if line.strip()), 0)
    title = _TAG.sub("", lines[at]).strip(" #*\t")[:300]
    prose, code, frames = _parts(lines[at + 1 :])
    if first := _frame(lines[at]):
        frames.insert(0, first)
    kept = "\n".join([title, prose, *code])
    named = "\n".join([title, prose, *code, *(line for line in lines[at + 1 :] if _is_frame(line))])
    return Question(
        title,
        prose,
        code,
        _innermost_last(frames[-_FRAMES:]),
        names_in(named),
        _modules(kept),
        kept,
    )


def names_in(question: str) -> Names:
    """Paths and file names with the lines that follow them, a traceback's functions, words in backticks, words before
    `(`, and words that only code has (`a_b`, `aB`, `a.b`)."""
    files: dict[str, None] = {}
    lines: list[tuple[str, int]] = []
    for found in _FILE_NAME.finditer(question):
        name = found[0].strip("./")
        files[name] = None
        if number := _LINE_NUMBER.match(question, found.end()):
            lines.append((name, int(number[1] or number[2] or number[3])))
    symbols = dict.fromkeys(frame[1] for frame in _FRAME_NAME.finditer(question))
    prose = _FILE_NAME.sub(
        lambda found: " " if "/" in found[0] or CODE.search(found[0]) else found[0], question
    )
    for span in _SPAN.finditer(prose):
        symbols.update(dict.fromkeys(_last(word[0]) for word in _IDENTIFIER.finditer(span[1])))
    for word in _IDENTIFIER.finditer(prose):
        called = prose[word.end() : word.end() + 1] == "("
        if called or _TELLING.search(word[0]):
            symbols[_last(word[0])] = None
    telling = [name for name in symbols if len(name) >= 3]
    return Names(
        tuple(name for name in files if name)[:_NAMES], tuple(telling[:_NAMES]), tuple(lines[:_NAMES])
    )


def _last(name: str) -> str:
    return re.split(r"\.|::|#", name)[-1]


def _without_comments(text: str) -> str:
    """Without HTML comments; one that is never closed stays, as GitHub would hide all that follows but nobody means it."""
    out: list[str] = []
    at = 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start)) >= 0:
        out.append(text[at:start])
        at = end + 3
    out.append(text[at:])
    return "".join(out)


def _parts(lines: Sequence[str]) -> tuple[str, tuple[str, ...], list[Frame]]:
    """Prose, blocks of code, and stack frames."""
    prose: list[str] = []
    blocks: list[list[str]] = []
    frames: list[Frame] = []
    fence, silent = "", False
    for line in lines:
        marks = _FENCE.match(line)
        if fence or marks:
            if not fence and marks:
                fence = marks[1]
                blocks.append([])
            elif marks and marks[1].startswith(fence):
                fence = ""
            elif not silent:
                _quote(line, blocks[-1], frames)
            continue
        heading = _heading(line)
        if heading is not None:
            silent = heading == "silent"
            if heading:
                continue
        if silent or _TASK.match(line) or _VERSION.match(_plain(line)) or "_No response_" in line:
            continue
        if _SESSION.match(line) or (line.startswith(("    ", "\t")) and line.strip()):
            if not blocks or (prose and prose[-1] != "\0"):
                blocks.append([])
                prose.append("\0")
            _quote(line, blocks[-1], frames)
        elif not _is_output(line, frames):
            prose.append(_TAG.sub(" ", line).strip())
    text = re.sub(r"\n{2,}", "\n", "\n".join(line for line in prose if line != "\0")).strip()
    return text, tuple(found for block in blocks if (found := "\n".join(block).strip())), frames


def _quote(line: str, block: list[str], frames: list[Frame]) -> None:
    if _VERSION.match(_plain(line)) or _is_output(line, frames):
        return
    block.append(_PROMPT.sub("", line, count=1))


def _is_output(line: str, frames: list[Frame]) -> bool:
    """Whether the line is a frame of a stack trace, which is taken up."""
    frame = _frame(line)
    if frame is not None:
        frames.append(frame)
    return frame is not None


def _frame(line: str) -> Frame | None:
    for telling, pattern in _FRAMES_OF:
        if telling in line and (found := pattern.match(line)):
            parts = found.groupdict()
            return Frame(
                parts["file"].replace("\\", "/"),
                int(parts.get("line") or 0),
                _last(parts.get("function") or ""),
            )
    return None


def _innermost_last(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Python's traces end with the frame where it happened; all others begin with it."""
    python = sum(frame.file.endswith((".py", ".pyx")) for frame in frames)
    return tuple(frames if 2 * python >= len(frames) else reversed(frames))


def _is_frame(line: str) -> bool:
    return _frame(line) is not None


def _plain(line: str) -> str:
    return " ".join(line[:200].split())


def _heading(line: str) -> str | None:
    """None for a line that is no heading, `silent` for one whose section says nothing, `template` for one that is
    only a form's, else empty."""
    found = _HEADING.match(_plain(line))
    if found is None:
        return "silent" if "INSTALLED VERSIONS" in line or "show_versions" in line.lower() else None
    words = re.findall(r"[a-z_]+", (found["marks"] or found["bold"] or found["plain"]).lower())
    if words and _SILENT.match(" ".join(words)):
        return "silent"
    if words and all(word in _TEMPLATE for word in words):
        return "template"
    return None if found["plain"] else ""


def _modules(text: str) -> tuple[str, ...]:
    """Dotted names, and those that import lines spell in two parts."""
    out: dict[str, None] = {}
    for line in text.split("\n"):
        if found := _IMPORT.match(line):
            if found[3]:
                out[found[3]] = None
            else:
                for name in found[2].split(",")[:10]:
                    word = name.strip().split(" ")[0]
                    out[f"{found[1]}.{word}" if word else found[1]] = None
    for dotted in _DOTTED.finditer(text):
        if not CODE.search(dotted[0]):
            out[dotted[0]] = None
    return tuple(out)[:_NAMES]


def _pieces(text: str, room: int) -> Iterator[str]:
    """The text in pieces of at most `room` characters, cut at lines and else at blanks."""
    at = 0
    while at < len(text):
        end = at + room
        if end < len(text):
            cut = max(text.rfind("\n", at + room // 2, end), text.rfind(". ", at + room // 2, end) + 1)
            end = cut if cut > at else (text.rfind(" ", at + room // 2, end) + 1 or end)
        if piece := text[at:end].strip():
            yield piece
        at = end
