"""Review threads: which a request is about, and the reply that each of them gets.

Of a thread only what people with write access said, and what we said ourselves, is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from app.errors import StoppedError, TransientError
from app.nouns import MEND, Account, Change, Outcome, Reply, ReviewThread, RunState
from app.pulls.threads import reply_to
from app.scene import Scene

MOST = 30
"""Threads that one request is given; a review with more is worked on in several."""

LEFT_OUT = "(Left out: its author may not write to this repository.)"

MayWrite = Callable[[Account], Awaitable[bool]]


async def read_threads(scene: Scene, may_write: MayWrite) -> None:
    """The open threads of the review that asks, or all open ones where a comment below the pull request asks."""
    origin = scene.origin
    if not origin.is_pull_request or origin.verb == MEND:
        return
    review = await review_of(scene)
    found = []
    for thread in await scene.reader.review_threads(origin.number):
        asks = review is None or any(one.review_id == review for one in thread.comments)
        if asks and not thread.resolved and (heard := await _heard(scene, thread, may_write)) is not None:
            found.append(heard)
    scene.threads = tuple(found[:MOST])
    scene.every_thread = review is not None


async def review_of(scene: Scene) -> int | None:
    """The id of the review that asked, None where none did."""
    kind, _, identity = scene.origin.occasion.partition(":")
    match kind:
        case "review":
            return int(identity)
        case "review-comment":
            return (await scene.reader.review_comment(int(identity))).review_id
    return None


async def _heard(scene: Scene, thread: ReviewThread, may_write: MayWrite) -> ReviewThread | None:
    """The thread as far as it is read; None where nobody who may write said anything. What began it stays, as its place."""
    us = f"{scene.house.slug}[bot]"
    heard = [one for one in thread.comments if one.author.login == us or await may_write(one.author)]
    if all(one.author.login == us for one in heard):
        return None
    first = thread.comments[0]
    if first not in heard:
        heard.insert(0, replace(first, body=LEFT_OUT))
    return replace(thread, comments=tuple(heard))


def in_each_thread(scene: Scene, change: Change) -> tuple[Reply, ...]:
    """The model's words; in a thread of the review that it has none for, what the commit does as a whole."""
    told = {one.comment_id for one in change.replies}
    silent = [one.comments[0].id for one in scene.threads if scene.every_thread]
    return (*change.replies, *(Reply(first, change.title) for first in silent if first not in told))


async def answer_threads(scene: Scene, outcome: Outcome) -> None:
    """What was done, with the commit, or why not; nothing where the request was about no thread."""
    told = {one.comment_id for one in scene.replies}
    threads = [one for one in scene.threads if scene.every_thread or one.comments[0].id in told]
    if not threads:
        return
    done = outcome.state in (RunState.OPENED, RunState.UPDATED)

    async def fence() -> None:
        """What a person's commit or a closing stopped is told all the same: nobody asked for silence."""
        try:
            await scene.fence()
        except StoppedError:
            if outcome.state is RunState.CANCELLED:
                raise

    async def reply() -> None:
        await reply_to(
            scene.run,
            threads,
            _replies(scene, threads, outcome),
            commit_sha=outcome.head_sha if done else None,
            reason=outcome.message,
            reader=scene.reader,
            writer=scene.voice,
            fence=fence,
            record=scene.record,
            number=scene.origin.number,
        )

    with suppress(StoppedError):
        if done:
            # With the commit on GitHub, what comes next finds it, and replies to the rest.
            await reply()
            return
        # Without one, a model would be asked all over again: tried once more here, where what was said is found.
        try:
            await reply()
        except TransientError:
            with suppress(TransientError):
                await reply()


def _replies(scene: Scene, threads: Sequence[ReviewThread], outcome: Outcome) -> Sequence[Reply]:
    """An answer to what was asked in one thread stands there as it is: nobody expected a change."""
    if outcome.reason in ("answered", "explained") and not scene.replies and len(threads) == 1:
        return (Reply(threads[0].comments[0].id, outcome.message),)
    return scene.replies
