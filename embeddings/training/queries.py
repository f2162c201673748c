"""Turns what a commit says into what somebody who has the problem might have written."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

MIN_WORDS = 5
MAX_BODY = 900
MAX_TEST_LINES = 12
WITH_BODY = 0.8
WITH_TEST = 0.5
SPOKEN = 0.5
"""How often the names of what is to be found are written as plain words: who reports a problem seldom knows them."""

_TRAILER = re.compile(
    r"^\s*([A-Z][A-Za-z]*(-[A-Za-z]+)+:\s|HG--$|branch : |--HG--|(PiperOrigin|Change-?Id|Reviewed|Tested|Acked|Differential Revision|Summary|"
    r"Test Plan|cc|PR|Ref|Refs|See|Bug|Issue|Closes?|Closed|Fix(es|ed)?|Resolves?|Related( to)?|git-svn-id|GitOrigin|\(cherry picked)"
    r"\b:?\s*(#?\d+|[A-Z]+-\d+|https?://|@|\w*:|from)|-{3,}\s*$|on-behalf-of|updates: *$|\[pre-commit)",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\(?\b((close|fix|resolve)[sd]?|(fixe|resolve)[sd]|refs?|see|gh|issue|ticket|bug|pr)\b:?\s*(gh-|#)\d+\)?|\(?(gh-|\B#)\d+\)?|"
    r"\bhttps?://\S+|\b[0-9a-f]{12,40}\b",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"^\s*(\[[^\]]{1,40}\]\s*|(fix|feat|bug|enh|perf|refactor|maint)(\([^)]*\))?!?:\s*|\*\s+)+", re.IGNORECASE
)
_NOISE = re.compile(
    r"^\W*(merge\b|revert\b|bump|release|version|prepare|preparing|typo|fix(es|ed)? (a )?(few |small |some )?(typos?|lint|format|style|tests?\b|doc|"
    r"flake|mypy|ci\b|build|spelling|whitespace|indent|warnings?$|pep ?8)|lint|(re)?format|style\b|pep-?8|black|isort|ruff|flake8|pylint|"
    r"mypy|((some|minor|small|more|a few|little|trivial|gratuitous|code) )*clean[- ]?ups?\b|cosmetic|whitespace|(update|add|edit|fix|tweak|improve|remove)s?(d|ing)? (the )?(change|readme|doc|comment|copyright|"
    r"licen[cs]e|author|contribut|test|changelog|news|release|version|typ(e|ing)|annotation|badge|translation|depend|require)|"
    r"docs?\b|docstring|change ?log|copyright|licen[cs]e|pre-commit|chore|ci\b|tests?\b|tst\b|build\b|deps?\b|wip\b|sty\b|review|address|"
    r"apply suggestion|suggestions|initial|import\b.*\bfrom\b|sync|rename|move[ds]?\b|translat|typing|type hints?|use f-?strings?|"
    r"back to development|start(ing)? (work|dev)|regenerate|update to|upgrade to|drop python|remove python 2|automated)",
    re.IGNORECASE,
)
_LIST_ITEM = re.compile(r"^\s*[*+-]\s+")
_PLAIN = re.compile(r"[A-Za-z]{2,}")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|_+")
_TEST_HEAD = re.compile(
    r"^\s*(@|(async\s+)?def test|class \w*Test|func Test|it\(|describe\(|test\(|\}\);?\s*$|\W*$)"
)
_DOCSTRING = re.compile(r'^\s*[rbuf]?(""".*?"""|\'\'\'.*?\'\'\')\s*$', re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Message:
    subject: str
    body: str


def message(subject: str, body: str) -> Message | None:
    """What the commit says of its purpose; None when that is nothing, or only noise."""
    if _NOISE.match(_PREFIX.sub("", subject)) or _NOISE.match(subject):
        return None
    short = _stripped(_PREFIX.sub("", _NUMBER.sub("", subject)))
    if not short or _NOISE.match(short):
        return None
    kept = _body(body, short)
    words = len(_PLAIN.findall(short))
    if words < 3 or words + len(_PLAIN.findall(kept)) < MIN_WORDS:
        return None
    return Message(short, kept)


def _body(body: str, subject: str) -> str:
    lines: list[str] = []
    for line in body.replace("\r", "").split("\n"):
        if _TRAILER.match(line):
            continue
        told = _NUMBER.sub("", line).rstrip()
        if _LIST_ITEM.match(told):
            item = _LIST_ITEM.sub("", told)
            if len(_PLAIN.findall(item)) < 4 or _NOISE.match(item) or item.strip() == subject:
                continue  # a squashed branch's small commits
        if told.strip() or (lines and lines[-1]):
            lines.append(told)
    text = "\n".join(lines).strip("\n -*")
    if len(text) > MAX_BODY:
        text = text[:MAX_BODY].rpartition("\n")[0] or text[:MAX_BODY]
    return text.strip()


def _stripped(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\(\s*\)|\[\s*\]", "", text)).strip(" .,:;-")


def query(told: Message, tests: Sequence[str], names: Sequence[str], random: Random) -> str:
    """The subject, mostly with the body, often with lines of a test; `names` are those of what is to be found."""
    text = told.subject
    with_body, with_test, spoken = (random.random() < share for share in (WITH_BODY, WITH_TEST, SPOKEN))
    if told.body and (with_body or len(_PLAIN.findall(text)) < MIN_WORDS):
        text = f"{text}\n\n{told.body}"
    if spoken:
        text = speak(text, names)
    if tests and with_test:
        quoted = "\n".join(tests)
        text = f"{text}\n\n```\n{quoted}\n```" if random.random() < 0.5 else f"{text}\n\n{quoted}"
    return text


def speak(text: str, names: Sequence[str]) -> str:
    """The same with these names as plain words: `get_all()` becomes `get all`. A plain word stays."""
    for name in sorted(set(names), key=lambda name: (-len(name), name)):
        words = _HUMP.sub(" ", name).strip()
        if " " in words:
            text = re.sub(rf"`?\b{re.escape(name)}\b(\(\))?`?", words.lower(), text)
    return text


def quoted(added: Sequence[str], random: Random) -> list[str]:
    """A few lines in a row of what a test gained, without the test's own head."""
    code = _DOCSTRING.sub("", "\n".join(added)).split("\n")
    lines = [line for line in code if not _TEST_HEAD.match(line) and len(line) < 200]
    if len(lines) < 2:
        return []
    room = random.randint(3, MAX_TEST_LINES)
    return textwrap.dedent("\n".join(lines[:room])).split("\n")
