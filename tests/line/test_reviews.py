"""A review of our pull request, as people write it on GitHub: one request, one commit, a reply in each thread."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.line.conftest import Stages
from tests.line.conversations import ask, create, finish, ours, playbook, prompts, reasons, scenario
from tests.line.stage import Stage

THREADS = """
query($number: Int!) { repository(owner: "octo", name: "fairshare") { pullRequest(number: $number) {
  reviewThreads(first: 50) { nodes { id isResolved comments(first: 50) { nodes { body author { login } } } } }
} } }
"""
RESOLVE = "mutation($id: ID!) { resolveReviewThread(input: {threadId: $id}) { thread { isResolved } } }"


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    """A model that writes a note, and another beside it where a review asks for more; it leaves the replies to us."""
    more = create("MORE.md", "More of it.\n")
    told = finish("Write another note", "One note was not enough.")
    in_threads = deepcopy(told)
    in_threads["calls"][0]["arguments"]["replies"] = []
    script = playbook(
        scenario(more, in_threads, in_threads, when="once more"),
        scenario(more, told, when="too brief"),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )
    return await raise_stage({"octo/fairshare": sample}, script)


async def graphql(stage: Stage, query: str, **variables: Any) -> Any:
    answer = await stage.client().post("/graphql", json={"query": query, "variables": variables})
    assert "errors" not in answer.json(), answer.text
    return answer.json()["data"]


async def threads(stage: Stage, number: int) -> list[Any]:
    found = await graphql(stage, THREADS, number=number)
    return list(found["repository"]["pullRequest"]["reviewThreads"]["nodes"])


async def review(stage: Stage, number: int, body: str, *on_lines: str, user: str = "wim") -> None:
    """A review that requests changes, with comments on the first line of the note."""
    comments = [{"path": "NOTES.md", "line": 1, "body": each} for each in on_lines]
    sent = {"event": "REQUEST_CHANGES", "body": body, "comments": comments}
    made = await stage.client(user).post(f"/repos/octo/fairshare/pulls/{number}/reviews", json=sent)
    assert made.status_code == 200, made.text


async def commits(stage: Stage, number: int) -> list[str]:
    listed = await stage.client().get(f"/repos/octo/fairshare/pulls/{number}/commits")
    return [str(one["sha"]) for one in listed.json()]


async def redeliver(stage: Stage, event: str) -> int:
    """Every delivery of an event again; how many there were."""
    app = stage.github.app_client()
    listed = (await app.get("/app/hook/deliveries", params={"per_page": 100})).json()
    wanted = [one["id"] for one in listed if one["event"].startswith(event) and not one["redelivery"]]
    for number in wanted:
        assert (await app.post(f"/app/hook/deliveries/{number}/attempts")).status_code == 202
    await stage.settled()
    return len(wanted)


async def test_a_review_with_comments_that_mention_us_is_one_commit_and_a_reply_in_each_thread(
    stage: Stage,
) -> None:
    issue = await ask(stage)
    await stage.ended()
    pull = issue + 1
    before = await commits(stage, pull)
    await review(
        stage, pull, "Not yet: once more.", "@magicode fix this", "@magicode and this", "And why this?"
    )
    runs = await stage.ended(2)
    assert reasons(runs)[1:] == [("revise", "updated", "updated")]
    after = await commits(stage, pull)
    assert (after[:-1], len(after)) == (before, len(before) + 1)
    answered = await threads(stage, pull)
    assert len(answered) == 3
    for thread in answered:
        first, reply = thread["comments"]["nodes"]
        assert (first["author"]["login"], reply["author"]["login"]) == ("wim", "magicode")
        assert after[-1][:7] in reply["body"]

    assert await redeliver(stage, "pull_request_review") >= 4
    assert len(await stage.ended(2)) == 2
    assert await commits(stage, pull) == after
    assert await threads(stage, pull) == answered
    assert len(await ours(stage, pull)) == 1


async def test_a_review_that_requests_changes_needs_no_mention(stage: Stage) -> None:
    issue = await ask(stage)
    await stage.ended()
    await review(stage, issue + 1, "The note is too brief.")
    runs = await stage.ended(2)
    assert reasons(runs)[1:] == [("revise", "updated", "updated")]
    assert len(await commits(stage, issue + 1)) == 2


async def test_a_reviews_own_words_are_read_where_its_comment_asked(stage: Stage) -> None:
    issue = await ask(stage)
    await stage.ended()
    on_line = {"path": "NOTES.md", "line": 1, "body": "@magicode see above"}
    sent = {"event": "COMMENT", "body": "Say it once more, please.", "comments": [on_line]}
    made = await stage.client().post(f"/repos/octo/fairshare/pulls/{issue + 1}/reviews", json=sent)
    assert made.status_code == 200, made.text
    runs = await stage.ended(2)
    assert reasons(runs)[1:] == [("revise", "updated", "updated")]
    assert runs[1].occasion.startswith("review-comment:")
    assert "Say it once more, please." in await prompts(stage)


async def test_a_mention_in_passing_does_not_make_a_review_a_cry_for_help(stage: Stage) -> None:
    issue = await ask(stage)
    await stage.ended()
    await review(stage, issue + 1, "I think @magicode was too brief.")
    runs = await stage.ended(2)
    assert reasons(runs)[1:] == [("revise", "updated", "updated")]


async def test_a_resolved_thread_is_left_alone(stage: Stage) -> None:
    issue = await ask(stage)
    await stage.ended()
    pull = issue + 1
    sent = {
        "event": "COMMENT",
        "body": "Some thoughts.",
        "comments": [{"path": "NOTES.md", "line": 1, "body": each} for each in ("Settled.", "Open.")],
    }
    made = await stage.client().post(f"/repos/octo/fairshare/pulls/{pull}/reviews", json=sent)
    assert made.status_code == 200, made.text
    settled, _ = await threads(stage, pull)
    await graphql(stage, RESOLVE, id=settled["id"])
    await stage.comment(pull, "@magicode write it once more")
    runs = await stage.ended(2)
    assert runs[1].state.value == "updated"
    settled, _ = await threads(stage, pull)
    assert len(settled["comments"]["nodes"]) == 1
