"""The adapter reads and answers reviews, merges, compares and finds what closes an issue, on real git."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from app.errors import DeniedError, InvalidError, MissingError

BRANCH = "magicode/issue-1"
TOTAL = "def total(items):\n    return sum(items)\n"
RESOLVE = "mutation($id: ID!) { resolveReviewThread(input: {threadId: $id}) { thread { isResolved } } }"


async def put(desk: Any, path: str, text: str, branch: str, message: str = "Change it") -> str:
    """Commits a file as ada. Returns the commit's sha."""
    body = {"message": message, "branch": branch, "content": base64.b64encode(text.encode()).decode()}
    present = await desk.people.get(f"/repos/octo/sample/contents/{path}", params={"ref": branch})
    if present.status_code == 200:
        body["sha"] = present.json()["sha"]
    return str((await desk.by_hand("PUT", f"/contents/{path}", **body))["commit"]["sha"])


async def head_of(desk: Any, branch: str) -> str:
    return str((await desk.by_hand("GET", f"/git/ref/heads/{branch}"))["object"]["sha"])


@pytest.fixture
async def pull(desk: Any) -> int:
    """An issue with number 1, and a pull request that says it fixes it."""
    await desk.issue()
    main = await head_of(desk, "main")
    await desk.by_hand("POST", "/git/refs", ref=f"refs/heads/{BRANCH}", sha=main)
    await put(desk, "src/total.py", TOTAL, BRANCH)
    made = await desk.by_hand("POST", "/pulls", title="Sum all", head=BRANCH, base="main", body="Fixes #1.")
    return int(made["number"])


async def reviewed(desk: Any, pull: int, *bodies: str) -> int:
    wim = desk.sim.client("wim")
    sent = {
        "event": "REQUEST_CHANGES",
        "body": "Please look again.",
        "comments": [{"path": "src/total.py", "line": 2, "body": body} for body in bodies],
    }
    made = await wim.post(f"/repos/octo/sample/pulls/{pull}/reviews", json=sent)
    assert made.status_code == 200, made.text
    return int(made.json()["id"])


async def test_the_comments_of_one_review_are_read_with_their_lines(desk: Any, pull: int) -> None:
    review = await reviewed(desk, pull, "Why?", "And empty lists?")
    await reviewed(desk, pull, "Something else")
    async with desk.reader() as reader:
        found = await reader.review_comments(pull, review)
        one = await reader.review_comment(found[0].id)
    assert [(each.body, each.path, each.line) for each in found] == [
        ("Why?", "src/total.py", 2),
        ("And empty lists?", "src/total.py", 2),
    ]
    assert {(each.review_id, each.reply_to, each.author.login) for each in found} == {(review, None, "wim")}
    assert one == found[0]


async def test_threads_are_read_with_what_was_said_in_them(desk: Any, pull: int) -> None:
    review = await reviewed(desk, pull, "Why?", "And empty lists?")
    async with desk.reader() as reader:
        first, second = await reader.review_comments(pull, review)
        async with desk.writer() as writer:
            answer = await writer.reply_in_thread(pull, first.id, "Because.")
        threads = await reader.review_threads(pull)
    assert (answer.body, answer.reply_to, answer.author.login) == ("Because.", first.id, "magicode[bot]")
    assert [[one.body for one in thread.comments] for thread in threads] == [
        ["Why?", "Because."],
        ["And empty lists?"],
    ]
    assert threads[0].comments == (first, answer)
    assert (threads[1].path, threads[1].line, threads[1].resolved, threads[1].outdated) == (
        "src/total.py",
        2,
        False,
        False,
    )
    assert threads[1].comments == (second,)


async def test_a_thread_is_resolved_and_another_outdated(desk: Any, pull: int) -> None:
    await reviewed(desk, pull, "Why?", "And empty lists?")
    async with desk.reader() as reader:
        first, _ = await reader.review_threads(pull)
        sent = {"query": RESOLVE, "variables": {"id": first.node_id}}
        assert "errors" not in (await desk.people.post("/graphql", json=sent)).json()
        await put(desk, "src/total.py", "def total(items):\n    return sum(items, start=0)\n", BRANCH)
        threads = await reader.review_threads(pull)
        outdated = await reader.review_comment(threads[0].comments[0].id)
    assert [(one.resolved, one.outdated, one.line) for one in threads] == [
        (True, True, None),
        (False, True, None),
    ]
    assert (outdated.body, outdated.line) == ("Why?", None)


async def test_more_threads_than_a_page_are_all_read(desk: Any, pull: int) -> None:
    desk.sim.world.limits.content_per_minute = 1_000
    await reviewed(desk, pull, *(f"number {count}" for count in range(130)))
    async with desk.reader() as reader:
        threads = await reader.review_threads(pull)
    assert [thread.comments[0].body for thread in threads] == [f"number {count}" for count in range(130)]
    assert [request for request in desk.requests if "graphql" in request[1]] == [
        ("POST", "/graphql", 200)
    ] * 2


async def test_a_pull_request_without_threads_and_one_that_is_not_there(desk: Any, pull: int) -> None:
    async with desk.reader() as reader:
        assert await reader.review_threads(pull) == []
        with pytest.raises(MissingError):
            await reader.review_threads(99)


async def test_a_reply_to_a_reply_is_refused(desk: Any, pull: int) -> None:
    review = await reviewed(desk, pull, "Why?")
    async with desk.reader() as reader, desk.writer() as writer:
        (first,) = await reader.review_comments(pull, review)
        answer = await writer.reply_in_thread(pull, first.id, "Because.")
        with pytest.raises(InvalidError):
            await writer.reply_in_thread(pull, answer.id, "And so on.")
        with pytest.raises(MissingError):
            await writer.reply_in_thread(pull, 99, "To nobody.")
    async with desk.writer(contents="write") as writer:
        with pytest.raises(DeniedError) as denied:
            await writer.reply_in_thread(pull, first.id, "Unasked.")
    assert denied.value.reason == "permission_not_granted"


async def test_the_open_pull_requests_that_close_an_issue_are_found(desk: Any, pull: int) -> None:
    async with desk.reader() as reader:
        (found,) = await reader.closing_pull_requests(1)
        assert (found.number, found.head_ref, found.state) == (pull, BRANCH, "open")
        await desk.by_hand("PATCH", f"/pulls/{pull}", body="See #1.")
        assert await reader.closing_pull_requests(1) == []
        await desk.by_hand("PATCH", f"/pulls/{pull}", body="Closes octo/sample#1")
        assert len(await reader.closing_pull_requests(1)) == 1
        await desk.by_hand("PATCH", f"/pulls/{pull}", state="closed")
        assert await reader.closing_pull_requests(1) == []
        with pytest.raises(MissingError):
            await reader.closing_pull_requests(99)


async def test_the_moved_base_is_merged_into_our_branch(desk: Any, pull: int) -> None:
    main = await put(desk, "README.md", "# Sample, better\n", "main")
    before = await head_of(desk, BRANCH)
    async with desk.reader() as reader, desk.writer() as writer:
        behind = await reader.compare("main", BRANCH)
        made = await writer.merge(BRANCH, main, "Merge main into magicode/issue-1")
        assert made is not None
        assert made.parents == (before, main)
        assert (made.message, made.verified) == ("Merge main into magicode/issue-1", True)
        assert (await reader.branch(BRANCH)).sha == made.sha
        assert await writer.merge(BRANCH, main, "Again") is None
        level = await reader.compare("main", BRANCH)
        old = await reader.compare(BRANCH, before)
    assert (behind.ahead_by, behind.behind_by) == (1, 1)
    assert (level.ahead_by, level.behind_by, level.merge_base_sha) == (2, 0, main)
    assert (old.ahead_by, old.behind_by, old.merge_base_sha) == (0, 2, before)


async def test_a_merge_that_conflicts_changes_nothing(desk: Any, pull: int) -> None:
    main = await put(desk, "src/total.py", "def total(items):\n    return 0\n", "main")
    before = await head_of(desk, BRANCH)
    async with desk.writer() as writer:
        with pytest.raises(InvalidError) as refused:
            await writer.merge(BRANCH, main, "Merge")
        assert refused.value.reason == "merge_conflict"
        for branch, sha in (("magicode/none", main), (BRANCH, "0" * 40)):
            with pytest.raises(MissingError):
                await writer.merge(branch, sha, "Merge")
    assert await head_of(desk, BRANCH) == before
    async with desk.writer(pull_requests="write") as writer:
        with pytest.raises(DeniedError):
            await writer.merge(BRANCH, main, "Merge")


async def test_what_cannot_be_compared_is_missing(desk: Any) -> None:
    async with desk.reader() as reader:
        with pytest.raises(MissingError):
            await reader.compare("main", "nowhere")


async def test_assignees_and_labels_of_an_issue_come_through(desk: Any) -> None:
    number = await desk.issue()
    await desk.by_hand("POST", f"/issues/{number}/assignees", assignees=["wim", "ada"])
    await desk.by_hand("POST", f"/issues/{number}/labels", labels=["no-magicode"])
    async with desk.reader() as reader:
        issue = await reader.issue(number)
    assert (issue.assignees, issue.labels) == (("wim", "ada"), ("no-magicode",))
