"""One reaction, one status comment edited in place, and nobody else's comment ever touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from app.errors import DeniedError, GoneError, MissingError, SupersededError, TransientError
from app.nouns import Account, Action, Comment, Outcome, Publication, PullRequest
from app.pulls.conversation import Conversation, acknowledge
from app.pulls.wording import Stage, ci_key, ended, marker, working
from app.pulls.wording import mended as said_mended


@pytest.fixture
def talk(github: Any, recorded: Any, clock: Any, run: Callable[..., Any]) -> Callable[..., Conversation]:
    async def fence() -> None:
        return None

    def make(*, key: str | None = None, **changes: Any) -> Conversation:
        asked = {"fence": fence, **{k: changes.pop(k) for k in ("fence",) if k in changes}}
        return Conversation(
            run(**changes), reader=github, writer=github, record=recorded, clock=clock,
            bot_login="magicode[bot]", key=key, **asked,
        )  # fmt: skip

    return make


RUN = UUID(int=1)


async def test_one_comment_is_made_and_then_edited(talk: Any, github: Any, clock: Any, recorded: Any) -> None:
    conversation = talk()
    first = await conversation.say(working(RUN, Stage.READING))
    clock.pass_seconds(15)
    assert await conversation.say(working(RUN, Stage.WRITING)) == first
    assert len(github.comments) == 1
    assert "Writing the change" in github.comments[first].body
    assert [action for action, _ in recorded.actions] == [Action.COMMENT_CREATED, Action.COMMENT_UPDATED]


async def test_it_is_edited_at_most_every_fifteen_seconds_but_always_at_the_end(
    talk: Any, github: Any, clock: Any
) -> None:
    conversation = talk()
    said = await conversation.say(working(RUN, Stage.READING))
    for _ in range(10):
        clock.pass_seconds(1.4)
        await conversation.say(working(RUN, Stage.WRITING))
    assert github.effects == ["create_comment"]
    await conversation.say(f"{marker(RUN)}\nDone.", final=True)
    assert github.comments[said].body.endswith("Done.")


async def test_a_worker_that_starts_again_finds_its_comment_by_the_marker(talk: Any, github: Any) -> None:
    first = await talk().say(working(RUN, Stage.READING))
    assert await talk().say(working(RUN, Stage.READING)) == first
    assert len(github.comments) == 1


async def test_a_worker_that_knows_the_comments_id_finds_it_by_that(talk: Any, github: Any) -> None:
    first = await talk().say(working(RUN, Stage.READING))
    assert await talk(status_comment_id=first).say(working(RUN, Stage.READING)) == first


async def test_a_marker_copied_by_a_person_is_not_ours(talk: Any, github: Any, clock: Any) -> None:
    theirs = Comment(5, f"{marker(RUN)}\nhaha", Account(3, "rita", "User"), "u", clock(), clock())
    github.comments[5] = theirs
    assert await talk().say(working(RUN, Stage.READING)) != 5
    assert await talk(status_comment_id=5).say(working(RUN, Stage.READING)) != 5
    assert github.comments[5] == theirs


async def test_a_comment_that_is_not_to_be_seen_yet_is_not_written_a_second_time(
    talk: Any, github: Any, clock: Any
) -> None:
    first = talk()
    made = await first.say(working(RUN, Stage.READING))
    hidden = github.comments.pop(made)
    github.refuse["update_comment"] = MissingError(reason="missing")
    for conversation in (first, talk(status_comment_id=made)):
        with pytest.raises(TransientError) as late:
            await conversation.say(working(RUN, Stage.WRITING), final=True)
        assert late.value.reason == "not_there_yet"
    github.comments[made] = hidden
    github.refuse.clear()
    assert await talk(status_comment_id=made).say(working(RUN, Stage.WRITING), final=True) == made
    assert github.effects == ["create_comment", "update_comment"]


async def test_behind_another_fence_it_remembers_what_it_said(talk: Any, github: Any) -> None:
    conversation = talk()
    asked: list[str] = []

    async def last() -> None:
        asked.append("last")

    made = await conversation.say(working(RUN, Stage.READING))
    hidden = github.comments.pop(made)
    github.refuse["update_comment"] = MissingError(reason="missing")
    with pytest.raises(TransientError):
        await conversation.under(last).say(f"{marker(RUN)}\nDone.", final=True)
    github.comments[made] = hidden
    github.refuse.clear()
    assert await conversation.under(last).say(f"{marker(RUN)}\nDone.", final=True) == made
    assert github.effects == ["create_comment", "update_comment"]
    assert asked == ["last", "last"]


async def test_where_the_app_is_gone_nothing_is_waited_for(talk: Any, github: Any) -> None:
    github.refuse["create_comment"] = MissingError(reason="installation_missing")
    assert await talk().say(working(RUN, Stage.READING)) is None


async def test_where_the_app_has_gone_since_the_last_word_nothing_is_waited_for(
    talk: Any, github: Any
) -> None:
    conversation = talk()
    await conversation.say(working(RUN, Stage.READING))
    github.refuse["update_comment"] = MissingError(reason="installation_missing")
    assert await conversation.say(f"{marker(RUN)}\nDone.", final=True) is None


async def test_a_deleted_status_comment_is_written_anew(talk: Any, github: Any, clock: Any) -> None:
    first = await talk().say(working(RUN, Stage.READING))
    del github.comments[first]
    clock.pass_seconds(61)
    second = await talk(status_comment_id=first).say(working(RUN, Stage.READING))
    assert second != first
    assert len(github.comments) == 1


async def test_the_same_words_are_not_written_twice(talk: Any, github: Any) -> None:
    await talk().say(working(RUN, Stage.READING))
    await talk().say(working(RUN, Stage.READING), final=True)
    assert github.effects == ["create_comment"]


@pytest.mark.parametrize("error", [DeniedError(reason="locked"), GoneError(reason="no_issues")])
async def test_where_commenting_is_impossible_it_says_so_to_its_caller(
    talk: Any, github: Any, error: Any
) -> None:
    github.refuse["create_comment"] = error
    assert await talk().say(working(RUN, Stage.READING)) is None


@pytest.mark.parametrize(
    ("occasion", "reaction"),
    [
        ("comment:11", ("comment", 11, "eyes")),
        ("review-comment:12", ("review-comment", 12, "eyes")),
        ("review:13", ("issue", 3, "eyes")),
        ("labeled:2026-11-01T12:00:00Z", ("issue", 3, "eyes")),
    ],
)
async def test_what_asked_gets_the_eyes(
    run: Callable[..., Any], github: Any, recorded: Any, occasion: str, reaction: Any
) -> None:
    assert await acknowledge(run(occasion=occasion), github, recorded)
    assert github.reactions == {reaction}


async def test_a_locked_conversation_gets_none(run: Callable[..., Any], github: Any, recorded: Any) -> None:
    github.refuse["react"] = DeniedError(reason="locked")
    assert not await acknowledge(run(), github, recorded)
    assert recorded.actions == []


async def test_a_superseded_worker_says_nothing(talk: Any, github: Any) -> None:
    async def fence() -> None:
        raise SupersededError

    with pytest.raises(SupersededError):
        await talk(fence=fence).say(working(RUN, Stage.READING))
    assert not github.comments


async def test_the_runs_id_tells_two_runs_comments_apart(talk: Any, github: Any) -> None:
    first = await talk().say(working(RUN, Stage.READING))
    other = UUID(int=2)
    assert await talk(id=other).say(working(other, Stage.READING)) != first
    assert replace(github.comments[first]).body == working(RUN, Stage.READING)


async def test_runs_that_share_a_key_edit_one_comment(talk: Any, github: Any) -> None:
    key = ci_key(7)
    first = await talk(key=key).say(ended(key, mended(1), None, "h"), final=True)
    other = talk(key=key, id=UUID(int=2))
    assert other.key == key
    assert await other.say(working(key, Stage.READING)) == first
    assert await other.say(ended(key, mended(2), None, "h"), final=True) == first
    assert "Try 2 of 3" in github.comments[first].body
    assert await talk(key=ci_key(8)).say(working(ci_key(8), Stage.READING)) != first


async def test_a_shared_key_that_a_person_copied_is_not_ours(talk: Any, github: Any, clock: Any) -> None:
    key = ci_key(7)
    theirs = Comment(5, f"{marker(key)}\nhaha", Account(3, "rita", "User"), "u", clock(), clock())
    github.comments[5] = theirs
    assert await talk(key=key).say(working(key, Stage.READING)) != 5
    assert github.comments[5] == theirs


def mended(attempt: int) -> Outcome:
    pull = PullRequest(7, "n", "t", "", "open", False, False, "h", "s", 7, "main", "b", "u")
    return said_mended(Publication(pull, "h", "c" * 40, True, created=False), attempt, 3)
