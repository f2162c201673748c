"""The middle of the line, which needs no GitHub: a request and a commit's tree become a verified change or an answer.

    Request + Workspace → Snippets → Patch → Change

A change is checked twice before anybody else sees it: by the repository's own checks, in the sandbox, and by a second look
with fresh eyes. What they find goes back to its author once; what remains is said and never hidden.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from app.agent import instructions
from app.agent.budget import EndedError, Limits
from app.agent.loop import Author, Material, Mode
from app.agent.remarks import remarks
from app.agent.second_look import look_again
from app.change.check import verify
from app.change.checks import open_checks
from app.change.policy import Policy
from app.change.secretscan import redacted
from app.errors import DefectError, RefusedError, TransientError
from app.nouns import (
    Action,
    Change,
    ChecksReport,
    FileEdit,
    ModelAnswer,
    Patch,
    Request,
    Rule,
    Snippet,
    Tree,
)
from app.ports import Fence, Model, RunChecks, Sandbox, Search, Told, Workspace
from app.pulls.wording import Stage
from app.repofile import PATH, RepoFile
from embeddings.repository import RepositoryIndex

T = TypeVar("T")

SNIPPETS = 8
RANKED = 40
"""How many places the map of the repository is ranked by."""

MAP_CHARACTERS = 16_000

WITHOUT_INDEX = frozenset({"qdrant_away", "qdrant_lost", "qdrant_refused", "folder_in_use"})
"""The store's reasons. A run then goes on with what names and words find, and the action log says so."""


def unsaid(_stage: Stage) -> AbstractAsyncContextManager[None]:
    """Nobody is told where the work is."""
    return nullcontext()


class Waiting(Protocol):
    """Waits for work, as long as it is wanted."""

    async def __call__(self, work: Coroutine[Any, Any, T], /) -> T: ...


async def straight(work: Coroutine[Any, Any, T], /) -> T:
    """To the end, whatever happens."""
    return await work


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything that a change is made with. `left_alone` are kinds of files that the installation keeps from it. `base_tree` is the base branch's, whose instruction files alone count;
    `limits` are what this request may still use. `sandbox` None: there is none here. `prune` forgets what the index holds
    beside this tree: for the default branch alone. `waiting` breaks off what takes long once nobody wants it any longer.
    """

    request: Request
    workspace: Workspace
    repofile: RepoFile
    left_alone: Sequence[str]
    base_tree: Tree
    rules: Sequence[Rule]
    index: RepositoryIndex
    model: Model
    limits: Limits
    sandbox: Sandbox | None
    record: Told
    fence: Fence
    on_call: Callable[[ModelAnswer], Awaitable[None]]
    index_seconds: float | None = None
    prune: bool = False
    at: Callable[[Stage], AbstractAsyncContextManager[None]] = unsaid
    waiting: Waiting = straight
    monotonic: Callable[[], float] = time.monotonic


async def make(desk: Desk, mode: Mode = Mode.CHANGE) -> Change | Patch:
    """A checked change; or the patch that holds an answer or a plan in place of one.

    Raises RefusedError where a guard or a budget says no, and what the model, the fence and the index raise.
    """
    async with desk.at(Stage.SEARCHING):
        search, snippets, drawn = await _look(desk)
    material = Material(desk.request, desk.workspace, snippets, _instructions(desk), drawn)
    async with _checks(desk, mode) as checks:
        author = Author(
            material,
            model=desk.model,
            search=search,
            limits=desk.limits,
            fence=desk.fence,
            on_call=desk.on_call,
            mode=mode,
            checks=checks,
            monotonic=desk.monotonic,
        )
        async with desk.at(Stage.WRITING):
            patch = _spoken(await author.propose())
        if patch.answer is not None or patch.plan is not None:
            return patch
        async with desk.at(Stage.CHECKING):
            first = await _examine(desk, author, await _verify(desk, patch), checks)
        if not first.problems:
            return first.change
        return await _mended(desk, author, first, checks)


@dataclass(frozen=True, slots=True)
class _Examined:
    """A change with what is known about it, and what its author is to be told."""

    change: Change
    problems: tuple[str, ...]


async def _mended(desk: Desk, author: Author, first: _Examined, checks: RunChecks | None) -> Change:
    """The change after its author was told, once, what is wrong with it. Where nothing better comes of it, the first one
    stands, with what was found about it."""
    try:
        async with desk.at(Stage.WRITING):
            patch = _spoken(await author.mend(first.problems))
        if patch.answer is None:
            async with desk.at(Stage.CHECKING):
                change = await _verify(desk, patch)
                if change.edits == first.change.edits:
                    return _as_known(author, change, first.change)
                second = await _examine(desk, author, change, checks)
            if _broken(second.change) <= _broken(first.change):
                return second.change
    except RefusedError:
        # A spent budget, or a second patch that the guards refuse: the first has passed them.
        pass
    except TransientError as error:
        if not _of_the_model(error):
            raise
    return replace(first.change, spending=author.spending)


def _as_known(author: Author, change: Change, first: Change) -> Change:
    """The author left the code as it was, and may have said why: what is known of it holds, and is not paid for twice."""
    return replace(
        change,
        checks=first.checks,
        concerns=first.concerns,
        looked_again=first.looked_again,
        spending=author.spending,
    )


def _broken(change: Change) -> int:
    return 0 if change.checks is None else len(change.checks.broken)


# --- the stations ----------------------------------------------------------------------------------------------------


async def _look(desk: Desk) -> tuple[Search, Sequence[Snippet], str]:
    """Workspace → Snippets, the search that the agent goes on with, and the map of the repository."""
    request = desk.request
    described = "\n".join(
        (request.title, request.body, *request.instructions, *request.untrusted, *request.failures)
    )
    index = desk.index if await _brought_up(desk, described) else desk.index.without_store()

    async def search(question: str, limit: int) -> Sequence[Snippet]:
        nonlocal index
        try:
            found = await index.search(desk.workspace, question, limit)
        except (TransientError, DefectError) as error:
            if error.reason not in WITHOUT_INDEX:
                raise
            await desk.record(Action.INDEX_UPDATED, failed=error.reason)
            index = desk.index.without_store()
            found = await index.search(desk.workspace, question, limit)
        await desk.record(Action.INDEX_SEARCHED, found=len(found))
        return [Snippet(one.path, one.start_line, one.end_line, one.symbol, one.score) for one in found]

    found = await search(described, RANKED)
    ranked = list(dict.fromkeys(one.path for one in found))
    return search, found[:SNIPPETS], await index.outline(desk.workspace, ranked, MAP_CHARACTERS)


async def _brought_up(desk: Desk, described: str) -> bool:
    """The index as the tree is. False where its store cannot be used: no request fails for that alone, and the next one builds
    what was lost anew."""
    update = desk.index.update(
        desk.workspace, prune=desk.prune, within_seconds=desk.index_seconds, question=described
    )
    try:
        report = await desk.waiting(update)
    except (TransientError, DefectError) as error:
        if error.reason not in WITHOUT_INDEX:
            raise
        await desk.record(Action.INDEX_UPDATED, failed=error.reason)
        return False
    await desk.record(
        Action.INDEX_UPDATED,
        files=report.files,
        chunks=report.chunks,
        embedded=report.embedded,
        reused=report.reused,
        removed=report.removed,
        pending=report.pending,
        left_out=sum(report.left_out.values()),
    )
    return True


def _instructions(desk: Desk) -> Sequence[tuple[str, str]]:
    """The base branch's alone: a file that our own branch changed instructs nobody."""
    base = {entry.path: entry.sha for entry in desk.base_tree.entries}
    told = []
    for path, text in instructions.collect(desk.workspace):
        entry = desk.workspace.entry(path)
        if entry is not None and base.get(path) == entry.sha:
            told.append((path, text))
    if desk.repofile.instructions:
        told.append((PATH, desk.repofile.instructions))
    return told


def _spoken(patch: Patch) -> Patch:
    """The patch, its words without what looks like a key: they stand on GitHub's pages, whose readers are more than the code's.
    Keys in its files are the guards' business."""
    plan = patch.plan
    if plan is not None:
        plan = replace(
            plan,
            summary=redacted(plan.summary),
            files=tuple((path, redacted(what)) for path, what in plan.files),
            steps=tuple(map(redacted, plan.steps)),
            risks=tuple(map(redacted, plan.risks)),
        )
    return replace(
        patch,
        title=redacted(patch.title),
        summary=redacted(patch.summary),
        checked_how=redacted(patch.checked_how),
        answer=None if patch.answer is None else redacted(patch.answer),
        plan=plan,
        replies=tuple(replace(one, text=redacted(one.text)) for one in patch.replies),
    )


async def _verify(desk: Desk, patch: Patch) -> Change:
    """Patch → Change: every guard, and a refusal written down."""
    try:
        change = verify(
            patch,
            desk.workspace,
            Policy(repofile=desk.repofile, left_alone=desk.left_alone, rules=desk.rules),
        )
    except RefusedError as error:
        await desk.record(Action.PATCH_REFUSED, reason=error.reason, files=len(patch.edits))
        raise
    await desk.record(
        Action.PATCH_CHECKED, files=len(change.edits), added=change.added_lines, removed=change.removed_lines
    )
    return change


@asynccontextmanager
async def _checks(desk: Desk, mode: Mode) -> AsyncIterator[RunChecks | None]:
    """The repository's own checks, for a change alone; None where nothing can be run here."""
    if mode is not Mode.CHANGE or desk.sandbox is None:
        yield None
        return
    async with open_checks(desk.workspace, repofile=desk.repofile, sandbox=desk.sandbox) as checks:
        nothing = await desk.sandbox.why_not() or desk.repofile.checks == ()
        yield None if nothing else _written_down(desk, checks)


def _written_down(desk: Desk, checks: RunChecks) -> RunChecks:
    """The same checks, each of whose runs is in the action log; an answer that was known already is no run."""
    last: ChecksReport | None = None

    async def run(edits: Sequence[FileEdit]) -> ChecksReport:
        nonlocal last
        report = await checks(edits)
        if report is not last:
            await _write_down(desk, report)
        last = report
        return report

    return run


async def _write_down(desk: Desk, report: ChecksReport) -> None:
    await desk.record(
        Action.CHECKS_RUN,
        commands=len(report.runs),
        passed=sum(one.passed for one in report.runs),
        failed_before=sum(bool(one.failed_before) for one in report.runs),
        seconds=round(sum(one.seconds for one in report.runs), 1),
    )


async def _report(desk: Desk, checks: RunChecks | None, change: Change) -> ChecksReport:
    if checks is not None:
        return await desk.waiting(checks(change.edits))
    if desk.repofile.checks == ():
        report = ChecksReport(not_run=f"`{PATH}` switches them off")
    else:
        why = "this service has no sandbox" if desk.sandbox is None else await desk.sandbox.why_not()
        report = ChecksReport(not_run=why)
    await _write_down(desk, report)
    return report


async def _examine(desk: Desk, author: Author, change: Change, checks: RunChecks | None) -> _Examined:
    """What the repository's own checks and a second look say about the change."""
    report = await _report(desk, checks, change)
    looked = await _second_look(desk, author, change, report)
    failing = [f"`{one.command}` does not pass with this change:\n{one.output}" for one in report.broken]
    checked = replace(
        change,
        checks=report,
        concerns=tuple(map(redacted, (*looked.problems, *looked.missing))),
        looked_again=looked.given,
        spending=author.spending,
    )
    return _Examined(checked, (*failing, *looked.problems))


@dataclass(frozen=True, slots=True)
class _Looked:
    """`problems` are for the author; `missing` says, for people alone, why there was no verdict."""

    problems: tuple[str, ...]
    missing: tuple[str, ...] = ()
    given: bool = False


async def _second_look(desk: Desk, author: Author, change: Change, report: ChecksReport) -> _Looked:
    """What it found, a sentence each. Where there was none, or no verdict, that is said instead of nothing."""
    seen = remarks(change.edits)
    if not desk.repofile.second_look:
        return _Looked(seen)
    try:
        verdict = await look_again(
            desk.request,
            change.edits,
            report,
            model=desk.model,
            limits=author.left(),
            fence=desk.fence,
            on_call=author.account,
            monotonic=desk.monotonic,
        )
    except EndedError:
        return _Looked(seen, ("There was no second look: the limit of this request was reached before it.",))
    except (RefusedError, TransientError) as error:
        if not _of_the_model(error):
            raise
        return _Looked(seen, ("There was no second look: the model could not be asked for it.",))
    await desk.record(Action.LOOKED_AGAIN, verdict=verdict.given, problems=len(verdict.problems))
    if not verdict.given:
        return _Looked(seen, verdict.problems[len(seen) :])
    if not verdict.does_what_was_asked and not verdict.problems:
        return _Looked(("It does not do all that was asked.",), given=True)
    return _Looked(verdict.problems, given=True)


def _of_the_model(error: RefusedError | TransientError) -> bool:
    """The provider's trouble, which is none of a change that is there already."""
    return error.reason.startswith("model_")
