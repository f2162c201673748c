"""Whether the promises hold, looked at from outside: what stands on GitHub, held against the runs and the action log.

It reads the simulator's own state, which no fault touches, and asks the service nothing but its tables.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from app.actionlog.anchors import Anchor, NoHeadsError, quoted_heads
from app.actionlog.export import opened
from app.actionlog.verify import ExportedEntry, verify
from app.actionlog.verify import told as told_of
from app.errors import ErasedError
from app.jobs.accept import NOBODY
from app.nouns import MEND, Run
from infra.simulator.state import Comment, Installation, Issue, Repo
from tests.line import accounts
from tests.line.conversations import asked_of_the_model
from tests.line.stage import Stage

OURS = "magicode/"
MARK = re.compile(r"<!-- magicode:run:(?P<key>[^ ]+) -->")
CLOSES = re.compile(r"\b(?:Fixes|Addresses) #(\d+)")
HEAD = "Action log head:"


class BrokenPromiseError(AssertionError):
    """Says each promise that does not hold, a line each."""


@dataclass(slots=True)
class Looked:
    """What was found broken, and what was looked at."""

    broken: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    pull_requests: int = 0
    entries: int = 0

    def must(self, holds: object, otherwise: str) -> None:
        if not holds:
            self.broken.append(otherwise)


async def kept(
    stage: Stage,
    *,
    runs: int | None = None,
    installations: Sequence[int] | None = None,
    complete: bool = True,
) -> Looked:
    """Every promise that can be looked at once all work has ended; raises BrokenPromiseError that says each one that is not kept.

    `runs` is how many requests there were, where the test knows. `installations` are looked at (all that GitHub lists).
    `complete` asks that no request to GitHub or the model is missing in the log: true of a service whose processes have
    ended, or that has been quiet for a while, and that serves one installation.
    """
    await stage.settled()
    looked = Looked()
    known = list(stage.github.world.installations.values())
    for installation in known:
        if installations is None or installation.id in installations:
            await _of(stage, installation, looked)
    if runs is not None:
        looked.must(len(looked.runs) == runs, f"{len(looked.runs)} runs were accepted, not {runs}")
    if complete:
        await _complete(stage, [one.id for one in known], looked)
    if looked.broken:
        raise BrokenPromiseError("\n".join(looked.broken))
    return looked


async def quiet(stage: Stage, *, seconds: float = 1.0, within: float = 120.0) -> None:
    """Once GitHub and the model were asked nothing for so long."""
    seen, deadline = (-1, -1), asyncio.get_running_loop().time() + within
    while seen != (now := (len(stage.github.world.requests), len(await asked_of_the_model(stage)))):
        assert asyncio.get_running_loop().time() < deadline, "the service is never quiet"
        seen = now
        await asyncio.sleep(seconds)
        await stage.settled()


# --- one installation ------------------------------------------------------------------------------------------------


async def _of(stage: Stage, installation: Installation, looked: Looked) -> None:
    world, store = stage.github.world, stage.house.store
    tenant = await store.tenant_of(installation.id)
    try:
        async with store.transaction(tenant) as transaction:
            runs = list(await transaction.runs(limit=100_000))
        entries = [one async for one in opened(store, stage.house.keys, tenant)]
    except ErasedError:
        return
    looked.runs += runs
    looked.entries += len(entries)
    _each_run_ended_once(runs, entries, looked)
    heads: list[Anchor] = []
    for repo in world.repositories.values():
        if repo.id in installation.repository_ids:
            about = [run for run in runs if run.repository_id == repo.id]
            await _one_pull_request_an_issue(repo, about, looked)
            _one_final_word_a_run(stage, repo, about, looked)
            heads += _quoted(stage, repo)
            await _each_commit_once(repo, looked)
            _each_reaction_once(stage, repo, looked)
    report = verify(entries, heads)
    looked.must(
        report.ok,
        "the log does not hold, or not what was quoted of it: " + "; ".join(told_of(report)),
    )


def _each_run_ended_once(runs: Sequence[Run], entries: Sequence[ExportedEntry], looked: Looked) -> None:
    ended = Counter(entry.run_id for entry in entries if entry.action == "run.ended")
    again = Counter(
        entry.run_id
        for entry in entries
        if entry.action == "webhook.accepted" and (entry.details or {}).get("outcome") == "again"
    )
    for run in runs:
        looked.must(run.state.ended, f"{_name(run)} has not ended: {run.state.value}")
        if run.state.ended:
            most = 1 + again[str(run.id)]
            looked.must(
                1 <= ended[str(run.id)] <= most, f"{_name(run)} ended {ended[str(run.id)]} times in the log"
            )


async def _one_pull_request_an_issue(repo: Repo, runs: Sequence[Run], looked: Looked) -> None:
    pulls = [issue for issue in repo.issues.values() if issue.pull is not None and issue.by_app]
    looked.pull_requests += len(pulls)
    still_open = Counter(subject for pull in pulls if pull.state == "open" for subject in _solves(pull, runs))
    for subject, count in still_open.items():
        looked.must(
            count == 1, f"{repo.full_name}: {count} pull requests are open for issue {subject} at once"
        )
    heads = Counter(pull.pull.head_ref for pull in pulls if pull.pull is not None)
    for branch, count in heads.items():
        looked.must(count == 1, f"{repo.full_name}: {count} pull requests have the head {branch}")
    for name, _, _ in await repo.git.refs(f"refs/heads/{OURS}"):
        branch = name.removeprefix("refs/heads/")
        looked.must(branch in heads, f"{repo.full_name}: the branch {branch} belongs to no pull request")
    openers = Counter(run.pull_request for run in runs if run.state.value == "opened")
    for number, count in openers.items():
        looked.must(count == 1, f"{repo.full_name}: {count} runs say that they opened pull request {number}")


def _solves(pull: Issue, runs: Sequence[Run]) -> set[int]:
    """The issues that a pull request of ours is for: by its own words, and by the run that opened it."""
    told = {int(found) for found in CLOSES.findall(pull.body or "")}
    by_run = {run.about for run in runs if run.state.value == "opened" and run.pull_request == pull.number}
    return told | by_run


def _one_final_word_a_run(stage: Stage, repo: Repo, runs: Sequence[Run], looked: Looked) -> None:
    """A run has one comment with its mark, and that tells an end; runs that mend one pull request share theirs."""
    said: dict[str, list[str]] = {}
    for _, comment in _our_comments(stage, repo):
        if found := MARK.match(comment.body):
            said.setdefault(found["key"], []).append(comment.body)
    for key, bodies in said.items():
        looked.must(len(bodies) == 1, f"{repo.full_name}: {len(bodies)} status comments of {key}")
        looked.must(
            HEAD in bodies[-1],
            f"{repo.full_name}: a status comment never came to its end: {bodies[-1][:200]}",
        )
    for run in runs:
        issue = repo.issues.get(run.number)
        can_be_told = issue is not None and not issue.locked and not repo.archived and repo.has_issues
        if run.state.ended and run.verb != MEND and can_be_told:
            looked.must(
                str(run.id) in said, f"{_name(run)} ended as {run.state.value} ({run.reason}) and told nobody"
            )


def _quoted(stage: Stage, repo: Repo) -> Iterator[Anchor]:
    """The heads that stand in what we wrote: out of our hands."""
    texts = [comment.body for _, comment in _our_comments(stage, repo)]
    texts += [issue.body or "" for issue in repo.issues.values() if issue.by_app]
    for text in texts:
        with suppress(NoHeadsError):
            yield from quoted_heads(text)


async def _each_commit_once(repo: Repo, looked: Looked) -> None:
    """No run's commit stands twice on a branch of ours: each carries its run's id as a trailer, and its own parent."""
    for name, sha, _ in await repo.git.refs(f"refs/heads/{OURS}"):
        messages = await _messages(repo, sha)
        runs = Counter(
            found
            for message in messages
            for found in re.findall(r"^MagiCode-Run: (\S+)", message, re.MULTILINE)
        )
        for run, count in runs.items():
            looked.must(count == 1, f"{repo.full_name}: {name} has {count} commits of run {run}")


async def _messages(repo: Repo, sha: str) -> list[str]:
    out = await repo.git.run("log", "--no-merges", "--format=%B%x00", f"{repo.default_branch}..{sha}")
    return [one for one in out.decode("utf-8", "replace").split("\0") if one.strip()]


def _each_reaction_once(stage: Stage, repo: Repo, looked: Looked) -> None:
    bot = stage.github.world.bot.id
    for issue in repo.issues.values():
        for reacted in (issue, *issue.comments.values()):
            seen = Counter(one.content for one in reacted.reactions if one.user_id == bot)
            for content, count in seen.items():
                looked.must(count == 1, f"{repo.full_name}: {count} reactions {content} of ours on one thing")


def _our_comments(stage: Stage, repo: Repo) -> Iterator[tuple[Issue, Comment]]:
    bot = stage.github.world.bot.id
    for issue in repo.issues.values():
        for comment in issue.comments.values():
            if comment.user_id == bot:
                yield issue, comment


def _name(run: Run) -> str:
    return f"run {run.id} ({run.verb} on {run.number}, attempt {run.attempt})"


# --- the log is complete ---------------------------------------------------------------------------------------------


def _asked(entries: Sequence[ExportedEntry]) -> int:
    """Requests to the model that the entries tell of. Programs before `model.asked` told of answers and failures alone."""
    before: Counter[str | None] = Counter()
    behind: Counter[str | None] = Counter()
    for entry in entries:
        if entry.action == "model.asked":
            before[entry.run_id] += 1
        elif entry.action == "model.called":
            behind[entry.run_id] += 1
        elif entry.action == "model.failed":
            behind[entry.run_id] += int(str((entry.details or {}).get("attempts", 0)))
    return (before | behind).total()


async def _complete(stage: Stage, installations: Sequence[int], looked: Looked) -> None:
    """Each request that changed something and each one to the model stands in the log; of reads a process that was killed may have
    counted some that it could not write down, so `test_log_complete` holds those for processes that end. What was asked is looked at
    first: an entry is there before its request, and somebody may be at work again."""
    recorded, asked = accounts.recorded(stage), len(await asked_of_the_model(stage))
    told: Counter[tuple[int, str]] = Counter()
    tried = 0
    for tenant in (NOBODY, *installations):
        try:
            entries = [one async for one in opened(stage.house.store, stage.house.keys, tenant)]
        except ErasedError:
            continue
        told += accounts.written(entries, tenant)
        tried += _asked(entries)
    looked.must(asked <= tried, f"{asked} requests to the model, and {tried} stand in the log")
    lost = {
        what: count
        for what, count in (recorded - told).items()
        if not what[1].startswith(("GET ", "HEAD "))
        and "graphql" not in what[1]
        and what[0] in (NOBODY, *installations)
    }
    looked.must(not lost, f"requests that change something and stand in no log: {lost}")
