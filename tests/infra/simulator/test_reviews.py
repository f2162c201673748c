"""Reviews and the comments on lines of a diff."""

from __future__ import annotations

import difflib
from typing import Any

import pytest
from githubkit_schemas.latest.models import PullRequestReview as TypedReview
from githubkit_schemas.latest.models import PullRequestReviewComment as TypedComment
from hypothesis import given
from hypothesis import strategies as st

from infra.simulator.diffs import find_line, follow, line_at

HERE = "/repos/octo/sample"
PATCH = "@@ -1,3 +1,4 @@\n one\n-two\n+TWO\n+and a half\n three\n@@ -10,2 +11,2 @@ def f():\n ten\n-eleven\n+ELEVEN"


async def test_a_review_with_comments_is_submitted_and_told(hub: Any) -> None:
    number = await hub.pull()
    asked = {
        "event": "REQUEST_CHANGES",
        "body": "Not yet.",
        "comments": [{"path": "calc.py", "line": 2, "side": "RIGHT", "body": "@magicode revise this line"}],
    }
    made = await hub.ada.post(f"{HERE}/pulls/{number}/reviews", json=asked)
    assert (made.status_code, made.json()["state"]) == (200, "CHANGES_REQUESTED")
    assert made.json()["commit_id"] == await hub.repo.git.branch("topic")
    told = hub.hooks("pull_request_review", "submitted")[0]
    assert (told["review"]["state"], told["review"]["body"]) == ("changes_requested", "Not yet.")
    comment = hub.hooks("pull_request_review_comment", "created")[0]["comment"]
    assert comment["pull_request_review_id"] == made.json()["id"]
    assert (comment["line"], comment["position"], comment["side"]) == (2, 3, "RIGHT")
    assert comment["diff_hunk"].split("\n")[-1] == "+    return a + b"
    listed = (await hub.bot.get(f"{HERE}/pulls/{number}/reviews")).json()
    assert [one["id"] for one in listed] == [made.json()["id"]]
    of_review = await hub.bot.get(f"{HERE}/pulls/{number}/reviews/{made.json()['id']}/comments")
    assert [one["id"] for one in of_review.json()] == [comment["id"]]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"event": "APPROVE"}, "approve your own pull request"),
        ({"event": "REQUEST_CHANGES", "body": "x"}, "request changes on your own pull request"),
        ({"event": "COMMENT"}, "Body is required"),
        ({"event": "LGTM", "body": "x"}, "PullRequestReviewEvent"),
        (
            {"event": "COMMENT", "body": "x", "comments": [{"path": "no.py", "line": 1, "body": "x"}]},
            "Path could not",
        ),
        (
            {"event": "COMMENT", "body": "x", "comments": [{"path": "calc.py", "line": 99, "body": "x"}]},
            "Line could not",
        ),
        (
            {"event": "COMMENT", "body": "x", "comments": [{"path": "calc.py", "position": 99, "body": "x"}]},
            "Line could",
        ),
    ],
)
async def test_what_a_review_may_not_be(hub: Any, asked: dict[str, Any], said: str) -> None:
    number = await hub.pull()
    refused = await hub.wim.post(f"{HERE}/pulls/{number}/reviews", json=asked)
    assert refused.status_code == 422
    assert said in refused.json()["errors"][0]
    assert hub.hooks("pull_request_review") == []


async def test_a_pending_review_is_its_author_s_alone_until_it_is_submitted(hub: Any) -> None:
    number = await hub.pull()
    url = f"{HERE}/pulls/{number}/reviews"
    sent = {"comments": [{"path": "calc.py", "position": 3, "body": "draft"}]}
    made = (await hub.ada.post(url, json=sent)).json()
    assert made["state"] == "PENDING"
    assert "submitted_at" not in made
    assert (await hub.wim.get(url)).json() == []
    assert (await hub.wim.get(f"{url}/{made['id']}")).status_code == 404
    assert (await hub.wim.get(f"{HERE}/pulls/{number}/comments")).json() == []
    assert (await hub.ada.post(url, json={})).status_code == 422
    assert hub.hooks("pull_request_review") == []
    submitted = await hub.ada.post(f"{url}/{made['id']}/events", json={"event": "COMMENT", "body": "done"})
    assert submitted.json()["state"] == "COMMENTED"
    assert len((await hub.wim.get(f"{HERE}/pulls/{number}/comments")).json()) == 1
    assert (await hub.ada.post(f"{url}/{made['id']}/events", json={"event": "COMMENT"})).status_code == 422


async def test_an_approval_is_edited_and_dismissed(hub: Any) -> None:
    number = await hub.pull()
    made = (await hub.ada.post(f"{HERE}/pulls/{number}/reviews", json={"event": "APPROVE"})).json()
    url = f"{HERE}/pulls/{number}/reviews/{made['id']}"
    assert (await hub.wim.put(url, json={"body": "mine now"})).status_code == 403
    assert (await hub.ada.put(url, json={"body": "nice"})).json()["body"] == "nice"
    assert (await hub.rita.put(f"{url}/dismissals", json={"message": "no"})).status_code == 403
    assert (await hub.wim.put(f"{url}/dismissals", json={"message": "stale"})).json()["state"] == "DISMISSED"
    assert (await hub.wim.put(f"{url}/dismissals", json={"message": "again"})).status_code == 422
    assert [hook["action"] for hook in hub.hooks("pull_request_review")] == [
        "submitted",
        "edited",
        "dismissed",
    ]


async def test_a_single_comment_is_made_answered_edited_and_deleted(hub: Any) -> None:
    number = await hub.pull()
    head = await hub.repo.git.branch("topic")
    url = f"{HERE}/pulls/{number}/comments"
    made = await hub.ada.post(
        url, json={"body": "why?", "commit_id": head, "path": "calc.py", "line": 2, "side": "LEFT"}
    )
    assert (made.status_code, made.json()["position"]) == (201, 2)
    TypedComment.model_validate(made.json())
    answered = await hub.bot.post(f"{url}/{made.json()['id']}/replies", json={"body": "because"})
    assert answered.json()["in_reply_to_id"] == made.json()["id"]
    assert answered.json()["user"]["type"] == "Bot"
    assert (
        await hub.ada.post(url, json={"body": "x", "in_reply_to": answered.json()["id"]})
    ).status_code == 422
    assert (await hub.ada.post(url, json={"body": "oh", "in_reply_to": made.json()["id"]})).status_code == 201
    one = f"{HERE}/pulls/comments/{made.json()['id']}"
    assert (await hub.rita.patch(one, json={"body": "x"})).status_code == 403
    assert (await hub.ada.patch(one, json={"body": "how?"})).json()["body"] == "how?"
    told = hub.hooks("pull_request_review_comment", "edited")[0]
    assert told["changes"] == {"body": {"from": "why?"}}
    assert (await hub.bot.get(one)).json()["body"] == "how?"
    first = await hub.bot.post(f"{one}/reactions", json={"content": "eyes"})
    second = await hub.bot.post(f"{one}/reactions", json={"content": "eyes"})
    assert (first.status_code, second.status_code) == (201, 200)
    assert (await hub.ada.delete(one)).status_code == 204
    assert (await hub.bot.get(one)).status_code == 404
    assert len((await hub.bot.get(url)).json()) == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"path": "no.py"}, "pull_request_review_thread.path"),
        ({"line": 99}, "pull_request_review_thread.line"),
    ],
)
async def test_a_comment_beside_the_diff_is_refused(hub: Any, change: dict[str, Any], field: str) -> None:
    number = await hub.pull()
    head = await hub.repo.git.branch("topic")
    sent = {"body": "x", "commit_id": head, "path": "calc.py", "line": 2, **change}
    refused = await hub.ada.post(f"{HERE}/pulls/{number}/comments", json=sent)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, field)
    other = await hub.repo.git.branch("main")
    refused = await hub.ada.post(f"{HERE}/pulls/{number}/comments", json={**sent, "commit_id": other})
    assert refused.status_code == 422


async def test_a_comment_on_a_range_and_one_on_a_file(hub: Any) -> None:
    number = await hub.pull()
    head = await hub.repo.git.branch("topic")
    url = f"{HERE}/pulls/{number}/comments"
    sent = {
        "body": "x",
        "commit_id": head,
        "path": "calc.py",
        "line": 2,
        "start_line": 1,
        "start_side": "RIGHT",
    }
    made = (await hub.ada.post(url, json={**sent, "side": "RIGHT"})).json()
    assert (made["start_line"], made["line"], made["start_side"]) == (1, 2, "RIGHT")
    assert (await hub.ada.post(url, json={**sent, "start_line": 3})).status_code == 422
    whole = {"body": "x", "commit_id": head, "path": "calc.py", "subject_type": "file"}
    assert (await hub.ada.post(url, json=whole)).json()["subject_type"] == "file"


async def test_a_line_that_is_pushed_away_leaves_its_comment_outdated(hub: Any) -> None:
    number = await hub.pull()
    sent = {"event": "COMMENT", "body": "x", "comments": [{"path": "calc.py", "line": 2, "body": "here"}]}
    await hub.ada.post(f"{HERE}/pulls/{number}/reviews", json=sent)
    await hub.branch("topic", {"more.py": "x = 1\n"})
    kept = (await hub.ada.get(f"{HERE}/pulls/{number}/comments")).json()[0]
    assert (kept["line"], kept["commit_id"]) == (2, await hub.repo.git.branch("topic"))
    await hub.branch("topic", {"calc.py": "def add(a, b):\n    return sum((a, b))\n"})
    outdated = (await hub.ada.get(f"{HERE}/pulls/{number}/comments")).json()[0]
    assert (outdated["line"], outdated["position"], outdated["original_line"]) == (None, None, 2)


async def test_a_locked_conversation_takes_no_review_from_a_reader(hub: Any) -> None:
    number = await hub.pull()
    await hub.wim.put(f"{HERE}/issues/{number}/lock")
    refused = await hub.rita.post(f"{HERE}/pulls/{number}/reviews", json={"event": "COMMENT", "body": "x"})
    assert refused.status_code == 403
    assert [hook["action"] for hook in hub.hooks("pull_request")] == ["opened", "locked"]


async def test_githubkit_s_typed_models_parse_reviews(hub: Any) -> None:
    number = await hub.pull()
    await hub.rita.post(f"{HERE}/pulls/{number}/reviews", json={"event": "APPROVE", "body": "x"})
    for one in (await hub.bot.get(f"{HERE}/pulls/{number}/reviews")).json():
        TypedReview.model_validate(one)


@given(st.integers(1, 9))
def test_a_position_and_its_line_find_each_other(position: int) -> None:
    found = line_at(PATCH, position)
    if found is None:  # a hunk's own header
        assert position == 6
        return
    place = find_line(PATCH, *found)
    assert place is not None
    assert place.position == position


def test_a_line_outside_the_hunks_is_not_found() -> None:
    assert find_line(PATCH, 5, "RIGHT") is None
    assert find_line(PATCH, 11, "LEFT") is not None
    assert line_at(PATCH, 10) is None


_LINES = st.lists(st.sampled_from("abcd"), max_size=30)


@given(_LINES, _LINES)
def test_a_line_is_followed_to_where_it_stands_or_is_gone(before: list[str], after: list[str]) -> None:
    diff = list(difflib.unified_diff(before, after, lineterm=""))[2:]
    taken = sum(text.startswith("-") for text in diff)
    found = [follow("\n".join(diff), line) for line in range(1, len(before) + 1)]
    kept = [(line, at) for line, at in enumerate(found, 1) if at is not None]
    assert len(before) - len(kept) == taken
    assert [before[line - 1] for line, _ in kept] == [after[at - 1] for _, at in kept]
    assert [at for _, at in kept] == sorted({at for _, at in kept})


async def test_a_comment_goes_with_its_line(hub: Any) -> None:
    number = await hub.pull()
    sent = {
        "event": "COMMENT",
        "body": "x",
        "comments": [
            {"path": "calc.py", "line": 2, "start_line": 1, "body": "both"},
            {"path": "calc.py", "line": 2, "side": "LEFT", "body": "the old one"},
        ],
    }
    await hub.ada.post(f"{HERE}/pulls/{number}/reviews", json=sent)
    await hub.branch("main", {"calc.py": f"# Sums.\n{CALC}"})
    assert (await hub.wim.put(f"{HERE}/pulls/{number}/update-branch", json={})).status_code == 202
    both, old = (await hub.ada.get(f"{HERE}/pulls/{number}/comments")).json()
    assert (both["start_line"], both["line"], both["original_line"]) == (2, 3, 2)
    assert (old["line"], old["side"]) == (3, "LEFT")
    merged = CALC.replace("a - b", "a + b")
    await hub.branch("topic", {"calc.py": f"import math\n\n# Sums.\n{merged}"})
    both, old = (await hub.ada.get(f"{HERE}/pulls/{number}/comments")).json()
    assert (both["start_line"], both["line"], old["line"]) == (4, 5, 3)
    await hub.branch("topic", {"calc.py": "def add(a, b):\n    return b + a\n"})
    both, old = (await hub.ada.get(f"{HERE}/pulls/{number}/comments")).json()
    assert (both["line"], both["start_line"]) == (None, None)


CALC = "def add(a, b):\n    return a - b\n\n\ndef twice(a):\n    return a * 2\n"
