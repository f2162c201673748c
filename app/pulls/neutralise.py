"""Makes text by a model or by people inert before it is written to GitHub: it reads the same and does nothing.

Nobody is mentioned, nothing is loaded or linked, no issue is closed or cross-referenced, no other bot is commanded, no
check is skipped. A zero-width space goes where the sign begins to mean something: code and prose alike stay legible,
and no parser of Markdown has to agree with GitHub's about what is code.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Final

INERT: Final = "\u200b"

BODY_LIMIT: Final = 65_536
"""Characters that GitHub takes in the body of an issue, a pull request or a comment.
https://github.com/orgs/community/discussions/27190"""

LIST_LIMIT: Final = 8_000
"""Of them, for one list."""

_COMMENT: Final = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_IMAGE: Final = re.compile(r"!\[([^\[\]]*)\](?:\([^()\n]*\)|\[[^\[\]\n]*\])?")
_LINK: Final = re.compile(r"\[([^\[\]]*)\]\(\s*([^()\s]*)[^()\n]*\)")
_HTML_IMAGE: Final = re.compile(r"<(?:img|picture|source|video|audio|iframe|svg)\b[^>]*>", re.IGNORECASE)

# Each pattern matches the sign that is made inert: the zero-width space goes right behind it.
_SIGNS: Final = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (r"@(?=[^\W_])", 0),  # a mention of a person, a team or a bot
        (r"#(?=\d)", 0),  # an issue's number, with or without a closing word before it
        (r"\bGH-(?=\d)", re.IGNORECASE),
        (r"<(?=[A-Za-z/!?])", 0),  # HTML, comments and <https://…>
        (r"&(?=#?\w+;)", 0),  # entities, which become signs after the Markdown is read
        (r"!(?=\[)", 0),  # an image
        (r"\](?=[(\[:])", 0),  # a link's target or definition
        (r"\b[a-z][a-z0-9+.-]*:(?=//)", re.IGNORECASE),  # a bare address
        (r"\b(?:mailto|xmpp|data|javascript):(?=\S)", re.IGNORECASE),
        (r"\bwww(?=\.)", re.IGNORECASE),
        (r"^[\s>*+-]*/(?=[A-Za-z])", re.MULTILINE),  # /merge, /lgtm, /approve
        (r"^[\s>*+-]*!(?=[A-Za-z])", re.MULTILINE),
        (r"\b(?:bors|homu|jenkins|mergify|dependabot|renovate)(?=[\s:,])", re.IGNORECASE),
        # https://docs.github.com/en/actions/managing-workflow-runs/skipping-workflow-runs
        (r"\[(?:skip|no)(?= +(?:ci|actions)\b)", re.IGNORECASE),
        (r"\[(?:ci|actions)(?= +skip\b)", re.IGNORECASE),
        (r"\*\*\*NO(?=_CI)", re.IGNORECASE),
        # Trailers: co-authors, sign-offs, our own run id.
        (r"^[ \t]*[A-Za-z]+(?:-[A-Za-z]+)+(?=\s*:)", re.MULTILINE),
    )
)

_FENCE: Final = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")


def neutralise(text: str) -> str:
    """The text, inert. Comments and images are gone; invisible characters too."""
    text = visible(text)
    text = _until_still(_COMMENT, "", text)
    text = _until_still(_HTML_IMAGE, "(image removed)", text)
    text = _until_still(_IMAGE, r"(image removed: \1)", text)
    text = _until_still(_LINK, r"\1 (\2)", text)
    for sign in _SIGNS:
        text = sign.sub(lambda found: found.group() + INERT, text)
    return with_closed_fence(text).strip()


def one_line(text: str, limit: int) -> str:
    """The text, inert, on one line and no longer than `limit` characters."""
    joined = " ".join(neutralise(text).replace("`" * 3, "").split())
    return joined if length(joined) <= limit else _shortened(joined, limit - 1) + "…"


def code(text: str) -> str:
    """Names and paths as a code span that their own backticks and newlines do not end."""
    inert = neutralise(" ".join(text.split())).replace("\n", " ")
    longest = max((len(run) for run in re.findall(r"`+", inert)), default=0)
    ticks = "`" * (longest + 1)
    padding = " " if longest else ""
    return f"{ticks}{padding}{inert}{padding}{ticks}" if inert else "` `"


def visible(text: str) -> str:
    """Without control, format, private and unassigned characters; line ends are newlines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        one
        for one in lines
        if one in "\n\t" or unicodedata.category(one) not in ("Cc", "Cf", "Co", "Cn", "Cs")
    )


def with_closed_fence(text: str) -> str:
    """A code fence that is left open would swallow all that follows: it is closed."""
    opened = ""
    for line in text.split("\n"):
        if not (found := _FENCE.match(line)):
            continue
        mark, rest = found.groups()
        if not opened:
            opened = mark
        elif mark[0] == opened[0] and len(mark) >= len(opened) and not rest.strip():
            opened = ""
    return f"{text}\n{opened}" if opened else text


def cut(text: str, limit: int = BODY_LIMIT, note: str = "(Cut here: GitHub takes no more.)") -> str:
    """No longer than the limit, and saying so where something is missing. What must stay stands at the beginning."""
    if length(text) <= limit:
        return text
    ending = f"\n\n{note}"
    kept = _shortened(text, limit - length(ending) - 64)
    return with_closed_fence(kept)[: limit - length(ending)] + ending


def first_of(lines: Sequence[str], room: int = LIST_LIMIT) -> str:
    """As many of a list's lines as it may take of a body, and how many more there are."""
    shown: list[str] = []
    for line in lines:
        room -= length(line) + 1
        if room < 0:
            break
        shown.append(line)
    more = len(lines) - len(shown)
    return "\n".join([*shown, *([f"- … and {more} more"] if more else [])])


def length(text: str) -> int:
    """In UTF-16 units, the largest of the ways to count that GitHub might use."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _shortened(text: str, limit: int) -> str:
    return text.encode("utf-16-le", "surrogatepass")[: max(limit, 0) * 2].decode("utf-16-le", "ignore")


def _until_still(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    """What a removal puts together may be the pattern again."""
    while (after := pattern.sub(replacement, text)) != text:
        text = after
    return text
