"""Failing CI on our own head → the request to mend it, or the plain word why nothing is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from app.ending import require_open
from app.errors import RefusedError, UserError
from app.jobs import states
from app.nouns import MEND, Action, PullRequest, Run, RunState
from app.pulls import wording
from app.pulls.ci import Diagnosis, diagnose
from app.pulls.publish import require_ours
from app.pulls.recovery import was_published
from app.reading import Asked, read_request
from app.scene import Scene

TRIES = 3
"""How often failing CI of one pull request is worked on."""


async def read_failures(scene: Scene) -> Asked:
    """The request that failing checks make. Raises UserError and RefusedError that say why nothing is tried."""
    run = scene.run
    pull = await scene.reader.pull_request(run.number)
    published = await was_published(run, scene.reader)
    if not published:
        await _require_head(scene, pull)
    asked = await read_request(scene)
    earlier = await _earlier(scene)
    scene.told = partial(wording.mended, attempt=len(earlier) + 1, tries=TRIES)
    if published:
        return asked
    diagnosis = await diagnose(
        scene.reader, pull.head_sha, asked.base_tip, scene.key, sleep=scene.house.sleep
    )
    await scene.record(
        Action.CI_READ,
        sha=pull.head_sha,
        failing=len(diagnosis.ours),
        infrastructure=len(diagnosis.infrastructure),
        on_base=len(diagnosis.on_base),
    )
    _require_worth(diagnosis, earlier)
    scene.told = partial(scene.told, diagnosis=diagnosis)
    scene.run = await states.note(scene.house.store, run, fingerprint=diagnosis.fingerprint)
    return replace(asked, request=replace(asked.request, failures=diagnosis.excerpts))


async def _require_head(scene: Scene, pull: PullRequest) -> None:
    require_open(pull)
    await require_ours(pull.head_ref, scene.reader)
    if pull.head_sha != scene.origin.occasion.partition(":")[2]:
        raise _no("head_moved")


def _require_worth(diagnosis: Diagnosis, earlier: Sequence[Run]) -> None:
    """What is not ours is not tried; what came back after a try is not tried again."""
    if not diagnosis.ours:
        if diagnosis.on_base:
            raise UserError(wording.failing_on_base(diagnosis), reason="ci_base")
        raise UserError(wording.infrastructure(diagnosis), reason="ci_infrastructure")
    if any(one.fingerprint == diagnosis.fingerprint for one in earlier):
        raise RefusedError(wording.same_failure(diagnosis), reason="same_failure")
    if len(earlier) >= TRIES:
        raise RefusedError(wording.given_up(TRIES), reason="mend_tries")


async def _earlier(scene: Scene) -> Sequence[Run]:
    """The tries before this one that got as far as asking a model."""
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        runs = await transaction.runs(repository_id=run.repository_id, number=run.number, verb=MEND)
    return [
        one
        for one in runs
        if one.id != run.id and one.state.ended and (one.input_tokens or one.state is RunState.UPDATED)
    ]


def _no(reason: str) -> UserError:
    return UserError(wording.why(reason)[0], reason=reason)
