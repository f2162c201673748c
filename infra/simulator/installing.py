"""What people do to the App on GitHub's web pages: install it on an account, take it away, buy and cancel a plan.

The control desk offers it, since there is no API for it: `/_simulator/accounts`, `/_simulator/installations`,
`/_simulator/marketplace`.

https://docs.github.com/apps/using-github-apps/installing-a-github-app-from-github-marketplace-for-your-organizations
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from infra.simulator import payloads, shapes_git
from infra.simulator.answers import not_found, unprocessable
from infra.simulator.auth import new_user_token
from infra.simulator.call import Body
from infra.simulator.state import Installation, Repo, User, World

PLAN_ACTIONS = ("purchased", "cancelled", "changed", "pending_change", "pending_change_cancelled")


def installed_on(world: World, account: User) -> Installation | None:
    return next((one for one in world.installations.values() if one.account_id == account.id), None)


def new_installation(
    world: World, account: User, repositories: Sequence[Repo], *, selection: str = "selected"
) -> Installation:
    """A new id each time, also for an account that had the App before. Tells nobody."""
    now = world.now()
    made = Installation(
        id=world.next_id(),
        account_id=account.id,
        repository_ids={repo.id for repo in repositories},
        permissions=dict(world.app.permissions),
        events=list(world.app.events),
        created_at=now,
        updated_at=now,
        selection=selection,
    )
    world.installations[made.id] = made
    return made


def install(
    world: World, account: User, by: User, repositories: Sequence[Repo] | None = None
) -> Installation:
    """On all of the account's repositories, or on those named. Raises 422 where the App is installed already."""
    if installed_on(world, account) is not None:
        raise unprocessable(f"The App is installed on {account.login} already")
    owned = [repo for repo in world.repositories.values() if repo.owner_id == account.id]
    if any(repo not in owned for repo in repositories or ()):
        raise unprocessable(f"That repository is not {account.login}'s")
    held, selection = (owned, "all") if repositories is None else (repositories, "selected")
    made = new_installation(world, account, held, selection=selection)
    payload = payloads.installation(world, made, by)
    world.emit("installation", "created", None, payload, installation=made)
    return made


def uninstall(world: World, installation: Installation, by: User) -> None:
    """Its tokens die at once, since they are looked up through it."""
    payload = payloads.installation(world, installation, by)
    world.emit("installation", "deleted", None, payload, installation=installation)
    del world.installations[installation.id]


def change_plan(
    world: World, action: str, account: User, by: User, effective: datetime | None = None
) -> None:
    """Tells the App of a plan. GitHub's Marketplace does not install or uninstall anything by that.

    https://docs.github.com/apps/github-marketplace/using-the-github-marketplace-api-in-your-app/handling-plan-cancellations
    """
    payload = payloads.marketplace_purchase(world, action, account, by, effective or world.now())
    world.emit("marketplace_purchase", action, None, payload)


# --- the desk --------------------------------------------------------------------------------------------------------


def post(world: World, what: str, sent: Mapping[str, Any]) -> Any:
    """Raises 404 for an account that is not there, 422 for what GitHub's pages would not offer."""
    body = Body(sent)
    if what == "accounts":
        return _add_account(world, body)
    if what == "marketplace":
        return _change_plan(world, body)
    account = _account(world, body.string("account"))
    named = body.strings_or("repositories", None)
    repositories = None if named is None else [_repository(world, name) for name in named]
    made = install(world, account, _by(world, body, account), repositories)
    return shapes_git.installation(world, made)


def remove(world: World, sent: Mapping[str, Any]) -> Any:
    """`{"account": login}` takes the App away from it."""
    body = Body(sent)
    account = _account(world, body.string("account"))
    found = installed_on(world, account)
    if found is None:
        raise not_found()
    uninstall(world, found, _by(world, body, account))
    return {}


def told(world: World) -> Any:
    return [shapes_git.installation(world, one) for one in world.installations.values()]


def _add_account(world: World, body: Body) -> Any:
    """`{"login": …}` signs a person up and tells the token; `{"login", "type": "Organization", "owners": […]}`."""
    login, kind = body.string("login"), body.string_or("type", "User")
    if kind not in ("User", "Organization"):
        raise unprocessable("type is User or Organization")
    if world.user_by_login(login) is not None:
        raise unprocessable(f"{login} is taken")
    owners = {_account(world, one).id for one in body.strings_or("owners", [])}
    made = world.add_user(login, kind)
    made.owner_ids = owners
    token = new_user_token(world, made).value if kind == "User" else None
    return {"id": made.id, "login": login, "type": kind, "token": token}


def _change_plan(world: World, body: Body) -> Any:
    """`{"action": "cancelled", "account": login, "effective_date": "2026-12-01T00:00:00Z"}`."""
    action, account = body.string("action"), _account(world, body.string("account"))
    if action not in PLAN_ACTIONS:
        raise unprocessable(f"action is one of {', '.join(PLAN_ACTIONS)}")
    date = body.string_or("effective_date", None)
    try:
        effective = datetime.fromisoformat(date) if date else None
    except ValueError as error:
        raise unprocessable("effective_date is not a date-time") from error
    change_plan(world, action, account, _by(world, body, account), effective)
    return {}


def _by(world: World, body: Body, account: User) -> User:
    """Who does it: the one named, the person whose account it is, else an owner of the organization, else ada."""
    named = body.string_or("by", None)
    if named is not None:
        return _account(world, named)
    return acting_for(world, account)


def acting_for(world: World, account: User) -> User:
    if account.type == "User":
        return account
    return world.user(min(account.owner_ids)) if account.owner_ids else _account(world, "ada")


def _account(world: World, login: str) -> User:
    found = world.user_by_login(login)
    if found is None:
        raise not_found()
    return found


def _repository(world: World, full_name: str) -> Repo:
    found = world.repository(full_name)
    if found is None:
        raise not_found()
    return found
