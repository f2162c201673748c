"""THE LINE: one run, from a durable row to a visible end. The stations meet here and nowhere else.

    Run → Request → Workspace → Snippets → Patch → Change → Publication → Outcome

Refuses to know how any station works.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from uuid import UUID

from app.agent import instructions
from app.agent.budget import Limits
from app.agent.loop import propose
from app.change.check import verify, verify_publication
from app.change.policy import Policy
from app.errors import (
    DefectError,
    GoneError,
    MagicodeError,
    MissingError,
    RefusedError,
    StoppedError,
    SupersededError,
    TransientError,
    UserError,
)
from app.house import House
from app.jobs import states
from app.jobs.tasks import Task
from app.nouns import (
    Action,
    Change,
    ModelAnswer,
    ModelRequest,
    Outcome,
    Patch,
    Publication,
    Run,
    RunState,
    Snippet,
    Spending,
)
from app.ports import Model, Search, Transaction, Workspace
from app.pulls import template, wording
from app.pulls.branch import issue_of
from app.pulls.publish import PERMISSIONS, PublishSettings, publish
from app.pulls.recovery import left_by_this_run, was_published
from app.pulls.wording import Stage
from app.reading import Asked, read_request, require_permission
from app.repofile import PATH, RepoFile
from app.scene import Scene, open_scene
from app.workspace.open import open_workspace
from app.workspace.tree import SnapshotWorkspace
from webhooks.command import Verb

SNIPPETS = 8
AS_DRAFT = "opened_as_draft"
"""The reason of a run whose pull request waits for its checks: `settle` marks it as ready, once."""


# --- the line --------------------------------------------------------------------------------------------------------


async def fix(scene: Scene) -> Outcome:
    """The whole line: a request becomes a pull request, or an answer that says why not."""
    async with scene.at(Stage.READING):
        asked = await read_request(scene)
        # What an earlier attempt of this very run put on GitHub is adopted, and no model is asked again.
        change = await left_by_this_run(scene.run, asked.choice, scene.reader)
    if asked.choice.settled and asked.choice.pull_request is not None:
        return Outcome(RunState.OPENED, "opened", "", pull_request=asked.choice.pull_request.number)
    if change is None:
        async with AsyncExitStack() as rooms:
            async with scene.at(Stage.FETCHING):
                workspace = await rooms.enter_async_context(_workspace(scene, asked))
            async with scene.at(Stage.SEARCHING):
                search, snippets = await _look(scene, asked, workspace)
            async with scene.at(Stage.WRITING):
                patch = await _propose(scene, asked, workspace, search, snippets)
            if patch.answer is not None:
                return Outcome(RunState.ANSWERED, "answered", patch.answer)
            async with scene.at(Stage.CHECKING):
                change = await _verify(scene, asked, workspace, patch)
    async with scene.at(Stage.PUBLISHING):
        return _published(await _publish(scene, asked, change), asked.repofile)


async def play(house: House, run: Run) -> None:
    """Play a run that was begun; it has ended when this returns.

    Raises SupersededError when another worker took the run over, TransientError for the queue to try again, and
    DefectError.
    """
    async with open_scene(house, run) as scene:
        await scene.record(Action.RUN_STARTED, verb=run.verb, number=run.number, attempt=run.attempt)
        try:
            outcome = await (_answer if run.verb in _ANSWERED else fix)(scene)
        except (SupersededError, TransientError, DefectError):
            raise
        except StoppedError as error:
            outcome = await _stopped(scene, error)
        except MagicodeError as error:
            outcome = wording.outcome(error)
        await end(scene, outcome)


async def _stopped(scene: Scene, error: StoppedError) -> Outcome:
    """A cancelled run's end, which names what was published before: nothing is left behind without a word."""
    outcome, run = wording.outcome(error), await scene.current()
    if run.branch is None or not await was_published(run, scene.reader):
        return outcome
    mark = wording.opened_marker(run.id)
    pulls = await scene.reader.pull_requests(head_branch=run.branch)
    number = next((one.number for one in pulls if mark in one.body), None)
    return replace(outcome, message=wording.stopped_late(run.branch, number), pull_request=number)


async def end(scene: Scene, outcome: Outcome) -> None:
    """The visible end: first the status comment, which may be said twice, then the row and the log, which end once."""
    run = await _say(scene, outcome)
    await _finish(scene.house, scene.run, outcome, cost_usd=str(run.cost_usd))


async def _say(scene: Scene, outcome: Outcome) -> Run:
    """What the status comment ends with; the run's row as it is now."""
    run = await scene.current()
    head = await scene.house.ledger.head(run.installation_id)
    spending = Spending(run.input_tokens, run.cached_tokens, run.output_tokens, run.cost_usd)
    await scene.last_words(wording.ended(run.id, outcome, spending, str(head)))
    return run


async def _finish(house: House, run: Run, outcome: Outcome, **facts: str | bool) -> None:
    """The row, its entry in the log and, for a draft that waits, one more look at its checks: all of them or none."""

    async def also(transaction: Transaction) -> None:
        if outcome.reason == AS_DRAFT:
            # Checks that ended between the publisher's look and this commit were told to nobody.
            await transaction.defer(Task.SETTLE, installation_id=run.installation_id, run_id=run.id)
        told = {
            "state": outcome.state.value,
            "reason": outcome.reason,
            "pull_request": outcome.pull_request,
            **facts,
        }
        await house.ledger.append(
            transaction, run.installation_id, Action.RUN_ENDED, "magicode", run.id, told
        )

    await states.finish(house.store, run, outcome, house.clock, also=also)


async def turn_away(house: House, run: Run) -> None:
    """A second request while one is at work gets an answer with a link, and nothing else."""
    async with open_scene(house, run) as scene:
        try:
            await require_permission(scene)
            outcome = Outcome(RunState.REFUSED, "busy", wording.busy(await _link_to(scene, run.blocked_by)))
        except RefusedError as error:
            outcome = wording.outcome(error)
        await end(scene, outcome)


async def settle(house: House, run: Run) -> None:
    """Mark a pull request that waited for its checks as ready, once none is pending. A person's draft stays a draft."""
    opener = await _opener(house, run)
    if opener is None or opener.pull_request is None:
        return
    async with open_scene(house, opener, fence=_after_the_end) as scene:
        pull = await scene.reader.pull_request(opener.pull_request)
        checks = await scene.reader.checks(pull.head_sha)
        if pull.state != "open" or not pull.draft or checks.pending or not checks.total:
            return
        async with scene.writer("ready", PERMISSIONS) as writer:
            await writer.mark_ready(pull)
        await scene.record(Action.PULL_REQUEST_UPDATED, number=pull.number, ready=True)
        await _say(scene, _ready(pull.number, pull.head_sha, wording.checks_ended(checks)))
    async with house.store.transaction(run.installation_id) as transaction:
        await transaction.update_run(opener.id, reason=RunState.OPENED.value)


async def _after_the_end() -> None:
    """The run has ended, and one look more at what it opened disturbs nobody."""


async def _opener(house: House, run: Run) -> Run | None:
    """The run that opened the pull request of this one's branch as a draft: others may have revised it since."""
    number = issue_of(run.branch or "")
    if number is None:
        return None
    async with house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(repository_id=run.repository_id, number=number)
    return next((one for one in runs if one.branch == run.branch and one.reason == AS_DRAFT), None)


async def _link_to(scene: Scene, run_id: UUID | None) -> str | None:
    """The status comment of the run that is at work, by GitHub's own address; before there is one, what asked for it."""
    if run_id is None:
        return None
    async with scene.house.store.transaction(scene.run.installation_id) as transaction:
        at_work = await transaction.run(run_id)
    if at_work is None:
        return None
    asked_by = at_work.comment_id if at_work.occasion.startswith("comment:") else None
    comment_id = at_work.status_comment_id or asked_by
    if comment_id is None:
        return None
    try:
        return (await scene.reader.issue_comment(comment_id)).html_url
    except (MissingError, GoneError):
        return None


async def give_up(house: House, run: Run, error: BaseException) -> None:
    """The end of a run that was tried often enough, or met a defect: said on GitHub where that is possible, else logged."""
    outcome = wording.outcome(error if isinstance(error, MagicodeError) else DefectError(reason="defect"))
    try:
        async with open_scene(house, run) as scene:
            await end(scene, outcome)
    except (TransientError, UserError, RefusedError):
        await _finish(house, run, outcome, said=False)


# --- the stations, as a run uses them --------------------------------------------------------------------------------


@asynccontextmanager
async def _workspace(scene: Scene, asked: Asked) -> AsyncIterator[SnapshotWorkspace]:
    async with open_workspace(
        scene.reader, asked.request.base_sha, root=scene.house.workspace_root, run_id=str(scene.run.id)
    ) as workspace:
        await scene.record(
            Action.CODE_FETCHED,
            sha=asked.request.base_sha,
            files=workspace.files,
            bytes=workspace.bytes,
            left_out=len(workspace.left_out),
        )
        yield workspace


async def _look(scene: Scene, asked: Asked, workspace: Workspace) -> tuple[Search, Sequence[Snippet]]:
    """Workspace → Snippets, and the search that the agent goes on with."""
    request = asked.request
    index = scene.house.index(scene.key, scene.run.installation_id, scene.run.repository_id)
    described = "\n".join((request.title, request.body, *request.instructions, *request.untrusted))
    report = await index.update(
        workspace,
        prune=not request.is_revision,
        within_seconds=scene.house.index_seconds,
        question=described,
    )
    await scene.record(
        Action.INDEX_UPDATED,
        files=report.files,
        chunks=report.chunks,
        embedded=report.embedded,
        reused=report.reused,
        removed=report.removed,
        pending=report.pending,
        left_out=sum(report.left_out.values()),
    )

    async def search(question: str, limit: int) -> Sequence[Snippet]:
        found = await index.search(workspace, question, limit)
        await scene.record(Action.INDEX_SEARCHED, found=len(found))
        return [Snippet(one.path, one.start_line, one.end_line, one.symbol, one.score) for one in found]

    return search, await search(described, SNIPPETS)


async def _propose(
    scene: Scene, asked: Asked, workspace: Workspace, search: Search, snippets: Sequence[Snippet]
) -> Patch:
    """Snippets → Patch. Each call of the model is charged and written down before what it asked for is done."""
    model = _Watched(scene.house.model(asked.repofile.model), scene)

    async def on_call(answer: ModelAnswer) -> None:
        usage, cost = answer.usage, answer.cost_usd
        spending = Spending(usage.input_tokens, usage.cached_tokens, usage.output_tokens, cost or Decimal(0))
        await states.charge(scene.house.store, scene.run, spending)
        await scene.record(
            Action.MODEL_CALLED,
            provider=model.provider,
            model=answer.model,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=None if cost is None else str(cost),
        )

    return await propose(
        asked.request,
        workspace,
        snippets,
        model=model,
        search=search,
        limits=_limits(scene, asked),
        instructions=_instructions(asked, workspace),
        fence=scene.fence,
        on_call=on_call,
        monotonic=scene.house.monotonic,
    )


@dataclass(frozen=True, slots=True)
class _Watched:
    """A model that nobody waits for any longer once its run was cancelled or taken over."""

    model: Model
    scene: Scene

    @property
    def provider(self) -> str:
        return self.model.provider

    @property
    def name(self) -> str:
        return self.model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        return await self.scene.unless_stopped(self.model.answer(request))


def _limits(scene: Scene, asked: Asked) -> Limits:
    """The lowest of the service's, the repository's and the asker's, less what earlier attempts of this run spent."""
    limits, run = scene.house.limits, scene.run
    caps = [limits.dollars, asked.repofile.max_cost_usd, run.cost_limit_usd]
    left = min(cap for cap in caps if cap is not None) - run.cost_usd
    if left <= 0:
        raise RefusedError(wording.why("budget")[0], reason="budget_dollars")
    return replace(limits, dollars=left)


def _instructions(asked: Asked, workspace: Workspace) -> Sequence[tuple[str, str]]:
    """The base branch's alone: a file that our own branch changed instructs nobody."""
    base = {entry.path: entry.sha for entry in asked.base_tree.entries}
    told = []
    for path, text in instructions.collect(workspace):
        entry = workspace.entry(path)
        if entry is not None and base.get(path) == entry.sha:
            told.append((path, text))
    if asked.repofile.instructions:
        told.append((PATH, asked.repofile.instructions))
    return told


async def _verify(scene: Scene, asked: Asked, workspace: Workspace, patch: Patch) -> Change:
    """Patch → Change: every guard, and a refusal written down."""
    policy = Policy(repofile=asked.repofile, rules=await scene.reader.rules(asked.choice.branch))
    try:
        change = verify(patch, workspace, policy)
    except RefusedError as error:
        await scene.record(Action.PATCH_REFUSED, reason=error.reason, files=len(patch.edits))
        raise
    await scene.record(
        Action.PATCH_CHECKED, files=len(change.edits), added=change.added_lines, removed=change.removed_lines
    )
    return change


async def _publish(scene: Scene, asked: Asked, change: Change) -> Publication:
    """Change → Publication, with the one token that may write code, minted now and revoked right after."""
    house, run = scene.house, scene.run
    await require_permission(scene)
    opens = asked.choice.pull_request is None
    form = await template.find(asked.base_tree, scene.reader) if opens else None
    # Noted before anything is written there: what GitHub then tells about the branch is known to be about ours.
    await states.note(house.store, run, branch=asked.choice.branch, base_sha=asked.request.base_sha)
    head = await house.ledger.head(run.installation_id)
    async with scene.writer("publish", PERMISSIONS) as writer:
        return await publish(
            run,
            asked.request,
            change,
            reader=scene.reader,
            writer=writer,
            fence=scene.fence,
            record=scene.record,
            guard=verify_publication,
            ledger_head=str(head),
            settings=PublishSettings(
                ready_after_seconds=house.ready_after_seconds, template=form, keep_draft=asked.repofile.draft
            ),
            sleep=house.sleep,
        )


def _published(publication: Publication, repofile: RepoFile) -> Outcome:
    state = RunState.OPENED if publication.created else RunState.UPDATED
    draft = publication.pull_request.draft
    waits = draft and publication.created and not repofile.draft
    said = "It is ready for review."
    if draft:
        said = "It is a draft until its checks end." if waits else "It is a draft."
    ready = _ready(publication.pull_request.number, publication.commit_sha, said)
    return replace(ready, state=state, reason=AS_DRAFT if waits else state.value)


def _ready(number: int, head_sha: str, said: str) -> Outcome:
    return Outcome(
        RunState.OPENED,
        RunState.OPENED.value,
        said,
        "review it; a comment that mentions me there asks for another change.",
        pull_request=number,
        head_sha=head_sha,
    )


# --- what is answered without a model --------------------------------------------------------------------------------

_ANSWERED = frozenset(verb.value for verb in Verb) - {Verb.FIX, Verb.REVISE, Verb.RETRY}


async def _answer(scene: Scene) -> Outcome:
    """Help for whoever may ask, and a plain word for what this version cannot do yet."""
    await require_permission(scene)
    if scene.run.verb == Verb.CANCEL:
        stopped = await states.request_cancel(
            scene.house.store, scene.run.installation_id, scene.run.repository_id, scene.run.number
        )
        said = (
            "The run at work here was told to stop."
            if stopped
            else "Nothing is at work here, so nothing was stopped."
        )
        return Outcome(RunState.ANSWERED, "cancel", said)
    if scene.run.verb == Verb.HELP:
        return Outcome(RunState.ANSWERED, "help", await _help(scene))
    return Outcome(
        RunState.ANSWERED, "not_available", wording.not_available(scene.run.verb, scene.house.slug)
    )


async def _help(scene: Scene) -> str:
    ask = await scene.ask()
    if ask is None or ask.near_miss is None:
        return wording.help_text(scene.house.slug)
    suggestion = ask.suggestion.value if ask.suggestion else None
    return wording.near_miss(ask.near_miss, suggestion, scene.house.slug)
