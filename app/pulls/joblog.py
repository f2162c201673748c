"""A job's log, read for what went wrong: the part around the errors, what kind of trouble it is, and what it looks like
whenever it returns. Pure text in, text out; nothing in a log is an instruction to anybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from app.pulls.neutralise import visible

BEFORE: Final = 3
AFTER: Final = 12
"""Lines of context around each error."""

TAIL: Final = 60
"""How many of the last lines are looked at for trouble with the machine or the network: what was overcome stands earlier."""

LINE_LIMIT: Final = 500
ERRORS_LIMIT: Final = 200
GAP: Final = "[…]"

# https://docs.github.com/en/actions/how-tos/monitor-workflows/use-workflow-run-logs
_STAMP: Final = re.compile(r"^\ufeff?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z ?", re.MULTILINE)
_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_STEP: Final = re.compile(r"^##\[group\]Run ")
_ERROR_MARK: Final = "##[error]"
_ENDED: Final = re.compile(
    r"^##\[error\](?:Process completed with exit code \d+|The process .* failed with exit code \d+)\.?$"
)
_CLEANUP: Final = re.compile(r"^(?:Post job cleanup\.|Cleaning up orphan processes)$")

_ERROR: Final = re.compile(
    r"""
      ^\#\#\[error\](?!Process\ completed)
    | ^(?:FAILED|ERROR|FAIL|FATAL|E)\b(?:[:\s]|$)
    | ^\s*---\ FAIL
    | ^\s*(?:[✕✗✘×●]|not\ ok\b)
    | \b(?:error|fatal|panic|exception)\b\s*(?:\[\w+\])?\s*: | ^\s*error\b
    | \berror\ TS\d+ | ^\s*\d+:\d+\s+error\s
    | \b\w*(?:Error|Exception|Failure)\b\s*(?::|$)
    | Traceback\ \(most\ recent\ call\ last\)
    | \bpanicked\ at\b
    | \bnpm\ (?:ERR!|error)
    | ^\[ERROR\]
    | \b(?:undefined|undeclared)\ (?:reference|identifier|symbol)
    | \b[1-9]\d*\ (?:failed|failing|failures?|errors?)\b
    | \b(?:segmentation\ fault|core\ dumped|out\ of\ memory|command\ not\ found)\b
    | ^(?:/\S+:\ line\ \d+:.*)?\s*\d*\s*Killed\b
    """,
    re.VERBOSE | re.IGNORECASE,
)

_OF_THE_CODE: Final = re.compile(
    r"""
      (?-i:^FAILED\s) | ^\s*---\ FAIL | (?-i:^\s*FAIL\b) | ^=+\ .*\b[1-9]\d*\ (?:failed|error)
    | ^\s*[✕✗✘]\s | ^\s*●\s | ^not\ ok\b
    | \bassert(?:ion)?\ ?(?:error|failed)\b | ^E\s{2,}
    | \berror\ TS\d+ | \berror\[E\d+\] | ^\s*\d+:\d+\s+error\s | ^✖\ \d+\ problem
    | \b[1-9]\d*\ (?:failed|failing)\b | Tests\ run:.*(?:Failures|Errors):\ [1-9]
    | COMPILATION\ ERROR | \bSyntaxError\b | \bcould\ not\ compile\b | \bpanicked\ at\b
    | ^\S+\.(?:go|c|cc|cpp|h|rs|java|kt|swift|cs):\d+:\d+:\ (?!warning|note|remark)\S
    | ^\S+\.py:\d+:(?:\d+:)?\ (?:error:|[A-Z]+\d+\b)
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What a test, a compiler or a linter says of code."""

_TROUBLE: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), why)
    for pattern, why in (
        (
            (
                r"runner has received a shutdown signal|lost communication with the server|runner .*\blost\b"
                r"|The (?:self-hosted|hosted) runner\b.*(?:unavailable|was not acquired|encountered an error)"
                r"|No runner .* (?:available|online)|The operation was canceled"
            ),
            "its machine was stopped or lost",
        ),
        (r"exceeded the maximum execution time", "it took longer than it is given"),
        (r"No space left on device|ENOSPC|not enough (?:disk )?space", "its machine had no disk space left"),
        (
            r"(?:^|\s)Killed(?:\s|$)|exit code 137\b|\bsignal:? ?(?:9|killed)\b",
            "its machine ran out of memory",
        ),
        (
            (
                r"toomanyrequests|reached your .*pull rate limit|API rate limit exceeded|429 Too Many Requests"
                r"|\bHTTP(?:/\S+)? 429\b|secondary rate limit"
            ),
            "a rate limit of a service that it needs was reached",
        ),
        (
            (
                r"Error response from daemon: .*(?:pull|manifest|registry|Get \"?https)|(?:Err)?ImagePull(?:BackOff)?"
                r"|failed to (?:pull|resolve) (?:image|source metadata)|docker pull failed"
            ),
            "a container image could not be fetched",
        ),
        (
            (
                r"Could not resolve host|Temporary failure (?:in name resolution|resolving)|Name or service not known"
                r"|\b(?:EAI_AGAIN|ENOTFOUND|ECONNRESET|E(?:SOCKET)?TIMEDOUT|ECONNREFUSED|ENETUNREACH)\b|no such host"
                r"|server misbehaving|npm (?:ERR!|error) network|TLS handshake timeout|\bi/o timeout\b"
                r"|(?:Read|Connect(?:ion)?|Operation) timed out|Connection (?:reset|refused)|Failed to establish a new connection"
                r"|Network is unreachable|SSL_ERROR_SYSCALL|unexpected EOF while (?:downloading|fetching)"
                r"|curl: \((?:6|7|28|35|52|56)\)|spurious network error|Could not transfer artifact"
            ),
            "the network or a package registry was away",
        ),
        (
            (
                r"\b(?:500 Internal Server Error|502 Bad Gateway|503 Service (?:Temporarily )?Unavailable|504 Gateway Time-?out)\b"
                r"|\b(?:status(?: code)?:?|returned error:|HTTP(?:/\S+)?) 5\d\d\b|\bE5\d\d\b"
            ),
            "a service that it needs answered with an error",
        ),
    )
)

_SECRETS: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"\bgh[oprsu]_[A-Za-z0-9._-]{20,}",
        r"\bgithub_pat_\w{20,}",
        r"\bglpat-[\w-]{16,}",
        r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
        r"\bAIza[\w-]{30,}",
        r"\bsk-[\w-]{20,}",
        r"\bxox[abeoprs]-[\w-]{10,}",
        r"\bnpm_[A-Za-z0-9]{30,}",
        r"\bpypi-[\w-]{30,}",
        r"\beyJ[\w-]{10,500}+\.[\w-]{10,}(?:\.[\w-]*)?",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)",
        r"(?i)(?<=\bbearer )[\w.~+/=-]{12,}",
        (
            r"(?i)(?:(?<=password)|(?<=passwd)|(?<=secret)|(?<=token)|(?<=api_key)|(?<=apikey)|(?<=access_key))"
            r"[\"']?\s?[:=]\s?[\"']?[^\s\"',;]{8,}"
        ),
    )
)

_VARIES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        (
            r"(?:/tmp|/var/folders|/private/tmp|[a-z]:\\users\\\w+\\appdata\\local\\temp)[/\\][^\s:'\"()]*[/\\]?",
            "TMP/",
        ),
        (r"(?:/home/runner/work|/__w|[a-z]:\\a)[/\\][^/\\\s]+[/\\][^/\\\s]+[/\\]", ""),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "ID"),
        (r"\b\d{4}-\d\d-\d\d[t ]\d\d:\d\d:\d\d(?:\.\d+)?(?:z|[+-]\d\d:?\d\d)?\b", "TIME"),
        (r"\b0x[0-9a-f]+\b", "HEX"),
        (r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b", "HEX"),
        (r"\b\d+(?:\.\d+)?\s?(?:ms|µs|us|ns|s|sec|secs|seconds?|min|minutes?)\b", "TIME"),
        (r"\d+(?:\.\d+)*", "0"),
        (r"\s+", " "),
    )
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one log says. `trouble`, a sentence part, is set where it is the machine's or the network's and nothing in the log
    speaks of code (`of_the_code`). `errors` are its error lines as they look whenever they return."""

    excerpt: str
    errors: frozenset[str]
    of_the_code: bool
    trouble: str | None


def read(log: str, *, limit: int) -> Reading:
    """The log of a job that failed, or what a check says of itself; at most `limit` characters of it."""
    lines = _failing_part(plain(log).split("\n"))
    of_the_code = {number for number, line in enumerate(lines) if _OF_THE_CODE.search(line)}
    marked = sorted(of_the_code | {number for number, line in enumerate(lines) if _ERROR.search(line)})
    return Reading(
        excerpt=_excerpt(lines, marked, limit),
        errors=frozenset(normal(lines[number]) for number in marked[-ERRORS_LIMIT:]),
        of_the_code=bool(of_the_code),
        trouble=None if of_the_code else _trouble(lines),
    )


def plain(log: str) -> str:
    """Without time stamps, colours, invisible characters and what looks like a secret; long lines are cut."""
    text = masked(visible(_STAMP.sub("", _ANSI.sub("", log))))
    return "\n".join(
        line if len(line) <= LINE_LIMIT else f"{line[:LINE_LIMIT]}{GAP}" for line in text.split("\n")
    )


def masked(text: str) -> str:
    for secret in _SECRETS:
        text = secret.sub("***", text)
    return text


def normal(line: str) -> str:
    """The line without what differs between two runs that fail alike: numbers, hex, times, temporary paths."""
    for varies, instead in _VARIES:
        line = varies.sub(instead, line)
    return line.strip()[:300]


def says_nothing(text: str) -> bool:
    """Whether it tells no more than that something failed."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return all(_ENDED.match(line) or _ENDED.match(_ERROR_MARK + line) for line in lines)


def _failing_part(lines: list[str]) -> list[str]:
    """From the beginning of the first step that failed to the last error: earlier steps did well, later ones clean up."""
    lines = _without_cleanup(lines)
    marks = [number for number, line in enumerate(lines) if line.startswith(_ERROR_MARK)]
    if marks:
        lines = lines[: marks[-1] + 1]
        begins = [number for number in range(marks[0]) if _STEP.match(lines[number])]
        lines = lines[begins[-1] if begins else 0 :]
    return [line.removeprefix("##[group]") for line in lines if line.strip() and line != "##[endgroup]"]


def _without_cleanup(lines: list[str]) -> list[str]:
    ends = next((number for number, line in enumerate(lines) if _CLEANUP.match(line)), len(lines))
    later = any(line.startswith(_ERROR_MARK) for line in lines[ends:])
    return lines if later else lines[:ends]


def _trouble(lines: Sequence[str]) -> str | None:
    tail = "\n".join(lines[-TAIL:])
    return next((why for pattern, why in _TROUBLE if pattern.search(tail)), None)


def _excerpt(lines: Sequence[str], marked: Sequence[int], limit: int) -> str:
    """The parts around the errors; where they are too long, the last and the first of them before those in between."""
    parts = _parts(marked, len(lines)) or [(max(len(lines) - 40, 0), len(lines))]
    texts = ["\n".join(lines[begin:end]) for begin, end in parts]
    room, chosen = limit, dict[int, str]()
    for place in _outside_in(len(texts)):
        text = _cut_in_the_middle(texts[place], room)
        if text is None:
            continue
        chosen[place] = text
        room -= len(text) + len(GAP) + 2
    return _joined(chosen)


def _joined(chosen: dict[int, str]) -> str:
    """In their own order."""
    return f"\n{GAP}\n".join(chosen[place] for place in sorted(chosen)).strip()


def _parts(marked: Iterable[int], length: int) -> list[tuple[int, int]]:
    parts: list[tuple[int, int]] = []
    for number in marked:
        begin, end = max(number - BEFORE, 0), min(number + AFTER + 1, length)
        if parts and begin <= parts[-1][1]:
            parts[-1] = (parts[-1][0], end)
        else:
            parts.append((begin, end))
    return parts


def _outside_in(count: int) -> list[int]:
    """Last, first, last but one, second …"""
    return [count - 1 - place // 2 if place % 2 == 0 else place // 2 for place in range(count)]


def _cut_in_the_middle(text: str, room: int) -> str | None:
    if len(text) <= room:
        return text
    if room < 200:
        return None
    half = (room - len(GAP) - 2) // 2
    return f"{text[:half]}\n{GAP}\n{text[-half:]}"
