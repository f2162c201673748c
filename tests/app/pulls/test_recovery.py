"""What an earlier attempt left on GitHub is told again as it is, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import MissingError
from app.nouns import Branch, Change, Commit, PullRequest, Run, Spending, Tree, TreeEntry
from app.pulls import body as body_
from app.pulls import wording
from app.pulls.branch import Choice
from app.pulls.neutralise import neutralise
from app.pulls.recovery import _words, left_alone, left_by_this_run, was_published

BRANCH = "magicode/issue-3"
CHOICE = Choice(BRANCH)


@dataclass
class Repository:
    """Commits whose trees are maps from a path to (mode, content); a blob's sha is its content."""

    heads: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    trees: dict[str, dict[str, tuple[str, bytes]]] = field(default_factory=dict)
    pulls: list[PullRequest] = field(default_factory=list)
    empty: bool = False

    def commit_to(self, branch: str, message: str, files: dict[str, tuple[str, bytes]], *parents: str) -> str:
        sha = f"c{len(self.commits)}"
        self.commits[sha] = Commit(sha, f"t{sha}", parents, message, "magicode[bot]", True)
        self.trees[sha] = files
        self.heads[branch] = sha
        return sha

    async def branch(self, name: str) -> Branch:
        if self.empty or name not in self.heads:
            raise MissingError(reason="repository_empty" if self.empty else "missing")
        return Branch(name, self.heads[name], False)

    async def commit(self, sha: str) -> Commit:
        return self.commits[sha]

    async def tree(self, sha: str) -> Tree:
        files = self.trees[sha].items()
        return Tree(sha, tuple(TreeEntry(path, mode, data.hex(), len(data)) for path, (mode, data) in files))

    async def blob(self, sha: str) -> bytes:
        return bytes.fromhex(sha)

    async def pull_requests(self, *, head_branch: str, state: str = "all") -> list[PullRequest]:
        assert state == "all"
        return [one for one in self.pulls if one.head_ref == head_branch]


BEFORE = {
    "a.py": ("100644", b"one\ntwo\n"),
    "gone.md": ("100644", b"x\n"),
    "run.sh": ("100644", b"#!/bin/sh\n"),
    "same.bin": ("100644", b"\x00\xff"),
}
AFTER = {
    "a.py": ("100644", b"one\n2\nthree\n"),
    "new.py": ("100755", b"print()"),
    "run.sh": ("100755", b"#!/bin/sh\n"),
    "same.bin": ("100644", b"\x00\xff"),
}


@pytest.fixture
def there(run: Callable[..., Run], change: Callable[..., Change]) -> tuple[Any, Run]:
    """Our commit on our branch."""
    mine, repository = run(input_tokens=10, output_tokens=5, cost_usd=Decimal("0.02")), Repository()
    base = repository.commit_to("main", "First", BEFORE)
    message = body_.commit_message(mine.id, change(), number=3, closes=True)
    repository.commit_to(BRANCH, message, AFTER, base)
    return repository, mine


async def test_the_change_is_that_of_the_commit(
    there: tuple[Any, Run], change: Callable[..., Change]
) -> None:
    repository, mine = there
    found = await left_by_this_run(mine, CHOICE, repository)
    assert found is not None
    assert [(one.path, one.before, one.after, one.mode) for one in found.edits] == [
        ("a.py", b"one\ntwo\n", b"one\n2\nthree\n", "100644"),
        ("gone.md", b"x\n", None, "100644"),
        ("new.py", None, b"print()", "100755"),
        ("run.sh", b"#!/bin/sh\n", b"#!/bin/sh\n", "100755"),
    ]
    assert (found.title, found.summary) == (change().title, change().summary)
    assert (found.added_lines, found.removed_lines) == (3, 2)
    assert found.spending == Spending(10, 0, 5, Decimal("0.02"))


async def test_another_runs_or_a_persons_commit_is_not_taken(there: tuple[Any, Run]) -> None:
    repository, mine = there
    other = replace(mine, id=UUID(int=99))
    assert await left_by_this_run(other, CHOICE, repository) is None
    repository.commit_to(BRANCH, "By hand", AFTER, repository.heads[BRANCH])
    assert await left_by_this_run(mine, CHOICE, repository) is None


async def test_a_trailer_in_the_middle_of_a_message_is_nobodys_signature(there: tuple[Any, Run]) -> None:
    repository, mine = there
    repository.commit_to(BRANCH, f"Quoted\n\n{wording.trailer(mine.id)}\n\nand more", AFTER, "c0")
    assert await left_by_this_run(mine, CHOICE, repository) is None


async def test_a_merge_is_not_taken_for_a_change(there: tuple[Any, Run]) -> None:
    repository, mine = there
    repository.commit_to(BRANCH, wording.trailer(mine.id), AFTER, "c0", "c1")
    assert await left_by_this_run(mine, CHOICE, repository) is None


async def test_an_update_from_the_base_is_nothing_that_was_asked_for(there: tuple[Any, Run]) -> None:
    repository, mine = there
    noted = replace(mine, branch=BRANCH)
    repository.commit_to(BRANCH, wording.trailer(mine.id), AFTER, "c0", "c1")
    assert not await was_published(noted, repository)


async def test_no_branch_is_no_change_and_an_empty_repository_is_told(there: tuple[Any, Run]) -> None:
    repository, mine = there
    assert await left_by_this_run(mine, Choice("magicode/issue-4"), repository) is None
    repository.empty = True
    with pytest.raises(MissingError):
        await left_by_this_run(mine, CHOICE, repository)


async def test_a_run_has_published_when_its_commit_or_its_pull_request_is_there(
    there: tuple[Any, Run],
) -> None:
    repository, mine = there
    assert not await was_published(mine, repository), "it has not chosen a branch yet"
    noted = replace(mine, branch=BRANCH)
    assert await was_published(noted, repository)
    del repository.heads[BRANCH]
    assert not await was_published(noted, repository)
    body = f"{wording.opened_marker(mine.id)}\nFixes #3"
    repository.pulls.append(
        PullRequest(4, "PR", "t", body, "closed", False, True, BRANCH, "c1", 7, "main", "c0", "https://h")
    )
    assert await was_published(noted, repository), "merged, and its branch deleted"
    assert not await was_published(replace(noted, id=UUID(int=99)), repository)


async def test_a_branch_is_left_alone_when_it_is_this_runs_and_no_pull_requests(
    there: tuple[Any, Run],
) -> None:
    repository, mine = there
    assert await left_alone(mine, repository) is None, "it has not chosen a branch yet"
    noted = replace(mine, branch=BRANCH)
    assert await left_alone(noted, repository) == BRANCH
    assert await left_alone(replace(noted, id=UUID(int=99)), repository) is None, "another run's"
    assert await left_alone(replace(noted, is_pull_request=True), repository) is None, "a pull request's"
    assert await left_alone(replace(noted, branch="main"), repository) is None
    closed = PullRequest(
        4, "PR", "t", "by hand", "closed", False, False, BRANCH, "c1", 7, "main", "c0", "https://h"
    )
    repository.pulls.append(closed)
    assert await left_alone(noted, repository) is None, "somebody opened a pull request for it"
    repository.pulls.clear()
    repository.commit_to(BRANCH, "By hand", AFTER, repository.heads[BRANCH])
    assert await left_alone(noted, repository) is None, "somebody has written there"
    del repository.heads[BRANCH]
    assert await left_alone(noted, repository) is None, "it is gone"


WORDS = st.text(alphabet=st.sampled_from("ab \n#@`*-:<>![]()/.Fixes"), max_size=200)


@given(summary=WORDS, closes=st.booleans())
def test_the_words_come_back_as_they_were_written_down(summary: str, closes: bool) -> None:
    base = Change((), "Write it", summary, "", (), 0, 0, Spending())
    message = body_.commit_message(UUID(int=1), base, number=3, closes=closes)
    title, found = _words(message)
    assert title == "Write it"
    # What people read in the pull request is the same, whichever attempt wrote it.
    assert neutralise(found).split() == neutralise(summary).split()
