"""Every route that the simulator serves is driven once, and every answer and webhook held to GitHub's own schemas.

A route that is added without being driven here fails `test_every_served_route_was_driven_with_success`; the checking
itself is done by the client in conftest.py, answer by answer.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from githubkit.webhooks import parse_obj

import infra.simulator
from infra.simulator import ci, payloads
from infra.simulator.auth import new_sign_in_token
from infra.simulator.serve import installation_for

HERE = "/repos/octo/sample"

NOT_IN_THE_DESCRIPTION = {
    ("GET", "/{owner}/{repo}/issues/{issue_number}"): "a page for people, at the address that html_url names",
    ("GET", "/{owner}/{repo}/pull/{pull_number}"): "a page for people, at the address that html_url names",
    ("GET", "/login/oauth/authorize"): "the page on which a person signs in; test_oauth.py",
    ("POST", "/login/oauth/authorize"): "that page's form",
    ("POST", "/login/oauth/access_token"): "OAuth's token endpoint, on the web host; test_oauth.py",
    ("POST", "/settings/apps/new"): "the page on which a person registers an App; test_manifests.py",
    ("POST", "/organizations/{org}/settings/apps/new"): "the same for an organization's App",
    ("GET", "/apps/{app_slug}/installations/new"): "the page on which an App is installed",
    ("POST", "/apps/{app_slug}/installations/new"): "that page's form",
    ("POST", "/graphql"): "GraphQL has a schema of its own; test_graphql.py",
    (
        "GET",
        "/_codeload/{owner}/{repo}/legacy.tar.gz/{ref}",
    ): "codeload.github.com, where tarballs redirect to",
}
"""Served, and no part of the REST API's description."""


_ON_BOTH = "assigned closed edited labeled locked opened reopened unassigned unlabeled unlocked"
KINDS = {
    f"{event}.{action}"
    for event, actions in {
        "check_run": "completed created",
        "check_suite": "completed",
        "installation": "created deleted suspend unsuspend",
        "installation_repositories": "added removed",
        "issue_comment": "created deleted edited",
        "marketplace_purchase": "cancelled changed pending_change pending_change_cancelled purchased",
        "issues": _ON_BOTH,
        "pull_request": f"{_ON_BOTH} converted_to_draft ready_for_review review_requested synchronize",
        "pull_request_review": "dismissed edited submitted",
        "pull_request_review_comment": "created deleted edited",
        "pull_request_review_thread": "resolved unresolved",
    }.items()
    for action in actions.split()
} | {"push", "status"}
"""Every kind of webhook that the scenario below makes the simulator send; a new kind is added here and driven there."""


def must(answer: httpx.Response, *statuses: int) -> Any:
    assert answer.status_code in (statuses or (200, 201, 202, 204)), f"{answer.request.url} {answer.text}"
    return answer.json() if answer.content and "json" in answer.headers.get("content-type", "") else None


# --- the scenario, a part for each family ----------------------------------------------------------------------------


async def drive_issues(hub: Any) -> None:
    here = f"{HERE}/issues/{await hub.issue(labels=['bug'], assignees=['wim'])}"
    for url in (f"{HERE}/issues", here, f"{HERE}/labels", f"{here}/labels", f"{HERE}/assignees"):
        must(await hub.bot.get(url))
    must(await hub.wim.patch(here, json={"title": "Better", "assignees": [], "state": "closed"}))
    must(await hub.wim.patch(here, json={"state": "open"}))
    must(await hub.wim.post(f"{HERE}/labels", json={"name": "magicode"}))
    must(await hub.wim.post(f"{here}/labels", json={"labels": ["magicode"]}))
    must(await hub.wim.put(f"{here}/labels", json={"labels": ["bug"]}))
    must(await hub.wim.delete(f"{here}/labels/bug"))
    must(await hub.wim.post(f"{here}/assignees", json={"assignees": ["ada"]}))
    must(await hub.wim.request("DELETE", f"{here}/assignees", json={"assignees": ["ada"]}))
    must(await hub.wim.put(f"{here}/lock", json={}))
    must(await hub.wim.delete(f"{here}/lock"))
    made = must(await hub.bot.post(f"{here}/comments", json={"body": "x"}))
    comment = f"{HERE}/issues/comments/{made['id']}"
    must(await hub.bot.get(f"{here}/comments"))
    must(await hub.bot.get(comment))
    must(await hub.bot.patch(comment, json={"body": "y"}))
    for url in (here, comment):
        await drive_reactions(hub, url)
    must(await hub.bot.delete(comment))
    must(await hub.ada.get(must(await hub.bot.get(here))["html_url"]))


async def drive_reactions(hub: Any, url: str) -> None:
    made = must(await hub.bot.post(f"{url}/reactions", json={"content": "eyes"}), 201)
    must(await hub.bot.post(f"{url}/reactions", json={"content": "eyes"}), 200)
    must(await hub.ada.get(f"{url}/reactions"))
    must(await hub.bot.delete(f"{url}/reactions/{made['id']}"))


async def drive_pulls(hub: Any) -> None:
    number = await hub.pull(draft=True)
    here = f"{HERE}/pulls/{number}"
    for url in (f"{HERE}/pulls", here, f"{here}/files", f"{here}/commits"):
        must(await hub.bot.get(url))
    node = hub.repo.issues[number].node_id
    for name in (
        "markPullRequestReadyForReview",
        "convertPullRequestToDraft",
        "markPullRequestReadyForReview",
    ):
        query = f'mutation {{ {name}(input: {{pullRequestId: "{node}"}}) {{ pullRequest {{ id }} }} }}'
        assert "errors" not in must(await hub.bot.post("/graphql", json={"query": query}))
    must(await hub.wim.patch(here, json={"title": "Better"}))
    for state in ("closed", "open"):
        must(await hub.wim.patch(here, json={"state": state}))
    must(await hub.wim.post(f"{HERE}/issues/{number}/labels", json={"labels": ["bug"]}))
    must(await hub.wim.delete(f"{HERE}/issues/{number}/labels/bug"))
    must(await hub.wim.post(f"{HERE}/issues/{number}/assignees", json={"assignees": ["ada"]}))
    must(await hub.wim.patch(f"{HERE}/issues/{number}", json={"assignees": []}))
    must(await hub.wim.put(f"{HERE}/issues/{number}/lock", json={}))
    must(await hub.wim.delete(f"{HERE}/issues/{number}/lock"))
    must(await hub.bot.post(f"{HERE}/issues/{number}/comments", json={"body": "on a pull request"}))
    must(await hub.bot.post(f"{here}/requested_reviewers", json={"reviewers": ["ada"]}))
    await drive_reviews(hub, here)
    await hub.branch("main", {"between.txt": "b\n"})
    await hub.branch("aside", {"aside.txt": "a\n"})
    must(await hub.bot.post(f"{HERE}/merges", json={"base": "aside", "head": "topic"}), 201)
    must(await hub.bot.post(f"{HERE}/merges", json={"base": "aside", "head": "topic"}), 204)
    must(await hub.wim.put(f"{here}/update-branch", json={}))
    must(await hub.wim.put(f"{here}/merge", json={}))
    must(await hub.ada.get(f"{here}/merge"))
    must(await hub.ada.get(must(await hub.ada.get(here))["html_url"]))


async def drive_reviews(hub: Any, here: str) -> None:
    pending = must(await hub.ada.post(f"{here}/reviews", json={}))
    review = f"{here}/reviews/{pending['id']}"
    must(await hub.ada.post(f"{review}/events", json={"event": "APPROVE"}))
    must(await hub.ada.put(review, json={"body": "Fine."}))
    must(await hub.ada.put(f"{review}/dismissals", json={"message": "Not so fine."}))
    for url in (f"{here}/reviews", review, f"{review}/comments"):
        must(await hub.bot.get(url))
    head = await hub.repo.git.branch("topic")
    sent = {"body": "why?", "commit_id": head, "path": "calc.py", "line": 2}
    made = must(await hub.ada.post(f"{here}/comments", json=sent))
    must(await hub.bot.post(f"{here}/comments/{made['id']}/replies", json={"body": "because"}))
    must(await hub.bot.get(f"{here}/comments"))
    comment = f"{HERE}/pulls/comments/{made['id']}"
    must(await hub.bot.get(comment))
    must(await hub.ada.patch(comment, json={"body": "how?"}))
    await drive_reactions(hub, comment)
    node = next(iter(hub.repo.issues[int(here.rpartition("/")[2])].pull.threads.values())).node_id
    for name in ("resolveReviewThread", "unresolveReviewThread"):
        query = f'mutation {{ {name}(input: {{threadId: "{node}"}}) {{ thread {{ id }} }} }}'
        assert "errors" not in must(await hub.bot.post("/graphql", json={"query": query}))
    must(await hub.ada.delete(comment))


async def drive_checks(hub: Any) -> None:
    sent = {"repository": "octo/sample", "sha": "main", "name": "tests", "conclusion": "success"}
    run = must(await hub.running.client().post("/_simulator/checks", json=sent))
    suite = f"check-suites/{run['check_suite']['id']}"
    one = f"check-runs/{run['id']}"
    sha = await hub.repo.git.branch("main")
    must(await hub.wim.post(f"{HERE}/statuses/{sha}", json={"state": "success"}))
    of_commit = [f"commits/main/{name}" for name in ("check-runs", "check-suites", "status", "statuses")]
    for url in (suite, f"{suite}/check-runs", one, f"{one}/annotations", *of_commit):
        must(await hub.bot.get(f"{HERE}/{url}"))


async def drive_actions(hub: Any) -> None:
    def play(code: ci.Code) -> ci.Verdict:
        if b"never" in code.files["calc.py"]:
            return ci.StartupFailure()
        return [
            ci.passing("lint"),
            ci.failing("tests", "1 failed"),
            ci.cancelled("docs"),
            ci.lost("slow"),
            ci.skipped("x"),
        ]

    workflow = hub.running.on_push(play)
    workflow.hold()
    await hub.branch("built", {"calc.py": "x = 1\n"})
    for step in (workflow.begin, workflow.finish, workflow.release):
        must(await hub.bot.get(f"{HERE}/actions/runs"))
        run = f"{HERE}/actions/runs/{workflow.runs[-1].id}"
        for url in (run, f"{run}/jobs"):
            must(await hub.bot.get(url))
        await step()
    must(await hub.wim.post(f"{run}/rerun"))
    await hub.world.settled()
    must(await hub.wim.post(f"{run}/rerun-failed-jobs"))
    await hub.world.settled()
    must(await hub.bot.get(f"{run}/attempts/2/jobs"))
    workflow.hold()
    must(await hub.wim.post(f"{run}/rerun"))
    await hub.world.settled()
    must(await hub.wim.post(f"{run}/cancel"), 202)
    await workflow.release()
    jobs = must(await hub.bot.get(f"{run}/jobs", params={"filter": "all"}))["jobs"]
    job = f"{HERE}/actions/jobs/{jobs[1]['id']}"
    must(await hub.wim.post(f"{job}/rerun"))
    await hub.world.settled()
    must(await hub.bot.get(job))
    assert (await hub.bot.get(f"{job}/logs")).status_code == 302
    must(await hub.bot.get(f"{HERE}/check-runs/{jobs[1]['id']}/annotations"))
    await hub.branch("built", {"calc.py": "never\n"})
    await hub.world.settled()
    must(await hub.bot.get(f"{HERE}/commits/built/check-suites"))
    must(await hub.bot.get(f"{HERE}/actions/runs", params={"status": "startup_failure"}))
    hub.world.workflows.clear()


async def drive_git(hub: Any) -> None:
    main = await hub.repo.git.branch("main")
    blob = must(await hub.bot.post(f"{HERE}/git/blobs", json={"content": "x", "encoding": "utf-8"}))["sha"]
    commit = must(await hub.bot.get(f"{HERE}/git/commits/{main}"))
    rows = [{"path": "x.txt", "mode": "100644", "type": "blob", "sha": blob}]
    tree = must(
        await hub.bot.post(f"{HERE}/git/trees", json={"base_tree": commit["tree"]["sha"], "tree": rows})
    )
    sent = {"message": "x", "tree": tree["sha"], "parents": [main]}
    made = must(await hub.bot.post(f"{HERE}/git/commits", json=sent))
    must(await hub.bot.post(f"{HERE}/git/refs", json={"ref": "refs/heads/magicode/x", "sha": main}))
    must(await hub.bot.patch(f"{HERE}/git/refs/heads/magicode/x", json={"sha": made["sha"]}))
    for url in (
        f"git/blobs/{blob}",
        f"git/trees/{tree['sha']}",
        "git/ref/heads/magicode/x",
        "git/matching-refs/heads/magicode",
    ):
        must(await hub.bot.get(f"{HERE}/{url}"))
    must(await hub.bot.get(f"{HERE}/git/trees/{tree['sha']}?recursive=1"))
    must(await hub.bot.delete(f"{HERE}/git/refs/heads/magicode/x"))


async def drive_contents(hub: Any) -> None:
    content = base64.b64encode(b"x\n").decode()
    put = must(await hub.wim.put(f"{HERE}/contents/docs/a.md", json={"message": "a", "content": content}))
    for url in ("contents", "contents/docs", "contents/docs/a.md", "contents/"):
        must(await hub.bot.get(f"{HERE}/{url}"))
    gone = {"message": "b", "sha": put["content"]["sha"]}
    must(await hub.wim.request("DELETE", f"{HERE}/contents/docs/a.md", json=gone))


async def drive_repository(hub: Any) -> None:
    for url in (
        "",
        "/branches",
        "/branches/main",
        "/tags",
        "/commits",
        "/commits/main",
        "/compare/main...main",
        "/collaborators",
        "/collaborators/wim/permission",
        "/rules/branches/magicode/issue-1",
    ):
        must(await hub.ada.get(f"{HERE}{url}"))
    must(await hub.ada.get(f"{HERE}/collaborators/wim"), 204)
    for url in (f"{HERE}/tarball/main", f"{HERE}/tarball"):
        moved = await hub.bot.get(url)
        assert moved.status_code == 302
    fetched = await hub.bot.get(moved.headers["location"])
    assert fetched.content[:2] == b"\x1f\x8b"
    must(await hub.ada.put(f"{HERE}/collaborators/rita", json={"permission": "triage"}))
    must(await hub.ada.delete(f"{HERE}/collaborators/rita"))
    must(await hub.ada.patch(HERE, json={"description": "A sample."}))


async def drive_rules(hub: Any) -> None:
    ruleset = {
        "name": "main",
        "target": "branch",
        "enforcement": "active",
        "conditions": {"ref_name": {"include": ["refs/heads/release/*"], "exclude": []}},
        "rules": [{"type": "deletion"}, {"type": "non_fast_forward"}],
        "bypass_actors": [],
    }
    made = must(await hub.ada.post(f"{HERE}/rulesets", json=ruleset))
    one = f"{HERE}/rulesets/{made['id']}"
    must(await hub.ada.get(f"{HERE}/rulesets"))
    must(await hub.ada.get(one))
    must(await hub.bot.get(f"{HERE}/rules/branches/release/1"))
    must(await hub.ada.put(one, json={**ruleset, "enforcement": "disabled"}))
    must(await hub.ada.delete(one))
    protection = {
        "required_status_checks": {"strict": False, "contexts": ["tests"]},
        "enforce_admins": False,
        "required_pull_request_reviews": {"required_approving_review_count": 1},
        "restrictions": None,
    }
    url = f"{HERE}/branches/main/protection"
    must(await hub.ada.put(url, json=protection))
    must(await hub.ada.get(url))
    must(await hub.ada.post(f"{url}/required_signatures"))
    must(await hub.ada.delete(f"{url}/required_signatures"))
    must(await hub.ada.delete(url))


async def drive_apps(hub: Any) -> None:
    app, number = hub.as_app(), hub.running.installation_id
    for url in (
        "/app",
        "/apps/magicode",
        "/app/installations",
        f"/app/installations/{number}",
        f"{HERE}/installation",
    ):
        must(await app.get(url))
    must(await app.get("/orgs/octo/installation"))
    installation_for(hub.world, hub.world.user_by_login("rita"))
    must(await app.get("/users/rita/installation"))
    for url in ("/user", "/users/ada", f"/user/{hub.world.app.owner_id}"):
        must(await hub.ada.get(url))
    asked = {"permissions": {"contents": "read"}, "repository_ids": [hub.repo.id]}
    token = must(await app.post(f"/app/installations/{number}/access_tokens", json=asked))["token"]
    client = hub.as_token(token)
    must(await client.get("/installation/repositories"))
    must(await client.delete("/installation/token"))
    must(await app.patch("/app/hook/config", json={"url": "http://127.0.0.1:9/webhooks/github"}))
    must(await app.get("/app/hook/config"))
    listed = must(await app.get("/app/hook/deliveries"))
    one = f"/app/hook/deliveries/{listed[0]['id']}"
    must(await app.get(one))
    must(await app.post(f"{one}/attempts"))
    for method in ("PUT", "DELETE"):
        must(await app.request(method, f"/app/installations/{number}/suspended"))
    for method in ("DELETE", "PUT"):
        must(await hub.ada.request(method, f"/user/installations/{number}/repositories/{hub.repo.id}"))


async def drive_sign_in(hub: Any) -> None:
    app, nobody = hub.world.app, hub.as_user(None)
    asked = {"client_id": app.client_id, "redirect_uri": "http://127.0.0.1:9/back"}
    must(await nobody.get("/login/oauth/authorize", params=asked))
    page = {**asked, "person": ""}
    assert (await nobody.post("/login/oauth/authorize", data=page)).status_code == 302
    sent = {"client_id": app.client_id, "client_secret": app.client_secret, "code": "x"}
    must(await nobody.post("/login/oauth/access_token", data=sent))
    token = new_sign_in_token(hub.world, hub.world.user_by_login("rita")).value
    must(await hub.as_token(token).get("/user"))
    gone = await hub.checked(hub.running.client(None)).request(
        "DELETE",
        f"/applications/{app.client_id}/token",
        json={"access_token": token},
        auth=(app.client_id, app.client_secret),
    )
    must(gone, 204)


async def drive_registration(hub: Any) -> None:
    """The last of all: the App is another one afterwards."""
    nobody = hub.as_user(None)
    manifest = {
        "name": "Second",
        "url": "https://second.example",
        "redirect_url": "http://127.0.0.1:9/created",
        "hook_attributes": {"url": "http://127.0.0.1:9/webhooks/github"},
    }
    sent = {"manifest": json.dumps(manifest), "person": "ada"}
    hub.world.user_by_login("octo").owner_ids.add(hub.world.user_by_login("ada").id)
    address = "/organizations/octo/settings/apps/new"
    assert (await nobody.post(address, data={**sent, "name": "First"})).status_code == 302
    assert (await nobody.post("/settings/apps/new", data=sent)).status_code == 302
    must(await nobody.post(f"/app-manifests/{hub.world.registered.code}/conversions"), 201)
    must(await nobody.get("/apps/second/installations/new"))
    must(await nobody.post("/apps/second/installations/new", data={"account": "ada"}))


async def drive_customers(hub: Any) -> None:
    desk = hub.running.client()
    for action in ("purchased", "changed", "pending_change", "pending_change_cancelled", "cancelled"):
        must(await desk.post("/_simulator/marketplace", json={"action": action, "account": "octo"}))
    must(await desk.post("/_simulator/accounts", json={"login": "otto"}))
    must(await desk.post("/_simulator/installations", json={"account": "otto"}))


async def drive_ends(hub: Any) -> None:
    must(await hub.ada.delete(HERE))
    must(await hub.as_app().delete(f"/app/installations/{hub.running.installation_id}"))


async def drive_everything(hub: Any) -> None:
    hub.world.limits.content_per_minute = 10_000
    hub.world.limits.points_per_minute = 100_000
    for part in (
        drive_issues,
        drive_pulls,
        drive_checks,
        drive_actions,
        drive_git,
        drive_contents,
        drive_rules,
        drive_repository,
        drive_apps,
        drive_sign_in,
        drive_customers,
        drive_ends,
        drive_registration,
    ):
        await part(hub)


# --- what must hold --------------------------------------------------------------------------------------------------


async def test_every_served_route_and_webhook_is_valid_under_github_s_schemas(hub: Any) -> None:
    await drive_everything(hub)
    served = {(one.method, one.template) for one in hub.running.simulator.endpoints}
    driven = {(method, template) for method, template, status in hub.seen if status < 400}
    assert served - driven == set(), "served, and never answered with success above"
    sent = hub.check_hooks()
    source = Path(infra.simulator.__file__).parent
    told = {
        event
        for path in source.rglob("*.py")
        for event in re.findall(r"\.emit\(\s*\"(\w+)\"", path.read_text("utf-8"))
    }
    assert told - {kind.split(".")[0] for kind in sent} == set(), "emitted, and never sent above"
    for one in hub.world.deliveries:
        if one.action not in (
            "labeled",
            "unlabeled",
        ):  # githubkit's labels can be archived, the npm packages' cannot
            parse_obj(one.event, json.loads(one.body))
    assert sent == KINDS


async def test_every_served_route_is_one_that_github_documents(hub: Any, schemas: ModuleType) -> None:
    for one in hub.running.simulator.endpoints:
        if (one.method, one.template) not in NOT_IN_THE_DESCRIPTION:
            assert schemas.is_documented(one.method, one.template), f"{one.method} {one.template}"


async def test_what_is_sent_about_installations_and_hooks_is_valid(hub: Any, schemas: ModuleType) -> None:
    world, ada = hub.world, hub.world.user_by_login("ada")
    world.app_url = "http://127.0.0.1:9/webhooks/github"
    one = world.installations[hub.running.installation_id]
    schemas.check_webhook("ping", payloads.ping(world))
    for action in ("created", "deleted", "suspend"):
        one.suspended_at, one.suspended_by_id = (world.now(), ada.id) if action == "suspend" else (None, None)
        schemas.check_webhook("installation", {"action": action, **payloads.installation(world, one, ada)})


# --- the harness itself can fail -------------------------------------------------------------------------------------


def test_a_wrong_answer_is_refused(schemas: ModuleType) -> None:
    template = "/repos/{owner}/{repo}/issues/comments/{comment_id}"
    error = {"message": "Not Found", "documentation_url": "https://docs.github.com/rest", "status": "404"}
    schemas.check_answer("GET", template, 404, error)
    schemas.check_answer("DELETE", template, 204, None)
    for method, status, body in (
        ("GET", 200, {"id": 1}),
        ("GET", 200, None),
        ("GET", 203, {}),
        ("DELETE", 204, {"ok": True}),
        ("GET", 404, {"message": 4}),
        ("PUT", 200, {}),
    ):
        with pytest.raises(schemas.SchemaError):
            schemas.check_answer(method, template, status, body)


def test_a_null_is_taken_where_github_may_send_one_and_nowhere_else(schemas: ModuleType) -> None:
    label = {
        "id": 1,
        "node_id": "x",
        "url": "http://h/x",
        "name": "n",
        "description": None,
        "color": "c",
        "default": False,
    }
    schemas.check_component("label", label)
    with pytest.raises(schemas.SchemaError, match="name"):
        schemas.check_component("label", {**label, "name": None})
    with pytest.raises(schemas.SchemaError, match="uri"):
        schemas.check_component("label", {**label, "url": "no address"})


def test_a_wrong_webhook_is_refused(schemas: ModuleType) -> None:
    for event, body in (
        ("issues", {"action": "opened"}),
        ("issues", {"action": "exploded"}),
        ("nonsense", {}),
    ):
        with pytest.raises(schemas.SchemaError):
            schemas.check_webhook(event, body)
