"""The repository's own pull-request template: found in the base branch's tree and filled, since GitHub's API does not apply it.

https://docs.github.com/en/communities/using-templates-to-encourage-useful-issues-and-pull-requests/creating-a-pull-request-template-for-your-repository
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from app.nouns import Tree
from app.ports import RepositoryReader
from app.pulls.neutralise import neutralise, visible

LARGEST: Final = 65_536
"""Bytes; a longer file is no template that would fit a body."""

_READABLE: Final = ("100644", "100755")
_FOLDERS: Final = (".github/", "", "docs/")
_NAMES: Final = re.compile(r"pull_request_template(?:\.(?:md|txt|markdown))?", re.IGNORECASE)
_MANY: Final = re.compile(r"pull_request_template/[^/]+\.(?:md|txt|markdown)", re.IGNORECASE)

_HEADING: Final = re.compile(r"^ {0,3}#{1,6}\s++(.*?)\s*#*$")
_UNFILLED: Final = re.compile(
    r"^\W*+(?:fix(?:e[sd])?|close[sd]?|resolve[sd]?|issue)\W*+(?:issue[ _-]?(?:number|id)?\W*+)?$",
    re.IGNORECASE,
)
_TOPICS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    ("checked", re.compile(r"\b(?:test|tested|testing|verif\w*|validat\w*|qa|checked)\b", re.IGNORECASE)),
    ("issue", re.compile(r"\b(?:issues?|tickets?|related|fixes|closes)\b", re.IGNORECASE)),
    (
        "summary",
        re.compile(
            r"\b(?:what|why|summary|description|changes?|overview|motivation|purpose)\b", re.IGNORECASE
        ),
    ),
)


_TRIED = 5  # a folder can hold thousands of empty ones, and each is a request


async def find(tree: Tree, reader: RepositoryReader) -> str | None:
    """The template's text: a single file first, then the first of the folder's; None when there is none, or the first few are empty."""
    files = [entry for entry in tree.entries if entry.mode in _READABLE and (entry.size or 0) <= LARGEST]
    for pattern in (_NAMES, _MANY):
        for folder in _FOLDERS:
            found = [
                entry
                for entry in files
                if entry.path.lower().startswith(folder) and pattern.fullmatch(entry.path[len(folder) :])
            ]
            for entry in sorted(found, key=lambda one: one.path)[:_TRIED]:
                content = await reader.blob(entry.sha)
                if len(content) <= LARGEST and content.strip():
                    return content.decode("utf-8", "replace")
    return None


def fill(template: str, sections: Mapping[str, str]) -> tuple[str, frozenset[str]]:
    """The template with each section below the first heading that asks for it, and which sections found a place.

    Its comments are instructions to the writer and are left out, as are lines that ask for an issue's number; its
    check boxes stay unchecked: they are for people to answer. `sections` (`summary`, `checked`, `issue`) are ready Markdown.
    """
    placed: set[str] = set()
    lines: list[str] = []
    for line in neutralise(visible(template)).split("\n"):
        if _UNFILLED.match(line) and not _HEADING.match(line):
            continue
        lines.append(line)
        heading = _HEADING.match(line)
        topic = _topic(heading.group(1)) if heading else None
        if topic is not None and topic in sections and topic not in placed:
            placed.add(topic)
            lines += ["", sections[topic], ""]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return text, frozenset(placed)


def _topic(heading: str) -> str | None:
    return next((topic for topic, pattern in _TOPICS if pattern.search(heading)), None)
