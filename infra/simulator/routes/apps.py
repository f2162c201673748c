"""The App, its installations and their tokens, and who the caller is.

https://docs.github.com/rest/apps
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from infra.simulator import auth, payloads, shapes_git
from infra.simulator.answers import (
    ApiError,
    not_accessible,
    not_found,
    requires_authentication,
    unprocessable,
)
from infra.simulator.call import LEVELS, Body, Call, endpoint
from infra.simulator.installing import uninstall
from infra.simulator.shapes_people import app as app_shape
from infra.simulator.shapes_people import user as user_shape
from infra.simulator.state import Installation, Repo, User, stamp


def require_app(call: Call) -> None:
    """Only the App's own JWT will do."""
    if call.caller.kind != "app":
        raise ApiError(401, "A JSON web token could not be decoded")


@endpoint("GET", "/app")
async def get_app(call: Call) -> Response:
    require_app(call)
    return call.answer(
        {**app_shape(call.world, call.world.app), "installations_count": len(call.world.installations)}
    )


@endpoint("GET", "/apps/{app_slug}")
async def get_app_by_slug(call: Call) -> Response:
    if call.text("app_slug") != call.world.app.slug:
        raise not_found()
    return call.answer(app_shape(call.world, call.world.app))


@endpoint("GET", "/app/installations")
async def list_installations(call: Call) -> Response:
    require_app(call)
    return call.page(call.world.installations.values(), lambda one: shapes_git.installation(call.world, one))


@endpoint("GET", "/app/installations/{installation_id}")
async def get_installation(call: Call) -> Response:
    require_app(call)
    return call.answer(shapes_git.installation(call.world, _installation(call)))


@endpoint("DELETE", "/app/installations/{installation_id}")
async def delete_installation(call: Call) -> Response:
    require_app(call)
    uninstall(call.world, _installation(call), call.world.user(call.world.app.owner_id))
    return call.nothing()


@endpoint("PUT", "/app/installations/{installation_id}/suspended")
async def suspend(call: Call) -> Response:
    require_app(call)
    found = _installation(call)
    found.suspended_at, found.suspended_by_id = call.world.now(), call.world.app.owner_id
    call.world.emit("installation", "suspend", None, _told(call, found), installation=found)
    return call.nothing()


@endpoint("DELETE", "/app/installations/{installation_id}/suspended")
async def unsuspend(call: Call) -> Response:
    require_app(call)
    found = _installation(call)
    found.suspended_at = found.suspended_by_id = None
    call.world.emit("installation", "unsuspend", None, _told(call, found), installation=found)
    return call.nothing()


def _told(call: Call, one: Installation) -> dict[str, Any]:
    return payloads.installation(call.world, one, call.world.user(call.world.app.owner_id))


@endpoint("GET", "/repos/{owner}/{repo}/installation")
async def installation_of_repository(call: Call) -> Response:
    require_app(call)
    repo = call.world.repository(f"{call.text('owner')}/{call.text('repo')}")
    found = call.world.installation_of(repo) if repo else None
    if found is None:
        raise not_found()
    return call.answer(shapes_git.installation(call.world, found))


@endpoint("GET", "/orgs/{org}/installation")
async def installation_of_organization(call: Call) -> Response:
    return _installed_on(call, call.text("org"), "Organization")


@endpoint("GET", "/users/{username}/installation")
async def installation_of_user(call: Call) -> Response:
    return _installed_on(call, call.text("username"), "User")


def _installed_on(call: Call, login: str, kind: str) -> Response:
    require_app(call)
    for one in call.world.installations.values():
        account = call.world.user(one.account_id)
        if account.login.lower() == login.lower() and account.type == kind:
            return call.answer(shapes_git.installation(call.world, one))
    raise not_found()


def _installation(call: Call) -> Installation:
    found = call.world.installations.get(call.number("installation_id"))
    if found is None:
        raise not_found()
    return found


# --- tokens ----------------------------------------------------------------------------------------------------------


@endpoint("POST", "/app/installations/{installation_id}/access_tokens")
async def create_token(call: Call) -> Response:
    """Narrowed to the repositories and permissions asked for; 422 for more than the installation has."""
    require_app(call)
    installation = _installation(call)
    if installation.suspended_at is not None:
        raise ApiError(403, "This installation has been suspended")
    body = await call.body()
    repositories = _repositories(call, installation, body)
    permissions = _permissions(installation, body)
    narrowed = frozenset(repo.id for repo in repositories) if repositories is not None else None
    token = auth.new_installation_token(call.world, installation, permissions, narrowed)
    assert token.expires_at is not None
    shape: dict[str, Any] = {
        "token": token.value,
        "expires_at": stamp(token.expires_at),
        "permissions": permissions,
        "repository_selection": "selected" if repositories is not None else installation.selection,
    }
    if repositories is not None:
        shape["repositories"] = [shapes_git.repository(call.world, repo) for repo in repositories]
    return call.answer(shape, 201)


def _repositories(call: Call, installation: Installation, body: Body) -> list[Repo] | None:
    held = [
        call.world.repositories[n]
        for n in sorted(installation.repository_ids)
        if n in call.world.repositories
    ]
    ids, names = body.list_or("repository_ids", None), body.strings_or("repositories", None)
    if ids is None and names is None:
        return None
    by_id = {repo.id: repo for repo in held}
    by_name = {repo.name.lower(): repo for repo in held}
    found = [by_id.get(number) for number in ids or ()] + [by_name.get(name.lower()) for name in names or ()]
    if not found or None in found:
        raise unprocessable(
            "There is at least one repository that does not exist or is not accessible to the parent installation."
        )
    return sorted({repo.id: repo for repo in found if repo is not None}.values(), key=lambda repo: repo.id)


def _permissions(installation: Installation, body: Body) -> dict[str, str]:
    asked = body.object_or("permissions", None)
    if asked is None:
        return dict(installation.permissions)
    for name, level in asked.items():
        if level not in LEVELS[1:]:
            raise unprocessable(
                f"Invalid request.\n\nFor 'properties/{name}', {level} is not a possible value."
            )
        held = installation.permissions.get(name, "none")
        if LEVELS.index(level) > LEVELS.index(held):
            raise unprocessable("The permissions requested are not granted to this installation.")
    granted = {str(name): str(level) for name, level in asked.items()}
    if installation.permissions.get("metadata"):
        granted.setdefault("metadata", "read")
    return granted


@endpoint("DELETE", "/installation/token")
async def revoke_token(call: Call) -> Response:
    if call.caller.kind != "installation" or call.caller.token is None:
        raise requires_authentication() if call.caller.kind == "anonymous" else not_accessible()
    del call.world.tokens[call.caller.token.value]
    return call.nothing()


@endpoint("GET", "/installation/repositories")
async def installation_repositories(call: Call) -> Response:
    if call.caller.kind != "installation" or call.caller.installation is None:
        raise requires_authentication() if call.caller.kind == "anonymous" else not_accessible()
    held = [repo for repo in call.world.repositories.values() if call.caller.covers(repo)]
    narrowed = call.caller.token is not None and call.caller.token.repository_ids is not None
    return call.page(
        held,
        lambda repo: shapes_git.repository(call.world, repo, "write"),
        envelope="repositories",
        extra={"repository_selection": "selected" if narrowed else call.caller.installation.selection},
    )


# --- people ----------------------------------------------------------------------------------------------------------


@endpoint("GET", "/user")
async def get_myself(call: Call) -> Response:
    if call.caller.kind != "user":
        raise requires_authentication() if call.caller.kind == "anonymous" else not_accessible()
    return call.answer(_public(call, call.actor))


@endpoint("GET", "/users/{username}")
async def get_user(call: Call) -> Response:
    return call.answer(_public(call, call.world.user_by_login(call.text("username"))))


@endpoint("GET", "/user/{account_id}")
async def get_user_by_id(call: Call) -> Response:
    """Whoever has this id, by whatever login: https://docs.github.com/rest/users/users#get-a-user-using-their-id"""
    return call.answer(_public(call, call.world.users.get(call.number("account_id"))))


def _public(call: Call, who: User | None) -> dict[str, Any]:
    if who is None:
        raise not_found()
    owned = [repo for repo in call.world.repositories.values() if repo.owner_id == who.id]
    created = stamp(call.world.app.created_at)
    return {
        **user_shape(call.world, who),
        "name": who.name,
        "company": None,
        "blog": "",
        "location": None,
        "email": None,
        "hireable": None,
        "bio": None,
        "twitter_username": None,
        "public_repos": sum(1 for repo in owned if not repo.private),
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "created_at": created,
        "updated_at": created,
    }


endpoints = [
    get_app,
    get_app_by_slug,
    list_installations,
    get_installation,
    delete_installation,
    suspend,
    unsuspend,
    installation_of_repository,
    installation_of_organization,
    installation_of_user,
    create_token,
    revoke_token,
    installation_repositories,
    get_myself,
    get_user,
    get_user_by_id,
]
