"""Removes what a person reading GitHub's page would not have seen: HTML comments and invisible characters.

Applied to people's text and to instruction files, until nothing changes any more. File contents are never cleaned,
since an edit has to match them exactly; `invisible` names what they hide.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right

UNCLOSED = "[what followed here was an unclosed HTML comment, which GitHub does not show, and was left out]"

# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt, Default_Ignorable_Code_Point
_IGNORABLE = (
    (0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
_STARTS = tuple(first for first, _ in _IGNORABLE)
_WHITESPACE = frozenset("\t\n\r")
_UNSEEN = frozenset(("Cc", "Cf", "Cn", "Co", "Cs"))


def clean(text: str) -> str:
    """`text` as a person sees it. Line ends become `\\n`; cleaning twice changes nothing."""
    before = None
    while text != before:
        before = text
        text = _without_comments(visible(text))
    return text


def visible(text: str) -> str:
    """`text` without invisible characters; what looks like an HTML comment stays, as in a log, where everybody sees it.
    Line ends become `\\n`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    hidden = {ord(character): None for character in set(text) if is_invisible(character)}
    return text.translate(hidden) if hidden else text


def is_invisible(character: str) -> bool:
    """Default-ignorable, format, control, private use, surrogate or unassigned, and not ordinary white space."""
    if character in _WHITESPACE or " " <= character <= "~":
        return False
    at = bisect_right(_STARTS, ord(character)) - 1
    if at >= 0 and ord(character) <= _IGNORABLE[at][1]:
        return True
    return unicodedata.category(character) in _UNSEEN


def invisible(text: str) -> list[str]:
    """The different invisible characters in `text`, as `U+200B ZERO WIDTH SPACE`, in order of code point."""
    found = sorted({character for character in set(text) if is_invisible(character)})
    return [f"U+{ord(c):04X} {unicodedata.name(c, unicodedata.category(c))}" for c in found]


def _without_comments(text: str) -> str:
    # By hand, because a lazy regular expression takes quadratic time on many openings without an end.
    at = 0
    while (start := text.find("<!--", at)) >= 0:
        # `<!-->` and `<!--->` are whole comments: https://spec.commonmark.org/0.31.2/#html-comment
        ends = [end + len(mark) for mark in ("-->", "--!>") if (end := text.find(mark, start + 2)) >= 0]
        if not ends:
            return text[:start] + UNCLOSED
        text = text[:start] + text[min(ends) :]
        at = max(0, start - 3)  # what stood before and behind may now be the opening of another
    return text
