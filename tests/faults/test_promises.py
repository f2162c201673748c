"""The look at the promises would notice each of them broken: it is held to worlds in which one of them is."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import pytest

from infra.simulator.state import Reaction
from tests.claims import case, claim
from tests.conftest import Database
from tests.faults.promises import BrokenPromiseError, kept, quiet
from tests.line.conftest import Stages
from tests.line.conversations import ask, notes, repo_of
from tests.line.stage import Stage

GROUP = "The judge"


@pytest.fixture
async def played(raise_stage: Stages, sample: Path) -> Stage:
    """One request that ended well."""
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with stage.at_work():
        await ask(stage)
        await stage.ended()
        await quiet(stage)
    await stage.house.github.own.close()  # type: ignore[attr-defined]
    return stage


@claim(GROUP, "A request that went well is looked at", "Every promise is found kept")
async def test_what_went_well_is_found_well(played: Stage) -> None:
    looked = await kept(played, runs=1)
    assert (len(looked.runs), looked.pull_requests) == (1, 1)
    assert looked.entries > 20


async def second_pull_request(stage: Stage, _: Database) -> None:
    repo = repo_of(stage)
    (pull,) = (issue for issue in repo.issues.values() if issue.pull is not None)
    again = repo.issues[99] = copy.deepcopy(pull)
    again.number = 99


async def second_status_comment(stage: Stage, _: Database) -> None:
    (issue,) = (one for one in repo_of(stage).issues.values() if one.pull is None)
    (comment,) = (one for one in issue.comments.values() if one.by_app)
    issue.comments[99] = comment


async def left_working(stage: Stage, _: Database) -> None:
    (issue,) = (one for one in repo_of(stage).issues.values() if one.pull is None)
    (comment,) = (one for one in issue.comments.values() if one.by_app)
    comment.body = comment.body.split("\n", 1)[0] + "\n**Working on it.**"


async def told_nobody(stage: Stage, _: Database) -> None:
    (issue,) = (one for one in repo_of(stage).issues.values() if one.pull is None)
    issue.comments = {number: one for number, one in issue.comments.items() if not one.by_app}


async def orphan_branch(stage: Stage, _: Database) -> None:
    git = repo_of(stage).git
    (sha,) = [sha for name, sha, _ in await git.refs("refs/heads/") if name == "refs/heads/magicode/issue-1"]
    await git.update_ref("refs/heads/magicode/issue-7", sha, "0" * 40)


async def commit_again(stage: Stage, _: Database) -> None:
    git, ref = repo_of(stage).git, "refs/heads/magicode/issue-1"
    head = await git.ref(ref)
    assert head is not None
    commit = await git.commit(head)
    assert commit is not None
    again = await git.run(
        "commit-tree",
        commit.tree,
        "-p",
        head,
        stdin=commit.message.encode(),
        extra={
            "GIT_AUTHOR_NAME": "x",
            "GIT_AUTHOR_EMAIL": "x@example.com",
            "GIT_COMMITTER_NAME": "x",
            "GIT_COMMITTER_EMAIL": "x@example.com",
        },
    )
    await git.update_ref(ref, again.decode().strip(), head)


async def reaction_again(stage: Stage, _: Database) -> None:
    (issue,) = (one for one in repo_of(stage).issues.values() if one.pull is None)
    asked = next(one for one in issue.comments.values() if not one.by_app)
    (eyes,) = asked.reactions
    asked.reactions.append(Reaction(99, eyes.user_id, eyes.content, eyes.created_at))


async def run_not_ended(_: Stage, database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("UPDATE magicode.runs SET state = 'running', ended_at = NULL")


async def entry_gone(_: Stage, database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE magicode.entries DISABLE TRIGGER USER")
        connection.execute("DELETE FROM magicode.entries WHERE action = 'run.ended'")


async def unlogged_write(stage: Stage, _: Database) -> None:
    world = stage.github.world
    made = next(one for one in world.requests if one.method == "POST" and one.path.endswith("/pulls"))
    world.requests.append(made)


BREAKS = {
    "Another pull request for the same issue": (second_pull_request, "pull requests are open for issue"),
    "A second status comment": (second_status_comment, "status comments of"),
    "A status comment that says 'working' for ever": (left_working, "never came to its end"),
    "A request that ended and told nobody": (told_nobody, "told nobody"),
    "A branch without a pull request": (orphan_branch, "belongs to no pull request"),
    "The same commit twice": (commit_again, "commits of run"),
    "The same reaction twice": (reaction_again, "reactions"),
    "A run that never ended": (run_not_ended, "has not ended"),
    "An entry taken out of the log": (entry_gone, "ended 0 times in the log"),
    "A write to GitHub that stands in no log": (unlogged_write, "stand in no log"),
}


@pytest.mark.parametrize(
    ("breaks", "told"),
    [case(GROUP, what, "It is noticed and named", *how) for what, how in BREAKS.items()],
)
async def test_each_broken_promise_is_noticed(
    played: Stage, database: Database, breaks: Callable[[Stage, Database], Awaitable[None]], told: str
) -> None:
    await breaks(played, database)
    with pytest.raises(BrokenPromiseError, match=told):
        await kept(played, runs=1)
