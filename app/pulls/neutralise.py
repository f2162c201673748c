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
_IMAGE: Final = re.compile(r"!\[([^\[\]]*+)\](?:\([^()\n]*+\)|\[[^\[\]\n]*+\])?")
_LINK: Final = re.compile(r"\[([^\[\]]*+)\]\(\s*+([^()\s]*+)[^()\n]*+\)")
_HTML_IMAGE: Final = re.compile(r"<(?:img|picture|source|video|audio|iframe|svg)\b[^<>]*+>", re.IGNORECASE)
_PASSES: Final = 8
"""So often what a removal puts together is removed again. What is left then is made inert like everything else."""

# What stands before the first word of a line: white space, and the signs of quotations and lists.
_MARGIN: Final = r"^(?:[^\S\n]|[>*+-])*+"

# Each pattern matches the sign that is made inert: the zero-width space goes right behind it. None begins with a word's
# boundary where GitHub asks for none: it links `_https://…` and `1https://…` too
# (https://github.com/github/cmark-gfm/blob/master/extensions/autolink.c). Each takes time in proportion to the text.
_SIGNS: Final = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        (r"@(?=\S)", 0),  # a mention of a person, a team or a bot; an e-mail address; a commit elsewhere
        (r"#(?=\d)", 0),  # an issue's number, with or without a closing word before it
        (r"GH-(?=\d)", re.IGNORECASE),
        (r"<(?=[A-Za-z/!?])", 0),  # HTML, comments and <https://…>
        (r"&(?=#?\w+;)", 0),  # entities, which become signs after the Markdown is read
        (r"!(?=\[)", 0),  # an image
        (r"\](?=[(\[:])", 0),  # a link's target or definition
        (r":(?=//)", 0),  # a bare address
        (r"(?:mailto|xmpp|data|javascript|vbscript):(?=\S)", re.IGNORECASE),
        (r"www(?=\.)", re.IGNORECASE),
        (_MARGIN + r"/(?=[A-Za-z])", re.MULTILINE),  # /merge, /lgtm, /approve
        (_MARGIN + r"!(?=[A-Za-z])", re.MULTILINE),
        (r"\b(?:bors|homu|jenkins|mergify|dependabot|renovate)(?=[\s:,])", re.IGNORECASE),
        # https://docs.github.com/en/actions/managing-workflow-runs/skipping-workflow-runs, and as other systems write it:
        # [skip netlify], [vercel skip], [ci-skip]
        (r"\[(?=[^\[\]\n]{0,40}?(?:skip|no[ _-]{0,8}(?:ci|actions)\b))", re.IGNORECASE),
        (r"\*\*\*NO(?=_CI)", re.IGNORECASE),
        # Trailers: co-authors, sign-offs, our own run id.
        (r"^[^\S\n]*+[A-Za-z]++(?:-[A-Za-z]++)++(?=\s*+:)", re.MULTILINE),
        # Blocks that GitHub runs or offers to apply, and what makes links and styles in mathematics:
        # https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/creating-diagrams
        (
            _MARGIN
            + r"(?:\d{1,9}[.)][^\S\n]*+)?(?:`{3,}|~{3,})[^\S\n]*+(?=(?:mermaid|math|geojson|topojson|stl|suggestion)\b)",
            re.MULTILINE | re.IGNORECASE,
        ),
        (
            r"\\(?=(?:href|url|style|class|cssId|require|g?def|(?:re)?newcommand|let|includegraphics|html\w*)\b)",
            0,
        ),
        (r"Action log head(?=\s*:)", re.IGNORECASE),  # ours alone: people compare the log with what it says
    )
)

# A backtick fence's info string holds no backtick: https://github.github.com/gfm/#fenced-code-blocks
_FENCE: Final = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$")
_INDENTED_FENCE: Final = re.compile(r"^ {1,3}(?=`{3}|~{3})", re.MULTILINE)
_HEADING: Final = re.compile(r"^((?:[ \t]|[>*+-]|\d{1,9}[.)])*+)#{1,6}(?=[ \t]|$)")
_UNDERLINE: Final = re.compile(r"^(?:[ \t]|>)*+(?=(?:=+|-+)[ \t]*$)")

# Beside control, format, private and unassigned characters: fillers and variation selectors, which carry data unseen.
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt, Default_Ignorable_Code_Point
_FILLERS: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


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


def prose(text: str) -> str:
    """The text, inert, without headings of its own: a section of ours is told by its heading, so nobody else makes one.

    Code in fences is left as it is. What GitHub takes for such code must be told without doubt: a fence begins its line.
    """
    opened, lines = "", []
    for line in _INDENTED_FENCE.sub("", neutralise(text)).split("\n"):
        was, opened = opened, _fence_after(opened, line)
        lines.append(line if was or opened else _without_heading(line))
    return with_closed_fence("\n".join(lines))


def one_line(text: str, limit: int) -> str:
    """The text, inert, on one line and no longer than `limit` characters. What is removed is removed first: nothing that
    was put together afterwards would be inert."""
    flat = " ".join(_until_still(re.compile(r"`{3,}|~{3,}"), "", visible(text)).split())
    joined = _without_heading(" ".join(neutralise(flat).split()))
    return joined if length(joined) <= limit else _shortened(joined, limit - 1).rstrip("@") + "…"


def code(text: str) -> str:
    """Names and paths as a code span that their own backticks and newlines do not end."""
    inert = neutralise(" ".join(text.split())).replace("\n", " ")
    longest = max((len(run) for run in re.findall(r"`+", inert)), default=0)
    ticks = "`" * (longest + 1)
    padding = " " if longest else ""
    return f"{ticks}{padding}{inert}{padding}{ticks}" if inert else "` `"


def visible(text: str) -> str:
    """Without control, format, private, unassigned and other invisible characters; line ends are newlines."""
    lines = _FILLERS.sub("", re.sub(r"\r\n|[\r\u2028\u2029]", "\n", text))
    return "".join(
        one
        for one in lines
        if one in "\n\t" or unicodedata.category(one) not in ("Cc", "Cf", "Co", "Cn", "Cs")
    )


def with_closed_fence(text: str) -> str:
    """A code fence that is left open would swallow all that follows: it is closed."""
    opened = ""
    for line in text.split("\n"):
        opened = _fence_after(opened, line)
    return f"{text}\n{opened}" if opened else text


def _fence_after(opened: str, line: str) -> str:
    """The mark of the fence that is open behind this line; nothing where none is."""
    if not (found := _FENCE.match(line)):
        return opened
    mark, rest = found.groups()
    if not opened:
        return str(mark)
    return "" if mark[0] == opened[0] and len(mark) >= len(opened) and not rest.strip() else opened


def _without_heading(line: str) -> str:
    if found := _HEADING.match(line):
        said = line[found.end() :].strip(" \t#")
        # What ended the line is followed by something now.
        inert = INERT if said.endswith(("@", ":")) else ""
        return f"{found[1]}**{said}{inert}**" if said else found[1]
    return _UNDERLINE.sub(lambda margin: margin.group() + INERT, line)


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
    for _ in range(_PASSES):
        if (after := pattern.sub(replacement, text)) == text:
            break
        text = after
    return text
