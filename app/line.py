"""THE LINE: one run, from a durable row to a visible end. The stations meet here and in `making`, and nowhere else.

    Run → Request → Workspace → Snippets → Patch → Change → Publication → Outcome

Refuses to know how any station works.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from app.agent.loop import Mode
from app.beside import answer
from app.change.check import verify_publication
from app.choosing import key_in_public
from app.consultation import charged, consult, limits_of
from app.ending import AS_DRAFT, end, ready, stopped
from app.errors import (
    SUSPENDED,
    DefectError,
    LimitedError,
    MagicodeError,
    MissingError,
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
    Outcome,
    Patch,
    Publication,
    PullRequest,
    Run,
    RunState,
)
from app.planning import planned, plans_first, read_plan
from app.ports import Model
from app.pulls import template, wording
from app.pulls.conversation import LATE
from app.pulls.publish import PERMISSIONS, PublishSettings, publish
from app.pulls.recovery import left_by_this_run
from app.pulls.undo import undo as take_back
from app.pulls.wording import Stage
from app.reading import Asked, read_request, require_permission, require_plan, require_wanted
from app.refreshing import refreshed
from app.repofile import RepoFile
from app.retrying import what_is_retried
from app.scene import Scene, open_scene
from app.threads import in_each_thread
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
        async with _workspace(scene, asked) as workspace, consult(scene, asked) as model:
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

    Raises SupersededError when another worker took the run over, TransientError for the queue to try again (LimitedError when
    it is only to wait), and DefectError.
    """
    async with open_scene(house, run) as scene:
        await scene.record(Action.RUN_STARTED, verb=run.verb, number=run.number, attempt=run.attempt)
        try:
            verb = await what_is_retried(scene) if run.verb == Verb.RETRY else run.verb
            if verb in PLAYS:
                await house.github.room(run.installation_id)
                await require_plan(scene)
            outcome = (verb in PLAYS and await key_in_public(scene)) or await PLAYS.get(verb, answer)(scene)
        except LimitedError as error:
            if house.clock() - (run.started_at or run.created_at) < WAITS_FOR:
                await _wait(scene, error)
                raise
            outcome = wording.outcome(error)
        except TransientError as error:
            if error.reason.startswith("model_"):
                await _say_away(scene)
            raise
        except (SupersededError, DefectError):
            raise
        except MissingError as error:
            if error.reason == "missing" and house.clock() - run.created_at < LATE:
                # GitHub may tell us of what was written sooner than it can be read everywhere.
                raise TransientError(error.message, reason="not_there_yet") from None
            outcome = wording.outcome(error)
        except StoppedError as error:
            outcome = await stopped(scene, error)
        except MagicodeError as error:
            outcome = await _refused(scene, error)
        await end(scene, outcome)


async def _refused(scene: Scene, error: MagicodeError) -> Outcome:
    """Where whoever runs this service has paused an installation and suspended it at GitHub, which says no sooner than we look: it
    is to go on later. Raises PausedError then."""
    if error.reason == SUSPENDED:
        await scene.house.held()
    return wording.outcome(error)


WAITS_FOR: Final = timedelta(hours=6)
"""How long a run waits in all for limits; then it fails, and says so."""

WORTH_SAYING: Final = timedelta(minutes=1)


async def _say_away(scene: Scene) -> None:
    """Once for each try, in place of a "writing" that nobody is at."""
    with suppress(MagicodeError):
        await scene.conversation.say(wording.away(scene.conversation.key), final=True)


async def _wait(scene: Scene, error: LimitedError) -> None:
    """Says until when it waits, once for each wait, where what limits us is our own pace: GitHub itself hears nobody then."""
    wait = error.retry_after
    if error.reason != "paced" or wait is None or wait < WORTH_SAYING:
        return
    with suppress(MagicodeError):
        said = wording.waiting(scene.conversation.key, scene.house.clock() + wait)
        await scene.conversation.say(said, final=True)


# --- the stations, as a run uses them --------------------------------------------------------------------------------


async def _discuss(scene: Scene, asked: Asked, mode: Mode) -> Outcome:
    """A plan or an explanation: the line without its end, which writes nothing but the status comment."""
    async with _workspace(scene, asked) as workspace, consult(scene, asked) as model:
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


async def _desk(scene: Scene, asked: Asked, workspace: SnapshotWorkspace, model: Model) -> Desk:
    """What a change is made from, and with."""
    house, run = scene.house, scene.run
    return Desk(
        request=asked.request,
        workspace=workspace,
        repofile=asked.repofile,
        left_alone=asked.left_alone,
        base_tree=asked.base_tree,
        rules=await scene.reader.rules(asked.choice.branch) if asked.choice else (),
        index=house.index(scene.key, run.installation_id, run.repository_id),
        model=model,
        limits=await limits_of(scene, asked),
        sandbox=house.sandbox,
        record=scene.record,
        fence=scene.fence,
        on_call=charged(scene, model),
        index_seconds=house.index_seconds,
        prune=not asked.request.is_revision and asked.request.base_sha == asked.base_tip,
        at=scene.at,
        waiting=scene.unless_stopped,
        monotonic=house.monotonic,
    )


async def _publish(scene: Scene, asked: Asked, change: Change) -> Publication:
    """Change → Publication, with the one token that may write code, minted now and revoked right after."""
    house, run = scene.house, scene.run
    await require_wanted(scene)
    await require_permission(scene)
    opens = asked.target.pull_request is None
    form = await template.find(asked.base_tree, scene.reader) if opens else None
    # Noted before anything is written there: what GitHub then tells about the branch is known to be about ours.
    await states.note(house.store, run, branch=asked.target.branch, base_sha=asked.request.base_sha)
    head = await house.ledger.head(run.installation_id)
    async with scene.writer("publish", PERMISSIONS) as writer:
        publication = await publish(
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
        # At once, so that what is asked there while this run is still ending is known to be about the same issue.
        await states.note(house.store, run, pull_request=publication.pull_request.number)
        return publication


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
