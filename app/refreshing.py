"""Keeps a pull request of ours on top of its base, without force, and says which files are in conflict."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial

from app.change.check import verify_publication
from app.ending import ready, say, status_of
from app.errors import RefusedError, StoppedError
from app.house import House
from app.jobs.tasks import Task, refresh_lock
from app.nouns import PullRequest, Run
from app.pulls import wording
from app.pulls.base import Conflicts, Updated, UpToDate, needed, update_from_base
from app.pulls.publish import PERMISSIONS, require_ours
from app.reading import Asked
from app.scene import Scene, open_scene
from app.settling import after_the_end, opener_of

LATER_SECONDS = 20.0
"""After which a branch that somebody is at work on is looked at again."""


async def refreshed(scene: Scene, asked: Asked) -> Asked:
    """A revision works on the branch with its base merged in. Where the two are in conflict, it works on and says so."""
    pull = asked.target.pull_request
    if pull is None or not asked.request.is_revision:
        return asked
    opener = await opener_of(scene.house, replace(scene.run, branch=pull.head_ref))
    if opener is None:
        return asked
    result = await _update(scene, opener, pull)
    if isinstance(result, Conflicts):
        scene.remarks.append(wording.conflicts(result.paths, pull.base_ref))
    if not isinstance(result, Updated):
        return asked
    moved = replace(pull, head_sha=result.commit_sha)
    request = replace(asked.request, pull_request=moved, base_sha=result.commit_sha)
    return replace(asked, request=request, choice=replace(asked.target, pull_request=moved))


async def refresh(house: House, opener: Run) -> None:
    """After a push to the base: only where GitHub or the same files make it needed, and only while nobody works there."""
    if opener.pull_request is None:
        return
    if await _is_worked_on(house, opener):
        await _look_later(house, opener)
        return
    async with open_scene(house, opener, fence=after_the_end) as scene:
        pull = await scene.reader.pull_request(opener.pull_request)
        if pull.state != "open":
            return
        if not await needed(pull, scene.reader):
            await _say_over(scene, pull)
            return
        # A person's branch by now, rules that let nobody update it so, or a request that came in between.
        with suppress(RefusedError, StoppedError):
            await require_ours(pull.head_ref, scene.reader)
            # Whoever was asked meanwhile works on the head as it is, and merges the base in by itself.
            scene.fence = partial(_require_idle, house, opener)
            result = await _update(scene, opener, pull)
            if isinstance(result, Conflicts):
                await _say_once(scene, pull, result)
                return
            await _say_over(scene, pull)


async def _update(scene: Scene, opener: Run, pull: PullRequest) -> Updated | UpToDate | Conflicts:
    """The merge commit names the run that opened the pull request, so that none is taken for a change that was asked for."""
    async with scene.writer("update", PERMISSIONS) as writer:
        return await update_from_base(
            opener,
            pull,
            reader=scene.reader,
            writer=writer,
            fence=scene.fence,
            record=scene.record,
            guard=verify_publication,
        )


async def _require_idle(house: House, opener: Run) -> None:
    if await _is_worked_on(house, opener):
        raise StoppedError(reason="busy")


async def _is_worked_on(house: House, opener: Run) -> bool:
    async with house.store.transaction(opener.installation_id) as transaction:
        return await transaction.active_run(opener.repository_id, opener.about) is not None


async def _look_later(house: House, opener: Run) -> None:
    """What is at work may have taken up the base before this push."""
    async with house.store.transaction(opener.installation_id) as transaction:
        if not await transaction.waits(refresh_lock(opener)):
            await transaction.defer(
                Task.REFRESH,
                lock=refresh_lock(opener),
                delay_seconds=LATER_SECONDS,
                behind=True,
                installation_id=opener.installation_id,
                run_id=opener.id,
            )


async def _say_once(scene: Scene, pull: PullRequest, found: Conflicts) -> None:
    said = wording.conflicts(found.paths, pull.base_ref)
    if said not in await status_of(scene):
        await _say(scene, pull, said)


async def _say_over(scene: Scene, pull: PullRequest) -> None:
    """A conflict that stands in the status comment and is none any longer."""
    if wording.CONFLICT in await status_of(scene):
        await _say(scene, pull, wording.merges_again(pull.base_ref))


async def _say(scene: Scene, pull: PullRequest, said: wording.Ours) -> None:
    told = ready(pull.number, pull.head_sha, "")
    await say(scene, replace(told, reason=scene.run.reason or told.reason, message=said))
