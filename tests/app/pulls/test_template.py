"""The repository's own template: found where GitHub would look, filled where it asks, inert."""

from __future__ import annotations

from typing import Any

import pytest

from app.nouns import Tree, TreeEntry
from app.pulls.template import fill, find


class Files:
    """A tree of a few files, and who reads its blobs."""

    def __init__(self, **files: bytes) -> None:
        self.files = files

    @property
    def tree(self) -> Tree:
        return Tree("0" * 40, tuple(TreeEntry(p, "100644", p, len(b)) for p, b in sorted(self.files.items())))

    async def blob(self, sha: str) -> bytes:
        return self.files[sha]


async def found(files: dict[str, bytes]) -> str | None:
    repository: Any = Files(**files)
    return await find(repository.tree, repository)


@pytest.mark.parametrize(
    "path",
    [
        ".github/pull_request_template.md", ".github/PULL_REQUEST_TEMPLATE.md", "PULL_REQUEST_TEMPLATE",
        "pull_request_template.txt", "docs/pull_request_template.md", "Docs/Pull_Request_Template.md",
        ".github/PULL_REQUEST_TEMPLATE/feature.md", "PULL_REQUEST_TEMPLATE/a.md",
    ],
)  # fmt: skip
async def test_it_is_found_where_github_looks(path: str) -> None:
    assert await found({path: b"## What"}) == "## What"


@pytest.mark.parametrize(
    "path",
    ["src/pull_request_template.md", ".github/pull_request_template.py", "pull_request_template.md.bak",
     ".github/PULL_REQUEST_TEMPLATE/deep/er.md", "docs/other.md"],
)  # fmt: skip
async def test_it_is_not_found_elsewhere(path: str) -> None:
    assert await found({path: b"## What"}) is None


async def test_a_single_file_comes_before_the_folder_and_github_before_the_root() -> None:
    files = {
        ".github/PULL_REQUEST_TEMPLATE/a.md": b"folder",
        "pull_request_template.md": b"root",
        ".github/pull_request_template.md": b"github",
    }
    assert await found(files) == "github"
    del files[".github/pull_request_template.md"]
    assert await found(files) == "root"


async def test_an_empty_or_huge_template_is_none() -> None:
    assert await found({"pull_request_template.md": b" \n"}) is None
    assert await found({"pull_request_template.md": b"x" * 70_000}) is None


def test_sections_stand_below_the_headings_that_ask_for_them() -> None:
    text, placed = fill(
        "<!-- Say why. -->\n## Description\n\n## How has this been tested?\n\n## Checklist\n- [ ] I read it\n",
        {"summary": "Because.", "checked": "Not run."},
    )
    assert placed == {"summary", "checked"}
    assert text == (
        "## Description\n\nBecause.\n\n## How has this been tested?\n\nNot run.\n\n## Checklist\n- [ ] I read it"
    )


def test_a_template_that_asks_for_nothing_places_nothing() -> None:
    text, placed = fill("Thank you!", {"summary": "Because."})
    assert (text, placed) == ("Thank you!", frozenset())


@pytest.mark.parametrize("line", ["Fixes #", "Fixes # (issue)", "Closes #<issue number>", "- Issue: #"])
def test_an_unfilled_request_for_a_number_is_left_out(line: str) -> None:
    assert fill(f"Hello\n{line}\nBye", {})[0] == "Hello\nBye"


def test_a_templates_mention_reaches_nobody() -> None:
    assert "@\u200bteam" in fill("cc @team", {})[0]
