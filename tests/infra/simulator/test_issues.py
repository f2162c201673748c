"""Issues, comments and reactions, as people and the App make them."""

from __future__ import annotations

from typing import Any

import pytest
from githubkit_schemas.latest.models import Issue as TypedIssue
from githubkit_schemas.latest.models import IssueComment as TypedComment
from githubkit_schemas.latest.models import Reaction as TypedReaction

from infra.simulator.conversation import transfer
from infra.simulator.serve import add_repository
from infra.simulator.state import User

HERE = "/repos/octo/sample"


async def test_an_issue_is_opened_listed_edited_closed_and_reopened_with_a_webhook_each(hub: Any) -> None:
    made = await hub.rita.post(f"{HERE}/issues", json={"title": "It breaks", "body": "See."})
    assert made.status_code == 201
    assert made.json()["user"]["login"] == "rita"
    assert made.json()["author_association"] == "COLLABORATOR"
    edited = await hub.rita.patch(f"{HERE}/issues/1", json={"title": "It still breaks", "body": "Look."})
    assert edited.json()["title"] == "It still breaks"
    closed = await hub.ada.patch(f"{HERE}/issues/1", json={"state": "closed", "state_reason": "not_planned"})
    assert (closed.json()["state"], closed.json()["state_reason"]) == ("closed", "not_planned")
    assert closed.json()["closed_by"]["login"] == "ada"
    assert (await hub.ada.get(f"{HERE}/issues")).json() == []
    assert [one["number"] for one in (await hub.ada.get(f"{HERE}/issues?state=all")).json()] == [1]
    reopened = await hub.ada.patch(f"{HERE}/issues/1", json={"state": "open"})
    assert (reopened.json()["state_reason"], reopened.json()["closed_at"]) == ("reopened", None)
    assert [hook["action"] for hook in hub.hooks("issues")] == ["opened", "edited", "closed", "reopened"]
    changes = hub.hooks("issues", "edited")[0]["changes"]
    assert changes == {"title": {"from": "It breaks"}, "body": {"from": "See."}}
    installation = hub.hooks("issues")[0]["installation"]
    assert installation == {"id": hub.running.installation_id, "node_id": installation["node_id"]}
    assert hub.hooks("issues", "closed")[0]["sender"]["login"] == "ada"


async def test_an_edit_that_changes_nothing_sends_no_webhook(hub: Any) -> None:
    number = await hub.issue()
    await hub.ada.patch(f"{HERE}/issues/{number}", json={"title": "It breaks", "state": "open"})
    assert [hook["action"] for hook in hub.hooks("issues")] == ["opened"]


async def test_a_reader_may_not_edit_close_or_label_the_issue_of_another(hub: Any) -> None:
    number = await hub.issue()
    for fields in ({"title": "Mine"}, {"state": "closed"}):
        refused = await hub.rita.patch(f"{HERE}/issues/{number}", json=fields)
        assert (refused.status_code, refused.json()["message"]) == (
            403,
            "Must have admin rights to Repository.",
        )
    labelled = await hub.rita.post(f"{HERE}/issues/{number}/labels", json={"labels": ["bug"]})
    assert labelled.status_code == 403


async def test_a_reader_s_labels_and_assignees_are_dropped_without_a_word(hub: Any) -> None:
    fields = {"title": "It breaks", "labels": ["bug"], "assignees": ["wim"]}
    made = (await hub.rita.post(f"{HERE}/issues", json=fields)).json()
    assert (made["labels"], made["assignees"]) == ([], [])
    made = (await hub.wim.post(f"{HERE}/issues", json=fields)).json()
    assert [one["name"] for one in made["labels"]] == ["bug"]
    assert [one["login"] for one in made["assignees"]] == ["wim"]


async def test_labels_and_assignees_send_a_webhook_for_each_one(hub: Any) -> None:
    number = await hub.issue()
    here = f"{HERE}/issues/{number}"
    await hub.wim.post(f"{HERE}/labels", json={"name": "magicode", "color": "FF00aa"})
    await hub.wim.post(f"{here}/labels", json={"labels": ["Magicode", "bug"]})
    await hub.wim.post(f"{here}/labels", json={"labels": ["bug"]})
    assert [hook["label"]["name"] for hook in hub.hooks("issues", "labeled")] == ["magicode", "bug"]
    left = await hub.wim.delete(f"{here}/labels/BUG")
    assert [one["name"] for one in left.json()] == ["magicode"]
    assert (await hub.wim.delete(f"{here}/labels/bug")).json()["message"] == "Label does not exist"
    replaced = await hub.wim.put(f"{here}/labels", json={"labels": [{"name": "other"}]})
    assert [one["name"] for one in replaced.json()] == ["other"]
    assert len(hub.hooks("issues", "unlabeled")) == 2
    assigned = await hub.wim.post(f"{here}/assignees", json={"assignees": ["magicode[bot]", "wim"]})
    assert [one["login"] for one in assigned.json()["assignees"]] == ["magicode[bot]", "wim"]
    assert [hook["assignee"]["login"] for hook in hub.hooks("issues", "assigned")] == ["magicode[bot]", "wim"]
    await hub.wim.request("DELETE", f"{here}/assignees", json={"assignees": ["wim"]})
    assert [hook["assignee"]["login"] for hook in hub.hooks("issues", "unassigned")] == ["wim"]


async def test_someone_without_access_cannot_be_assigned(hub: Any) -> None:
    hub.world.add_user("stranger")
    refused = await hub.ada.post(f"{HERE}/issues", json={"title": "x", "assignees": ["stranger"]})
    assert refused.status_code == 422
    assert refused.json()["errors"] == [
        {"value": "stranger", "resource": "Issue", "field": "assignees", "code": "invalid"}
    ]
    assert hub.repo.issues == {}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"title": " "}, {"resource": "Issue", "code": "missing_field", "field": "title"}),
        (
            {"title": "x", "body": "y" * 65_537},
            {
                "resource": "Issue",
                "code": "custom",
                "field": "body",
                "message": "body is too long (maximum is 65536 characters)",
            },
        ),
        (
            {"title": "x" * 257},
            {
                "resource": "Issue",
                "code": "custom",
                "field": "title",
                "message": "title is too long (maximum is 256 characters)",
            },
        ),
    ],
)
async def test_what_github_would_not_keep_is_refused(
    hub: Any, fields: dict[str, str], error: dict[str, str]
) -> None:
    refused = await hub.ada.post(f"{HERE}/issues", json=fields)
    assert (refused.status_code, refused.json()["message"]) == (422, "Validation Failed")
    assert refused.json()["errors"] == [error]
    assert hub.world.deliveries == []


async def test_a_body_of_exactly_the_greatest_length_is_kept(hub: Any) -> None:
    made = await hub.ada.post(f"{HERE}/issues", json={"title": "x", "body": "é" * 65_536})
    assert made.status_code == 201
    commented = await hub.ada.post(f"{HERE}/issues/1/comments", json={"body": "é" * 65_537})
    assert commented.status_code == 422
    assert commented.json()["errors"] == [
        {
            "resource": "IssueComment",
            "code": "unprocessable",
            "field": "data",
            "message": "Body is too long (maximum is 65536 characters)",
        }
    ]


async def test_comments_are_created_edited_and_deleted_with_what_they_said_before(hub: Any) -> None:
    number = await hub.issue()
    made = await hub.rita.post(f"{HERE}/issues/{number}/comments", json={"body": "@magicode fix this"})
    comment = f"{HERE}/issues/comments/{made.json()['id']}"
    assert (await hub.rita.patch(comment, json={"body": "@magicode plan"})).json()["body"] == "@magicode plan"
    await hub.rita.patch(comment, json={"body": "@magicode plan"})
    assert (await hub.ada.delete(comment)).status_code == 204
    assert (await hub.ada.get(comment)).status_code == 404
    assert [hook["action"] for hook in hub.hooks("issue_comment")] == ["created", "edited", "deleted"]
    edited = hub.hooks("issue_comment", "edited")[0]
    assert edited["changes"] == {"body": {"from": "@magicode fix this"}}
    assert edited["comment"]["body"] == "@magicode plan"
    assert hub.hooks("issue_comment", "deleted")[0]["sender"]["login"] == "ada"
    assert "pull_request" not in hub.hooks("issue_comment")[0]["issue"]


async def test_a_reader_may_not_edit_or_delete_the_comment_of_another(hub: Any) -> None:
    number = await hub.issue()
    made = await hub.wim.post(f"{HERE}/issues/{number}/comments", json={"body": "mine"})
    comment = f"{HERE}/issues/comments/{made.json()['id']}"
    assert (await hub.rita.patch(comment, json={"body": "yours"})).status_code == 403
    assert (await hub.rita.delete(comment)).status_code == 403
    assert (await hub.rita.get(comment)).json()["body"] == "mine"


async def test_the_app_s_comment_is_a_bot_s_and_names_the_app(hub: Any) -> None:
    number = await hub.issue()
    made = (await hub.bot.post(f"{HERE}/issues/{number}/comments", json={"body": "On it."})).json()
    assert (made["user"]["login"], made["user"]["type"]) == ("magicode[bot]", "Bot")
    assert made["performed_via_github_app"]["id"] == hub.world.app.id
    hook = hub.hooks("issue_comment", "created")[0]
    assert hook["sender"]["type"] == "Bot"
    assert hook["comment"]["performed_via_github_app"]["slug"] == "magicode"


async def test_reacting_twice_is_one_reaction_answered_201_and_then_200(hub: Any) -> None:
    number = await hub.issue()
    made = await hub.ada.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})
    for url in (f"{HERE}/issues/{number}/reactions", f"{HERE}/issues/comments/{made.json()['id']}/reactions"):
        first = await hub.bot.post(url, json={"content": "eyes"})
        second = await hub.bot.post(url, json={"content": "eyes"})
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json() == second.json()
        TypedReaction.model_validate(first.json())
        await hub.ada.post(url, json={"content": "eyes"})
        assert len((await hub.ada.get(url)).json()) == 2
        assert (await hub.ada.get(f"{url}?content=heart")).json() == []
        assert (await hub.bot.delete(f"{url}/{first.json()['id']}")).status_code == 204
        assert (await hub.bot.delete(f"{url}/{first.json()['id']}")).status_code == 404
    issue = (await hub.ada.get(f"{HERE}/issues/{number}")).json()
    assert (issue["reactions"]["eyes"], issue["reactions"]["total_count"]) == (1, 1)


async def test_an_unknown_reaction_is_refused(hub: Any) -> None:
    number = await hub.issue()
    refused = await hub.ada.post(f"{HERE}/issues/{number}/reactions", json={"content": "thumbsup"})
    assert refused.status_code == 422
    missing = await hub.ada.post(f"{HERE}/issues/{number}/reactions", json={})
    assert missing.status_code == 422


async def test_a_locked_issue_takes_comments_from_writers_alone(hub: Any) -> None:
    number = await hub.issue()
    assert (await hub.rita.put(f"{HERE}/issues/{number}/lock")).status_code == 403
    assert (
        await hub.wim.put(f"{HERE}/issues/{number}/lock", json={"lock_reason": "bored"})
    ).status_code == 422
    assert (
        await hub.wim.put(f"{HERE}/issues/{number}/lock", json={"lock_reason": "resolved"})
    ).status_code == 204
    for client in (hub.rita, hub.bot):
        refused = await client.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})
        assert refused.status_code == 403
        assert refused.json()["message"] == "Unable to create comment because issue is locked."
    assert (await hub.wim.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})).status_code == 201
    assert (await hub.wim.delete(f"{HERE}/issues/{number}/lock")).status_code == 204
    assert (await hub.rita.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})).status_code == 201
    assert [hook["action"] for hook in hub.hooks("issues")] == ["opened", "locked", "unlocked"]


async def test_a_repository_without_issues_says_gone(hub: Any) -> None:
    number = await hub.issue()
    hub.repo.has_issues = False
    asked = [
        await hub.ada.post(f"{HERE}/issues", json={"title": "x"}),
        await hub.ada.get(f"{HERE}/issues/{number}"),
        await hub.bot.post(f"{HERE}/issues/{number}/comments", json={"body": "x"}),
    ]
    for answer in asked:
        assert (answer.status_code, answer.json()["message"]) == (
            410,
            "Issues has been disabled in this repository.",
        )
    pull = await hub.pull()
    assert (await hub.ada.post(f"{HERE}/issues/{pull}/comments", json={"body": "x"})).status_code == 201


async def test_an_archived_repository_is_read_only(hub: Any) -> None:
    number = await hub.issue()
    hub.repo.archived = True
    refused = await hub.ada.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "Repository was archived so is read-only.",
    )
    assert (await hub.ada.get(f"{HERE}/issues/{number}")).status_code == 200


async def test_a_private_repository_does_not_exist_for_outsiders(hub: Any) -> None:
    number = await hub.issue()
    hub.repo.collaborators.pop("rita")
    for client in (hub.rita, hub.as_user(None)):
        assert (await client.get(f"{HERE}/issues/{number}")).status_code == 404
        assert (await client.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})).status_code == 404


async def test_in_a_public_repository_a_stranger_comments_but_nobody_does_not(hub: Any) -> None:
    hub.repo.private = False
    number = await hub.issue()
    hub.repo.collaborators.pop("rita")
    made = await hub.rita.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})
    assert (made.status_code, made.json()["author_association"]) == (201, "NONE")
    nobody = hub.as_user(None)
    assert (await nobody.get(f"{HERE}/issues/{number}")).status_code == 200
    assert (await nobody.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})).status_code == 401


@pytest.mark.parametrize(
    ("permissions", "on_issue", "on_pull"),
    [
        ({"issues": "write"}, 201, 201),
        ({"pull_requests": "write"}, 403, 201),
        ({"issues": "read", "pull_requests": "read"}, 403, 403),
        ({"contents": "write"}, 403, 403),
    ],
)
async def test_an_app_needs_one_of_the_two_permissions_to_comment(
    hub: Any, permissions: dict[str, str], on_issue: int, on_pull: int
) -> None:
    issue, pull = await hub.issue(), await hub.pull()
    client = hub.installation({"metadata": "read", **permissions})
    for number, wanted in ((issue, on_issue), (pull, on_pull)):
        answer = await client.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})
        assert answer.status_code == wanted
        if wanted == 403:
            assert answer.json()["message"] == "Resource not accessible by integration"


async def test_lists_are_filtered_sorted_and_paged(hub: Any) -> None:
    for labels in (["a"], ["a", "b"], []):
        await hub.issue(labels=labels, assignees=["wim"] if labels else [])
    await hub.rita.post(f"{HERE}/issues", json={"title": "rita's"})

    async def numbers(query: str) -> list[int]:
        return [one["number"] for one in (await hub.ada.get(f"{HERE}/issues?{query}")).json()]

    assert await numbers("labels=a") == [2, 1]
    assert await numbers("labels=a,b") == [2]
    assert await numbers("creator=rita") == [4]
    assert await numbers("assignee=wim&direction=asc") == [1, 2]
    assert await numbers("assignee=none") == [4, 3]
    assert await numbers("per_page=2&page=2") == [2, 1]
    assert await numbers("since=2100-01-01T00:00:00Z") == []
    first = await hub.ada.get(f"{HERE}/issues?per_page=3")
    assert 'rel="next"' in first.headers["link"]
    assert (await hub.ada.get(f"{HERE}/issues?state=broken")).status_code == 422


async def test_githubkit_s_typed_models_parse_issues_and_comments(hub: Any) -> None:
    number = await hub.issue(labels=["bug"], assignees=["wim"])
    pull = await hub.pull()
    await hub.bot.post(f"{HERE}/issues/{number}/comments", json={"body": "x"})
    for one in (number, pull):
        TypedIssue.model_validate((await hub.bot.get(f"{HERE}/issues/{one}")).json())
    for one in (await hub.bot.get(f"{HERE}/issues/{number}/comments")).json():
        TypedComment.model_validate(one)


async def test_nothing_is_sent_while_the_app_is_suspended_or_not_subscribed(hub: Any) -> None:
    installation = hub.world.installations[hub.running.installation_id]
    installation.events = ["push"]
    await hub.issue()
    assert hub.hooks("issues") == []
    installation.events = ["issues"]
    installation.suspended_at = hub.world.now()
    await hub.issue()
    assert hub.hooks("issues") == []


async def test_a_missing_issue_is_not_found_and_a_sender_is_a_user(hub: Any) -> None:
    assert (await hub.ada.get(f"{HERE}/issues/99")).status_code == 404
    assert (await hub.bot.post(f"{HERE}/issues/99/comments", json={"body": "x"})).status_code == 404
    assert isinstance(hub.world.bot, User)


async def test_a_repository_that_is_taken_out_of_the_installation_is_gone_for_the_app(hub: Any) -> None:
    number = await hub.issue()
    url = f"/user/installations/{hub.running.installation_id}/repositories/{hub.repo.id}"
    assert (await hub.wim.delete(url)).status_code == 404
    assert (await hub.bot.delete(url)).status_code == 403
    assert (await hub.ada.delete(url)).status_code == 204
    assert (await hub.bot.get(f"{HERE}/issues/{number}")).status_code == 404
    told = hub.hooks("installation_repositories", "removed")
    assert [one["full_name"] for one in told[0]["repositories_removed"]] == ["octo/sample"]
    assert (await hub.ada.delete(url)).status_code == 204
    assert len(hub.hooks("installation_repositories")) == 1
    await hub.issue()
    assert len(hub.hooks("issues", "opened")) == 1
    assert (await hub.ada.put(url)).status_code == 204
    assert (await hub.bot.get(f"{HERE}/issues/{number}")).status_code == 200


async def test_a_transferred_issue_is_found_by_its_old_address_by_those_who_see_the_new_one(hub: Any) -> None:
    number = await hub.issue()
    said = (await hub.wim.post(f"{HERE}/issues/{number}/comments", json={"body": "Mine too."})).json()
    world = hub.running.world
    here = world.repository("octo/sample")
    there = await add_repository(world, "octo/other", here.git.directory, people={"ada": "admin"})
    moved = await transfer(world, here, number, there, hub.running.account("ada"))
    for rest in ("", "/comments"):
        answer = await hub.ada.get(f"{HERE}/issues/{number}{rest}", follow_redirects=False)
        assert answer.status_code == 301
        assert answer.headers["location"].endswith(f"/repositories/{there.id}/issues/{moved.number}{rest}")
    found = (await hub.ada.get(f"{HERE}/issues/{number}", follow_redirects=True)).json()
    assert (found["number"], found["repository_url"].split("/repos/")[1]) == (moved.number, "octo/other")
    assert (await hub.wim.get(f"{HERE}/issues/{number}")).status_code == 404, (
        "wim does not see the other repository"
    )
    assert (await hub.ada.get(f"{HERE}/issues/comments/{said['id']}")).status_code == 404
    (told,) = hub.hooks("issues", "transferred")
    assert told["changes"]["new_issue"]["number"] == moved.number
    assert told["issue"]["number"] == number
