"""What people make, in the JSON that GitHub's REST API answers with: users, issues, comments, pull requests, checks.

Shapes only. Nothing here asks whether the reader may see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from infra.simulator.git import Changed, CommitObject
from infra.simulator.state import (
    App,
    CheckRun,
    CheckSuite,
    Comment,
    Issue,
    Label,
    PullRequest,
    Reaction,
    Repo,
    Review,
    ReviewComment,
    Status,
    User,
    World,
    node_id,
    stamp,
)

Json = dict[str, Any]

REACTIONS = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
"""https://docs.github.com/rest/reactions/reactions#about-reactions"""


def when(moment: datetime | None) -> str | None:
    return stamp(moment) if moment else None


def api(world: World, repo: Repo) -> str:
    return f"{world.base_url}/repos/{repo.full_name}"


def web(world: World, repo: Repo) -> str:
    return f"{world.base_url}/{repo.full_name}"


# --- accounts --------------------------------------------------------------------------------------------------------


def user(world: World, who: User) -> Json:
    """A `simple-user`."""
    login = who.login.replace("[", "%5B").replace("]", "%5D")
    url = f"{world.base_url}/users/{login}"
    page = f"apps/{who.login.removesuffix('[bot]')}" if who.type == "Bot" else who.login
    return {
        "login": who.login,
        "id": who.id,
        "node_id": who.node_id,
        "avatar_url": f"{world.base_url}/avatars/u/{who.id}?v=4",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{world.base_url}/{page}",
        "followers_url": f"{url}/followers",
        "following_url": f"{url}/following{{/other_user}}",
        "gists_url": f"{url}/gists{{/gist_id}}",
        "starred_url": f"{url}/starred{{/owner}}{{/repo}}",
        "subscriptions_url": f"{url}/subscriptions",
        "organizations_url": f"{url}/orgs",
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events{{/privacy}}",
        "received_events_url": f"{url}/received_events",
        "type": who.type,
        "site_admin": who.site_admin,
    }


def app(world: World, one: App) -> Json:
    """An `integration`: the App as others see it."""
    return {
        "id": one.id,
        "slug": one.slug,
        "node_id": one.node_id,
        "client_id": one.client_id,
        "owner": user(world, world.user(one.owner_id)),
        "name": one.name,
        "description": "",
        "external_url": f"{world.base_url}/apps/{one.slug}/about",
        "html_url": f"{world.base_url}/apps/{one.slug}",
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.created_at),
        "permissions": dict(one.permissions),
        "events": list(one.events),
    }


def other_app(world: World, slug: str) -> Json:
    """An App that is not ours, such as a CI service; it exists only in what it reported."""
    actions = slug == "github-actions"
    number = 15_368 + (0 if actions else sum(slug.encode()) * 7)
    return {
        "id": number,
        "slug": slug,
        "node_id": node_id("A", number),
        "client_id": f"Iv1.{number:016x}",
        "owner": user(world, world.user(world.app.owner_id)),
        "name": "GitHub Actions" if actions else slug,
        "description": "",
        "external_url": f"{world.base_url}/apps/{slug}/about",
        "html_url": f"{world.base_url}/apps/{slug}",
        "created_at": stamp(world.app.created_at),
        "updated_at": stamp(world.app.created_at),
        "permissions": {"checks": "write", "metadata": "read"},
        "events": ["check_run", "check_suite"],
    }


def association(repo: Repo, who: User) -> str:
    """https://docs.github.com/graphql/reference/enums#commentauthorassociation"""
    if who.id == repo.owner_id:
        return "OWNER"
    if repo.role(who) != "none":
        return "COLLABORATOR"
    merged = (issue for issue in repo.issues.values() if issue.pull and issue.pull.merged)
    return "CONTRIBUTOR" if any(issue.user_id == who.id for issue in merged) else "NONE"


# --- issues ----------------------------------------------------------------------------------------------------------


def reactions(reacted: Iterable[Reaction], url: str) -> Json:
    """A `reaction-rollup`."""
    contents = [one.content for one in reacted]
    counts: Json = {name: contents.count(name) for name in REACTIONS}
    return {"url": f"{url}/reactions", "total_count": len(contents), **counts}


def reaction(world: World, one: Reaction) -> Json:
    return {
        "id": one.id,
        "node_id": one.node_id,
        "user": user(world, world.user(one.user_id)),
        "content": one.content,
        "created_at": stamp(one.created_at),
    }


def label(world: World, repo: Repo, one: Label) -> Json:
    return {
        "id": one.id,
        "node_id": one.node_id,
        "url": f"{api(world, repo)}/labels/{one.name.replace(' ', '%20')}",
        "name": one.name,
        "color": one.color,
        "default": one.default,
        "description": one.description,
    }


def labels(world: World, repo: Repo, one: Issue) -> list[Json]:
    return [label(world, repo, repo.labels[name.lower()]) for name in one.labels]


def issue(world: World, repo: Repo, one: Issue) -> Json:
    """An `issue`; a pull request's issue side carries `pull_request`."""
    url = f"{api(world, repo)}/issues/{one.number}"
    kind = "pull" if one.pull else "issues"
    assignees = [user(world, world.user(who)) for who in one.assignee_ids]
    author = world.user(one.user_id)
    shape: Json = {
        "url": url,
        "repository_url": api(world, repo),
        "labels_url": f"{url}/labels{{/name}}",
        "comments_url": f"{url}/comments",
        "events_url": f"{url}/events",
        "html_url": f"{web(world, repo)}/{kind}/{one.number}",
        "id": one.id,
        "node_id": one.node_id,
        "number": one.number,
        "title": one.title,
        "user": user(world, author),
        "labels": labels(world, repo, one),
        "state": one.state,
        "locked": one.locked,
        "assignee": assignees[0] if assignees else None,
        "assignees": assignees,
        "milestone": None,
        "comments": len(one.comments),
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "closed_at": when(one.closed_at),
        "author_association": association(repo, author),
        "active_lock_reason": one.active_lock_reason,
        "body": one.body,
        "closed_by": user(world, world.user(one.closed_by_id)) if one.closed_by_id else None,
        "reactions": reactions(one.reactions, url),
        "timeline_url": f"{url}/timeline",
        "performed_via_github_app": app(world, world.app) if one.by_app else None,
        "state_reason": one.state_reason,
    }
    if one.pull:
        page = f"{web(world, repo)}/pull/{one.number}"
        shape["draft"] = one.pull.draft
        shape["pull_request"] = {
            "url": f"{api(world, repo)}/pulls/{one.number}",
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "merged_at": when(one.pull.merged_at),
        }
    return shape


def comment(world: World, repo: Repo, one: Comment) -> Json:
    """An `issue-comment`."""
    url = f"{api(world, repo)}/issues/comments/{one.id}"
    kind = "pull" if repo.issues[one.issue_number].pull else "issues"
    author = world.user(one.user_id)
    return {
        "url": url,
        "html_url": f"{web(world, repo)}/{kind}/{one.issue_number}#issuecomment-{one.id}",
        "issue_url": f"{api(world, repo)}/issues/{one.issue_number}",
        "id": one.id,
        "node_id": one.node_id,
        "user": user(world, author),
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "author_association": association(repo, author),
        "body": one.body,
        "reactions": reactions(one.reactions, url),
        "performed_via_github_app": app(world, world.app) if one.by_app else None,
    }


# --- pull requests ---------------------------------------------------------------------------------------------------


def side(world: World, repo: Repo | None, ref: str, sha: str, repository: Json | None) -> Json:
    """The head or the base of a pull request. `repository` is the shape of `repo`; both None when a fork is gone."""
    owner = user(world, world.user(repo.owner_id)) if repo else None
    label = f"{repo.owner}:{ref}" if repo else f"unknown:{ref}"
    return {"label": label, "ref": ref, "sha": sha, "user": owner, "repo": repository}


def pull_simple(world: World, repo: Repo, one: Issue, *, head: Json, base: Json) -> Json:
    """A `pull-request-simple`, as lists hold it."""
    pull = pull_of(one)
    url = f"{api(world, repo)}/pulls/{one.number}"
    issue_url = f"{api(world, repo)}/issues/{one.number}"
    page = f"{web(world, repo)}/pull/{one.number}"
    statuses = f"{api(world, repo)}/statuses/{pull.head_sha}"
    author = world.user(one.user_id)
    assignees = [user(world, world.user(who)) for who in one.assignee_ids]
    links = {
        "self": url,
        "html": page,
        "issue": issue_url,
        "comments": f"{issue_url}/comments",
        "review_comments": f"{url}/comments",
        "review_comment": f"{api(world, repo)}/pulls/comments{{/number}}",
        "commits": f"{url}/commits",
        "statuses": statuses,
    }
    return {
        "url": url,
        "id": pull.id,
        "node_id": pull.node_id,
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "issue_url": issue_url,
        "number": one.number,
        "state": one.state,
        "locked": one.locked,
        "title": one.title,
        "user": user(world, author),
        "body": one.body,
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "closed_at": when(one.closed_at),
        "merged_at": when(pull.merged_at),
        "merge_commit_sha": pull.merge_commit_sha,
        "assignee": assignees[0] if assignees else None,
        "assignees": assignees,
        "requested_reviewers": [user(world, world.user(who)) for who in pull.requested_reviewer_ids],
        "requested_teams": [],
        "labels": labels(world, repo, one),
        "milestone": None,
        "draft": pull.draft,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": statuses,
        "head": head,
        "base": base,
        "_links": {name: {"href": target} for name, target in links.items()},
        "author_association": association(repo, author),
        "auto_merge": None,
        "active_lock_reason": one.active_lock_reason,
    }


def pull_full(world: World, one: Issue, simple: Mapping[str, Any], *, standing: Standing) -> Json:
    """A `pull-request`: `pull_simple` and what has to be worked out with git."""
    pull = pull_of(one)
    return {
        **simple,
        "merged": pull.merged,
        "mergeable": standing.mergeable,
        "rebaseable": standing.mergeable,
        "mergeable_state": standing.state,
        "merged_by": user(world, world.user(pull.merged_by_id)) if pull.merged_by_id else None,
        "comments": len(one.comments),
        "review_comments": len(pull.review_comments),
        "maintainer_can_modify": pull.maintainer_can_modify,
        "commits": standing.commits,
        "additions": standing.additions,
        "deletions": standing.deletions,
        "changed_files": standing.changed_files,
    }


def pull_minimal(world: World, repo: Repo, one: Issue) -> Json:
    """How check runs and suites name a pull request."""
    pull = pull_of(one)
    here = {"id": repo.id, "url": api(world, repo), "name": repo.name}
    return {
        "url": f"{api(world, repo)}/pulls/{one.number}",
        "id": pull.id,
        "number": one.number,
        "head": {"ref": pull.head_ref, "sha": pull.head_sha, "repo": here},
        "base": {"ref": pull.base_ref, "sha": pull.base_sha, "repo": here},
    }


@dataclass(frozen=True, slots=True)
class Standing:
    """What git and the rules say of a pull request. `mergeable` None: GitHub has not worked it out yet."""

    commits: int
    additions: int
    deletions: int
    changed_files: int
    mergeable: bool | None = None
    state: str = "unknown"


def pull_of(one: Issue) -> PullRequest:
    """The pull request of an issue that is known to be one."""
    assert one.pull is not None
    return one.pull


def diff_entry(world: World, repo: Repo, one: Changed, sha: str) -> Json:
    """A `diff-entry`."""
    added, removed = one.added or 0, one.removed or 0
    path = quote(one.path.encode("utf-8", "surrogateescape"))
    shape: Json = {
        "sha": one.sha,
        "filename": one.path,
        "status": one.status,
        "additions": added,
        "deletions": removed,
        "changes": added + removed,
        "blob_url": f"{web(world, repo)}/blob/{sha}/{path}",
        "raw_url": f"{web(world, repo)}/raw/{sha}/{path}",
        "contents_url": f"{api(world, repo)}/contents/{path}?ref={sha}",
    }
    if one.patch is not None:
        shape["patch"] = one.patch
    if one.previous is not None:
        shape["previous_filename"] = one.previous
    return shape


# --- reviews ---------------------------------------------------------------------------------------------------------


def review(world: World, repo: Repo, one: Review) -> Json:
    """A `pull-request-review`."""
    page = f"{web(world, repo)}/pull/{one.pull_number}#pullrequestreview-{one.id}"
    pull_url = f"{api(world, repo)}/pulls/{one.pull_number}"
    author = world.user(one.user_id)
    shape: Json = {
        "id": one.id,
        "node_id": one.node_id,
        "user": user(world, author),
        "body": one.body,
        "state": one.state,
        "html_url": page,
        "pull_request_url": pull_url,
        "author_association": association(repo, author),
        "_links": {"html": {"href": page}, "pull_request": {"href": pull_url}},
        "commit_id": one.commit_id,
    }
    if one.submitted_at is not None:  # a pending review has none
        shape["submitted_at"] = stamp(one.submitted_at)
    return shape


def review_comment(world: World, repo: Repo, one: ReviewComment) -> Json:
    """A `pull-request-review-comment`. An outdated one has no line and no position: they are null, whatever the
    description says: https://github.com/github/rest-api-description/issues/5568
    """
    url = f"{api(world, repo)}/pulls/comments/{one.id}"
    page = f"{web(world, repo)}/pull/{one.pull_number}#discussion_r{one.id}"
    pull_url = f"{api(world, repo)}/pulls/{one.pull_number}"
    author = world.user(one.user_id)
    shape: Json = {
        "url": url,
        "pull_request_review_id": one.review_id,
        "id": one.id,
        "node_id": one.node_id,
        "diff_hunk": one.diff_hunk,
        "path": one.path,
        "commit_id": one.commit_id,
        "original_commit_id": one.original_commit_id,
        "user": user(world, author),
        "body": one.body,
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "html_url": page,
        "pull_request_url": pull_url,
        "author_association": association(repo, author),
        "_links": {"self": {"href": url}, "html": {"href": page}, "pull_request": {"href": pull_url}},
        "reactions": reactions(one.reactions, url),
        "start_line": one.start_line,
        "original_start_line": one.original_start_line,
        "start_side": one.start_side,
        "side": one.side,
        "subject_type": one.subject_type,
        "line": one.line,
        "original_line": one.original_line,
        "position": one.position,
        "original_position": one.original_position,
    }
    if one.in_reply_to_id is not None:
        shape["in_reply_to_id"] = one.in_reply_to_id
    return shape


_NOT_IN_A_REVIEWS_LIST = frozenset(
    {"line", "original_line", "start_line", "original_start_line", "side", "start_side", "subject_type"}
)


def legacy_review_comment(world: World, repo: Repo, one: ReviewComment) -> Json:
    """A `review-comment`, as one review's list has it: by position alone, without lines or sides.

    https://docs.github.com/rest/pulls/reviews#list-comments-for-a-pull-request-review
    """
    shape = review_comment(world, repo, one)
    return {name: value for name, value in shape.items() if name not in _NOT_IN_A_REVIEWS_LIST}


# --- checks ----------------------------------------------------------------------------------------------------------


def pulls_at(repo: Repo, sha: str, branch: str | None) -> list[Issue]:
    """The open pull requests from this repository that a check on this commit belongs to."""
    return [
        one
        for one in repo.issues.values()
        if one.pull
        and one.state == "open"
        and one.pull.head_repository_id == repo.id
        and one.pull.head_sha == sha
        and branch in (None, one.pull.head_ref)
    ]


def check_run(world: World, repo: Repo, one: CheckRun) -> Json:
    url = f"{api(world, repo)}/check-runs/{one.id}"
    page = f"{web(world, repo)}/runs/{one.id}"
    suite = repo.check_suites[one.suite_id]
    return {
        "id": one.id,
        "name": one.name,
        "node_id": one.node_id,
        "head_sha": one.head_sha,
        "external_id": one.external_id,
        "url": url,
        "html_url": one.details_url or page if one.app_slug == "github-actions" else page,
        "details_url": one.details_url or page,
        "status": one.status,
        "conclusion": one.conclusion,
        "started_at": stamp(one.started_at),
        "completed_at": when(one.completed_at),
        "output": {
            "title": one.title,
            "summary": one.summary,
            "text": one.text,
            "annotations_count": len(one.annotations),
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": {"id": one.suite_id},
        "app": other_app(world, one.app_slug),
        "pull_requests": [
            pull_minimal(world, repo, p) for p in pulls_at(repo, one.head_sha, suite.head_branch)
        ],
    }


def simple_commit(one: CommitObject) -> Json:
    """A `simple-commit`."""
    return {
        "id": one.sha,
        "tree_id": one.tree,
        "message": one.message.rstrip("\n"),
        "timestamp": stamp(one.author.date),
        "author": {"name": one.author.name, "email": one.author.email},
        "committer": {"name": one.committer.name, "email": one.committer.email},
    }


def check_suite(world: World, repo: Repo, one: CheckSuite, head: CommitObject) -> Json:
    """A `check-suite` without its `repository`, which the caller adds."""
    url = f"{api(world, repo)}/check-suites/{one.id}"
    return {
        "id": one.id,
        "node_id": one.node_id,
        "head_branch": one.head_branch,
        "head_sha": one.head_sha,
        "status": one.status,
        "conclusion": one.conclusion,
        "url": url,
        "before": None,
        "after": one.head_sha,
        "pull_requests": [
            pull_minimal(world, repo, p) for p in pulls_at(repo, one.head_sha, one.head_branch)
        ],
        "app": other_app(world, one.app_slug),
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "rerequestable": True,
        "runs_rerequestable": True,
        "latest_check_runs_count": len(
            {run.name for run in repo.check_runs.values() if run.suite_id == one.id}
        ),
        "check_runs_url": f"{url}/check-runs",
        "head_commit": simple_commit(head),
    }


def status(world: World, repo: Repo, one: Status) -> Json:
    """A `status`."""
    creator = world.user(one.creator_id)
    return {
        "url": f"{api(world, repo)}/statuses/{one.sha}",
        "avatar_url": f"{world.base_url}/avatars/u/{creator.id}?v=4",
        "id": one.id,
        "node_id": one.node_id,
        "state": one.state,
        "description": one.description,
        "target_url": one.target_url,
        "context": one.context,
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "creator": user(world, creator),
    }
