"""Branches merged without a pull request, and comparisons."""

from __future__ import annotations

from typing import Any

import pytest

from infra.simulator.serve import add_repository

HERE = "/repos/octo/sample"


async def merge(client: Any, base: str, head: str, **more: Any) -> Any:
    return await client.post(f"{HERE}/merges", json={"base": base, "head": head, **more})


async def test_a_branch_is_merged_by_name_and_by_sha(hub: Any) -> None:
    topic = await hub.branch("topic", {"a.txt": "a\n"})
    main = await hub.branch("main", {"b.txt": "b\n"})
    made = await merge(hub.bot, "topic", main, commit_message="Bring main in")
    assert made.status_code == 201
    told = made.json()
    assert [one["sha"] for one in told["parents"]] == [topic, main]
    assert told["commit"]["message"] == "Bring main in"
    assert told["commit"]["verification"]["verified"] is True
    assert told["author"]["login"] == "magicode[bot]"
    assert await hub.repo.git.branch("topic") == told["sha"]
    for path in ("a.txt", "b.txt"):
        assert (await hub.ada.get(f"{HERE}/contents/{path}", params={"ref": "topic"})).status_code == 200
    push = hub.hooks("push")[-1]
    assert (push["ref"], push["after"], push["forced"]) == ("refs/heads/topic", told["sha"], False)
    assert push["sender"]["login"] == "magicode[bot]"
    again = await merge(hub.bot, "topic", "main")
    assert (again.status_code, again.content) == (204, b"")
    named = await merge(hub.wim, "main", "topic")
    assert named.json()["commit"]["message"] == "Merge topic into main"
    assert len(named.json()["parents"]) == 2


async def test_our_pull_request_follows_a_merge_of_its_base(hub: Any) -> None:
    number = await hub.pull("magicode/issue-1")
    await hub.branch("main", {"b.txt": "b\n"})
    sha = (await merge(hub.bot, "magicode/issue-1", "main")).json()["sha"]
    pull = (await hub.bot.get(f"{HERE}/pulls/{number}")).json()
    assert (pull["head"]["sha"], pull["commits"], pull["changed_files"]) == (sha, 2, 1)
    assert hub.hooks("pull_request", "synchronize")[0]["after"] == sha


async def test_a_conflict_is_said_and_changes_nothing(hub: Any) -> None:
    topic = await hub.branch("topic", {"calc.py": "one\n"})
    await hub.branch("main", {"calc.py": "two\n"})
    refused = await merge(hub.bot, "topic", "main")
    assert (refused.status_code, refused.json()["message"]) == (409, "Merge conflict")
    assert await hub.repo.git.branch("topic") == topic


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ({"base": "nowhere", "head": "main"}, 404, "Base does not exist"),
        ({"base": "main", "head": "nowhere"}, 404, "Head does not exist"),
        ({"base": "main", "head": "0" * 40}, 404, "Head does not exist"),
        ({"base": "main"}, 422, '"head" wasn\'t supplied'),
        ({"head": "main"}, 422, '"base" wasn\'t supplied'),
        ({"base": "main", "head": 5}, 422, "is not a string"),
    ],
)
async def test_what_cannot_be_merged(hub: Any, sent: dict[str, Any], status: int, said: str) -> None:
    refused = await hub.bot.post(f"{HERE}/merges", json=sent)
    assert refused.status_code == status
    assert said in refused.json()["message"]


async def test_who_may_merge(hub: Any) -> None:
    await hub.branch("topic", {"a.txt": "a\n"})
    reading = hub.installation({"metadata": "read", "contents": "read", "pull_requests": "write"})
    assert (await merge(reading, "main", "topic")).status_code == 403
    assert (await merge(hub.rita, "main", "topic")).status_code == 404
    assert (await merge(hub.as_user(None), "main", "topic")).status_code == 404
    hub.repo.archived = True
    assert (await merge(hub.ada, "main", "topic")).status_code == 403


async def test_a_protected_branch_keeps_its_protection(hub: Any) -> None:
    await hub.branch("topic", {"a.txt": "a\n"})
    main = await hub.repo.git.branch("main")
    ruleset = {
        "name": "main",
        "target": "branch",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []}},
        "rules": [{"type": "pull_request", "parameters": PULL_REQUEST}],
        "bypass_actors": [],
    }
    assert (await hub.ada.post(f"{HERE}/rulesets", json=ruleset)).status_code == 201
    refused = await merge(hub.bot, "main", "topic")
    assert refused.status_code == 409
    assert "Changes must be made through a pull request." in refused.json()["message"]
    assert await hub.repo.git.branch("main") == main
    await hub.wim.post(f"{HERE}/git/refs", json={"ref": "refs/heads/other", "sha": main})
    assert (await merge(hub.bot, "other", "topic")).status_code == 201


PULL_REQUEST = {
    "required_approving_review_count": 0,
    "dismiss_stale_reviews_on_push": False,
    "require_code_owner_review": False,
    "require_last_push_approval": False,
    "required_review_thread_resolution": False,
}


async def test_a_workflow_of_the_base_comes_along_and_none_is_made(hub: Any) -> None:
    await hub.branch("topic", {"a.txt": "a\n"})
    await hub.branch("main", {".github/workflows/ci.yml": "on: push\n"})
    assert (await merge(hub.bot, "topic", "main")).status_code == 201


# --- comparisons -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("basehead", "status", "ahead", "behind"),
    [
        ("main...main", "identical", 0, 0),
        ("main...topic", "diverged", 2, 1),
        ("topic...main", "diverged", 1, 2),
        ("start...main", "ahead", 1, 0),
        ("main...start", "behind", 0, 1),
        ("octo:main...octo:topic", "diverged", 2, 1),
    ],
)
async def test_both_sides_are_counted(hub: Any, basehead: str, status: str, ahead: int, behind: int) -> None:
    start = await hub.branch("start", {})
    await hub.branch("topic", {"a.txt": "a\n", "b.txt": "b\n"})
    await hub.branch("main", {"c.txt": "c\n"})
    told = (await hub.bot.get(f"{HERE}/compare/{basehead}")).json()
    assert (told["status"], told["ahead_by"], told["behind_by"]) == (status, ahead, behind)
    assert (told["total_commits"], len(told["commits"]), len(told["files"])) == (ahead, ahead, ahead)
    parted = await hub.repo.git.branch("main") if status == "identical" else start
    assert told["merge_base_commit"]["sha"] == parted
    small = (await hub.bot.get(f"{HERE}/compare/{basehead}", params={"per_page": 1, "page": 2})).json()
    assert (small["ahead_by"], small["files"]) == (ahead, [])


async def test_a_forks_branch_is_compared_by_its_owner(hub: Any) -> None:
    fork = await add_repository(hub.world, "rita/sample", hub.repo.git.directory)
    fork.fork, fork.parent_id = True, hub.repo.id
    await hub.branch("main", {"c.txt": "c\n"})
    told = (await hub.ada.get(f"{HERE}/compare/main...rita:main")).json()
    assert (told["status"], told["behind_by"]) == ("behind", 1)
    for basehead in ("main...nobody:main", "main...rita:nowhere", "main..topic", "nowhere...main"):
        assert (await hub.ada.get(f"{HERE}/compare/{basehead}")).status_code == 404
