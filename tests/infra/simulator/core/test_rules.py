"""Rulesets and classic protection, on refs and on contents, and workflow files."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from infra.simulator.protection import glob
from infra.simulator.serve import Running

SAMPLE = "/repos/octo/sample"
Json = dict[str, Any]


async def head(client: httpx.AsyncClient, branch: str = "main") -> Json:
    commit = (await client.get(f"{SAMPLE}/branches/{branch}")).json()["commit"]
    return {"sha": commit["sha"], "tree": commit["commit"]["tree"]["sha"]}


async def commit(client: httpx.AsyncClient, message: str = "Change", path: str = "a", **more: Any) -> str:
    base = await head(client)
    row = {"path": path, "mode": "100644", "type": "blob", "content": message}
    tree = await client.post(f"{SAMPLE}/git/trees", json={"base_tree": base["tree"], "tree": [row]})
    body = {"message": message, "tree": tree.json()["sha"], "parents": [base["sha"]], **more}
    return str((await client.post(f"{SAMPLE}/git/commits", json=body)).json()["sha"])


async def push(client: httpx.AsyncClient, branch: str, sha: str) -> httpx.Response:
    if (await client.get(f"{SAMPLE}/git/ref/heads/{branch}")).status_code == 200:
        return await client.patch(f"{SAMPLE}/git/refs/heads/{branch}", json={"sha": sha, "force": True})
    return await client.post(f"{SAMPLE}/git/refs", json={"ref": f"refs/heads/{branch}", "sha": sha})


async def ruleset(
    sim: Running, *rules: Json, include: str = "~DEFAULT_BRANCH", **more: Any
) -> httpx.Response:
    body = {
        "name": f"rules {sim.world.next_id()}",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": [include], "exclude": []}},
        "rules": list(rules),
        **more,
    }
    return await sim.client().post(f"{SAMPLE}/rulesets", json=body)


def violated(answer: httpx.Response, status: int, said: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["message"].startswith("Repository rule violations found\n\n")
    assert said in answer.json()["message"]


async def protect(sim: Running, **settings: Any) -> httpx.Response:
    body: Json = {
        "required_status_checks": None,
        "enforce_admins": True,
        "required_pull_request_reviews": None,
        "restrictions": None,
        **settings,
    }
    return await sim.client().put(f"{SAMPLE}/branches/main/protection", json=body)


# --- rulesets --------------------------------------------------------------------------------------------------------


async def test_the_rules_of_a_branch_are_told_before_it_exists(sim: Running) -> None:
    await ruleset(sim, {"type": "creation"}, include="refs/heads/magicode/**/*")
    await ruleset(sim, {"type": "deletion"}, include="~ALL", enforcement="evaluate")
    client = await sim.installation_client({"metadata": "read"})
    told = (await client.get(f"{SAMPLE}/rules/branches/magicode/issue-1")).json()
    assert [(rule["type"], rule["ruleset_source"]) for rule in told] == [("creation", "octo/sample")]
    assert (await client.get(f"{SAMPLE}/rules/branches/other")).json() == []


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"type": "update"}, "Cannot update this protected ref."),
        (
            {"type": "pull_request", "parameters": {"required_approving_review_count": 1}},
            "Changes must be made through a pull request.",
        ),
        (
            {"type": "required_status_checks", "parameters": {"required_status_checks": [{"context": "ci"}]}},
            'Required status check "ci" is expected.',
        ),
        (
            {"type": "commit_message_pattern", "parameters": {"operator": "starts_with", "pattern": "fix:"}},
            "Commit message must start with a matching pattern: fix:",
        ),
        (
            {
                "type": "commit_author_email_pattern",
                "parameters": {"operator": "ends_with", "pattern": "@corp.example"},
            },
            "Author email must end with a matching pattern",
        ),
    ],
)
async def test_a_rule_holds_for_refs_and_for_contents(sim: Running, rule: Json, said: str) -> None:
    client = await sim.installation_client()
    sha = await commit(client)
    assert (await ruleset(sim, rule)).status_code == 201
    violated(await push(client, "main", sha), 422, said)
    put = await client.put(f"{SAMPLE}/contents/n", json={"message": "Change", "content": "YQ=="})
    violated(put, 409, said)
    assert (await push(client, "free", sha)).status_code == 201


async def test_creation_deletion_and_names_are_restricted(sim: Running) -> None:
    client = await sim.installation_client()
    sha = (await head(client))["sha"]
    await push(client, "kept", sha)
    await ruleset(sim, {"type": "deletion"}, {"type": "creation"}, include="refs/heads/k*")
    violated(await push(client, "knew", sha), 422, "Cannot create ref due to creations being restricted.")
    violated(await client.delete(f"{SAMPLE}/git/refs/heads/kept"), 422, "Cannot delete this protected ref.")
    pattern = {"operator": "regex", "pattern": "^(feature|magicode)/", "negate": False}
    await ruleset(sim, {"type": "branch_name_pattern", "parameters": pattern}, include="~ALL")
    violated(await push(client, "other", sha), 422, "Branch name must match a given regex pattern")
    assert (await push(client, "magicode/issue-1", sha)).status_code == 201


async def test_a_force_push_is_refused_where_only_forward_is_allowed(sim: Running) -> None:
    client = await sim.installation_client()
    await push(client, "work", await commit(client, "One"))
    await ruleset(sim, {"type": "non_fast_forward"}, include="refs/heads/work")
    violated(
        await push(client, "work", await commit(client, "Two")), 422, "Cannot force-push to this branch."
    )


async def test_required_signatures_let_only_githubs_own_commits_through(sim: Running) -> None:
    client = await sim.installation_client()
    await ruleset(sim, {"type": "required_signatures"})
    unsigned = await commit(client, author={"name": "N", "email": "n@example.org"})
    violated(await push(client, "main", unsigned), 422, "Commits must have verified signatures.")
    assert (await push(client, "main", await commit(client))).status_code == 200


async def test_linear_history_refuses_merge_commits(sim: Running) -> None:
    client = await sim.installation_client()
    base, side = await head(client), await commit(client)
    body = {"message": "Merge", "tree": base["tree"], "parents": [base["sha"], side]}
    merge = (await client.post(f"{SAMPLE}/git/commits", json=body)).json()["sha"]
    await ruleset(sim, {"type": "required_linear_history"})
    violated(await push(client, "main", merge), 422, "This branch must not contain merge commits.")


async def test_a_ruleset_binds_admins_too_unless_they_are_on_the_bypass_list(sim: Running) -> None:
    body = {"message": "m", "content": "YQ=="}
    await ruleset(sim, {"type": "update"}, bypass_actors=[{"actor_id": 5, "actor_type": "RepositoryRole"}])
    assert (await sim.client("ada").put(f"{SAMPLE}/contents/n", json=body)).status_code == 201
    violated(
        await sim.client("wim").put(f"{SAMPLE}/contents/m", json=body),
        409,
        "Cannot update this protected ref.",
    )
    await ruleset(
        sim, {"type": "update"}, bypass_actors=[{"actor_id": sim.world.app.id, "actor_type": "Integration"}]
    )
    violated(
        await sim.client("ada").put(f"{SAMPLE}/contents/m", json=body),
        409,
        "Cannot update this protected ref.",
    )


async def test_a_ruleset_that_is_disabled_or_removed_binds_nobody(sim: Running) -> None:
    client = await sim.installation_client()
    made = (await ruleset(sim, {"type": "update"})).json()
    path = f"{SAMPLE}/rulesets/{made['id']}"
    assert (await sim.client().put(path, json={"enforcement": "disabled"})).json()[
        "enforcement"
    ] == "disabled"
    assert (await push(client, "main", await commit(client, "One"))).status_code == 200
    await sim.client().put(path, json={"enforcement": "active"})
    sha = await commit(client, "Two")
    violated(await push(client, "main", sha), 422, "Cannot update")
    assert (await sim.client().delete(path)).status_code == 204
    assert (await push(client, "main", sha)).status_code == 200
    assert (await sim.client().get(path)).status_code == 404


@pytest.mark.parametrize(
    "rule",
    [
        {"type": "no_such_rule"},
        {"type": "commit_message_pattern", "parameters": {"operator": "regex", "pattern": "("}},
        {"type": "commit_message_pattern", "parameters": {"operator": "like", "pattern": "x"}},
        {"type": "required_status_checks", "parameters": {"required_status_checks": []}},
    ],
)
async def test_a_rule_that_is_none_is_refused(sim: Running, rule: Json) -> None:
    assert (await ruleset(sim, rule)).status_code == 422


async def test_two_rulesets_cannot_share_a_name_and_patterns_are_refs(sim: Running) -> None:
    assert (await ruleset(sim, name="one")).status_code == 201
    assert (await ruleset(sim, name="one")).json()["errors"] == ["Name must be unique"]
    assert (await ruleset(sim, include="main")).status_code == 422


async def test_the_app_has_no_say_over_rules(sim: Running) -> None:
    client = await sim.installation_client()
    for answer in (
        await client.post(f"{SAMPLE}/rulesets", json={"name": "x", "enforcement": "active"}),
        await client.get(f"{SAMPLE}/branches/main/protection"),
    ):
        assert (answer.status_code, answer.json()["message"]) == (
            403,
            "Resource not accessible by integration",
        )


@pytest.mark.parametrize(
    ("pattern", "ref", "meets"),
    [
        ("refs/heads/*", "refs/heads/main", True),
        ("refs/heads/*", "refs/heads/a/b", False),
        ("refs/heads/**/*", "refs/heads/a/b/c", True),
        ("refs/heads/**/*", "refs/heads/a", True),
        ("refs/heads/release-?", "refs/heads/release-1", True),
        ("refs/heads/v[0-9].x", "refs/heads/v3.x", True),
        ("refs/heads/v[!0-9].x", "refs/heads/v3.x", False),
        ("refs/heads/a.b", "refs/heads/aXb", False),
    ],
)
def test_a_pattern_meets_refs_as_rubys_fnmatch_does(pattern: str, ref: str, meets: bool) -> None:
    assert (glob(pattern).fullmatch(ref) is not None) is meets


# --- classic protection ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"required_pull_request_reviews": {"required_approving_review_count": 1}},
            "Changes must be made through a pull request.",
        ),
        (
            {"required_status_checks": {"strict": False, "contexts": ["ci"]}},
            'Required status check "ci" is expected.',
        ),
        (
            {"restrictions": {"users": ["ada"], "teams": [], "apps": []}},
            "You're not authorized to push to this branch.",
        ),
        ({"lock_branch": True}, "Cannot change this locked branch"),
    ],
)
async def test_classic_protection_holds_for_refs_and_contents(
    sim: Running, settings: Json, said: str
) -> None:
    client = await sim.installation_client()
    sha = await commit(client)
    assert (await protect(sim, **settings)).status_code == 200
    assert (await client.get(f"{SAMPLE}/branches/main")).json()["protected"]
    answer = await push(client, "main", sha)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith(said)
    put = await client.put(f"{SAMPLE}/contents/n", json={"message": "Change", "content": "YQ=="})
    assert put.status_code == 409
    told = (await sim.client().get(f"{SAMPLE}/branches/main/protection")).json()
    assert told["enforce_admins"]["enabled"]


async def test_a_protected_branch_is_not_forced_and_its_admins_are_free_unless_included(sim: Running) -> None:
    ada = sim.client()
    await ada.put(f"{SAMPLE}/contents/n", json={"message": "One", "content": "YQ=="})
    first = (await ada.get(f"{SAMPLE}/commits?per_page=1&page=2")).json()[0]["sha"]
    await protect(
        sim, enforce_admins=False, required_pull_request_reviews={"required_approving_review_count": 1}
    )
    assert (await push(ada, "main", first)).json()["message"] == "Cannot force-push to this protected branch"
    body = {"message": "Two", "content": "YQ=="}
    assert (await ada.put(f"{SAMPLE}/contents/m", json=body)).status_code == 201
    assert (await sim.client("wim").put(f"{SAMPLE}/contents/k", json=body)).status_code == 409


async def test_signatures_are_required_by_a_switch_of_their_own(sim: Running) -> None:
    await protect(sim)
    path = f"{SAMPLE}/branches/main/protection"
    assert (await sim.client().post(f"{path}/required_signatures")).json()["enabled"]
    answer = await sim.client("wim").put(f"{SAMPLE}/contents/n", json={"message": "m", "content": "YQ=="})
    assert (answer.status_code, answer.json()["message"]) == (409, "Commits must have verified signatures.")
    assert (await sim.client().delete(path)).status_code == 204
    assert (await sim.client().get(path)).json()["message"] == "Branch not protected"


# --- workflow files --------------------------------------------------------------------------------------------------

WORKFLOW = ".github/workflows/ci.yml"


async def test_an_app_without_workflows_cannot_write_workflow_files(sim: Running) -> None:
    client = await sim.installation_client()
    row = {"path": WORKFLOW, "mode": "100644", "type": "blob", "content": "x"}
    base = await head(client)
    tree = await client.post(f"{SAMPLE}/git/trees", json={"base_tree": base["tree"], "tree": [row]})
    put = await client.put(f"{SAMPLE}/contents/{WORKFLOW}", json={"message": "m", "content": "YQ=="})
    for answer in (tree, put):
        assert (answer.status_code, answer.json()["message"]) == (
            403,
            "Resource not accessible by integration",
        )


async def test_an_app_without_workflows_cannot_push_a_commit_that_has_one(sim: Running) -> None:
    client = await sim.installation_client()
    sha = await commit(sim.client("wim"), path=WORKFLOW)
    answer = await push(client, "magicode/issue-1", sha)
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("refusing to allow a GitHub App to create or update workflow")


async def test_a_branch_of_code_that_has_workflows_already_is_no_offence(sim: Running) -> None:
    wim, client = sim.client("wim"), await sim.installation_client()
    await wim.put(f"{SAMPLE}/contents/{WORKFLOW}", json={"message": "m", "content": "YQ=="})
    sha = await commit(client)
    assert (await push(client, "magicode/issue-1", sha)).status_code == 201


# --- merges ----------------------------------------------------------------------------------------------------------


async def open_pull(sim: Running) -> tuple[str, str]:
    """The path of a pull request by the App, and its head."""
    client = await sim.installation_client()
    sha = await commit(client, path="new.txt")
    await push(client, "magicode/issue-1", sha)
    sent = {"title": "New", "head": "magicode/issue-1", "base": "main", "body": ""}
    made = await client.post(f"{SAMPLE}/pulls", json=sent)
    assert made.status_code == 201, made.text
    return f"{SAMPLE}/pulls/{made.json()['number']}", sha


async def approve(sim: Running, pull: str, user: str) -> None:
    answer = await sim.client(user).post(f"{pull}/reviews", json={"event": "APPROVE"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("classic", [True, False])
async def test_a_merge_waits_for_the_review_and_the_check_that_are_required(
    sim: Running, classic: bool
) -> None:
    pull, sha = await open_pull(sim)
    if classic:
        await protect(
            sim,
            required_pull_request_reviews={"required_approving_review_count": 1},
            required_status_checks={"strict": False, "contexts": ["ci"]},
        )
    else:
        checks = {"required_status_checks": [{"context": "ci"}]}
        await ruleset(
            sim,
            {"type": "pull_request", "parameters": {"required_approving_review_count": 1}},
            {"type": "required_status_checks", "parameters": checks},
        )
    wim = sim.client("wim")
    refused = await wim.put(f"{pull}/merge", json={})
    assert refused.status_code == 405
    assert "At least 1 approving review is required" in refused.json()["message"]
    await approve(sim, pull, "rita")  # a reader's word does not count
    assert (await wim.put(f"{pull}/merge", json={})).status_code == 405
    await approve(sim, pull, "ada")
    waiting = await wim.put(f"{pull}/merge", json={})
    assert waiting.status_code == 405
    assert 'Required status check "ci" is expected.' in waiting.json()["message"]
    await sim.client().post(f"{SAMPLE}/statuses/{sha}", json={"state": "success", "context": "ci"})
    merged = await wim.put(f"{pull}/merge", json={})
    assert (merged.status_code, merged.json().get("merged")) == (200, True)
    assert (await wim.get(f"{SAMPLE}/contents/new.txt")).status_code == 200
