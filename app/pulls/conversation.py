"""What MagiCode says on an issue or pull request: a reaction, one status comment edited in place, and answers.

A comment is looked for by its hidden marker before it is written, and only the App's own comment is ever edited:
anybody can copy a marker, and the App's permission would let it edit theirs.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.errors import DeniedError, GoneError, MissingError
from app.nouns import Action, Comment, Run
from app.ports import Clock, Fence, Recorder, RepositoryReader, RepositoryWriter
from app.pulls.wording import marker

EDIT_EVERY: Final = timedelta(seconds=15)
"""Between two edits of the status comment, for GitHub's limits on creating content."""


class Conversation:
    """One run's voice. `bot_login` is the App's account: its slug and `[bot]`.

    `key` is what its status comment is marked with and found by: the run's id, or one that several runs share in order to
    edit one comment (`wording.ci_key`). What is said has to begin with its marker.
    """

    def __init__(
        self,
        run: Run,
        *,
        reader: RepositoryReader,
        writer: RepositoryWriter,
        fence: Fence,
        record: Recorder,
        clock: Clock,
        bot_login: str,
        key: UUID | str | None = None,
        edit_every: timedelta = EDIT_EVERY,
    ) -> None:
        self._run = run
        self.key = run.id if key is None else key
        self._reader = reader
        self._writer = writer
        self._fence = fence
        self._record = record
        self._clock = clock
        self._bot_login = bot_login
        self._edit_every = edit_every
        self._status: Comment | None = None
        self._said_at: datetime | None = None

    async def say(self, body: str, *, final: bool = False) -> int | None:
        """Makes the status comment say this, and returns its id; None where commenting is impossible.

        An update less than 15 s after the last one is dropped (the next one says more); the final one never is.
        """
        if not final and self._said_at is not None and self._clock() - self._said_at < self._edit_every:
            return self._status.id if self._status else None
        try:
            self._status = await self._put(marker(self.key), body, self._status, self._run.status_comment_id)
        except (DeniedError, GoneError, MissingError):
            return None
        self._said_at = self._clock()
        return self._status.id

    async def _put(self, mark: str, body: str, known: Comment | None, known_id: int | None) -> Comment:
        found = known or await self._find(mark, known_id)
        if found is not None and found.body == body:
            return found
        await self._fence()
        if found is not None:
            try:
                written = await self._writer.update_comment(found.id, body)
            except MissingError:
                found = None
            else:
                await self._record(Action.COMMENT_UPDATED, number=self._run.number, comment_id=written.id)
                return written
            await self._fence()
        written = await self._writer.create_comment(self._run.number, body)
        await self._record(Action.COMMENT_CREATED, number=self._run.number, comment_id=written.id)
        return written

    async def _find(self, mark: str, known_id: int | None) -> Comment | None:
        if known_id is not None:
            try:
                known = await self._reader.issue_comment(known_id)
            except (MissingError, GoneError):
                known = None
            if known is not None and self._is_ours(known, mark):
                return known
        comments = await self._reader.issue_comments(self._run.number)
        return next((one for one in comments if self._is_ours(one, mark)), None)

    def _is_ours(self, comment: Comment, mark: str) -> bool:
        return comment.author.login == self._bot_login and comment.body.startswith(mark)


async def acknowledge(run: Run, writer: RepositoryWriter, record: Recorder) -> bool:
    """👀 on what asked: the comment, the review comment, else the issue. False where GitHub does not allow it.

    No fence holds it back: a reaction added twice is once.
    """
    kind, _, identity = run.occasion.partition(":")
    try:
        if kind == "review-comment" and identity.isdecimal():
            await writer.react_review_comment("eyes", int(identity))
        else:
            await writer.react(
                "eyes", comment_id=run.comment_id if kind == "comment" else None, number=run.number
            )
    except (DeniedError, GoneError, MissingError):
        return False
    await record(Action.REACTION_ADDED, number=run.number, content="eyes")
    return True
