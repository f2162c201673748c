"""THE LINE: one run, from a durable row to a visible end. The stations meet here and in `making`, and nowhere else.

    Run → Request → Workspace → Snippets → Patch → Change → Publication → Outcome

Refuses to know how any station works.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import partial

from app.agent.asking import unless_stopped
from app.agent.budget import Limits
from app.agent.chain import Chain
from app.agent.loop import Mode
from app.beside import answer
from app.change.check import verify_publication
from app.choosing import key_in_public
from app.custody import consent
from app.custody import settings as choices
from app.custody.consent import Consent
from app.ending import AS_DRAFT, end, ready, stopped
from app.errors import (
    DefectError,
    MagicodeError,
    RefusedError,
    StoppedError,
    SupersededError,
    TransientError,
    UserError,
)
from app.house import House
from app.jobs import states
from app.making import Desk, make
from app.mending import read_failures
from app.nouns import (
    MEND,
    Action,
    Change,
    ModelAnswer,
    ModelRequest,
    Outcome,
    Patch,
    Publication,
    PullRequest,
    Run,
    RunState,
    Spending,
)
from app.planning import planned, plans_first, read_plan
from app.ports import Fence, Model, Recorder
from app.pulls import template, wording
from app.pulls.publish import PERMISSIONS, PublishSettings, publish
from app.pulls.recovery import left_by_this_run
from app.pulls.undo import undo as take_back
from app.pulls.wording import Stage
from app.reading import Asked, read_request, require_permission, require_plan
from app.refreshing import refreshed
from app.repofile import RepoFile
from app.retrying import what_is_retried
from app.scene import Scene, open_scene
from app.threads import in_each_thread
from app.witness import to_its_end
from app.workspace.open import open_workspace
from app.workspace.tree import SnapshotWorkspace
from webhooks.command import Verb

# --- the line --------------------------------------------------------------------------------------------------------


async def fix(scene: Scene, read: Callable[[Scene], Awaitable[Asked]] = read_request) -> Outcome:
    """The whole line: a request becomes a pull request, or an answer that says why not."""
    async with scene.at(Stage.READING):
        asked = await read(scene)
        # What an earlier attempt of this very run put on GitHub is adopted, and no model is asked again.
        change = await left_by_this_run(scene.run, asked.target, scene.reader)
    pull = asked.target.pull_request
    if pull is not None and (asked.target.settled or (change is None and _opened_by(scene.run, pull))):
        # Closed or merged since; or somebody asked there for more, and this run's own commit is below that.
        waits = not asked.target.settled and pull.draft and not asked.repofile.draft
        reason = AS_DRAFT if waits else RunState.OPENED.value
        return Outcome(RunState.OPENED, reason, "", pull_request=pull.number, head_sha=pull.head_sha)
    if change is None and plans_first(scene, asked):
        return await _discuss(scene, asked, Mode.PLAN)
    if change is None:
        asked = await refreshed(scene, asked)
        async with _workspace(scene, asked) as workspace, _model(scene, asked) as model:
            made = await make(await _desk(scene, asked, workspace, model))
        if isinstance(made, Patch):
            return _answered(made)
        change = made
    async with scene.at(Stage.PUBLISHING):
        scene.replies = in_each_thread(scene, change)
        publication = await _publish(scene, asked, change)
    return scene.told(publication) if scene.told else _published(publication, asked.repofile, change)


async def plan(scene: Scene) -> Outcome:
    """A plan, in the status comment; work begins when somebody with write access says `go`."""
    async with scene.at(Stage.READING):
        asked = await read_request(scene)
    return await _discuss(scene, asked, Mode.PLAN)


async def explain(scene: Scene) -> Outcome:
    """An answer about the code, and nothing else."""
    async with scene.at(Stage.READING):
        asked = await read_request(scene, changes=False)
    return await _discuss(scene, asked, Mode.EXPLAIN)


async def undo(scene: Scene) -> Outcome:
    """Our last change on the branch, taken back by a new commit."""
    async with scene.at(Stage.READING):
        asked = await read_request(scene)
        pull = asked.target.pull_request
        if pull is None:
            raise UserError(wording.why("no_pull_request")[0], reason="no_pull_request")
        head = await scene.house.ledger.head(scene.run.installation_id)
    await states.note(scene.house.store, scene.run, branch=pull.head_ref)
    async with scene.at(Stage.PUBLISHING), scene.writer("undo", PERMISSIONS) as writer:
        done = await take_back(
            scene.run,
            pull,
            reader=scene.reader,
            writer=writer,
            fence=scene.fence,
            record=scene.record,
            guard=verify_publication,
            ledger_head=str(head),
        )
    return wording.undone(done.publication, done.undone_sha)


PLAYS: Mapping[str, Callable[[Scene], Awaitable[Outcome]]] = {
    Verb.FIX: fix,
    Verb.REVISE: fix,
    Verb.GO: partial(fix, read=read_plan),
    MEND: partial(fix, read=read_failures),
    Verb.PLAN: plan,
    Verb.EXPLAIN: explain,
    Verb.UNDO: undo,
}
"""The other verbs are answered beside the line. `retry` is what is retried."""


async def play(house: House, run: Run) -> None:
    """Play a run that was begun; it has ended when this returns.

    Raises SupersededError when another worker took the run over, TransientError for the queue to try again, and
    DefectError.
    """
    async with open_scene(house, run) as scene:
        await scene.record(Action.RUN_STARTED, verb=run.verb, number=run.number, attempt=run.attempt)
        try:
            verb = await what_is_retried(scene) if run.verb == Verb.RETRY else run.verb
            if verb in PLAYS:
                await require_plan(scene)
            outcome = (verb in PLAYS and await key_in_public(scene)) or await PLAYS.get(verb, answer)(scene)
        except (SupersededError, TransientError, DefectError):
            raise
        except StoppedError as error:
            outcome = await stopped(scene, error)
        except MagicodeError as error:
            outcome = wording.outcome(error)
        await end(scene, outcome)


# --- the stations, as a run uses them --------------------------------------------------------------------------------


async def _discuss(scene: Scene, asked: Asked, mode: Mode) -> Outcome:
    """A plan or an explanation: the line without its end, which writes nothing but the status comment."""
    async with _workspace(scene, asked) as workspace, _model(scene, asked) as model:
        patch = await make(await _desk(scene, asked, workspace, model), mode)
    if isinstance(patch, Change):
        raise DefectError(reason="unasked_change")
    if patch.plan is not None:
        return await planned(scene, patch.plan, patch.spending)
    return wording.explained(patch.answer or "") if mode is Mode.EXPLAIN else _answered(patch)


def _opened_by(run: Run, pull: PullRequest) -> bool:
    return wording.opened_marker(run.id) in pull.body


def _answered(patch: Patch) -> Outcome:
    if patch.asks:
        return wording.question(patch.answer or "")
    return Outcome(RunState.ANSWERED, "answered", patch.answer or "")


@asynccontextmanager
async def _workspace(scene: Scene, asked: Asked) -> AsyncIterator[SnapshotWorkspace]:
    async with AsyncExitStack() as rooms:
        async with scene.at(Stage.FETCHING):
            opening = open_workspace(
                scene.reader,
                asked.request.base_sha,
                root=scene.house.workspace_root,
                run_id=str(scene.run.id),
            )
            workspace = await scene.unless_stopped(rooms.enter_async_context(opening))
            await scene.record(
                Action.CODE_FETCHED,
                sha=asked.request.base_sha,
                files=workspace.files,
                bytes=workspace.bytes,
                left_out=len(workspace.left_out),
            )
        yield workspace


@asynccontextmanager
async def _model(scene: Scene, asked: Asked) -> AsyncIterator[Model]:
    """The models that the repository's file names, else the installation's settings, else the service's own: those that the
    installation allows, with its own keys where it has some. Raises UserError (`consent`) where none is left."""
    house, tenant = scene.house, scene.run.installation_id
    allowed = await consent.read(house.store, house.keys, tenant)
    named = asked.repofile.model or allowed.settings.models
    kept = consent.within(allowed, house.models.where(named, allowed.own))
    still = Consent(house.store, tenant, kept, allowed.own)
    async with house.models.open([one.model for one in kept], allowed.own) as models:
        heard = [_Counted(one, scene.record, still) for one in models]
        yield _Watched(Chain(heard), scene.fence, still)


async def _desk(scene: Scene, asked: Asked, workspace: SnapshotWorkspace, model: Model) -> Desk:
    """Each call of the model is charged and written down before what it asked for is done."""
    house, run = scene.house, scene.run

    async def on_call(answer: ModelAnswer) -> None:
        usage, cost = answer.usage, answer.cost_usd
        spending = Spending(usage.input_tokens, usage.cached_tokens, usage.output_tokens, cost or Decimal(0))
        await states.charge(house.store, run, spending)
        await scene.record(
            Action.MODEL_CALLED,
            provider=answer.turn.maker.partition(":")[0] or model.provider,
            model=answer.model,
            input_tokens=usage.input_tokens,
            cached_tokens=usage.cached_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=None if cost is None else str(cost),
        )

    return Desk(
        request=asked.request,
        workspace=workspace,
        repofile=asked.repofile,
        base_tree=asked.base_tree,
        rules=await scene.reader.rules(asked.choice.branch) if asked.choice else (),
        index=house.index(scene.key, run.installation_id, run.repository_id),
        model=model,
        limits=await _limits(scene, asked),
        sandbox=house.sandbox,
        record=scene.record,
        fence=scene.fence,
        on_call=on_call,
        index_seconds=house.index_seconds,
        prune=not asked.request.is_revision and asked.request.base_sha == asked.base_tip,
        at=scene.at,
        waiting=scene.unless_stopped,
        monotonic=house.monotonic,
    )


@dataclass(frozen=True, slots=True)
class _Counted:
    """A model that nothing is sent to but what is allowed at that moment. Its attempts that brought no answer are written down,
    each that was sent; the answers are by `on_call`."""

    model: Model
    record: Recorder
    allowed: Fence

    @property
    def provider(self) -> str:
        return self.model.provider

    @property
    def name(self) -> str:
        return self.model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        sent = 0

        async def attempted() -> None:
            nonlocal sent
            await self.allowed()
            sent += 1

        reason, answered = "cancelled", 0
        try:
            answer = await self.model.answer(replace(request, attempted=attempted))
            reason, answered = "answered_later", 1
            return answer
        except MagicodeError as error:
            reason = error.reason
            raise
        finally:
            if sent > answered:
                await to_its_end(
                    self.record(
                        Action.MODEL_FAILED,
                        provider=self.provider,
                        model=self.name,
                        reason=reason,
                        attempts=sent - answered,
                    )
                )


@dataclass(frozen=True, slots=True)
class _Watched:
    """A model that nobody waits for any longer once its run was cancelled or taken over, or once the installation no longer
    allows what is sent there."""

    model: Model
    fence: Fence
    allowed: Fence

    @property
    def provider(self) -> str:
        return self.model.provider

    @property
    def name(self) -> str:
        return self.model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        return await unless_stopped(self.model.answer(request), self._wanted)

    async def _wanted(self) -> None:
        await self.fence()
        await self.allowed()


async def _limits(scene: Scene, asked: Asked) -> Limits:
    """The lowest of the service's, the installation's, the repository's and the asker's, less what earlier attempts of this run
    spent; and no more than the installation's day and month have left now."""
    limits, run = scene.house.limits, scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        chosen = await choices.read(transaction)
        left_there = await choices.left(transaction, chosen, scene.house.clock())
    caps = [limits.dollars, chosen.run_usd, asked.repofile.max_cost_usd, run.cost_limit_usd]
    left = min(cap for cap in caps if cap is not None) - run.cost_usd
    if left <= 0:
        raise RefusedError(wording.why("budget")[0], reason="budget_dollars")
    if left_there is not None and left_there <= 0:
        raise RefusedError(wording.why("budget_installation")[0], reason="budget_installation")
    return replace(limits, dollars=left if left_there is None else min(left, left_there))


async def _publish(scene: Scene, asked: Asked, change: Change) -> Publication:
    """Change → Publication, with the one token that may write code, minted now and revoked right after."""
    house, run = scene.house, scene.run
    await require_permission(scene)
    opens = asked.target.pull_request is None
    form = await template.find(asked.base_tree, scene.reader) if opens else None
    # Noted before anything is written there: what GitHub then tells about the branch is known to be about ours.
    await states.note(house.store, run, branch=asked.target.branch, base_sha=asked.request.base_sha)
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


def _published(publication: Publication, repofile: RepoFile, change: Change) -> Outcome:
    state = RunState.OPENED if publication.created else RunState.UPDATED
    draft = publication.pull_request.draft
    waits = draft and publication.created and not repofile.draft
    said = "It is ready for review."
    if draft:
        said = "It is a draft until its checks end." if waits else "It is a draft."
    said += wording.left_open(change)
    told = ready(publication.pull_request.number, publication.commit_sha, said)
    return replace(told, state=state, reason=AS_DRAFT if waits else state.value)
