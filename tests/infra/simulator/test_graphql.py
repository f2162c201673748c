"""GraphQL: drafts made ready and back, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from githubkit import GitHub, TokenAuthStrategy
from githubkit.exception import GraphQLFailed

from infra.simulator.graphql_document import DocumentError, EnumValue, Variable, parse

READY = "mutation($id: ID!) { markPullRequestReadyForReview(input: {pullRequestId: $id}) { pullRequest { isDraft number } } }"
DRAFT = "mutation Back($i: ConvertPullRequestToDraftInput!) { convertPullRequestToDraft(input: $i) { clientMutationId pullRequest { isDraft } } }"


async def ask(client: Any, query: str, **variables: Any) -> Any:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200
    return answer.json()


async def test_a_draft_is_made_ready_and_a_draft_again_with_a_webhook_each(hub: Any) -> None:
    number = await hub.pull(draft=True)
    node = hub.repo.issues[number].node_id
    ready = await ask(hub.bot, READY, id=node)
    payload = {"pullRequest": {"isDraft": False, "number": number}}
    assert ready == {"data": {"markPullRequestReadyForReview": payload}}
    assert (await hub.ada.get(f"/repos/octo/sample/pulls/{number}")).json()["draft"] is False
    back = await ask(hub.wim, DRAFT, i={"pullRequestId": node, "clientMutationId": "c"})
    assert back["data"]["convertPullRequestToDraft"] == {
        "clientMutationId": "c",
        "pullRequest": {"isDraft": True},
    }
    assert [hook["action"] for hook in hub.hooks("pull_request")] == [
        "opened",
        "ready_for_review",
        "converted_to_draft",
    ]
    assert hub.hooks("pull_request", "ready_for_review")[0]["sender"]["login"] == "magicode[bot]"


async def test_githubkit_makes_a_draft_ready_and_reads_the_refusal(hub: Any) -> None:
    number = await hub.pull(draft=True)
    client = GitHub(TokenAuthStrategy(hub.running.tokens["wim"]), base_url=hub.running.base_url)
    pull = (await client.rest.pulls.async_get("octo", "sample", number)).parsed_data
    answer = await client.async_graphql(READY, {"id": pull.node_id})
    assert answer["markPullRequestReadyForReview"]["pullRequest"]["isDraft"] is False
    with pytest.raises(GraphQLFailed) as refused:
        await client.async_graphql(READY, {"id": "PR_nothing"})
    assert refused.value.response.errors[0].type == "NOT_FOUND"


async def test_an_unknown_node_is_not_found(hub: Any) -> None:
    answer = await ask(hub.bot, READY, id="PR_nothing")
    assert answer["data"] == {"markPullRequestReadyForReview": None}
    error = answer["errors"][0]
    assert (error["type"], error["path"]) == ("NOT_FOUND", ["markPullRequestReadyForReview"])
    assert error["message"] == "Could not resolve to a node with the global id of 'PR_nothing'."


async def test_the_permission_is_needed(hub: Any) -> None:
    number = await hub.pull(draft=True)
    node = hub.repo.issues[number].node_id
    client = hub.installation({"metadata": "read", "pull_requests": "read"})
    error = (await ask(client, READY, id=node))["errors"][0]
    assert (error["type"], error["message"]) == ("FORBIDDEN", "Resource not accessible by integration")
    error = (await ask(hub.rita, READY, id=node))["errors"][0]
    assert error["type"] == "FORBIDDEN"
    hub.repo.collaborators.pop("rita")
    assert (await ask(hub.rita, READY, id=node))["errors"][0]["type"] == "NOT_FOUND"
    assert hub.repo.issues[number].pull.draft is True


async def test_a_pull_request_is_read_by_node_and_by_number(hub: Any) -> None:
    number = await hub.pull()
    node = hub.repo.issues[number].node_id
    query = "query($id: ID!) { node(id: $id) { __typename ... on PullRequest { title state mergeable author { login } repository { nameWithOwner } } } }"
    assert (await ask(hub.bot, query, id=node))["data"]["node"] == {
        "__typename": "PullRequest",
        "title": "Add up",
        "state": "OPEN",
        "mergeable": "MERGEABLE",
        "author": {"login": "wim"},
        "repository": {"nameWithOwner": "octo/sample"},
    }
    query = '{ repository(owner: "octo", name: "sample") { pr: pullRequest(number: %d) { id headRefName } } viewer { login } }'
    answer = await ask(hub.bot, query % number)
    assert answer["data"]["repository"]["pr"] == {"id": node, "headRefName": "topic"}
    assert answer["data"]["viewer"] == {"login": "magicode"}
    answer = await ask(hub.bot, query % 99)
    assert answer["data"]["repository"] == {"pr": None}
    assert answer["errors"][0]["path"] == ["repository", "pr"]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ nothing }", "undefinedField"),
        ('{ node(id: "x") { ... on PullRequest { secrets } } }', "undefinedField"),
        ('{ node(id: "x") }', "selectionMismatch"),
        ("{ node { id } }", "missingRequiredArguments"),
        ('{ node(id: "x", deep: true) { id } }', "argumentNotAccepted"),
        ("{ viewer { login { x } } }", "selectionMismatch"),
        ("mutation { deleteEverything { id } }", "undefinedField"),
        (
            "mutation { markPullRequestReadyForReview(input: {}) { pullRequest { id } } }",
            "argumentLiteralsIncompatible",
        ),
    ],
)
async def test_what_the_schema_does_not_have_is_refused_whole(hub: Any, query: str, code: str) -> None:
    answer = await ask(hub.bot, query)
    assert "data" not in answer
    assert answer["errors"][0]["extensions"]["code"] == code


async def test_a_missing_variable_and_a_broken_document_are_refused(hub: Any) -> None:
    assert "invalid value" in (await ask(hub.bot, READY))["errors"][0]["message"]
    assert (await ask(hub.bot, "{ viewer { login }"))["errors"][0]["message"].startswith(
        "Unexpected end of document"
    )
    answer = await hub.bot.post("/graphql", json={"variables": {}})
    assert (
        answer.json()["errors"][0]["message"] == "A query attribute must be specified and must be a string."
    )
    assert (await hub.bot.post("/graphql", content=b"{")).status_code == 400
    assert (
        await hub.as_user(None).post("/graphql", json={"query": "{ viewer { login } }"})
    ).status_code == 401
    assert (await hub.as_app().post("/graphql", json={"query": "{ viewer { login } }"})).status_code == 403


def test_a_document_is_read_with_its_aliases_values_and_comments() -> None:
    text = 'query Q($a: [Int!]! = [1, 2], $b: ID) { # said\n one: f(x: {y: $b, z: null}, e: OPEN, s: "a\\nb", n: -1.5e2) { id } }'
    (operation,) = parse(text)
    assert (operation.name, operation.variables[0].type, operation.variables[0].required) == (
        "Q",
        "[Int!]!",
        False,
    )
    (field,) = operation.selections
    assert (field.key, field.name, field.line) == ("one", "f", 2)
    wanted = {"x": {"y": Variable("b"), "z": None}, "e": EnumValue("OPEN"), "s": "a\nb", "n": -150.0}
    assert field.arguments == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "{ a",
        "query { a(b:) }",
        "subscription { a }",
        "{ a @skip(if: true) }",
        "{ ...F }",
        '{ a(b: "x) }',
    ],
)
def test_a_document_that_cannot_be_read_says_where(text: str) -> None:
    with pytest.raises(DocumentError, match=r"at \[\d+, \d+\]"):
        parse(text)
