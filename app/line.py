"""THE LINE: one run, from a durable row to a visible end. The stations meet here and nowhere else.

    Run → Request → Workspace → Snippets → Patch → Change → Publication → Outcome

Refuses to know how any station works.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal

from app.agent import instructions
from app.agent.budget import Limits
from app.agent.loop import propose
from app.beside import ANSWERED, answer
from app.change.check import verify, verify_publication
from app.change.policy import Policy
from app.ending import AS_DRAFT, end, ready, stopped
from app.errors import (
    DefectError,
    MagicodeError,
    RefusedError,
    StoppedError,
    SupersededError,
    TransientError,
)
from app.house import House
from app.jobs import states
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
from app.ports import Model, Search, Workspace
from app.pulls import template, wording
from app.pulls.publish import PERMISSIONS, PublishSettings, publish
from app.pulls.recovery import left_by_this_run
from app.pulls.wording import Stage
from app.reading import Asked, read_request, require_permission
from app.repofile import PATH, RepoFile
from app.scene import Scene, open_scene
from app.workspace.open import open_workspace
from app.workspace.tree import SnapshotWorkspace

SNIPPETS = 8


# --- the line --------------------------------------------------------------------------------------------------------


async def fix(scene: Scene) -> Outcome:
    """The whole line: a request becomes a pull request, or an answer that says why not."""
    async with scene.at(Stage.READING):
        asked = await read_request(scene)
        # What an earlier attempt of this very run put on GitHub is adopted, and no model is asked again.
        change = await left_by_this_run(scene.run, asked.target, scene.reader)
    if asked.target.settled and asked.target.pull_request is not None:
        return Outcome(RunState.OPENED, "opened", "", pull_request=asked.target.pull_request.number)
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
            outcome = await (answer if run.verb in ANSWERED else fix)(scene)
        except (SupersededError, TransientError, DefectError):
            raise
        except StoppedError as error:
            outcome = await stopped(scene, error)
        except MagicodeError as error:
            outcome = wording.outcome(error)
        await end(scene, outcome)


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
    policy = Policy(repofile=asked.repofile, rules=await scene.reader.rules(asked.target.branch))
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


def _published(publication: Publication, repofile: RepoFile) -> Outcome:
    state = RunState.OPENED if publication.created else RunState.UPDATED
    draft = publication.pull_request.draft
    waits = draft and publication.created and not repofile.draft
    said = "It is ready for review."
    if draft:
        said = "It is a draft until its checks end." if waits else "It is a draft."
    told = ready(publication.pull_request.number, publication.commit_sha, said)
    return replace(told, state=state, reason=AS_DRAFT if waits else state.value)
