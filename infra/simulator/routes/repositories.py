"""Repositories, their branches, commits, archives and collaborators.

https://docs.github.com/rest/repos · https://docs.github.com/rest/branches · https://docs.github.com/rest/commits
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.responses import RedirectResponse, Response, StreamingResponse

from infra.simulator import protection, shapes_git
from infra.simulator.answers import ApiError, forbidden, not_found, unprocessable, validation_failed
from infra.simulator.call import Call, endpoint
from infra.simulator.git import EMPTY_TREE, CommitObject
from infra.simulator.routes.gitdata import filled
from infra.simulator.shapes_people import api, diff_entry, user, web
from infra.simulator.state import ROLES, Protection, Repo, User, stamp

_FILES_AT_MOST = 300


def reader_role(call: Call, repo: Repo) -> str:
    """What `permissions` of a repository says: the user's role; an installation's is told by its permissions."""
    if call.caller.kind == "user":
        return call.role_in(repo)
    if call.caller.kind == "installation" and call.caller.covers(repo):
        return "write" if call.caller.permissions.get("contents") == "write" else "read"
    return "read"


# --- the repository itself -------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}")
async def get_repository(call: Call) -> Response:
    repo = call.repo()
    return call.answer(shapes_git.full_repository(call.world, repo, reader_role(call, repo)))


@endpoint("PATCH", "/repos/{owner}/{repo}")
async def update_repository(call: Call) -> Response:
    """The settings that matter here: name, default branch, visibility, archiving, Issues."""
    repo = call.visible()
    body = await call.body()
    archived = body.boolean_or("archived", repo.archived)
    if repo.archived and archived:
        raise forbidden("Repository was archived so is read-only.")
    was, repo.archived = repo.archived, False
    try:
        call.require(repo, "administration", "write", role="admin")
        default, name = (
            body.string_or("default_branch", repo.default_branch),
            body.string_or("name", repo.name),
        )
        if default != repo.default_branch and await repo.git.branch(default) is None:
            raise validation_failed(
                {
                    "resource": "Repository",
                    "field": "default_branch",
                    "code": "invalid",
                    "message": f"The branch {default} was not found. Please push that ref first or create it via the Git Data API.",
                }
            )
        _rename(call, repo, name)
    except ApiError:
        repo.archived = was
        raise
    if default != repo.default_branch:
        await repo.git.run("symbolic-ref", "HEAD", f"refs/heads/{default}")
    repo.archived, repo.default_branch = archived, default
    repo.private = body.boolean_or("private", repo.private)
    repo.has_issues = body.boolean_or("has_issues", repo.has_issues)
    repo.description = body.string_or("description", repo.description)
    repo.delete_branch_on_merge = body.boolean_or("delete_branch_on_merge", repo.delete_branch_on_merge)
    repo.updated_at = call.world.now()
    return call.answer(shapes_git.full_repository(call.world, repo, reader_role(call, repo)))


def _rename(call: Call, repo: Repo, name: str) -> None:
    if name == repo.name:
        return
    if call.world.repository(f"{repo.owner}/{name}") is not None:
        raise validation_failed(
            {
                "resource": "Repository",
                "code": "custom",
                "field": "name",
                "message": "name already exists on this account",
            }
        )
    repo.former_names.add(repo.full_name.lower())
    repo.name = name


@endpoint("DELETE", "/repos/{owner}/{repo}")
async def delete_repository(call: Call) -> Response:
    repo = call.visible()
    call.require(repo, "administration", "write", role="admin")
    del call.world.repositories[repo.id]
    for installation in call.world.installations.values():
        installation.repository_ids.discard(repo.id)
    return call.nothing()


# --- branches --------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/branches")
async def list_branches(call: Call) -> Response:
    repo = call.repo("contents")
    rows = await repo.git.refs("refs/heads/")
    wanted = call.query("protected")

    def shape(row: tuple[str, str, str]) -> dict[str, Any]:
        name, sha = row[0].removeprefix("refs/heads/"), row[1]
        return {
            "name": name,
            "commit": {"sha": sha, "url": f"{api(call.world, repo)}/commits/{sha}"},
            "protected": protection.is_protected(repo, name),
        }

    told = [shape(row) for row in rows]
    if wanted:
        told = [one for one in told if one["protected"] == (wanted == "true")]
    return call.page(told, lambda one: one)


@endpoint("GET", "/repos/{owner}/{repo}/branches/{branch}")
async def get_branch(call: Call) -> Response:
    repo = call.repo("contents")
    name = call.text("branch")
    sha = await repo.git.branch(name)
    found = await repo.git.commit(sha) if sha else None
    if found is None:
        raise ApiError(
            404, "Branch not found", docs="https://docs.github.com/rest/branches/branches#get-a-branch"
        )
    url = f"{api(call.world, repo)}/branches/{name}"
    return call.answer(
        {
            "name": name,
            "commit": shapes_git.commit(call.world, repo, found),
            "_links": {"self": url, "html": f"{web(call.world, repo)}/tree/{name}"},
            "protected": protection.is_protected(repo, name),
            "protection": _protection_summary(protection.protection_of(repo, name)),
            "protection_url": f"{url}/protection",
        }
    )


def _protection_summary(found: Protection | None) -> dict[str, Any]:
    checks: Mapping[str, Any] = (found.required_status_checks if found else None) or {}
    level = "off" if not checks else "everyone" if found and found.enforce_admins else "non_admins"
    return {
        "enabled": found is not None,
        "required_status_checks": {
            "enforcement_level": level,
            "contexts": [check["context"] for check in checks.get("checks", ())],
            "checks": list(checks.get("checks", ())),
        },
    }


@endpoint("GET", "/repos/{owner}/{repo}/tags")
async def list_tags(call: Call) -> Response:
    repo = call.repo("contents")
    base = api(call.world, repo)
    out = []
    for full, _, _ in await repo.git.refs("refs/tags/"):
        name, sha = full.removeprefix("refs/tags/"), await repo.git.resolve(full)
        if sha is not None:
            out.append(
                {
                    "name": name,
                    "commit": {"sha": sha, "url": f"{base}/commits/{sha}"},
                    "zipball_url": f"{base}/zipball/{full}",
                    "tarball_url": f"{base}/tarball/{full}",
                    "node_id": f"REF_{sha[:20]}",
                }
            )
    return call.page(out, lambda one: one)


# --- commits ---------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/commits")
async def list_commits(call: Call) -> Response:
    repo = await filled(call.repo("contents"))
    start = await repo.git.resolve(call.query("sha") or repo.default_branch)
    if start is None:
        raise not_found()
    paths = [call.query("path")] if call.query("path") else []
    shas = await repo.git.commits(start, paths=paths)
    if any(call.query(name) for name in ("since", "until", "author")):
        shas = [sha for sha in shas if (one := await repo.git.commit(sha)) is not None and _wanted(call, one)]
    part, headers = call.cut(shas)
    return call.answer(
        [shapes_git.commit(call.world, repo, await known(repo, sha)) for sha in part], headers=headers
    )


def _wanted(call: Call, one: CommitObject) -> bool:
    since, until, author = _time(call, "since"), _time(call, "until"), call.query("author")
    found = call.world.user_by_login(author) if author else None
    return (
        (since is None or one.committer.date >= since)
        and (until is None or one.committer.date <= until)
        and (not author or one.author.email == (found.email if found else author))
    )


def _time(call: Call, name: str) -> datetime | None:
    given = call.query(name)
    try:
        moment = datetime.fromisoformat(given) if given else None
    except ValueError as error:
        raise unprocessable(f"{name} is not a valid date-time") from error
    return moment.astimezone() if moment else None


async def known(repo: Repo, sha: str) -> CommitObject:
    found = await repo.git.commit(sha)
    assert found is not None
    return found


@endpoint("GET", "/repos/{owner}/{repo}/commits/{ref}")
async def get_commit(call: Call) -> Response:
    repo = await filled(call.repo("contents"))
    ref = call.text("ref")
    sha = await repo.git.resolve(ref)
    if sha is None:
        raise unprocessable(f"No commit found for SHA: {ref}")
    accept = call.request.headers.get("accept", "")
    if "sha" in accept:
        return Response(sha, media_type="application/vnd.github.sha")
    one = await known(repo, sha)
    before = one.parents[0] if one.parents else EMPTY_TREE
    if "diff" in accept:
        return Response(await repo.git.diff(before, sha), media_type="application/vnd.github.diff")
    files = await repo.git.changes(before, sha)
    part, headers = call.cut(files, _FILES_AT_MOST)
    shape = shapes_git.commit_with_files(call.world, repo, one, files)
    shape["files"] = [diff_entry(call.world, repo, file, sha) for file in part]
    return call.answer(shape, headers=headers)


# --- archives --------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/tarball/{ref}")
async def tarball(call: Call) -> Response:
    return await _archive(call, call.text("ref"))


@endpoint("GET", "/repos/{owner}/{repo}/tarball")
async def tarball_of_default(call: Call) -> Response:
    return await _archive(call, "")


async def _archive(call: Call, ref: str) -> Response:
    """302 to the archive server, with a token of its own for a private repository.

    https://docs.github.com/rest/repos/contents#download-a-repository-archive-tar
    """
    repo = call.repo("contents")
    if await repo.git.is_empty():
        raise not_found()
    sha = await repo.git.resolve(ref or repo.default_branch)
    if sha is None:
        raise not_found()
    ticket = secrets.token_hex(16)
    call.world.archive_tickets[ticket] = (repo.id, sha)
    query = f"?token={ticket}" if repo.private else ""
    return RedirectResponse(
        f"{call.world.base_url}/_codeload/{repo.full_name}/legacy.tar.gz/{sha}{query}", 302
    )


@endpoint("GET", "/_codeload/{owner}/{repo}/legacy.tar.gz/{ref}", limited=False)
async def codeload(call: Call) -> Response:
    repo = call.world.repository(f"{call.text('owner')}/{call.text('repo')}")
    sha = call.text("ref")
    if repo is None or (
        repo.private and call.world.archive_tickets.get(call.query("token")) != (repo.id, sha)
    ):
        raise not_found()
    if await repo.git.kind(sha) != "commit":
        raise not_found()
    prefix = f"{repo.owner}-{repo.name}-{sha[:7]}"
    headers = {"Content-Disposition": f"attachment; filename={prefix}.tar.gz"}
    return StreamingResponse(repo.git.archive(sha, prefix), media_type="application/x-gzip", headers=headers)


# --- collaborators ---------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/collaborators")
async def list_collaborators(call: Call) -> Response:
    repo = call.repo("metadata", role="write")
    found = [(who, repo.role(who)) for who in call.world.users.values() if who.type == "User"]
    return call.page(
        [row for row in found if row[1] != "none"],
        lambda row: shapes_git.collaborator(call.world, row[0], row[1]),
    )


@endpoint("GET", "/repos/{owner}/{repo}/collaborators/{username}/permission")
async def collaborator_permission(call: Call) -> Response:
    """`permission` knows admin, write, read and none: maintain is write, triage is read."""
    repo = call.repo("metadata", role="read")
    who = _person(call)
    role = repo.role(who)
    if role == "none" and not repo.private:
        role = "read"
    told = {"maintain": "write", "triage": "read"}.get(role, role)
    shape = shapes_git.collaborator(call.world, who, role)
    return call.answer({"permission": told, "role_name": role, "user": shape})


@endpoint("GET", "/repos/{owner}/{repo}/collaborators/{username}")
async def is_collaborator(call: Call) -> Response:
    repo = call.repo("metadata", role="read")
    if repo.role(_person(call)) == "none":
        raise not_found()
    return call.nothing()


@endpoint("PUT", "/repos/{owner}/{repo}/collaborators/{username}")
async def add_collaborator(call: Call) -> Response:
    """The invitation counts as accepted at once."""
    repo = call.repo("administration", "write", role="admin")
    login = call.text("username")
    who = call.world.user_by_login(login) or call.world.add_user(login)
    given = (await call.body()).string_or("permission", "push")
    role = {"pull": "read", "push": "write"}.get(given, given)
    if role not in ROLES[1:]:
        raise unprocessable(f"Invalid permission: {given}")
    known = repo.role(who) != "none"
    repo.collaborators[who.login.lower()] = role
    if known:
        return call.nothing()
    number, now = call.world.next_id(), stamp(call.world.now())
    return call.answer(
        {
            "id": number,
            "node_id": f"RI_{number}",
            "repository": shapes_git.minimal_repository(call.world, repo),
            "invitee": user(call.world, who),
            "inviter": user(call.world, call.actor),
            "permissions": role,
            "created_at": now,
            "url": f"{call.world.base_url}/user/repository_invitations/{number}",
            "html_url": f"{web(call.world, repo)}/invitations",
            "expired": False,
        },
        201,
    )


@endpoint("DELETE", "/repos/{owner}/{repo}/collaborators/{username}")
async def remove_collaborator(call: Call) -> Response:
    repo = call.repo("administration", "write", role="admin")
    repo.collaborators.pop(_person(call).login.lower(), None)
    return call.nothing()


def _person(call: Call) -> User:
    """Organizations are no collaborators."""
    who = call.world.user_by_login(call.text("username"))
    if who is None or who.type == "Organization":
        raise not_found()
    return who


endpoints = [
    get_repository,
    update_repository,
    delete_repository,
    list_branches,
    get_branch,
    list_tags,
    list_commits,
    get_commit,
    tarball,
    tarball_of_default,
    codeload,
    list_collaborators,
    collaborator_permission,
    is_collaborator,
    add_collaborator,
    remove_collaborator,
]
