"""What is answered beside the line, with no model: help, cancelling, a second request while one is at work."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from app import choosing, erasing, exporting, showing
from app.ending import end
from app.errors import GoneError, LimitedError, MissingError, RefusedError
from app.house import House
from app.jobs import states
from app.nouns import MEND, Outcome, Run, RunState
from app.pulls import wording
from app.reading import require_permission
from app.scene import Scene, open_scene
from webhooks.command import Verb


async def answer(scene: Scene) -> Outcome:
    """Help for whoever may ask, where what was asked for is nothing else that is answered here."""
    # `settings` asks itself: that a key stands in public is told to whoever wrote it.
    if scene.run.verb != Verb.SETTINGS:
        await require_permission(scene)
    for verb, answers in _ANSWERS:
        if scene.run.verb == verb:
            return await answers(scene)
    return Outcome(RunState.ANSWERED, "help", await _help(scene))


async def _cancel(scene: Scene) -> Outcome:
    """An earlier attempt may have stopped what was at work, and what somebody asked for since is not what this is about."""
    run, store = scene.run, scene.house.store
    stopped = await states.was_told_to_stop(store, run) or await states.request_cancel(
        store,
        run.installation_id,
        run.repository_id,
        run.number,
        made_before=run.created_at if run.attempt > 1 else None,
    )
    said = (
        "The run at work here was told to stop."
        if stopped
        else "Nothing is at work here, so nothing was stopped."
    )
    return Outcome(RunState.ANSWERED, "cancel", said)


_ANSWERS: Final = (
    (Verb.CANCEL, _cancel),
    (Verb.SETTINGS, choosing.answer),
    (Verb.DELETE, erasing.answer),
    (Verb.EXPORT, exporting.answer),
    (Verb.LOGS, showing.answer),
)


async def _help(scene: Scene) -> str:
    ask = await scene.ask()
    if ask is None or ask.near_miss is None:
        return wording.help_text(scene.house.slug)
    suggestion = ask.suggestion.value if ask.suggestion else None
    return wording.near_miss(ask.near_miss, suggestion, scene.house.slug)


GIVES_WAY: Final = timedelta(seconds=4)
"""Between two looks whether what gives way has ended, at first; then a quarter of the time that was waited."""

LOOKS_EVERY: Final = timedelta(minutes=5)
"""And at most so long: who has last words to say may wait for GitHub's limits, for hours."""


async def turn_away(house: House, run: Run) -> None:
    """A second request while one is at work gets an answer with a link, and nothing else.

    Mending that nobody asked for gives way to a person: it is told to stop, and the request takes its place. So does a run
    that has opened the pull request on which the request stands: it has its last words to say. Raises LimitedError until
    it has ended: waiting for that is no failure.
    """
    blocker = await _blocker(house, run)
    if blocker is not None and (blocker.verb == MEND or _opened(blocker, run)):
        if blocker.state.ended and await states.unblock(house.store, run):
            return
        if not blocker.state.ended and blocker.verb != MEND:
            raise _not_yet(house, run)
    async with open_scene(house, run) as scene:
        try:
            await require_permission(scene)
            if blocker is not None and blocker.verb == MEND and not blocker.state.ended:
                # It may have ended since it was read: what is at work now is no mending, and somebody asked for it.
                await states.request_cancel(
                    house.store, run.installation_id, run.repository_id, run.number, only=blocker.id
                )
                raise _not_yet(house, run)
            outcome = Outcome(RunState.REFUSED, "busy", await _busy(scene))
        except RefusedError as error:
            outcome = wording.outcome(error)
        await end(scene, outcome)


def _not_yet(house: House, run: Run) -> LimitedError:
    pause = min(max(GIVES_WAY, (house.clock() - run.created_at) / 4), LOOKS_EVERY)
    return LimitedError(reason="gives_way", retry_after=pause)


def _opened(blocker: Run, run: Run) -> bool:
    """Whether the request stands on the pull request that the other run opened: then it was made behind its work."""
    return run.is_pull_request and not blocker.is_pull_request and blocker.pull_request == run.number


async def _blocker(house: House, run: Run) -> Run | None:
    if run.blocked_by is None:
        return None
    async with house.store.transaction(run.installation_id) as transaction:
        return await transaction.run(run.blocked_by)


async def _busy(scene: Scene) -> wording.Ours:
    """What is at work now, or what was when this was asked for: it may have ended since."""
    run = scene.run
    async with scene.house.store.transaction(run.installation_id) as transaction:
        other = await transaction.active_run(run.repository_id, run.about)
        if other is None and run.blocked_by is not None:
            other = await transaction.run(run.blocked_by)
    return wording.busy(await _link_to(scene, other), over=other is None or other.state.ended)


async def _link_to(scene: Scene, other: Run | None) -> str | None:
    """The run's status comment, by GitHub's own address; before there is one, what asked for it."""
    if other is None:
        return None
    asked_by = other.comment_id if other.occasion.startswith("comment:") else None
    comment_id = other.status_comment_id or asked_by
    if comment_id is None:
        return None
    try:
        return (await scene.reader.issue_comment(comment_id)).html_url
    except (MissingError, GoneError):
        return None
