"""An App is registered from a manifest: the page where a person agrees, the exchange of the code, and the installation page.

https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest

Instead of a password one says who one is. There is one App at a time: one that is registered takes the place of the one before,
whose installations go with it untold. Unsettled, and so as strict as can be thought: what GitHub says to a manifest with a
parameter that it does not know, or without an address to come back to (here both are refused).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.responses import HTMLResponse, RedirectResponse, Response

from infra.simulator.answers import not_found
from infra.simulator.auth import new_private_key
from infra.simulator.call import Call, endpoint
from infra.simulator.installing import install, installed_on
from infra.simulator.shapes_people import app as app_shape
from infra.simulator.state import App, Registered, User, World

CODE_LIFETIME = timedelta(hours=1)
"""All three steps within one hour, says the page above."""
LONGEST_NAME = 34
"""https://docs.github.com/apps/creating-github-apps/registering-a-github-app/registering-a-github-app"""
MOST_CALLBACKS = 10
"""https://docs.github.com/apps/creating-github-apps/registering-a-github-app/about-the-user-authorization-callback-url"""

PARAMETERS = frozenset(
    {
        "callback_urls",
        "default_events",
        "default_permissions",
        "description",
        "hook_attributes",
        "name",
        "public",
        "redirect_url",
        "request_oauth_on_install",
        "setup_on_update",
        "setup_url",
        "url",
    }
)
PERMISSIONS = frozenset(
    {
        "actions",
        "administration",
        "checks",
        "contents",
        "deployments",
        "environments",
        "issues",
        "members",
        "metadata",
        "packages",
        "pages",
        "pull_requests",
        "repository_hooks",
        "repository_projects",
        "secret_scanning_alerts",
        "secrets",
        "security_events",
        "single_file",
        "statuses",
        "vulnerability_alerts",
        "workflows",
    }
)
"""https://docs.github.com/rest/authentication/permissions-required-for-github-apps"""
NEEDED: Mapping[str, frozenset[str]] = {
    "check_run": frozenset({"checks"}),
    "check_suite": frozenset({"checks"}),
    "issue_comment": frozenset({"issues", "pull_requests"}),
    "issues": frozenset({"issues"}),
    "pull_request": frozenset({"pull_requests"}),
    "pull_request_review": frozenset({"pull_requests"}),
    "pull_request_review_comment": frozenset({"pull_requests"}),
    "pull_request_review_thread": frozenset({"pull_requests"}),
    "push": frozenset({"contents"}),
    "repository": frozenset({"metadata"}),
    "status": frozenset({"statuses"}),
}
"""One of these permissions lets an App hear of the event: https://docs.github.com/webhooks/webhook-events-and-payloads"""


@dataclass(frozen=True)
class _Asked:
    """`account` is whose App it will be; None is the person's own."""

    account: str | None
    sent: Mapping[str, str]
    manifest: Mapping[str, Any]


class _Refused(Exception):  # noqa: N818 (a page, not a fault)
    """What the page says instead of offering the button."""


# --- the page --------------------------------------------------------------------------------------------------------


@endpoint("POST", "/settings/apps/new", limited=False)
async def register(call: Call) -> Response:
    return await _registered(call, None)


@endpoint("POST", "/organizations/{org}/settings/apps/new", limited=False)
async def register_for_organization(call: Call) -> Response:
    """Only its owners may: https://docs.github.com/organizations/managing-programmatic-access-to-your-organization"""
    found = call.world.user_by_login(call.text("org"))
    if found is None or found.type != "Organization":
        raise not_found()
    return await _registered(call, found)


async def _registered(call: Call, organization: User | None) -> Response:
    """A form with `manifest` is asked about; with `person`, which the page adds, it is done."""
    sent = dict(parse_qsl((await call.request.body()).decode("utf-8", "replace"), keep_blank_values=True))
    sent.setdefault("state", call.query("state"))
    try:
        asked = _Asked(
            organization.login if organization else None, sent, _manifest(sent.get("manifest", ""))
        )
        if "person" not in sent:
            return HTMLResponse(_page(call, asked))
        person = call.world.user_by_login(sent["person"])
        if person is None or person.type != "User":
            raise not_found()
        if organization is not None and person.id not in organization.owner_ids:
            raise not_found()
        code = _register(call.world, asked, organization or person)
    except _Refused as refused:
        return HTMLResponse(_bare("Register a GitHub App", f"<p>{escape(str(refused))}</p>"), 422)
    told = {"code": code, **({"state": sent["state"]} if sent["state"] else {})}
    back = str(asked.manifest["redirect_url"])
    return RedirectResponse(f"{back}{'&' if '?' in back else '?'}{urlencode(told)}", 302)


def _manifest(text: str) -> Mapping[str, Any]:
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise _Refused("The manifest is no JSON object.")
    if unknown := sorted(set(said) - PARAMETERS):
        raise _Refused(f"Unknown parameters: {', '.join(unknown)}")
    for name in ("url", "redirect_url"):
        _require_address(name, said.get(name))
    hook = said.get("hook_attributes")
    if hook is not None:
        _require_address("hook_attributes.url", hook.get("url") if isinstance(hook, dict) else None)
    callbacks = said.get("callback_urls", [])
    if not isinstance(callbacks, list) or len(callbacks) > MOST_CALLBACKS:
        raise _Refused(f"There are at most {MOST_CALLBACKS} callback URLs")
    for one in callbacks:
        _require_address("callback_urls", one)
    if said.get("setup_url"):
        _require_address("setup_url", said["setup_url"])
    _require_grants(said.get("default_permissions", {}), said.get("default_events", []))
    return said


def _require_address(name: str, value: Any) -> None:
    parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _Refused(f"{name} must be a valid URL")


def _require_grants(permissions: Any, events: Any) -> None:
    if not isinstance(permissions, dict) or not isinstance(events, list):
        raise _Refused("Permissions are an object, and events a list")
    for name, level in permissions.items():
        if name not in PERMISSIONS or level not in ("read", "write"):
            raise _Refused(f"Default permission records resource is not included in the list: {name}")
    unheard = sorted({one for one in map(str, events) if not NEEDED.get(one, frozenset()) & set(permissions)})
    if unheard:
        raise _Refused(f"Default events unsupported: {', '.join(unheard)}")


def _page(call: Call, asked: _Asked) -> str:
    kept = "".join(
        f'<input type="hidden" name="{name}" value="{escape(asked.sent.get(name, ""))}">'
        for name in ("manifest", "state")
    )
    owner = call.world.user_by_login(asked.account) if asked.account else None
    people = [
        one
        for one in call.world.users.values()
        if one.type == "User" and (owner is None or one.id in owner.owner_ids)
    ]
    buttons = "".join(
        f'<p><button name="person" value="{escape(one.login)}">Create GitHub App as {escape(one.login)}</button></p>'
        for one in people
    )
    grants = "".join(
        f"<li>{escape(name)}: {escape(level)}</li>"
        for name, level in asked.manifest.get("default_permissions", {}).items()
    )
    whose = escape(asked.account or "you")
    return _bare(
        f"Create a GitHub App for {whose}",
        f'<form method="post" action="{escape(call.request.url.path)}">{kept}<p><label>GitHub App name '
        f'<input name="name" value="{escape(str(asked.manifest.get("name", "")))}"></label></p><ul>{grants}</ul>{buttons}</form>',
    )


def _bare(title: str, inner: str) -> str:
    return (
        f'<!doctype html><meta charset="utf-8"><title>{title}</title><p><small>simulated GitHub</small></p>'
        f"<h1>{title}</h1>{inner}"
    )


def _register(world: World, asked: _Asked, owner: User) -> str:
    """The code that its keys are fetched by."""
    said = asked.manifest
    name = (asked.sent.get("name") or str(said.get("name") or "")).strip()
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not slug or len(name) > LONGEST_NAME:
        raise _Refused(f"Name has 1 to {LONGEST_NAME} characters")
    if slug == world.app.slug or world.user_by_login(slug) or world.user_by_login(f"{slug}[bot]"):
        raise _Refused("Name has already been taken")
    hook = said.get("hook_attributes")
    app = App(
        id=100_000 + secrets.randbelow(900_000),
        slug=slug,
        name=name,
        client_id="Iv23li" + secrets.token_hex(7),
        private_key_pem=new_private_key(),
        webhook_secret=secrets.token_hex(20),
        owner_id=owner.id,
        bot_id=world.add_user(f"{slug}[bot]", "Bot").id,
        hook_id=world.next_id(),
        created_at=world.now(),
        client_secret=secrets.token_hex(20),
        callback_urls=[str(one) for one in said.get("callback_urls", [])],
        setup_url=str(said.get("setup_url") or ""),
        public=said.get("public") is True,
        permissions={**said.get("default_permissions", {}), "metadata": "read"},
        events=[str(one) for one in said.get("default_events", [])],
    )
    world.app, world.app_url = app, str(hook["url"]) if hook and hook.get("active", True) else None
    world.installations.clear()
    world.authorizations.clear()
    code = secrets.token_hex(20)
    world.registered = Registered(code, world.now() + CODE_LIFETIME)
    return code


# --- the exchange ----------------------------------------------------------------------------------------------------


@endpoint("POST", "/app-manifests/{code}/conversions")
async def convert(call: Call) -> Response:
    """Once, within the hour, and for whoever holds the code.

    https://docs.github.com/rest/apps/apps#create-a-github-app-from-a-manifest
    """
    world = call.world
    found = world.registered
    held = found is not None and secrets.compare_digest(found.code.encode(), call.text("code").encode())
    if found is None or not held or found.expires_at <= world.now():
        raise not_found()
    world.registered = None
    app = world.app
    return call.answer(
        {
            **app_shape(world, app),
            "client_id": app.client_id,
            "client_secret": app.client_secret,
            "webhook_secret": app.webhook_secret if world.app_url else None,
            "pem": app.private_key_pem,
        },
        201,
    )


# --- installing ------------------------------------------------------------------------------------------------------


@endpoint("GET", "/apps/{app_slug}/installations/new", limited=False)
async def installation_page(call: Call) -> Response:
    """Where the App can still be installed, a button each."""
    _require_ours(call)
    accounts = [
        one
        for one in call.world.users.values()
        if _may_have_it(call.world, one)
        and installed_on(call.world, one) is None
        and _repositories(call.world, one)
    ]
    buttons = "".join(
        f'<p><button name="account" value="{escape(one.login)}">Install on {escape(one.login)}</button></p>'
        for one in accounts
    )
    title = f"Install {escape(call.world.app.name)}"
    return HTMLResponse(_bare(title, f'<form method="post">{buttons or "<p>On no account.</p>"}</form>'))


@endpoint("POST", "/apps/{app_slug}/installations/new", limited=False)
async def agree_to_install(call: Call) -> Response:
    """On all repositories of the account, by whoever may."""
    _require_ours(call)
    sent = dict(parse_qsl((await call.request.body()).decode("utf-8", "replace")))
    account = call.world.user_by_login(sent.get("account", ""))
    if account is None or not _may_have_it(call.world, account):
        raise not_found()
    owners = [call.world.user(one) for one in sorted(account.owner_ids)]
    made = install(call.world, account, owners[0] if owners else account)
    if back := call.world.app.setup_url:
        told = urlencode({"installation_id": made.id, "setup_action": "install"})
        return RedirectResponse(f"{back}{'&' if '?' in back else '?'}{told}", 302)
    return HTMLResponse(_bare("Installed", f"<p>Installed on {escape(account.login)}.</p>"))


def _require_ours(call: Call) -> None:
    if call.text("app_slug") != call.world.app.slug:
        raise not_found()


def _may_have_it(world: World, account: User) -> bool:
    """https://docs.github.com/apps/creating-github-apps/registering-a-github-app/making-a-github-app-public-or-private"""
    return account.type != "Bot" and (world.app.public or account.id == world.app.owner_id)


def _repositories(world: World, account: User) -> bool:
    return any(one.owner_id == account.id for one in world.repositories.values())


endpoints = [register, register_for_organization, convert, installation_page, agree_to_install]
