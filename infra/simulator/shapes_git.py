"""Repositories and what git holds, in the JSON that GitHub's REST API answers with.

Shapes only. Nothing here asks whether the reader may see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from infra.simulator.git import Changed, CommitObject, Entry, Person
from infra.simulator.shapes_people import api, diff_entry, user, web
from infra.simulator.signing import verification
from infra.simulator.state import ROLES, Installation, Repo, User, World, node_id, stamp

Json = dict[str, Any]

_FOLDERS: dict[str, str] = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def minimal_repository(world: World, repo: Repo) -> Json:
    """A `minimal-repository`, the part that every form of a repository has."""
    url = api(world, repo)
    return {
        "id": repo.id,
        "node_id": repo.node_id,
        "name": repo.name,
        "full_name": repo.full_name,
        "private": repo.private,
        "owner": user(world, world.user(repo.owner_id)),
        "html_url": web(world, repo),
        "description": repo.description,
        "fork": repo.fork,
        "url": url,
        **{name: url + rest for name, rest in _FOLDERS.items()},
    }


def repository(world: World, repo: Repo, role: str | None = None) -> Json:
    """A `repository`, as lists and webhooks have it; with `permissions` when the reader's role is given."""
    page = web(world, repo)
    open_issues = sum(1 for issue in repo.issues.values() if issue.state == "open")
    shape: Json = {
        **minimal_repository(world, repo),
        "created_at": stamp(repo.created_at),
        "updated_at": stamp(repo.updated_at),
        "pushed_at": stamp(repo.pushed_at),
        "git_url": page.replace("http://", "git://") + ".git",
        "ssh_url": f"git@github.com:{repo.full_name}.git",
        "clone_url": page + ".git",
        "svn_url": page,
        "homepage": None,
        "size": repo.size,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": None,
        "has_issues": repo.has_issues,
        "has_projects": True,
        "has_downloads": True,
        "has_wiki": True,
        "has_pages": False,
        "has_discussions": False,
        "forks_count": 0,
        "mirror_url": None,
        "archived": repo.archived,
        "disabled": repo.disabled,
        "open_issues_count": open_issues,
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private" if repo.private else "public",
        "forks": 0,
        "open_issues": open_issues,
        "watchers": 0,
        "default_branch": repo.default_branch,
    }
    if role is not None:
        shape["permissions"] = permissions(role)
    return shape


def full_repository(world: World, repo: Repo, role: str | None = None) -> Json:
    """A `full-repository`, which one repository's own route answers."""
    return {
        **repository(world, repo, role),
        "temp_clone_token": None,
        "network_count": 0,
        "subscribers_count": 0,
        "allow_merge_commit": repo.allow_merge_commit,
        "allow_squash_merge": repo.allow_squash_merge,
        "allow_rebase_merge": repo.allow_rebase_merge,
        "allow_auto_merge": False,
        "delete_branch_on_merge": repo.delete_branch_on_merge,
        "allow_update_branch": False,
        "use_squash_pr_title_as_default": False,
        "squash_merge_commit_message": "COMMIT_MESSAGES",
        "squash_merge_commit_title": "COMMIT_OR_PR_TITLE",
        "merge_commit_message": "PR_TITLE",
        "merge_commit_title": "MERGE_MESSAGE",
    }


def permissions(role: str) -> dict[str, bool]:
    rank = ROLES.index(role)
    names = {"admin": "admin", "maintain": "maintain", "push": "write", "triage": "triage", "pull": "read"}
    return {name: rank >= ROLES.index(needed) for name, needed in names.items()}


def collaborator(world: World, who: User, role: str) -> Json:
    return {**user(world, who), "permissions": permissions(role), "role_name": role}


def installation(world: World, one: Installation) -> Json:
    account = world.user(one.account_id)
    page = f"{world.base_url}/settings/installations/{one.id}"
    return {
        "id": one.id,
        "node_id": one.node_id,
        "client_id": world.app.client_id,
        "account": user(world, account),
        "repository_selection": one.selection,
        "access_tokens_url": f"{world.base_url}/app/installations/{one.id}/access_tokens",
        "repositories_url": f"{world.base_url}/installation/repositories",
        "html_url": page,
        "app_id": world.app.id,
        "app_slug": world.app.slug,
        "target_id": account.id,
        "target_type": account.type,
        "permissions": dict(one.permissions),
        "events": list(one.events),
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.updated_at),
        "single_file_name": None,
        "has_multiple_single_files": False,
        "single_file_paths": [],
        "suspended_by": user(world, world.user(one.suspended_by_id)) if one.suspended_by_id else None,
        "suspended_at": stamp(one.suspended_at) if one.suspended_at else None,
    }


# --- git -------------------------------------------------------------------------------------------------------------


def git_ref(world: World, repo: Repo, name: str, sha: str, kind: str) -> Json:
    folder = {"commit": "commits", "tag": "tags", "tree": "trees", "blob": "blobs"}[kind]
    return {
        "ref": name,
        "node_id": node_id("REF", repo.id),
        "url": f"{api(world, repo)}/git/{quote(name)}",
        "object": {"sha": sha, "type": kind, "url": f"{api(world, repo)}/git/{folder}/{sha}"},
    }


def git_person(one: Person) -> Json:
    return {"name": one.name, "email": one.email, "date": stamp(one.date)}


def git_commit(world: World, repo: Repo, one: CommitObject) -> Json:
    """A `git-commit`, the object itself."""
    url, page = f"{api(world, repo)}/git", web(world, repo)
    return {
        "sha": one.sha,
        "node_id": node_id("C", repo.id) + one.sha[:12],
        "url": f"{url}/commits/{one.sha}",
        "html_url": f"{page}/commit/{one.sha}",
        "author": git_person(one.author),
        "committer": git_person(one.committer),
        "tree": {"sha": one.tree, "url": f"{url}/trees/{one.tree}"},
        "message": one.message.rstrip("\n"),
        "parents": [
            {"sha": sha, "url": f"{url}/commits/{sha}", "html_url": f"{page}/commit/{sha}"}
            for sha in one.parents
        ],
        "verification": verification(world, one),
    }


def commit(world: World, repo: Repo, one: CommitObject) -> Json:
    """A `commit`, as the commits of a branch are listed."""
    url, page = api(world, repo), web(world, repo)
    return {
        "sha": one.sha,
        "node_id": node_id("C", repo.id) + one.sha[:12],
        "url": f"{url}/commits/{one.sha}",
        "html_url": f"{page}/commit/{one.sha}",
        "comments_url": f"{url}/commits/{one.sha}/comments",
        "commit": {
            "url": f"{url}/git/commits/{one.sha}",
            "author": git_person(one.author),
            "committer": git_person(one.committer),
            "message": one.message.rstrip("\n"),
            "comment_count": 0,
            "tree": {"sha": one.tree, "url": f"{url}/git/trees/{one.tree}"},
            "verification": verification(world, one),
        },
        "author": _account(world, one.author),
        "committer": _account(world, one.committer),
        "parents": [
            {"sha": sha, "url": f"{url}/commits/{sha}", "html_url": f"{page}/commit/{sha}"}
            for sha in one.parents
        ],
    }


def commit_with_files(world: World, repo: Repo, one: CommitObject, files: Sequence[Changed]) -> Json:
    added, removed = sum(f.added or 0 for f in files), sum(f.removed or 0 for f in files)
    return {
        **commit(world, repo, one),
        "stats": {"total": added + removed, "additions": added, "deletions": removed},
        "files": [diff_entry(world, repo, file, one.sha) for file in files],
    }


def _account(world: World, one: Person) -> Json | None:
    """The account whose no-reply address the commit bears."""
    found = next((who for who in world.users.values() if who.email.lower() == one.email.lower()), None)
    return user(world, found) if found else None


def tree(world: World, repo: Repo, sha: str, entries: Sequence[Entry], *, truncated: bool) -> Json:
    url = f"{api(world, repo)}/git"
    return {
        "sha": sha,
        "url": f"{url}/trees/{sha}",
        "tree": [_tree_row(url, row) for row in entries],
        "truncated": truncated,
    }


def _tree_row(url: str, row: Entry) -> Json:
    shape: Json = {"path": row.path, "mode": row.mode, "type": row.type, "sha": row.sha}
    if row.type == "blob":
        shape["size"] = row.size
    if row.type != "commit":
        shape["url"] = f"{url}/{row.type}s/{row.sha}"
    return shape
