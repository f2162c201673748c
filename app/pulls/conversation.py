"""What MagiCode says on an issue or pull request: a reaction, one status comment edited in place, and answers.

A comment is looked for by its hidden marker before it is written, and only the App's own comment is ever edited:
anybody can copy a marker, and the App's permission would let it edit theirs.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from app.errors import DeniedError, GoneError, MissingError, TransientError
from app.nouns import Action, Comment, Run
from app.ports import Clock, Fence, Recorder, RepositoryReader, RepositoryWriter
from app.pulls.wording import marker

EDIT_EVERY: Final = timedelta(seconds=15)
"""Between two edits of the status comment, for GitHub's limits on creating content."""

LATE: Final = timedelta(seconds=60)
"""For so long a comment that GitHub does not find may have been made a moment ago, and not have come to where it is looked for;
then somebody has deleted it."""

LOOK_AGAIN: Final = timedelta(seconds=20)


@dataclass(slots=True)
class _Told:
    """What was said, as whoever said it remembers: GitHub may not show it yet."""

    status: Comment | None = None
    said_at: datetime | None = None
    made_at: datetime | None = None


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
        self._told = _Told()

    def under(self, fence: Fence) -> Conversation:
        """The same voice, which remembers the same, behind another fence."""
        other = copy(self)
        other._fence = fence
        return other

    async def say(self, body: str, *, final: bool = False) -> int | None:
        """Makes the status comment say this, and returns its id; None where commenting is impossible.

        An update less than 15 s after the last one is dropped (the next one says more); the final one never is.
        """
        # A clock that was set back says nothing about how long ago that was.
        since = None if self._told.said_at is None else self._clock() - self._told.said_at
        if not final and since is not None and timedelta(0) <= since < self._edit_every:
            return self._told.status.id if self._told.status else None
        try:
            self._told.status = await self._put(body, final=final)
        except MissingError as error:
            # Not so where the App or the repository is gone: that is known, and nobody has to wait for it.
            if error.reason == "missing" and self._clock() - self._run.created_at < LATE:
                raise TransientError(reason="not_there_yet") from None
            return None
        except (DeniedError, GoneError):
            return None
        self._told.said_at = self._clock()
        return self._told.status.id

    async def _put(self, body: str, *, final: bool) -> Comment:
        found = self._told.status or await self._find(marker(self.key), self._run.status_comment_id)
        if found is not None and (
            found.body == body or not (final or self._told.status or self._is_due(found))
        ):
            return found
        await self._fence()
        if found is not None:
            try:
                written = await self._writer.update_comment(found.id, body)
            except MissingError as error:
                if error.reason != "missing":
                    raise  # the App or the repository is gone, and not the comment
                self._require_old()
                found = None
            else:
                await self._record(Action.COMMENT_UPDATED, number=self._run.number, comment_id=written.id)
                return written
            await self._fence()
        written = await self._writer.create_comment(self._run.number, body)
        self._told.made_at = self._clock()
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
        found = next((one for one in comments if self._is_ours(one, mark)), None)
        if found is None and known_id is not None:
            self._require_old()
        return found

    def _is_due(self, found: Comment) -> bool:
        """An earlier try may have said something a moment ago, as GitHub's clock has it."""
        return abs(self._clock() - found.updated_at) >= self._edit_every

    def _require_old(self) -> None:
        """Raises TransientError (`not_there_yet`) where our comment may be too new to be found: a second one would stay."""
        made_at = self._told.made_at or self._run.started_at
        if made_at is not None and self._clock() - made_at < LATE:
            raise TransientError(
                "What was just written is not to be seen yet.", reason="not_there_yet", retry_after=LOOK_AGAIN
            )

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
