"""What git says of a pull request: its commits and files, whether it merges, and what a merge closes."""

from __future__ import annotations

import re

from infra.simulator.git import Changed, Git
from infra.simulator.shapes_people import Standing
from infra.simulator.state import Issue, PullRequest, Repo

# https://docs.github.com/issues/tracking-your-work-with-issues/linking-a-pull-request-to-an-issue
_CLOSES = re.compile(
    r"(?<![\w-])(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+(?:(?P<repo>[\w.-]+/[\w.-]+)?#|https?://\S+?/(?P<page>[\w.-]+/[\w.-]+)/issues/)(?P<number>\d+)\b",
    re.IGNORECASE,
)


def named_to_close(home: str, text: str) -> set[tuple[str, int]]:
    """(full name in lower case, number) of each issue that a text in the repository `home` says it closes."""
    return {
        ((match["repo"] or match["page"] or home).lower(), int(match["number"]))
        for match in _CLOSES.finditer(text)
    }


def closed_by_words(repo: Repo, text: str) -> list[Issue]:
    """The open issues of this repository that a text says it closes."""
    here = repo.full_name.lower()
    numbers = sorted(number for name, number in named_to_close(here, text) if name == here)
    found = [repo.issues[number] for number in numbers if number in repo.issues]
    return [one for one in found if one.pull is None and one.state == "open"]


async def start(git: Git, pull: PullRequest) -> str | None:
    """Where the head left the base; None for histories that have nothing in common."""
    return await git.merge_base(pull.base_sha, pull.head_sha)


async def commits(git: Git, pull: PullRequest) -> list[str]:
    """The shas that the pull request brings, oldest first."""
    return list(reversed(await git.commits(pull.head_sha, f"^{pull.base_sha}")))


async def files(git: Git, pull: PullRequest) -> list[Changed]:
    """What the pull request changes since it left its base (GitHub compares with three dots)."""
    since = await start(git, pull)
    return await git.changes(since or pull.base_sha, pull.head_sha)


async def measure(repo: Repo, pull: PullRequest) -> Standing:
    """Counts alone; whether it can be merged is left open, as GitHub leaves it in webhooks and first answers."""
    changed = await files(repo.git, pull)
    return Standing(
        commits=len(await commits(repo.git, pull)),
        additions=sum(one.added or 0 for one in changed),
        deletions=sum(one.removed or 0 for one in changed),
        changed_files=len(changed),
    )


async def merges_cleanly(repo: Repo, pull: PullRequest) -> bool:
    base = await repo.git.branch(pull.base_ref)
    return base is not None and await repo.git.merge_tree(base, pull.head_sha) is not None


async def keep_head(repo: Repo, source: Repo, pull: PullRequest) -> None:
    """Writes `refs/pull/<n>/head`, fetching the commits from a fork first."""
    ref = f"refs/pull/{pull.number}/head"
    if source.id == repo.id:
        await repo.git.run("update-ref", ref, pull.head_sha)
    else:
        await repo.git.run(
            "fetch", "-q", "--no-tags", "--", str(source.git.directory), f"+{pull.head_sha}:{ref}"
        )
