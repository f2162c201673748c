"""The bodies of GitHub's webhooks, without `action` and `installation`, which the delivery adds.

https://docs.github.com/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from infra.simulator import pullwork, shapes_git
from infra.simulator import shapes_people as people
from infra.simulator.git import EMPTY_TREE, CommitObject, DiffTooLongError
from infra.simulator.shapes_people import Json, api, user, web, when
from infra.simulator.state import (
    ZERO_SHA,
    CheckRun,
    CheckSuite,
    Comment,
    Installation,
    Issue,
    Repo,
    Review,
    ReviewComment,
    ReviewThread,
    Status,
    User,
    World,
    stamp,
)

_ISSUE_LACKS = ("closed_by",)
_FULL_LACKS = frozenset({"client_id"})


def repository(world: World, repo: Repo) -> Json:
    """A repository as webhooks carry it: without what depends on the reader."""
    return {**shapes_git.repository(world, repo), "custom_properties": {}}


def _common(world: World, repo: Repo, sender: User) -> Json:
    shape = {"repository": repository(world, repo), "sender": user(world, sender)}
    owner = world.user(repo.owner_id)
    if owner.type == "Organization":
        shape["organization"] = organization(world, owner)
    return shape


def organization(world: World, one: User) -> Json:
    """https://docs.github.com/rest/orgs/orgs: the short form."""
    url = f"{world.base_url}/orgs/{one.login}"
    return {
        "login": one.login,
        "id": one.id,
        "node_id": one.node_id,
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{world.base_url}/avatars/u/{one.id}?v=4",
        "description": None,
    }


def _app(shape: Mapping[str, Any] | None) -> Json | None:
    """An App inside a webhook has no client id."""
    return None if shape is None else {k: v for k, v in shape.items() if k not in _FULL_LACKS}


# --- conversations ---------------------------------------------------------------------------------------------------


def _issue(world: World, repo: Repo, one: Issue) -> Json:
    shape = people.issue(world, repo, one)
    shape["performed_via_github_app"] = _app(shape["performed_via_github_app"])
    return {name: value for name, value in shape.items() if name not in _ISSUE_LACKS}


def issues(world: World, repo: Repo, one: Issue, sender: User) -> Json:
    return {"issue": _issue(world, repo, one), **_common(world, repo, sender)}


def issue_comment(world: World, repo: Repo, one: Issue, made: Comment, sender: User) -> Json:
    shape = people.comment(world, repo, made)
    shape["performed_via_github_app"] = _app(shape["performed_via_github_app"])
    return {
        "issue": _issue(world, repo, one),
        "comment": shape,
        **_common(world, repo, sender),
    }


# --- pull requests ---------------------------------------------------------------------------------------------------


def _pull_simple(world: World, repo: Repo, one: Issue) -> Json:
    pull = people.pull_of(one)
    source = world.repositories.get(pull.head_repository_id or 0)
    head_repository = repository(world, source) if source else None
    head = people.side(world, source, pull.head_ref, pull.head_sha, head_repository)
    base = people.side(world, repo, pull.base_ref, pull.base_sha, repository(world, repo))
    return people.pull_simple(world, repo, one, head=head, base=base)


async def pull_request(world: World, repo: Repo, one: Issue, sender: User) -> Json:
    """Sent before GitHub has worked out whether the pull request can be merged, so `mergeable` is null."""
    standing = await pullwork.measure(repo, people.pull_of(one))
    shape = people.pull_full(world, one, _pull_simple(world, repo, one), standing=standing)
    return {"number": one.number, "pull_request": shape, **_common(world, repo, sender)}


def pull_request_review(world: World, repo: Repo, one: Issue, review: Review, sender: User) -> Json:
    shape = people.review(world, repo, review)
    shape["state"] = review.state.lower()
    shape["submitted_at"] = when(review.submitted_at)
    shape["body"] = review.body or None
    return {
        "review": shape,
        "pull_request": _pull_simple(world, repo, one),
        **_common(world, repo, sender),
    }


def pull_request_review_comment(
    world: World, repo: Repo, one: Issue, made: ReviewComment, sender: User
) -> Json:
    return {
        "comment": people.review_comment(world, repo, made),
        "pull_request": _pull_simple(world, repo, one),
        **_common(world, repo, sender),
    }


def pull_request_review_thread(
    world: World, repo: Repo, one: Issue, thread: ReviewThread, sender: User
) -> Json:
    comments = people.pull_of(one).review_comments
    return {
        "thread": {
            "node_id": thread.node_id,
            "comments": [
                people.review_comment(world, repo, comments[number]) for number in thread.comment_ids
            ],
        },
        "pull_request": _pull_simple(world, repo, one),
        **_common(world, repo, sender),
    }


# --- checks ----------------------------------------------------------------------------------------------------------


def _suite(world: World, repo: Repo, one: CheckSuite, head: CommitObject) -> Json:
    shape = people.check_suite(world, repo, one, head)
    shape["app"] = _app(shape["app"])
    return shape


def check_suite(world: World, repo: Repo, one: CheckSuite, head: CommitObject, sender: User) -> Json:
    return {"check_suite": _suite(world, repo, one, head), **_common(world, repo, sender)}


def check_run(world: World, repo: Repo, one: CheckRun, head: CommitObject, sender: User) -> Json:
    shape = people.check_run(world, repo, one)
    suite = _suite(world, repo, repo.check_suites[one.suite_id], head)
    lacks = (
        "rerequestable",
        "runs_rerequestable",
        "latest_check_runs_count",
        "check_runs_url",
        "head_commit",
    )
    shape["check_suite"] = {name: value for name, value in suite.items() if name not in lacks}
    shape["app"] = _app(shape["app"])
    return {"check_run": shape, **_common(world, repo, sender)}


def status(
    world: World, repo: Repo, one: Status, commit: Json, branches: Sequence[tuple[str, str, bool]]
) -> Json:
    """`commit`: the REST shape of the commit; `branches`: (name, head sha, protected) of those that hold it."""
    url = api(world, repo)
    return {
        "id": one.id,
        "sha": one.sha,
        "name": repo.full_name,
        "avatar_url": f"{world.base_url}/avatars/u/{one.creator_id}?v=4",
        "target_url": one.target_url,
        "context": one.context,
        "description": one.description,
        "state": one.state,
        "commit": {name: value for name, value in commit.items() if name not in ("stats", "files")},
        "branches": [
            {"name": name, "commit": {"sha": sha, "url": f"{url}/commits/{sha}"}, "protected": protected}
            for name, sha, protected in branches[:10]
        ],
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        **_common(world, repo, world.user(one.creator_id)),
    }


# --- pushes ----------------------------------------------------------------------------------------------------------


async def push(world: World, repo: Repo, ref: str, before: str, after: str, pusher: User) -> Json:  # noqa: PLR0917  # a ref listener's order
    """A branch or tag that was created, moved or deleted. At most 20 of its commits are listed, the oldest first."""
    created, deleted = before == ZERO_SHA, after == ZERO_SHA
    shas = await _pushed(repo, ref, before, after)
    commits = [await _pushed_commit(world, repo, sha) for sha in shas]
    head = None if deleted else await _pushed_commit(world, repo, after)
    forced = not (created or deleted) and not await repo.git.is_ancestor(before, after)
    if created:
        compare = f"{web(world, repo)}/compare/{ref.removeprefix('refs/heads/')}"
    else:
        compare = f"{web(world, repo)}/compare/{before[:12]}...{after[:12]}"
    return {
        "ref": ref,
        "before": before,
        "after": after,
        "pusher": {"name": pusher.login, "email": pusher.email},
        "created": created,
        "deleted": deleted,
        "forced": forced,
        "base_ref": None,
        "compare": compare,
        "commits": commits,
        "head_commit": head,
        **_common(world, repo, pusher),
        "repository": _pushed_repository(world, repo),
    }


def _pushed_repository(world: World, repo: Repo) -> Json:
    """In a push two times are seconds since 1970, and the owner is named in the old way as well."""
    shape = repository(world, repo)
    owner = {**shape["owner"], "name": shape["owner"]["login"], "email": None}
    return {
        **shape,
        "owner": owner,
        "created_at": int(repo.created_at.timestamp()),
        "pushed_at": int(repo.pushed_at.timestamp()),
        "stargazers": shape["stargazers_count"],
        "master_branch": repo.default_branch,
    }


async def _pushed(repo: Repo, ref: str, before: str, after: str) -> list[str]:
    if after == ZERO_SHA or not ref.startswith("refs/heads/"):
        return []
    if before != ZERO_SHA:
        known = [f"^{before}"]
    else:
        known = [f"^{sha}" for name, sha, _ in await repo.git.refs("refs/heads/") if name != ref]
    return list(reversed(await repo.git.commits(after, *known)))[:20]


async def _pushed_commit(world: World, repo: Repo, sha: str) -> Json:
    one = await repo.git.commit(sha)
    assert one is not None
    before = one.parents[0] if one.parents else EMPTY_TREE
    try:
        changed = await repo.git.changes(before, sha)
    except DiffTooLongError:
        changed = []  # the push is told of all the same
    paths: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
    for file in changed:
        if file.status == "renamed":
            paths["removed"].append(file.previous or "")
            paths["added"].append(file.path)
        else:
            paths[file.status if file.status in paths else "modified"].append(file.path)
    return {
        **people.simple_commit(one),
        "distinct": True,
        "url": f"{web(world, repo)}/commit/{sha}",
        **paths,
    }


# --- installations ---------------------------------------------------------------------------------------------------


def _short(repo: Repo) -> Json:
    return {
        "id": repo.id,
        "node_id": repo.node_id,
        "name": repo.name,
        "full_name": repo.full_name,
        "private": repo.private,
    }


def _installation(world: World, one: Installation) -> Json:
    shape = shapes_git.installation(world, one)
    return {name: value for name, value in shape.items() if name not in ("client_id", "node_id")}


def installation(world: World, one: Installation, sender: User) -> Json:
    """`created`, `deleted`, `suspend`, `unsuspend`, `new_permissions_accepted`."""
    held = [
        world.repositories[number] for number in sorted(one.repository_ids) if number in world.repositories
    ]
    return {
        "installation": _installation(world, one),
        "repositories": [_short(repo) for repo in held],
        "sender": user(world, sender),
    }


def installation_repositories(
    world: World, one: Installation, sender: User, *, added: Sequence[Repo] = (), removed: Sequence[Repo] = ()
) -> Json:
    return {
        "installation": _installation(world, one),
        "repository_selection": one.selection,
        "repositories_added": [_short(repo) for repo in added],
        "repositories_removed": [_short(repo) for repo in removed],
        "requester": None,
        "sender": user(world, sender),
    }


_PLAN = {
    "id": 435,
    "name": "Team",
    "description": "For a team",
    "monthly_price_in_cents": 1000,
    "yearly_price_in_cents": 10000,
    "price_model": "FLAT_RATE",
    "has_free_trial": False,
    "unit_name": None,
    "bullets": ["All of it"],
}
_MONTH = timedelta(days=30)


def marketplace_purchase(world: World, action: str, account: User, sender: User, effective: datetime) -> Json:
    """Names an account and no installation. A change names the plan before it.

    https://docs.github.com/webhooks/webhook-events-and-payloads#marketplace_purchase
    """
    purchase = {
        "account": {
            "type": account.type,
            "id": account.id,
            "node_id": account.node_id,
            "login": account.login,
            "organization_billing_email": account.email,
        },
        "billing_cycle": "monthly",
        "unit_count": 0 if action == "cancelled" else 1,
        "on_free_trial": False,
        "free_trial_ends_on": None,
        "next_billing_date": stamp(effective + _MONTH),
        "plan": dict(_PLAN),
    }
    shape: Json = {
        "effective_date": stamp(effective),
        "sender": {**user(world, sender), "email": sender.email},
        "marketplace_purchase": purchase,
    }
    if action in ("changed", "pending_change", "pending_change_cancelled"):
        shape["previous_marketplace_purchase"] = {**purchase, "plan": {**_PLAN, "id": 434, "name": "Small"}}
    return shape


def ping(world: World) -> Json:
    """What an App gets when its webhook is set up."""
    url = f"{world.base_url}/app/hook"
    return {
        "zen": "Keep it logically awesome.",
        "hook_id": world.app.hook_id,
        "hook": {
            "type": "App",
            "id": world.app.hook_id,
            "name": "web",
            "active": True,
            "events": list(world.app.events),
            "config": {"content_type": "json", "insecure_ssl": "0", "url": world.app_url or ""},
            "updated_at": stamp(world.app.created_at),
            "created_at": stamp(world.app.created_at),
            "app_id": world.app.id,
            "url": url,
            "ping_url": f"{url}/pings",
            "deliveries_url": f"{url}/deliveries",
        },
    }
