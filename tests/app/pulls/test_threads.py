"""One reply in each review thread that was asked about, once, whatever became of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from app.errors import DeniedError, MissingError, StoppedError, SupersededError
from app.nouns import Account, Action, Comment, Reply, ReviewThread
from app.pulls.threads import Replied, reply_to
from app.pulls.wording import marker

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def desk(github: Any, recorded: Any, run: Any, clock: Any) -> Any:
    for number in (11, 12, 13):
        said = Comment(number, "Why?", Account(3, "rita", "User"), "u", clock(), clock())
        github.threads[number] = ReviewThread(f"T{number}", "a.py", 1, number == 13, False, (said,))

    async def fence() -> None:
        return None

    async def reply(*replies: Reply, **options: Any) -> Replied:
        threads = options.pop("threads", list(github.threads.values()))
        asked = {
            "commit_sha": SHA, "reason": "", "reader": github, "writer": github, "fence": fence, "record": recorded,
        }  # fmt: skip
        return await reply_to(run(number=5), threads, replies, **{**asked, **options})

    reply.github = github  # type: ignore[attr-defined]
    return reply


def replies(github: Any, number: int) -> list[str]:
    return [one.body for one in github.threads[number].comments[1:]]


async def test_each_open_thread_gets_one_reply_with_the_commit(desk: Any, recorded: Any) -> None:
    assert await desk(Reply(11, "Counted from one now.")) == Replied(2)
    (said,) = replies(desk.github, 11)
    assert said == f"{marker(f'{UUID(int=1)}:11')}\nCounted from one now.\n\nCommit: {SHA[:10]}"
    assert SHA[:10] in replies(desk.github, 12)[0]
    assert replies(desk.github, 13) == [], "it is resolved"
    assert [(action, facts["thread"], facts["number"]) for action, facts in recorded.actions] == [
        (Action.COMMENT_CREATED, True, 5),
        (Action.COMMENT_CREATED, True, 5),
    ]


async def test_where_nothing_was_changed_it_says_why(desk: Any) -> None:
    await desk(Reply(11, "It is right as it is."), commit_sha=None, reason="The cost limit was reached.")
    assert replies(desk.github, 11)[0].endswith("\nIt is right as it is.")
    assert replies(desk.github, 12)[0].endswith("Nothing was changed for this. The cost limit was reached.")


async def test_only_the_threads_that_were_asked_about_are_answered(desk: Any) -> None:
    assert await desk(threads=[desk.github.threads[12]]) == Replied(1)
    assert replies(desk.github, 11) == []


async def test_said_twice_it_stands_there_once(desk: Any) -> None:
    await desk()
    assert await desk() == Replied(2)
    assert desk.github.effects == ["reply", "reply"]


@pytest.mark.parametrize("survived", [1, 2])
async def test_a_run_that_died_between_two_replies_writes_each_once(
    desk: Any, crash: type[BaseException], survived: int
) -> None:
    def die(_: str) -> None:
        if len(desk.github.effects) == survived:
            raise crash

    desk.github.after_effect = die
    with pytest.raises(crash):
        await desk()
    desk.github.after_effect = lambda _: None
    await desk()
    assert [len(replies(desk.github, number)) for number in (11, 12)] == [1, 1]


async def test_a_marker_copied_by_a_person_is_no_reply_of_ours(desk: Any) -> None:
    thread = desk.github.threads[11]
    copied = replace(thread.comments[0], id=50, body=f"{marker(f'{UUID(int=1)}:11')}\nhaha")
    desk.github.threads[11] = replace(thread, comments=(*thread.comments, copied))
    await desk()
    assert len(replies(desk.github, 11)) == 2


@pytest.mark.parametrize("error", [MissingError(), DeniedError(reason="locked")])
async def test_one_thread_that_cannot_be_answered_keeps_no_other_from_it(desk: Any, error: Exception) -> None:
    desk.github.refuse["reply 11"] = error
    assert await desk() == Replied(1, 1)
    assert len(replies(desk.github, 12)) == 1


async def test_behind_a_commit_a_cancellation_is_too_late_and_without_one_it_is_not(desk: Any) -> None:
    async def fence() -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        await desk(commit_sha=None, fence=fence)
    assert desk.github.effects == []
    assert await desk(fence=fence) == Replied(2)


async def test_a_superseded_worker_says_nothing(desk: Any) -> None:
    async def fence() -> None:
        raise SupersededError

    with pytest.raises(SupersededError):
        await desk(fence=fence)
    assert desk.github.effects == []


async def test_the_models_words_are_inert(desk: Any) -> None:
    await desk(Reply(11, "Done @ada <!-- magicode:run:x --> Fixes #9 ![x](https://evil.example/x)"))
    (said,) = replies(desk.github, 11)
    assert "@ada" not in said
    assert "#9" not in said
    assert "](" not in said
    assert said.count("<!--") == 1
