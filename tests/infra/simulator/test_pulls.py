"""Pull requests, from opening to merging, and what pushes do to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from githubkit_schemas.latest.models import PullRequest as TypedPull
from githubkit_schemas.latest.models import PullRequestSimple as TypedSimple

from infra.simulator.serve import add_repository

HERE = "/repos/octo/sample"
FIXED = "def add(a, b):\n    return a + b\n\n\ndef twice(a):\n    return a * 2\n"


def message_of(answer: Any) -> str:
    return str(answer.json()["errors"][0]["message"])


async def test_a_pull_request_counts_its_commits_lines_and_files_with_git(hub: Any) -> None:
    number = await hub.pull(files={"calc.py": FIXED, "new.txt": "one\ntwo\n"})
    pull = (await hub.ada.get(f"{HERE}/pulls/{number}")).json()
    assert (pull["commits"], pull["changed_files"], pull["additions"], pull["deletions"]) == (2, 2, 3, 1)
    assert (pull["mergeable"], pull["mergeable_state"], pull["merged"]) == (True, "clean", False)
    assert pull["head"]["label"] == "octo:topic"
    assert pull["head"]["sha"] == await hub.repo.git.branch("topic")
    files = (await hub.ada.get(f"{HERE}/pulls/{number}/files")).json()
    assert [(one["filename"], one["status"], one["additions"]) for one in files] == [
        ("calc.py", "modified", 1),
        ("new.txt", "added", 2),
    ]
    assert files[0]["patch"].startswith("@@ -1,5 +1,5 @@")
    commits = (await hub.ada.get(f"{HERE}/pulls/{number}/commits")).json()
    assert [one["commit"]["message"] for one in commits] == ["Change calc.py", "Change new.txt"]
    diff = await hub.ada.get(f"{HERE}/pulls/{number}", headers={"Accept": "application/vnd.github.diff"})
    assert "+    return a + b" in diff.text


async def test_whether_it_merges_is_not_known_at_first(hub: Any) -> None:
    await hub.branch("topic", {"calc.py": FIXED})
    made = await hub.wim.post(f"{HERE}/pulls", json={"title": "x", "head": "topic", "base": "main"})
    assert (made.json()["mergeable"], made.json()["mergeable_state"]) == (None, "unknown")
    assert hub.hooks("pull_request", "opened")[0]["pull_request"]["mergeable"] is None


async def test_a_second_open_one_from_the_same_branch_is_refused(hub: Any) -> None:
    number = await hub.pull()
    sent = {"title": "x", "head": "topic", "base": "main"}
    refused = await hub.wim.post(f"{HERE}/pulls", json=sent)
    assert (refused.status_code, refused.json()["message"]) == (422, "Validation Failed")
    assert refused.json()["errors"] == [
        {
            "resource": "PullRequest",
            "code": "custom",
            "message": "A pull request already exists for octo:topic.",
        }
    ]
    await hub.wim.patch(f"{HERE}/pulls/{number}", json={"state": "closed"})
    assert (await hub.wim.post(f"{HERE}/pulls", json=sent)).status_code == 201
    reopened = await hub.wim.patch(f"{HERE}/pulls/{number}", json={"state": "open"})
    assert reopened.status_code == 422
    assert "already an open pull request" in message_of(reopened)


async def test_no_commits_between_is_refused(hub: Any) -> None:
    await hub.branch("same", {})
    refused = await hub.wim.post(f"{HERE}/pulls", json={"title": "x", "head": "same", "base": "main"})
    assert (refused.status_code, message_of(refused)) == (422, "No commits between main and same")


@pytest.mark.parametrize(
    ("head", "base", "fields"),
    [
        ("gone", "main", ["head"]),
        ("topic", "gone", ["base"]),
        ("gone", "gone", ["base", "head"]),
        ("stranger:topic", "main", ["head"]),
    ],
)
async def test_a_branch_that_is_not_there_is_named(hub: Any, head: str, base: str, fields: list[str]) -> None:
    await hub.branch("topic", {"calc.py": FIXED})
    refused = await hub.wim.post(f"{HERE}/pulls", json={"title": "x", "head": head, "base": base})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"resource": "PullRequest", "field": field, "code": "invalid"} for field in fields
    ]


async def test_what_is_left_out_is_named(hub: Any) -> None:
    refused = await hub.wim.post(f"{HERE}/pulls", json={"title": "x", "base": "main"})
    assert (refused.status_code, refused.json()["message"]) == (
        422,
        'Invalid request.\n\n"head" wasn\'t supplied.',
    )
    refused = await hub.wim.post(f"{HERE}/pulls", json={"head": "x", "base": "main"})
    assert refused.json()["errors"] == [
        {"resource": "PullRequest", "code": "missing_field", "field": "title"}
    ]
    await hub.branch("topic", {"calc.py": FIXED})
    long = {"title": "x", "head": "topic", "base": "main", "body": "x" * 65_537}
    assert "too long" in message_of(await hub.wim.post(f"{HERE}/pulls", json=long))


async def test_a_reader_cannot_open_one_from_a_branch_that_is_not_theirs(hub: Any) -> None:
    await hub.branch("topic", {"calc.py": FIXED})
    refused = await hub.rita.post(f"{HERE}/pulls", json={"title": "x", "head": "topic", "base": "main"})
    assert (refused.status_code, message_of(refused)) == (422, "must be a collaborator")


async def test_lists_are_filtered_by_state_head_and_base(hub: Any) -> None:
    first, second = await hub.pull("one"), await hub.pull("two", draft=True)
    await hub.wim.patch(f"{HERE}/pulls/{first}", json={"state": "closed"})

    async def numbers(query: str) -> list[int]:
        return [one["number"] for one in (await hub.bot.get(f"{HERE}/pulls?{query}")).json()]

    assert await numbers("") == [second]
    assert await numbers("state=all") == [second, first]
    assert await numbers("state=all&head=octo:one") == [first]
    assert await numbers("head=octo:one") == []
    assert await numbers("state=all&head=someone:one") == []
    assert await numbers("state=all&head=one") == [second, first]
    assert await numbers("state=all&base=other") == []
    assert (await hub.bot.get(f"{HERE}/pulls?state=merged")).status_code == 422
    issues = (await hub.ada.get(f"{HERE}/issues?state=all")).json()
    assert all("pull_request" in one for one in issues)


async def test_a_push_to_the_head_is_told_and_a_deleted_head_closes(hub: Any) -> None:
    number = await hub.pull()
    before = await hub.repo.git.branch("topic")
    after = await hub.branch("topic", {"more.py": "x = 1\n"})
    told = hub.hooks("pull_request", "synchronize")[0]
    assert (told["before"], told["after"], told["pull_request"]["head"]["sha"]) == (before, after, after)
    assert told["pull_request"]["commits"] == 2
    assert await hub.repo.git.ref(f"refs/pull/{number}/head") == after
    assert (await hub.wim.delete(f"{HERE}/git/refs/heads/topic")).status_code == 204
    closed = (await hub.ada.get(f"{HERE}/pulls/{number}")).json()
    assert (closed["state"], closed["merged"], closed["commits"]) == ("closed", False, 2)
    refused = await hub.wim.patch(f"{HERE}/pulls/{number}", json={"state": "open"})
    assert (refused.status_code, "deleted" in message_of(refused)) == (422, True)


async def test_editing_tells_what_it_was_and_changes_the_base(hub: Any) -> None:
    await hub.branch("release", {"notes.md": "n\n"})
    number = await hub.pull()
    answer = await hub.wim.patch(
        f"{HERE}/pulls/{number}", json={"title": "Better", "body": "why", "base": "release"}
    )
    assert (answer.json()["title"], answer.json()["base"]["ref"]) == ("Better", "release")
    told = [hook["changes"] for hook in hub.hooks("pull_request", "edited")]
    assert told[0]["base"]["ref"] == {"from": "main"}
    assert told[1] == {"title": {"from": "Add up"}, "body": {"from": ""}}
    assert (await hub.wim.patch(f"{HERE}/pulls/{number}", json={"base": "gone"})).status_code == 422
    assert (await hub.rita.patch(f"{HERE}/pulls/{number}", json={"title": "Mine"})).status_code == 403
    assert (await hub.bot.patch(f"{HERE}/pulls/{number}", json={"body": "from the App"})).status_code == 200


async def test_a_merge_makes_a_signed_commit_closes_and_fixes_the_issue(hub: Any) -> None:
    issue = await hub.issue()
    number = await hub.pull(body=f"This fixes #{issue}.")
    base = await hub.repo.git.branch("main")
    assert (await hub.ada.get(f"{HERE}/pulls/{number}/merge")).status_code == 404
    merged = await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})
    assert merged.json()["message"] == "Pull Request successfully merged"
    commit = await hub.repo.git.commit(await hub.repo.git.branch("main"))
    assert commit.sha == merged.json()["sha"]
    assert commit.parents == (base, await hub.repo.git.branch("topic"))
    assert commit.message == f"Merge pull request #{number} from octo/topic\n\nAdd up\n"
    shown = (await hub.ada.get(f"{HERE}/commits/{commit.sha}")).json()
    assert shown["commit"]["verification"]["verified"] is True
    pull = (await hub.ada.get(f"{HERE}/pulls/{number}")).json()
    assert (pull["merged"], pull["merged_by"]["login"], pull["commits"]) == (True, "wim", 1)
    assert (await hub.ada.get(f"{HERE}/pulls/{number}/merge")).status_code == 204
    assert (await hub.ada.get(f"{HERE}/issues/{issue}")).json()["state"] == "closed"
    assert [hook["pull_request"]["merged"] for hook in hub.hooks("pull_request", "closed")] == [True]
    assert hub.hooks("issues", "closed")[0]["issue"]["state_reason"] == "completed"
    again = await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})
    assert (again.status_code, again.json()["message"]) == (405, "Pull Request is not mergeable")
    reopened = await hub.wim.patch(f"{HERE}/pulls/{number}", json={"state": "open"})
    assert reopened.status_code == 422


async def test_a_merge_into_another_branch_closes_no_issue(hub: Any) -> None:
    issue = await hub.issue()
    await hub.branch("release", {"notes.md": "n\n"})
    number = await hub.pull(body=f"Closes #{issue}", base="release")
    assert (await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})).status_code == 200
    assert (await hub.ada.get(f"{HERE}/issues/{issue}")).json()["state"] == "open"


async def test_a_squash_is_one_commit_by_the_author_and_a_rebase_is_the_same_commits_again(hub: Any) -> None:
    first = await hub.pull("one", files={"calc.py": FIXED, "new.txt": "n\n"})
    base = await hub.repo.git.branch("main")
    await hub.ada.put(f"{HERE}/pulls/{first}/merge", json={"merge_method": "squash"})
    squashed = await hub.repo.git.commit(await hub.repo.git.branch("main"))
    assert squashed.parents == (base,)
    assert squashed.message == f"Add up (#{first})\n\n* Change calc.py\n\n* Change new.txt\n"
    assert squashed.author.name == "wim"
    second = await hub.pull("two", files={"other.txt": "o\n"})
    await hub.branch("main", {"between.txt": "b\n"})
    tip = await hub.repo.git.branch("main")
    assert (
        await hub.ada.put(f"{HERE}/pulls/{second}/merge", json={"merge_method": "rebase"})
    ).status_code == 200
    rebased = await hub.repo.git.commit(await hub.repo.git.branch("main"))
    assert (rebased.parents, rebased.message, rebased.author.name) == ((tip,), "Change other.txt", "wim")


async def test_what_cannot_be_merged_says_why(hub: Any) -> None:
    number = await hub.pull(draft=True)
    url = f"{HERE}/pulls/{number}/merge"
    draft = await hub.wim.put(url, json={})
    assert (draft.status_code, draft.json()["message"]) == (405, "Pull Request is still a draft")
    hub.repo.issues[number].pull.draft = False
    moved = await hub.wim.put(url, json={"sha": "0" * 40})
    assert (moved.status_code, moved.json()["message"]) == (
        409,
        "Head branch was modified. Review and try the merge again.",
    )
    hub.repo.allow_squash_merge = False
    off = await hub.wim.put(url, json={"merge_method": "squash"})
    assert (off.status_code, off.json()["message"]) == (
        405,
        "Squash merges are not allowed on this repository.",
    )
    assert (await hub.rita.put(url, json={})).status_code in (403, 404)
    await hub.branch("main", {"calc.py": "def add(a, b):\n    return sum((a, b))\n"})
    shown = (await hub.ada.get(f"{HERE}/pulls/{number}")).json()
    assert (shown["mergeable"], shown["mergeable_state"]) == (False, "dirty")
    conflict = await hub.wim.put(url, json={})
    assert (conflict.status_code, conflict.json()["message"]) == (405, "Pull Request is not mergeable")


async def test_protection_holds_a_merge_until_somebody_else_approves(hub: Any) -> None:
    rules = {
        "required_status_checks": None,
        "enforce_admins": True,
        "required_pull_request_reviews": {"required_approving_review_count": 1},
        "restrictions": None,
    }
    number = await hub.pull()
    assert (await hub.ada.put(f"{HERE}/branches/main/protection", json=rules)).status_code == 200
    assert (await hub.ada.get(f"{HERE}/pulls/{number}")).json()["mergeable_state"] == "blocked"
    refused = await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})
    assert refused.status_code == 405
    assert (
        refused.json()["message"] == "At least 1 approving review is required by reviewers with write access."
    )
    assert (await hub.repo.git.branch("main")) == hub.repo.issues[number].pull.base_sha
    await hub.ada.post(f"{HERE}/pulls/{number}/reviews", json={"event": "APPROVE"})
    assert (await hub.ada.get(f"{HERE}/pulls/{number}")).json()["mergeable_state"] == "clean"
    assert (await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})).status_code == 200


async def test_update_branch_merges_the_base_into_the_head(hub: Any) -> None:
    number = await hub.pull()
    url = f"{HERE}/pulls/{number}/update-branch"
    nothing = await hub.wim.put(url, json={})
    assert (nothing.status_code, nothing.json()["message"]) == (
        422,
        "There are no new commits on the base branch.",
    )
    tip = await hub.branch("main", {"between.txt": "b\n"})
    head = await hub.repo.git.branch("topic")
    assert (await hub.wim.put(url, json={"expected_head_sha": tip})).status_code == 422
    assert (await hub.wim.put(url, json={"expected_head_sha": head})).status_code == 202
    merged = await hub.repo.git.commit(await hub.repo.git.branch("topic"))
    assert merged.parents == (head, tip)
    assert len(hub.hooks("pull_request", "synchronize")) == 1
    pull = (await hub.ada.get(f"{HERE}/pulls/{number}")).json()
    assert (pull["head"]["sha"], pull["changed_files"]) == (merged.sha, 1)


async def test_commits_that_reach_the_base_another_way_merge_it_and_words_in_them_close_issues(
    hub: Any,
) -> None:
    issue = await hub.issue()
    number = await hub.pull()
    head = await hub.repo.git.branch("topic")
    moved = await hub.ada.patch(f"{HERE}/git/refs/heads/main", json={"sha": head})
    assert moved.status_code == 200
    assert (await hub.ada.get(f"{HERE}/pulls/{number}")).json()["merged"] is True
    put = {"message": f"Resolves octo/sample#{issue}", "content": "bg==", "branch": "main"}
    assert (await hub.wim.put(f"{HERE}/contents/notes.txt", json=put)).status_code == 201
    assert (await hub.ada.get(f"{HERE}/issues/{issue}")).json()["state"] == "closed"


@pytest.mark.parametrize(
    ("text", "closes"),
    [
        ("Fixes #1", True),
        ("closed: #1", True),
        ("RESOLVES octo/sample#1", True),
        ("fix http://host/octo/sample/issues/1", True),
        ("prefixes #1", False),
        ("fixing #1", False),
        ("fixes other/repo#1", False),
        ("fixes #12", False),
        ("see #1", False),
    ],
)
async def test_the_words_that_close(hub: Any, text: str, closes: bool) -> None:
    from infra.simulator.pullwork import closed_by_words

    await hub.issue()
    assert bool(closed_by_words(hub.repo, text)) is closes


async def test_reviewers_are_collaborators_and_not_the_author(hub: Any) -> None:
    number = await hub.pull()
    url = f"{HERE}/pulls/{number}/requested_reviewers"
    assert (await hub.bot.post(url, json={"reviewers": ["wim"]})).status_code == 422
    assert (await hub.bot.post(url, json={"reviewers": ["nobody"]})).status_code == 422
    asked = await hub.bot.post(url, json={"reviewers": ["ada"]})
    assert [one["login"] for one in asked.json()["requested_reviewers"]] == ["ada"]
    assert hub.hooks("pull_request", "review_requested")[0]["requested_reviewer"]["login"] == "ada"


async def test_githubkit_s_typed_models_parse_pull_requests(hub: Any) -> None:
    number = await hub.pull(draft=True)
    full = TypedPull.model_validate((await hub.bot.get(f"{HERE}/pulls/{number}")).json())
    assert (full.draft, full.node_id[:3]) == (True, "PR_")
    for one in (await hub.bot.get(f"{HERE}/pulls")).json():
        TypedSimple.model_validate(one)


async def test_an_app_without_the_permission_opens_and_merges_nothing(hub: Any) -> None:
    number = await hub.pull()
    client = hub.installation({"metadata": "read", "contents": "read", "pull_requests": "read"})
    sent = {"title": "x", "head": "topic", "base": "main"}
    for answer in (
        await client.post(f"{HERE}/pulls", json=sent),
        await client.patch(f"{HERE}/pulls/{number}", json={"title": "x"}),
        await client.put(f"{HERE}/pulls/{number}/merge", json={}),
    ):
        assert (answer.status_code, answer.json()["message"]) == (
            403,
            "Resource not accessible by integration",
        )


async def test_many_who_open_the_same_one_at_once_get_one(hub: Any) -> None:
    await hub.branch("topic", {"calc.py": FIXED})
    sent = {"title": "x", "head": "topic", "base": "main"}
    answers = await asyncio.gather(*(hub.bot.post(f"{HERE}/pulls", json=sent) for _ in range(6)))
    assert sorted(one.status_code for one in answers) == [201, 422, 422, 422, 422, 422]
    assert len(hub.hooks("pull_request", "opened")) == 1


async def test_a_pull_request_from_a_fork_is_fetched_followed_and_merged(hub: Any) -> None:
    fork = await add_repository(hub.world, "rita/sample", hub.repo.git.directory)
    fork.fork, fork.parent_id = True, hub.repo.id
    main = await fork.git.branch("main")
    there = "/repos/rita/sample"
    for name in ("topic", "same"):
        await hub.rita.post(f"{there}/git/refs", json={"ref": f"refs/heads/{name}", "sha": main})
    put = {"message": "Add a note", "content": "bg==", "branch": "topic"}
    assert (await hub.rita.put(f"{there}/contents/note.txt", json=put)).status_code == 201
    same = await hub.rita.post(f"{HERE}/pulls", json={"title": "x", "head": "rita:same", "base": "main"})
    assert message_of(same) == "No commits between main and rita:same"
    sent = {"title": "From a fork", "head": "rita:topic", "base": "main"}
    made = (await hub.rita.post(f"{HERE}/pulls", json=sent)).json()
    assert (made["head"]["repo"]["full_name"], made["head"]["label"]) == ("rita/sample", "rita:topic")
    assert (await hub.bot.get(f"{HERE}/pulls?head=rita:topic")).json()[0]["number"] == made["number"]
    put = {**put, "message": "Add another"}
    assert (await hub.rita.put(f"{there}/contents/other.txt", json=put)).status_code == 201
    shown = (await hub.bot.get(f"{HERE}/pulls/{made['number']}")).json()
    assert (shown["commits"], shown["changed_files"], shown["mergeable"]) == (2, 2, True)
    assert (await hub.wim.put(f"{HERE}/pulls/{made['number']}/merge", json={})).status_code == 200
    assert (await hub.bot.get(f"{HERE}/contents/other.txt")).status_code == 200


async def test_a_branch_that_is_deleted_on_merge_leaves_the_merge_as_it_is(hub: Any) -> None:
    hub.repo.delete_branch_on_merge = True
    number = await hub.pull()
    assert (await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})).status_code == 200
    assert await hub.repo.git.branch("topic") is None
    assert (await hub.ada.get(f"{HERE}/pulls/{number}")).json()["merged"] is True
    assert len(hub.hooks("pull_request", "closed")) == 1


async def test_a_merge_that_the_rules_refuse_leaves_nothing_behind(hub: Any) -> None:
    issue = await hub.issue()
    number = await hub.pull(body=f"Fixes #{issue}")
    ruleset = {
        "name": "main",
        "target": "branch",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": ["~DEFAULT_BRANCH"], "exclude": []}},
        "rules": [{"type": "required_linear_history"}],
    }
    assert (await hub.ada.post(f"{HERE}/rulesets", json=ruleset)).status_code == 201
    refused = await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})
    assert (refused.status_code, "Repository rule violations found" in refused.json()["message"]) == (
        405,
        True,
    )
    pull = hub.repo.issues[number]
    assert (pull.state, pull.pull.merged, pull.pull.merging) == ("open", False, False)
    assert hub.repo.issues[issue].state == "open"
    squashed = await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={"merge_method": "squash"})
    assert squashed.status_code == 200
