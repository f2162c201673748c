"""A review and the comments that came with it arrive in several deliveries and are one run."""

from __future__ import annotations

import itertools
import json
from typing import Any
from uuid import uuid4

import pytest

from app.jobs.accept import Kind
from webhooks.notices import Received
from webhooks.receive import receive
from webhooks.signature import Secrets

REPOSITORY = {"id": 5, "full_name": "acme/widgets"}
MONA = {"id": 3, "login": "mona", "type": "User"}
PULL = {
    "number": 8,
    "title": "Sum all",
    "body": "Fixes #7.",
    "head": {"ref": "magicode/issue-7", "sha": "a" * 40, "repo": {"id": 5}},
}


def delivered(event: str, **said: Any) -> Received:
    """As GitHub signs and sends it."""
    payload = {
        "installation": {"id": 1},
        "repository": REPOSITORY,
        "sender": MONA,
        "pull_request": PULL,
        **said,
    }
    secrets, body = Secrets("a secret of this test"), json.dumps(payload).encode()
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Delivery": str(uuid4()),
        "X-GitHub-Event": event,
        "X-Hub-Signature-256": secrets.sign(body),
    }
    return receive(headers, body, secrets=secrets, slug="magicode")


def the_review(number: int = 50, *, state: str = "changes_requested", body: str = "Look again.") -> Received:
    review = {"id": number, "state": state, "body": body, "user": MONA}
    return delivered("pull_request_review", action="submitted", review=review)


def on_a_line(number: int, *, body: str = "@magicode fix this", review: int | None = 50) -> Received:
    comment = {"id": number, "body": body, "user": MONA, "pull_request_review_id": review}
    return delivered("pull_request_review_comment", action="created", comment=comment)


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
async def test_a_review_with_three_comments_that_mention_us_is_one_run(
    order: tuple[int, ...], deliver: Any, register: Any, look: Any
) -> None:
    await register(1)
    parts = [the_review(), on_a_line(61), on_a_line(62, body="@magicode rename it"), on_a_line(63)]
    accepted = [await deliver(parts[each]) for each in order]
    assert [one.kind for one in accepted] == [Kind.QUEUED] + [Kind.REPEATED] * 3
    assert {one.run.id for one in accepted} == {accepted[0].run.id}
    again = [await deliver(parts[each]) for each in order]
    assert {one.kind for one in again} == {Kind.REPEATED}
    assert look("SELECT number, verb, state FROM magicode.runs") == [(8, "revise", "queued")]
    assert look("SELECT task_name FROM magicode_jobs.procrastinate_jobs ORDER BY id") == [
        ("acknowledge",),
        ("work",),
    ]


async def test_a_review_that_only_comments_is_as_many_runs_as_none_until_a_comment_mentions_us(
    deliver: Any, register: Any, look: Any
) -> None:
    await register(1)
    assert (await deliver(the_review(state="commented"))).kind is Kind.IGNORED
    assert (await deliver(on_a_line(61, body="Hm."))).kind is Kind.IGNORED
    kinds = [(await deliver(on_a_line(each))).kind for each in (62, 63)]
    assert kinds == [Kind.QUEUED, Kind.REPEATED]
    assert len(look("SELECT id FROM magicode.runs")) == 1


async def test_two_reviews_and_a_comment_of_its_own_are_three_requests(deliver: Any, register: Any) -> None:
    await register(1)
    accepted = [
        await deliver(each)
        for each in (the_review(50), the_review(51), on_a_line(61, review=52), on_a_line(62, review=None))
    ]
    assert len({one.run.meaning for one in accepted}) == 4


async def test_another_verb_in_the_same_review_is_another_request(deliver: Any, register: Any) -> None:
    await register(1)
    asked = await deliver(the_review())
    explained = await deliver(on_a_line(61, body="@magicode explain this line"))
    assert asked.run.meaning != explained.run.meaning
    assert (asked.run.verb, explained.run.verb) == ("revise", "explain")
