"""One run at work: what it reads GitHub through, what it says there, and what stops it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from app.agent.asking import unless_stopped
from app.custody import settings
from app.custody.settings import InstallationSettings
from app.errors import StoppedError, SupersededError
from app.house import House, page_of
from app.jobs import states
from app.jobs.fence import RunFence
from app.nouns import MEND, Action, Comment, Given, Outcome, Publication, Reply, ReviewThread, Run
from app.ports import Fence, Recorder, RepositoryReader, RepositoryWriter, Transaction
from app.pulls import wording
from app.pulls.conversation import Conversation
from app.pulls.conversation import acknowledge as eyes
from app.pulls.wording import Ours, Stage, ci_key
from app.witness import Witness
from webhooks import comment as grammar
from webhooks.command import Ask, Verb

T = TypeVar("T")

VOICE = {"issues": "write", "pull_requests": "write", "metadata": "read"}
"""What the token that comments is narrowed to: it can write no code."""


@dataclass(slots=True)
class Scene:
    """`key` is the installation's data key; `conversation` is fenced by a cancellation too, `last_words` is not.

    `origin` is the run whose words are worked on: this one, or the one that a `retry` is about. `threads` are the review
    threads that it is about (`every_thread`: each of them is answered), `replies` what the model says in them, `remarks`
    what people are told beside the outcome, `told` how a publication is told where nobody asked for it in words. `at_the_end`
    is done in the transaction that ends the run, or not at all.
    """

    house: House
    run: Run
    key: bytes
    reader: RepositoryReader
    voice: RepositoryWriter
    conversation: Conversation
    record: Recorder
    fence: Fence
    farewell: Conversation
    origin: Run
    witness: Witness
    asking_comment: Comment | None = None
    threads: tuple[ReviewThread, ...] = ()
    every_thread: bool = False
    replies: tuple[Reply, ...] = ()
    remarks: list[Ours] = field(default_factory=list)
    at_the_end: list[Callable[[Transaction], Awaitable[object]]] = field(default_factory=list)
    told: Callable[[Publication], Outcome] | None = None

    @asynccontextmanager
    async def at(self, stage: Stage) -> AsyncIterator[None]:
        """Says where the run is, and measures how long it is there."""
        with self.house.watch.station(stage.name.lower()):
            await self.fence()
            status = await self.conversation.say(
                wording.working(
                    self.conversation.key, stage, verb=self.origin.verb, page=page_of(self.house, self.run)
                )
            )
            if status is not None and status != self.run.status_comment_id:
                self.run = await states.note(self.house.store, self.run, status_comment_id=status)
            try:
                yield
            finally:
                await self.witness.flush()

    async def unless_stopped(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work gives; it is broken off as soon as somebody cancels the run or takes it over.

        For waiting alone: work that writes somewhere must not be broken off in the middle.
        """
        return await unless_stopped(work, self.fence)

    async def last_words(self, body: str) -> None:
        """The final state of the status comment; a cancelled run says it too."""
        await self.farewell.say(body, final=True)

    async def current(self) -> Run:
        """The run's row as it is now. Raises SupersededError when it is gone."""
        async with self.house.store.transaction(self.run.installation_id) as transaction:
            found = await transaction.run(self.run.id)
        if found is None:
            raise SupersededError(reason="run_ended")
        return found

    async def chosen(self) -> InstallationSettings:
        """What the installation has chosen, as it is now. Raises DefectError (`settings_unreadable`)."""
        async with self.house.store.transaction(self.run.installation_id) as transaction:
            return await settings.read(transaction)

    async def roles(self) -> Callable[[int], Given | None]:
        """Who has a role of their own in the installation, by the id of their account, as it is now.

        Raises DefectError (`settings_unreadable`), and SupersededError where the installation is gone.
        """
        async with self.house.store.transaction(self.run.installation_id) as transaction:
            chosen, installation = await settings.read(transaction), await transaction.installation()
        if installation is None:
            raise SupersededError(reason="run_ended")
        return partial(chosen.given, installation)

    async def comment(self) -> Comment | None:
        """What the asker wrote, fetched anew; None for a label or an assignment. Raises MissingError when it is gone."""
        kind, _, identity = self.run.occasion.partition(":")
        if self.asking_comment is None and identity.isdecimal():
            match kind:
                case "comment":
                    self.asking_comment = await self.reader.issue_comment(int(identity))
                case "review-comment":
                    self.asking_comment = await self.reader.review_comment(int(identity))
                case "review":
                    self.asking_comment = await self.reader.review(self.run.number, int(identity))
        return self.asking_comment

    async def ask(self) -> Ask | None:
        """The request as the grammar reads it; None when there is no comment or it no longer asks for anything."""
        comment = await self.comment()
        if comment is None:
            return None
        plain = Verb.REVISE if self.run.is_pull_request else Verb.FIX
        return grammar.read(comment.body, slug=self.house.slug, plain=plain)

    def writer(
        self, purpose: str, permissions: Mapping[str, str]
    ) -> AbstractAsyncContextManager[RepositoryWriter]:
        """A write token for one purpose, written down when it is minted and when it is revoked."""
        return _writer(self.house, self.run, self.witness, self.record, purpose, permissions)


@asynccontextmanager
async def open_scene(house: House, run: Run, *, fence: Fence | None = None) -> AsyncIterator[Scene]:
    """Mints the read token and the one that comments, and revokes both at the end. Raises what GitHub's answers raise.

    `fence` is the run's own unless the run has ended and is only looked at once more.
    """
    record = house.ledger.recorder(run.installation_id, run.id)
    fence = _both(house.held, fence or RunFence(house.store, run))
    async with house.store.transaction(run.installation_id) as transaction:
        key = await house.keys.data_key(transaction)
    async with (
        Witness(record, fence=_Held(fence)) as witness,
        written_down(
            house.github.reader(run.installation_id, run.repository_id, witness=witness),
            record,
            "read",
            "read",
        ) as reader,
        _writer(house, run, witness, record, "comment", VOICE) as voice,
    ):
        # All tries to mend one pull request speak in one comment.
        conversation = Conversation(
            run,
            key=ci_key(run.number) if run.verb == MEND else run.id,
            reader=reader,
            writer=voice,
            fence=fence,
            record=record,
            clock=house.clock,
            bot_login=f"{house.slug}[bot]",
        )
        yield Scene(
            house=house,
            run=run,
            key=key,
            reader=reader,
            voice=voice,
            conversation=conversation,
            record=record,
            fence=fence,
            farewell=conversation.under(_Held(fence)),
            origin=run,
            witness=witness,
        )


async def acknowledge(house: House, run: Run) -> None:
    """👀 at once, whoever asked: it says that the request was seen, not that it will be done.

    Where an installation's writes are used up it waits, and no token is made for it: what is left of them is for saying what
    becomes of the runs.
    """
    await house.github.room(run.installation_id)
    record = house.ledger.recorder(run.installation_id, run.id)
    async with (
        Witness(record, fence=house.held) as witness,
        _writer(house, run, witness, record, "react", VOICE) as voice,
    ):
        await eyes(run, voice, record)


def _writer(  # noqa: PLR0917 - who mints what for whom, in the order in which it is said
    house: House,
    run: Run,
    witness: Witness,
    record: Recorder,
    purpose: str,
    permissions: Mapping[str, str],
) -> AbstractAsyncContextManager[RepositoryWriter]:
    token = house.github.writer(run.installation_id, run.repository_id, permissions, witness=witness)
    return written_down(token, record, purpose, said(permissions))


@asynccontextmanager
async def written_down(
    token: AbstractAsyncContextManager[T], record: Recorder, purpose: str, permissions: str
) -> AsyncIterator[T]:
    """The token's minting and its end, however it ends."""
    async with AsyncExitStack() as stack:
        held = await stack.enter_async_context(token)
        await record(Action.TOKEN_MINTED, purpose=purpose, permissions=permissions)
        try:
            yield held
        finally:
            await stack.aclose()
            await record(Action.TOKEN_REVOKED, purpose=purpose)


class _Held:
    """Another worker stops the last words; a cancellation does not."""

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    async def __call__(self) -> None:
        try:
            await self._fence()
        except StoppedError:
            return


def _both(one: Fence, other: Fence) -> Fence:
    async def fence() -> None:
        await one()
        await other()

    return fence


def said(permissions: Mapping[str, str]) -> str:
    """What a token is narrowed to, as it is written down."""
    return " ".join(f"{name}:{level}" for name, level in sorted(permissions.items()))
