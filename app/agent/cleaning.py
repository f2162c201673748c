"""Removes what a person reading GitHub's page would not have seen: comments, invisible characters, and what Markdown and HTML
keep to themselves.

Applied to people's text and to instruction files, until nothing changes any more. File contents are never cleaned,
since an edit has to match them exactly; `invisible` names what they hide.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache

from markdown_it import MarkdownIt

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


def seen(markdown: str) -> str:
    """`markdown` as GitHub's page shows it to a person: cleaned, and without link definitions (whose labels and titles nobody
    sees, https://spec.commonmark.org/0.31.2/#link-reference-definitions), processing instructions, declarations, and the
    attributes of HTML tags. What is code there stays. Text that is shown in pictures alone is not told from other text."""
    text, before = clean(markdown), None
    for _ in range(_PASSES):
        if text == before:
            break
        before = text
        text = clean(_without_entities(_without_markup(text)))
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


# --- what Markdown and HTML do not show ------------------------------------------------------------------------------

_PASSES = 8
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# What an HTML parser takes for a comment besides comments: https://html.spec.whatwg.org/#parse-error-incorrectly-opened-comment
_BOGUS = re.compile(r"<(?:[?!]|/(?![A-Za-z]))[^>]*+>?")
_TAG = re.compile(r"<([A-Za-z][A-Za-z0-9-]*+)[\s/](?:[^\"'<>]|\"[^\"]*\"|'[^']*')*+>")


@cache
def _parser() -> MarkdownIt:
    """What is code, what is HTML, what is a definition. Nothing else is asked for, and what takes long is left out."""
    whole = MarkdownIt("commonmark", {"html": True, "maxNesting": 100})
    return whole.disable(["link", "image", "emphasis", "balance_pairs", "fragments_join"])


def _without_entities(text: str) -> str:
    """Without characters that are invisible although their spelling is not."""

    def shown(entity: re.Match[str]) -> str:
        character = html.unescape(entity[0])
        return "" if character != entity[0] and all(map(is_invisible, character)) else entity[0]

    return _ENTITY.sub(shown, text)


def _without_markup(text: str) -> str:
    if "]:" not in text and "<" not in text:
        return text
    env: dict[str, object] = {}
    lines: list[str | None] = list(text.split("\n"))
    for token in _parser().parse(text, env):
        hidden = [one.content for one in token.children or () if one.type == "html_inline"]
        if token.map is None or not (hidden or token.type == "html_block"):
            continue
        first, behind = token.map
        source = "\n".join(one for one in lines[first:behind] if one is not None)
        if all(tag in source for tag in hidden) and token.type == "inline":
            for tag in hidden:
                source = source.replace(tag, _bare(tag))
        else:  # a block, or a tag over several lines of a quotation
            source = _bare(source)
        lines[first:behind] = [source, *[None] * (behind - first - 1)]
    for first, behind in _definitions(env):
        lines[first:behind] = [None] * (behind - first)
    return "\n".join(one for one in lines if one is not None)


def _bare(markup: str) -> str:
    """HTML without what none of it shows."""
    return _TAG.sub(r"<\1>", _BOGUS.sub("", markup))


def _definitions(env: dict[str, object]) -> Iterator[tuple[int, int]]:
    """The lines of each, as the parser notes them."""
    references, again = env.get("references"), env.get("duplicate_refs")
    for one in [
        *(references.values() if isinstance(references, dict) else ()),
        *(again if isinstance(again, list) else ()),
    ]:
        first, behind = one["map"]
        yield first, behind
