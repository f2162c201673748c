"""Answers in review threads: one in each that a request was about, saying what was done with the commit, or why not.

A reply is looked for by its hidden marker before it is written. Resolved threads are left as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.errors import DeniedError, GoneError, InvalidError, MissingError, StoppedError
from app.nouns import Action, Reply, ReviewThread, Run
from app.ports import Fence, Recorder, RepositoryReader, RepositoryWriter
from app.pulls.wording import marker, thread_reply


@dataclass(frozen=True, slots=True)
class Replied:
    """How many threads have their answer now, and how many could not be answered."""

    answered: int = 0
    failed: int = 0


async def reply_to(
    run: Run,
    threads: Sequence[ReviewThread],
    replies: Sequence[Reply],
    *,
    commit_sha: str | None,
    reason: str,
    reader: RepositoryReader,
    writer: RepositoryWriter,
    fence: Fence,
    record: Recorder,
    number: int | None = None,
) -> Replied:
    """Writes one reply in each of `threads` on the pull request `number` (the run's own where None).

    `replies` are the model's words by the comment that began a thread; `commit_sha` what was pushed, None where nothing
    was, and `reason` why not. A thread that is gone or locked does not keep the others from theirs. Behind a commit a
    cancellation comes too late to leave half of them out. Raises what the reader raises, SupersededError, StoppedError
    and TransientError.
    """
    pull = run.number if number is None else number
    words = {reply.comment_id: reply.text for reply in replies}
    asked = {thread.comments[0].id for thread in threads if thread.comments}
    answered = failed = 0
    for thread in await reader.review_threads(pull):
        first = thread.comments[0].id if thread.comments else None
        if first is None or first not in asked or thread.resolved:
            continue
        # A run that failed may be started again and do it: what it says then is another reply.
        key = f"{run.id}:{first}" if commit_sha is not None else f"{run.id}:{first}:not"
        if not _has_reply(thread, key):
            body = thread_reply(key, words.get(first, ""), commit_sha, reason)
            try:
                await _fenced(fence, late=commit_sha is not None)
                written = await writer.reply_in_thread(pull, first, body)
            except (MissingError, GoneError, DeniedError, InvalidError):
                failed += 1
                continue
            await record(Action.COMMENT_CREATED, number=pull, comment_id=written.id, thread=True)
        answered += 1
    return Replied(answered, failed)


def _has_reply(thread: ReviewThread, key: str) -> bool:
    mark = marker(key)
    return any(one.author.type == "Bot" and one.body.startswith(mark) for one in thread.comments)


async def _fenced(fence: Fence, *, late: bool) -> None:
    try:
        await fence()
    except StoppedError:
        if not late:
            raise
