"""Review threads: how they begin, go on, are resolved and outdated; and what closes an issue. GraphQL, as strict as GitHub."""

from __future__ import annotations

from typing import Any

import pytest

from infra.simulator.serve import add_repository

HERE = "/repos/octo/sample"
THREADS = """
query($number: Int!, $first: Int = 50, $after: String) {
  repository(owner: "octo", name: "sample") { pullRequest(number: $number) {
    reviewThreads(first: $first, after: $after) {
      totalCount
      pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
      edges { cursor node { id } }
      nodes {
        id isResolved isOutdated path line originalLine diffSide subjectType
        viewerCanResolve viewerCanUnresolve
        resolvedBy { login }
        comments(first: 10) { nodes {
          databaseId fullDatabaseId body
          author { __typename login ... on Bot { databaseId } ... on User { databaseId } }
          replyTo { databaseId } pullRequestReview { databaseId state }
        } }
      }
    }
  } }
}
"""
RESOLVE = 'mutation($id: ID!) { resolveReviewThread(input: {threadId: $id, clientMutationId: "c"}) { clientMutationId thread { isResolved resolvedBy { login } } } }'
UNRESOLVE = "mutation($id: ID!) { unresolveReviewThread(input: {threadId: $id}) { thread { isResolved } } }"
REPLY = "mutation($id: ID!, $body: String!) { addPullRequestReviewThreadReply(input: {pullRequestReviewThreadId: $id, body: $body}) { comment { databaseId body replyTo { databaseId } } } }"
CLOSING = """
query($number: Int!, $closed: Boolean = false) {
  repository(owner: "octo", name: "sample") { issue(number: $number) {
    number state
    closedByPullRequestsReferences(first: 10, includeClosedPrs: $closed) {
      nodes { number state repository { nameWithOwner } }
    }
  } }
}
"""


async def ask(client: Any, query: str, **variables: Any) -> Any:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200
    return answer.json()


async def threads(client: Any, number: int, **more: Any) -> Any:
    answer = await ask(client, THREADS, number=number, **more)
    assert "errors" not in answer, answer
    return answer["data"]["repository"]["pullRequest"]["reviewThreads"]


async def review(hub: Any, number: int, *bodies: str, event: str | None = "REQUEST_CHANGES") -> Any:
    comments = [{"path": "calc.py", "line": 2, "body": body} for body in bodies]
    asked = {"body": "Not yet.", "comments": comments} | ({"event": event} if event else {})
    made = await hub.ada.post(f"{HERE}/pulls/{number}/reviews", json=asked)
    assert made.status_code == 200, made.text
    return made.json()


# --- how they come about ---------------------------------------------------------------------------------------------


async def test_one_review_with_three_comments_is_told_in_four_deliveries(hub: Any) -> None:
    number = await hub.pull()
    made = await review(hub, number, "one", "two", "three")
    sent = [one.event for one in hub.world.deliveries if one.event.startswith("pull_request_review")]
    assert sent == ["pull_request_review"] + ["pull_request_review_comment"] * 3
    assert [hook["review"]["id"] for hook in hub.hooks("pull_request_review", "submitted")] == [made["id"]]
    told = [hook["comment"] for hook in hub.hooks("pull_request_review_comment", "created")]
    assert [one["body"] for one in told] == ["one", "two", "three"]
    assert {one["pull_request_review_id"] for one in told} == {made["id"]}
    assert not any("in_reply_to_id" in one for one in told)
    found = await threads(hub.bot, number)
    assert [len(one["comments"]["nodes"]) for one in found["nodes"]] == [1, 1, 1]


async def test_a_reviews_own_list_has_positions_and_no_lines(hub: Any) -> None:
    number = await hub.pull()
    made = await review(hub, number, "one")
    (listed,) = (await hub.bot.get(f"{HERE}/pulls/{number}/reviews/{made['id']}/comments")).json()
    assert (listed["body"], listed["position"], listed["pull_request_review_id"]) == ("one", 3, made["id"])
    assert not {"line", "side", "start_line", "original_line", "subject_type"} & set(listed)
    (listed,) = (await hub.bot.get(f"{HERE}/pulls/{number}/comments")).json()
    assert (listed["line"], listed["side"]) == (2, "RIGHT")


async def test_a_thread_is_read_with_its_comments(hub: Any) -> None:
    number = await hub.pull()
    made = await review(hub, number, "one")
    (first,) = (await hub.bot.get(f"{HERE}/pulls/{number}/comments")).json()
    answered = await hub.bot.post(
        f"{HERE}/pulls/{number}/comments/{first['id']}/replies", json={"body": "so"}
    )
    assert answered.json()["in_reply_to_id"] == first["id"]
    assert answered.json()["pull_request_review_id"] != made["id"]
    (thread,) = (await threads(hub.ada, number))["nodes"]
    assert (thread["path"], thread["line"], thread["originalLine"], thread["diffSide"]) == (
        "calc.py",
        2,
        2,
        "RIGHT",
    )
    assert (thread["isResolved"], thread["isOutdated"], thread["subjectType"]) == (False, False, "LINE")
    one, two = thread["comments"]["nodes"]
    assert (one["databaseId"], one["fullDatabaseId"], one["replyTo"]) == (first["id"], str(first["id"]), None)
    assert one["pullRequestReview"] == {"databaseId": made["id"], "state": "CHANGES_REQUESTED"}
    assert one["author"] == {"__typename": "User", "login": "ada", "databaseId": first["user"]["id"]}
    assert two["author"] == {"__typename": "Bot", "login": "magicode", "databaseId": hub.world.bot.id}
    assert two["replyTo"] == {"databaseId": first["id"]}


async def test_a_reply_through_graphql_stands_under_the_first_comment(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, "one")
    (thread,) = (await threads(hub.bot, number))["nodes"]
    first = thread["comments"]["nodes"][0]["databaseId"]
    for client in (hub.bot, hub.rita):
        made = (await ask(client, REPLY, id=thread["id"], body="so"))["data"][
            "addPullRequestReviewThreadReply"
        ]
        assert (made["comment"]["body"], made["comment"]["replyTo"]) == ("so", {"databaseId": first})
    assert len(hub.hooks("pull_request_review_comment", "created")) == 3
    refused = await ask(hub.bot, REPLY, id=thread["id"], body=" ")
    assert refused["errors"][0]["type"] == "UNPROCESSABLE"
    await hub.wim.put(f"{HERE}/issues/{number}/lock")
    assert (await ask(hub.rita, REPLY, id=thread["id"], body="so"))["errors"][0]["type"] == "FORBIDDEN"


async def test_a_pending_review_has_no_thread_for_others(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, "draft", event=None)
    assert (await threads(hub.bot, number))["nodes"] == []
    (mine,) = (await threads(hub.ada, number))["nodes"]
    assert (await ask(hub.wim, RESOLVE, id=mine["id"]))["errors"][0]["type"] == "NOT_FOUND"


async def test_a_thread_goes_with_its_last_comment(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, "one")
    (comment,) = (await hub.bot.get(f"{HERE}/pulls/{number}/comments")).json()
    assert (await hub.ada.delete(f"{HERE}/pulls/comments/{comment['id']}")).status_code == 204
    assert (await threads(hub.bot, number))["totalCount"] == 0


async def test_a_thread_is_outdated_once_its_line_has_changed(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, "one")
    await hub.branch("topic", {"more.py": "x = 1\n"})
    (thread,) = (await threads(hub.bot, number))["nodes"]
    assert (thread["isOutdated"], thread["line"]) == (False, 2)
    await hub.branch("topic", {"calc.py": "def add(a, b):\n    return sum((a, b))\n"})
    (thread,) = (await threads(hub.bot, number))["nodes"]
    assert (thread["isOutdated"], thread["line"], thread["originalLine"]) == (True, None, 2)


# --- resolving -------------------------------------------------------------------------------------------------------


async def test_a_thread_is_resolved_and_unresolved_with_a_webhook_for_each_change(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, "one")
    (thread,) = (await threads(hub.ada, number))["nodes"]
    for _ in range(2):
        answer = await ask(hub.ada, RESOLVE, id=thread["id"])
        assert answer["data"]["resolveReviewThread"] == {
            "clientMutationId": "c",
            "thread": {"isResolved": True, "resolvedBy": {"login": "ada"}},
        }
    (told,) = hub.hooks("pull_request_review_thread", "resolved")
    assert told["thread"]["node_id"] == thread["id"]
    assert [one["body"] for one in told["thread"]["comments"]] == ["one"]
    assert told["sender"]["login"] == "ada"
    (thread,) = (await threads(hub.wim, number))["nodes"]
    assert (thread["viewerCanResolve"], thread["viewerCanUnresolve"]) == (False, True)
    assert (await ask(hub.wim, UNRESOLVE, id=thread["id"]))["data"]["unresolveReviewThread"] == {
        "thread": {"isResolved": False}
    }
    assert len(hub.hooks("pull_request_review_thread", "unresolved")) == 1


async def test_who_may_resolve(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, "one")
    (thread,) = (await threads(hub.rita, number))["nodes"]
    assert thread["viewerCanResolve"] is False
    error = (await ask(hub.rita, RESOLVE, id=thread["id"]))["errors"][0]
    assert (error["type"], error["path"]) == ("FORBIDDEN", ["resolveReviewThread"])
    assert error["message"] == "rita does not have the correct permissions to execute `ResolveReviewThread`"
    for permissions in (
        {"metadata": "read", "pull_requests": "write", "contents": "read"},
        {"metadata": "read", "pull_requests": "read", "contents": "write"},
    ):
        error = (await ask(hub.installation(permissions), RESOLVE, id=thread["id"]))["errors"][0]
        assert (error["type"], error["message"]) == ("FORBIDDEN", "Resource not accessible by integration")
    assert "errors" not in await ask(hub.bot, RESOLVE, id=thread["id"])
    hub.repo.collaborators["wim"] = "read"  # he opened the pull request
    assert "errors" not in await ask(hub.wim, UNRESOLVE, id=thread["id"])


async def test_what_is_no_thread_cannot_be_resolved(hub: Any) -> None:
    number = await hub.pull()
    for node in ("PRRT_nothing", hub.repo.issues[number].node_id):
        assert (await ask(hub.ada, RESOLVE, id=node))["errors"][0]["type"] == "NOT_FOUND"


async def test_rules_ask_for_resolved_conversations_until_they_are(hub: Any) -> None:
    number = await hub.pull()
    protection = {
        "required_status_checks": None,
        "enforce_admins": True,
        "required_pull_request_reviews": None,
        "restrictions": None,
        "required_conversation_resolution": True,
    }
    assert (await hub.ada.put(f"{HERE}/branches/main/protection", json=protection)).status_code == 200
    await review(hub, number, "one", event="COMMENT")
    refused = await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})
    assert (refused.status_code, "conversation" in refused.json()["message"]) == (405, True)
    (thread,) = (await threads(hub.ada, number))["nodes"]
    await ask(hub.ada, RESOLVE, id=thread["id"])
    assert (await hub.wim.put(f"{HERE}/pulls/{number}/merge", json={})).status_code == 200


# --- pages -----------------------------------------------------------------------------------------------------------


async def test_threads_come_in_pages(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, *"abcde")
    whole = await threads(hub.bot, number)
    ids = [one["id"] for one in whole["nodes"]]
    assert [one["node"]["id"] for one in whole["edges"]] == ids
    seen: list[str] = []
    after = None
    for more in (True, True, False):
        page = await threads(hub.bot, number, first=2, after=after)
        seen += [one["id"] for one in page["nodes"]]
        assert (page["totalCount"], page["pageInfo"]["hasNextPage"]) == (5, more)
        assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
        after = page["pageInfo"]["endCursor"]
    assert seen == ids
    assert (await threads(hub.bot, number, after=after))["pageInfo"]["endCursor"] is None


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ("", "MISSING_PAGINATION_BOUNDARIES"),
        ("(first: 101)", "EXCESSIVE_PAGINATION"),
        ("(last: 0)", "INVALID_PAGINATION_BOUNDARIES"),
        ('(first: 1, after: "nonsense")', "INVALID_CURSOR_ARGUMENTS"),
    ],
)
async def test_a_page_that_github_would_not_give_is_refused(hub: Any, arguments: str, kind: str) -> None:
    number = await hub.pull()
    query = f'{{ repository(owner: "octo", name: "sample") {{ pullRequest(number: {number}) {{ number reviewThreads{arguments} {{ totalCount }} }} }} }}'
    answer = await ask(hub.bot, query)
    assert answer["data"]["repository"]["pullRequest"] == {"number": number, "reviewThreads": None}
    (error,) = answer["errors"]
    assert (error["type"], error["path"]) == (kind, ["repository", "pullRequest", "reviewThreads"])


async def test_the_last_ones_and_those_before_them(hub: Any) -> None:
    number = await hub.pull()
    await review(hub, number, *"abcde")
    query = '{ repository(owner: "octo", name: "sample") { pullRequest(number: %d) { reviewThreads(last: 2%s) { pageInfo { startCursor hasPreviousPage } nodes { comments(last: 1) { nodes { body } } } } } } }'
    before = ""
    for wanted in (["d", "e"], ["b", "c"], ["a"]):
        page = (await ask(hub.bot, query % (number, before)))["data"]["repository"]["pullRequest"][
            "reviewThreads"
        ]
        assert [one["comments"]["nodes"][0]["body"] for one in page["nodes"]] == wanted
        assert page["pageInfo"]["hasPreviousPage"] is (wanted != ["a"])
        before = f', before: "{page["pageInfo"]["startCursor"]}"'


# --- what closes an issue --------------------------------------------------------------------------------------------


async def closing(hub: Any, number: int, *, client: Any = None, closed: bool = False) -> list[Any]:
    answer = await ask(client or hub.bot, CLOSING, number=number, closed=closed)
    assert "errors" not in answer, answer
    return list(answer["data"]["repository"]["issue"]["closedByPullRequestsReferences"]["nodes"])


@pytest.mark.parametrize(
    ("text", "closes"),
    [
        ("Fixes #1", True),
        ("This closes: octo/Sample#1.", True),
        ("resolved #1 and #2", True),
        ("See #1", False),
        ("Fixes other/sample#1", False),
        ("prefixes #1", False),
        ("Fixes #11", False),
    ],
)
async def test_a_pull_request_that_says_so_closes_an_issue(hub: Any, text: str, closes: bool) -> None:
    assert await hub.issue() == 1
    number = await hub.pull(body=text)
    found = await closing(hub, 1)
    assert [one["number"] for one in found] == ([number] if closes else [])


async def test_only_open_ones_into_the_default_branch_count_unless_all_are_asked_for(hub: Any) -> None:
    issue = await hub.issue()
    number = await hub.pull(body=f"Fixes #{issue}")
    await hub.branch("release", {"r.txt": "r\n"})
    await hub.pull("other", base="release", body=f"Fixes #{issue}")
    assert [one["number"] for one in await closing(hub, issue)] == [number]
    await hub.wim.patch(f"{HERE}/pulls/{number}", json={"state": "closed"})
    assert await closing(hub, issue) == []
    (found,) = await closing(hub, issue, closed=True)
    assert (found["number"], found["state"]) == (number, "CLOSED")


async def test_a_pull_request_elsewhere_counts_for_those_who_see_it(hub: Any) -> None:
    issue = await hub.issue()
    other = await add_repository(hub.world, "octo/other", hub.repo.git.directory)
    wim, there = hub.wim, "/repos/octo/other"
    sha = await other.git.branch("main")
    await wim.post(f"{there}/git/refs", json={"ref": "refs/heads/t", "sha": sha})
    put = {"message": "m", "branch": "t", "content": "eA=="}
    assert (await wim.put(f"{there}/contents/x.txt", json=put)).status_code == 201
    sent = {"title": "t", "head": "t", "base": "main", "body": f"Fixes octo/sample#{issue}"}
    assert (await wim.post(f"{there}/pulls", json=sent)).status_code == 201
    assert [one["repository"]["nameWithOwner"] for one in await closing(hub, issue)] == ["octo/other"]
    other.collaborators.pop("rita")
    assert await closing(hub, issue, client=hub.rita) == []


async def test_an_issue_and_a_pull_request_are_not_each_other(hub: Any) -> None:
    issue, number = await hub.issue(), await hub.pull()
    answer = await ask(hub.bot, CLOSING, number=number)
    assert answer["data"]["repository"] == {"issue": None}
    error = answer["errors"][0]
    assert (error["type"], error["path"]) == ("NOT_FOUND", ["repository", "issue"])
    assert error["message"] == f"Could not resolve to an Issue with the number of {number}."
    assert (await ask(hub.bot, THREADS, number=issue))["errors"][0]["type"] == "NOT_FOUND"


async def test_an_app_reads_only_what_it_was_granted(hub: Any) -> None:
    issue, number = await hub.issue(), await hub.pull()
    client = hub.installation({"metadata": "read", "contents": "write"})
    for query, asked in ((CLOSING, issue), (THREADS, number)):
        error = (await ask(client, query, number=asked))["errors"][0]
        assert (error["type"], error["message"]) == ("FORBIDDEN", "Resource not accessible by integration")


# --- what the schema refuses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "variables", "code"),
    [
        ("query($n: Int!) { viewer { login } }", {"n": 1}, "variableNotUsed"),
        ('{ repository(owner: "octo", name: "sample") { pullRequest(number: $n) { id } } }', {}, "variableNotDefined"),
        ('query($n: String!) { repository(owner: "octo", name: "sample") { pullRequest(number: $n) { id } } }', {"n": "1"}, "variableMismatch"),
        ('query($n: Int) { repository(owner: "octo", name: "sample") { pullRequest(number: $n) { id } } }', {"n": 1}, "variableMismatch"),
        ('{ repository(owner: "octo", name: "sample") { pullRequest(number: "1") { id } } }', {}, "argumentLiteralsIncompatible"),
        ('{ repository(owner: OCTO, name: "sample") { id } }', {}, "argumentLiteralsIncompatible"),
        ('mutation { resolveReviewThread(input: {threadId: "x", force: true}) { thread { id } } }', {}, "argumentLiteralsIncompatible"),
        ('mutation { resolveReviewThread(input: {thread: "x"}) { thread { id } } }', {}, "argumentLiteralsIncompatible"),
        ('{ node(id: "x") { ... on PullRequestReviewThread { comment } } }', {}, "undefinedField"),
        ('{ node(id: "x") { ... on Commit { oid } } }', {}, "cannotSpreadFragment"),
        ('{ repository(owner: "octo", name: "sample") { pullRequest(number: 1) { reviewThreads(first: 1) } } }', {}, "selectionMismatch"),
        ('{ repository(owner: "octo", name: "sample") { pullRequest(number: 1) { reviewThreads(first: 1, isResolved: false) { totalCount } } } }', {}, "argumentNotAccepted"),
    ],
)  # fmt: skip
async def test_what_the_schema_does_not_have_is_refused_whole(
    hub: Any, query: str, variables: dict[str, Any], code: str
) -> None:
    answer = await ask(hub.ada, query, **variables)
    assert "data" not in answer
    assert answer["errors"][0]["extensions"]["code"] == code


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Int!", "1"),
        ("Int!", True),
        ("Int!", 1.5),
        ("Int!", 2**31),
        ("Int!", None),
    ],
)
async def test_a_variable_of_another_type_is_refused(hub: Any, kind: str, value: Any) -> None:
    query = f'query($n: {kind}) {{ repository(owner: "octo", name: "sample") {{ pullRequest(number: $n) {{ id }} }} }}'
    answer = await ask(hub.ada, query, n=value)
    assert "data" not in answer
    assert answer["errors"][0]["message"] == f"Variable $n of type {kind} was provided invalid value"


async def test_an_input_sent_as_a_variable_is_checked_too(hub: Any) -> None:
    query = "mutation($i: ResolveReviewThreadInput!) { resolveReviewThread(input: $i) { thread { id } } }"
    for sent in ({}, {"threadId": 1.5}, {"threadId": "x", "force": True}, "x"):
        answer = await ask(hub.ada, query, i=sent)
        assert "data" not in answer
        assert "invalid value" in answer["errors"][0]["message"]
    assert (await ask(hub.ada, query, i={"threadId": "x"}))["errors"][0]["type"] == "NOT_FOUND"
