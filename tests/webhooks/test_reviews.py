"""Reviews of our pull requests, made of GitHub's own payloads: which ask, for what, and what is one request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhooks import notices
from webhooks.command import Ask, Command, Verb
from webhooks.comment import read
from webhooks.notices import Ignored, Received

Payload = dict[str, Any]
Deliver = Callable[..., Received]
Example = Callable[..., Payload]

REVIEW = 237_895_671


@pytest.fixture
def review(example: Example) -> Payload:
    """Codertocat's review of a branch of ours that requests changes, with some words and no mention."""
    payload = example("pull_request_review", "submitted")
    payload["review"].update(state="changes_requested", body="The empty list\n is  missing.")
    payload["pull_request"]["head"]["ref"] = "magicode/issue-1"
    assert payload["review"]["id"] == REVIEW
    assert payload["pull_request"]["head"]["repo"]["id"] == payload["repository"]["id"]
    return payload


@pytest.fixture
def on_line(example: Example) -> Payload:
    payload = example("pull_request_review_comment", "created")
    payload["comment"].update(pull_request_review_id=REVIEW, body="@magicode rename it")
    return payload


def outcome(deliver: Deliver, payload: Payload) -> Any:
    kind = "pull_request_review" if "review" in payload else "pull_request_review_comment"
    return deliver(kind, payload).outcome


# --- what asks -------------------------------------------------------------------------------------------------------


def test_a_review_that_requests_changes_on_our_branch_asks_without_a_mention(
    review: Payload, deliver: Deliver
) -> None:
    command = outcome(deliver, review)
    assert command.ask == Ask(Verb.REVISE, "The empty list is missing.")
    assert (command.occasion, command.group) == (f"review:{REVIEW}", f"review:{REVIEW}")
    assert (command.number, command.is_pull_request) == (review["pull_request"]["number"], True)
    assert command.comment_id == REVIEW
    assert ("comment.body", "The empty list\n is  missing.") in command.texts


def test_its_words_may_all_stand_on_lines(review: Payload, deliver: Deliver) -> None:
    review["review"]["body"] = None
    assert outcome(deliver, review).ask == Ask(Verb.REVISE, "")


@pytest.mark.parametrize("state", ["commented", "approved", "dismissed", "something_of_next_year"])
def test_any_other_review_asks_only_by_a_mention(state: str, review: Payload, deliver: Deliver) -> None:
    review["review"]["state"] = state
    assert outcome(deliver, review) == Ignored("no_command")
    review["review"]["body"] = "@magicode handle the empty list"
    assert outcome(deliver, review).ask == Ask(Verb.REVISE, "handle the empty list")


def test_a_branch_that_is_not_ours_is_not_worked_on_unasked(review: Payload, deliver: Deliver) -> None:
    head = review["pull_request"]["head"]
    for ref in ("changes", "magicode", "not/magicode/issue-1", "Magicode/issue-1"):
        head["ref"] = ref
        assert outcome(deliver, review) == Ignored("no_command")
    head["ref"] = "magicode/issue-1"
    assert isinstance(outcome(deliver, review), Command)
    head["repo"]["id"] += 1
    assert outcome(deliver, review) == Ignored("no_command")
    head["repo"] = None
    assert outcome(deliver, review) == Ignored("no_command")


@pytest.mark.parametrize(
    ("body", "ask"),
    [
        ("@magicode explain the loop", Ask(Verb.EXPLAIN, "the loop")),
        ("Wrong.\n\n@magicode undo", Ask(Verb.UNDO)),
        ("@magicode fix the empty list", Ask(Verb.REVISE, "the empty list")),
        ("@magicode revies", Ask(Verb.HELP, near_miss="revies", suggestion=Verb.REVISE)),
        (
            "I think @magicode forgot the empty list",
            Ask(Verb.REVISE, "I think @magicode forgot the empty list"),
        ),
        ("Handle the empty list. @magicode", Ask(Verb.REVISE, "Handle the empty list. @magicode")),
        ("@magicode thanks!", Ask(Verb.REVISE, "@magicode thanks!")),
        ("> @magicode cancel\n\nno", Ask(Verb.REVISE, "> @magicode cancel no")),
    ],
)
def test_a_mention_in_it_counts_where_it_asks_for_something(
    body: str, ask: Ask, review: Payload, deliver: Deliver
) -> None:
    review["review"]["body"] = body
    assert outcome(deliver, review).ask == ask


def test_bots_and_ourselves_are_not_listened_to(review: Payload, deliver: Deliver) -> None:
    for who, reason in (
        ({"login": "magicode[bot]", "type": "Bot"}, "ourselves"),
        ({"login": "coderabbit[bot]", "type": "Bot"}, "bot"),
    ):
        for part in (review["sender"], review["review"]["user"]):
            part.update(who)
        assert outcome(deliver, review) == Ignored(reason)
    review["review"]["user"] = None
    assert outcome(deliver, review) == Ignored("author_gone")


def test_a_review_edited_later_asks_only_by_a_new_mention(review: Payload, deliver: Deliver) -> None:
    review.update(action="edited", changes={"body": {"from": "Hm."}})
    assert outcome(deliver, review) == Ignored("no_command")
    review["review"]["body"] = "@magicode handle the empty list"
    assert outcome(deliver, review).ask.verb is Verb.REVISE
    review["changes"]["body"]["from"] = "@magicode fix the empty list"
    assert outcome(deliver, review) == Ignored("edit_adds_no_command")


def test_a_dismissed_review_asks_for_nothing(review: Payload, deliver: Deliver) -> None:
    review["action"] = "dismissed"
    assert outcome(deliver, review) == Ignored("action_not_used")


# --- what is one request ---------------------------------------------------------------------------------------------


def meaning(command: Command) -> tuple[object, ...]:
    return (command.repository_id, command.number, command.group or command.occasion, command.ask.verb)


def test_all_that_came_with_one_review_is_one_request(
    review: Payload, on_line: Payload, deliver: Deliver
) -> None:
    commands = [outcome(deliver, review)]
    for number, body in enumerate(["@magicode rename it", "@magicode fix this", "@magicode revise that"]):
        on_line["comment"].update(id=1_000 + number, body=body)
        commands.append(outcome(deliver, on_line))
    assert len({meaning(one) for one in commands}) == 1
    assert len({one.occasion for one in commands}) == 4


def test_a_comment_without_a_mention_is_left_to_its_review(on_line: Payload, deliver: Deliver) -> None:
    on_line["comment"]["body"] = "Rename it."
    assert outcome(deliver, on_line) == Ignored("no_command")


def test_a_comment_of_another_review_is_another_request(on_line: Payload, deliver: Deliver) -> None:
    first = outcome(deliver, on_line)
    on_line["comment"].update(id=1_001, pull_request_review_id=REVIEW + 1)
    assert meaning(outcome(deliver, on_line)) != meaning(first)


def test_a_comment_on_a_line_may_belong_to_no_review(on_line: Payload, deliver: Deliver) -> None:
    for change in ({"pull_request_review_id": None}, {}):
        on_line["comment"].update(change)
        command = outcome(deliver, on_line)
        assert (command.group, command.occasion) == ("", f"review-comment:{on_line['comment']['id']}")
        on_line["comment"].pop("pull_request_review_id", None)


def test_other_comments_have_no_group(example: Example, deliver: Deliver) -> None:
    payload = example("issue_comment", "created")
    payload["comment"]["body"] = "@magicode fix this"
    assert deliver("issue_comment", payload).outcome.group == ""
    labelled = example("issues", "labeled")
    labelled["label"]["name"] = "magicode"
    assert deliver("issues", labelled).outcome.group == ""


# --- what is told of a pull request ----------------------------------------------------------------------------------


def test_a_humans_push_to_our_branch_names_the_human(example: Example, deliver: Deliver) -> None:
    payload = example("pull_request", "synchronize")
    payload["pull_request"]["head"]["ref"] = "magicode/issue-1"
    told = deliver("pull_request", payload).outcome
    assert isinstance(told, notices.PullRequestChanged)
    assert (told.action, told.state, told.merged, told.sender.is_bot) == ("synchronize", "open", False, False)
    assert (told.sender.id, told.sender.login) == (payload["sender"]["id"], payload["sender"]["login"])
    assert told.head_sha == payload["pull_request"]["head"]["sha"]
    assert told.head_repository_id == told.repository_id
    payload["sender"].update(login="dependabot[bot]", type="Bot")
    assert deliver("pull_request", payload).outcome.sender.is_bot
    payload["sender"].update(login="magicode[bot]", type="Bot")
    assert deliver("pull_request", payload).outcome == Ignored("ourselves")


@pytest.mark.parametrize("merged", [True, False])
def test_merged_and_closed_are_told_apart(merged: bool, example: Example, deliver: Deliver) -> None:
    payload = example("pull_request", "closed")
    payload["pull_request"].update(merged=merged, state="closed")
    told = deliver("pull_request", payload).outcome
    assert (told.action, told.state, told.merged) == ("closed", "closed", merged)


# --- the grammar beneath ---------------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.sampled_from(["@magicode", "I think @magicode broke it", "@magicode?", ""]))
def test_what_a_mere_mention_asks_for_is_the_callers_to_say(text: str, mention: str) -> None:
    body = f"{text} {mention}"
    aside = Ask(Verb.REVISE, body)
    asked, given_aside = read(body, slug="magicode"), read(body, slug="magicode", aside=aside)
    assert (asked is None) == (given_aside is None)
    assert given_aside == asked or (asked == Ask(Verb.HELP) and given_aside == aside)
