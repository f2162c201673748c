"""What a text would do on GitHub: a reader of Markdown as GitHub's is, and of what bots and merges look for in raw text.

Written from cmark-gfm's source and GitHub's documentation, apart from the product's own patterns.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER: Final = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

# https://github.com/github/cmark-gfm/blob/master/extensions/autolink.c: what stands before the scheme does not matter.
_ADDRESS: Final = re.compile(r"(?i)(?:https?|ftp)://[^\s<]")
_WWW: Final = re.compile(r"(?:^|[\s*_~(])www\.[^\s<]", re.MULTILINE)
_EMAIL: Final = re.compile(r"(?:(?:mailto|xmpp):)?[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/autolinked-references-and-urls
_MENTION: Final = re.compile(r"(?<![A-Za-z0-9_`/])@[A-Za-z0-9][A-Za-z0-9-]*(?:/[\w.-]+)?")
_REFERENCE: Final = re.compile(
    r"(?:[\w.-]+/[\w.-]+)?(?<![\w&])#\d+|[\w.-]+/[\w.-]+#\d+|\bGH-\d+|[\w.-]+@[0-9a-f]{7,40}\b", re.IGNORECASE
)
_MATHS: Final = re.compile(r"\\(?:href|url|style|class|cssId|require|def|includegraphics)\b")
_LIVE_BLOCKS: Final = frozenset(("mermaid", "math", "geojson", "topojson", "stl", "suggestion"))
_OURS: Final = re.compile(r"<!-- magicode:[a-z]+(?::[\w:.-]+)? -->|</?(?:details|summary|sub)>")
_PAGE: Final = r"http://127\.0\.0\.1:\d+/installations/\d+/runs/[0-9a-f-]{36}"
_TO_OUR_PAGE: Final = re.compile(
    rf" · \[Each step\]\({_PAGE}\)(?=</sub>\s*\Z)|\n\n\[Watch it live\]\({_PAGE}\)(?=\s*\Z)"
)
"""The one link of a status comment, at its end: to the page of its run."""

# What is looked for in raw text, in code or not.
# https://docs.github.com/issues/tracking-your-work-with-issues/linking-a-pull-request-to-an-issue
_CLOSES: Final = re.compile(
    r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)\s*:?\s+(?:[\w.-]+/[\w.-]+)?(?:#|GH-|https?://\S+/(?:issues|pull)/)(\d+)"
)
_COMMANDS: Final = re.compile(
    r"^[ \t]*(?:/[a-z]|!(?:deploy|merge)\b|(?:bors|dependabot|renovate|mergify|jenkins)\b[ :,]|@[a-z])",
    re.MULTILINE | re.IGNORECASE,
)
_SKIPS: Final = re.compile(
    r"(?i)\[(?:skip|no)[ -](?:ci|actions|netlify|vercel|travis|circleci|azp)\]|\[(?:ci|actions|netlify|vercel)[ -]skip\]|\*\*\*NO_CI\*\*\*|^skip-checks:",
    re.MULTILINE,
)
_TRAILER: Final = re.compile(
    r"(?im)^[ \t]*(?:co-authored-by|signed-off-by|reviewed-by|acked-by|release-as|magicode-run|magicode-undoes|skip-checks)[ \t]*:"
)
_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200c-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\U000e0000-\U000e0fff\x00-\x08\x0b-\x1f\x7f-\x9f]"
)


def comes_alive(markdown: str, issue: int, *, pull: int = 0, rendered: bool = True) -> list[str]:
    """What of a text does anything, of what is not ours: our marks, the link to the run's page, and the
    issue and the pull request that it is about.

    `rendered` False: a commit's message, which is no Markdown, but whose mentions, references and addresses GitHub links.
    """
    markdown = _TO_OUR_PAGE.sub("", markdown, count=1)
    found = [*_in_raw(markdown, issue)]
    tokens = _PARSER.parse(markdown) if rendered else []
    found += [one for token in _flat(tokens) for one in _of(token)]
    texts = [token.content for token in _flat(tokens) if token.type == "text"] if rendered else [markdown]
    for text in texts:
        found += [f"address {one.group()}" for one in _ADDRESS.finditer(text)]
        found += [f"www {one.group()}" for one in _WWW.finditer(text)]
        found += [f"e-mail {one.group()}" for one in _EMAIL.finditer(text)]
        found += [f"mention {one.group()}" for one in _MENTION.finditer(text)]
        found += [
            f"reference {one.group()}"
            for one in _REFERENCE.finditer(text)
            if one.group() not in (f"#{issue}", f"#{pull}")
        ]
        found += [f"mathematics {one.group()}" for one in _MATHS.finditer(text)]
    return found


def unseen(text: str) -> list[str]:
    """The characters in it that nobody sees."""
    return [f"unseen U+{ord(one.group()):04X}" for one in _UNSEEN.finditer(text)]


def headings(markdown: str) -> list[str]:
    tokens = _PARSER.parse(markdown)
    return [behind.content for token, behind in itertools.pairwise(tokens) if token.type == "heading_open"]


def _in_raw(text: str, issue: int) -> Iterator[str]:
    yield from (f"closes #{one[1]}" for one in _CLOSES.finditer(text) if int(one[1]) != issue)
    yield from (f"command {one.group()}" for one in _COMMANDS.finditer(text))
    yield from (f"skips checks {one.group()}" for one in _SKIPS.finditer(text))
    trailers = list(_TRAILER.finditer(text))
    last = text.rstrip().rsplit("\n", 1)[-1]
    yield from (
        f"trailer {one.group()}"
        for one in trailers
        if not (last.startswith("MagiCode-Run: ") and one.start() >= text.rstrip().rfind("\n"))
    )
    yield from unseen(text)


def _of(token: Token) -> Iterator[str]:
    if token.type == "link_open":
        yield f"link {token.attrGet('href')}"
    elif token.type == "image":
        yield f"image {token.attrGet('src')}"
    elif token.type in ("html_block", "html_inline"):
        left = _OURS.sub("", token.content)
        if "<" in left:
            yield f"HTML {left.strip()[:80]}"
    elif token.type == "fence" and token.info.strip().split(" ")[0].lower() in _LIVE_BLOCKS:
        yield f"live block {token.info}"


def _flat(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or ())
