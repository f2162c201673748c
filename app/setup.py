"""Registers the App with GitHub: a page on this machine, GitHub's own page, and the keys that come back of it.

The page is there for whoever knows an address that nobody can guess, on this machine alone, and takes one App. The keys go to
where the service reads them; none is shown, and an App that is there already is not replaced unasked.
https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlencode, urlsplit

from fastapi import FastAPI, Form
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app.errors import MagicodeError, MissingError, UserError
from app.grants import EVENTS, PERMISSIONS
from app.nouns import Registered
from app.settings import PREFIX, Settings
from app.web import answers, policy
from app.web.pages import Pages, serve_static
from app.web.patience import config as serving
from app.web.signin import RETURN
from app.worker import Server
from infra.github.registration import converted
from infra.relay import SMEE, new_channel
from infra.secrets.apps import AppSecrets
from infra.secrets.choose import open_secrets

WEBHOOKS: Final = "/webhooks/github"
LONGEST_NAME: Final = 34
"""https://docs.github.com/apps/creating-github-apps/registering-a-github-app/registering-a-github-app"""

_LEARNT: Final = (
    "APP_ID",
    "APP_SLUG",
    "CLIENT_ID",
    "CLIENT_SECRET",
    "PRIVATE_KEY",
    "PUBLIC_URL",
    "RELAY_URL",
    "WEBHOOK_SECRET",
    "WEBHOOK_SECRET_PREVIOUS",
)
_LOGIN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?")
_HERE: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class AlreadySetUpError(UserError):
    """An App is set up here already. `magicode setup --replace` registers another in its place; GitHub keeps the old one until
    somebody deletes it there."""


class SaidElsewhereError(UserError):
    """The environment names an App itself, and what it says wins."""


class PortTakenError(UserError):
    """Something else listens at this port already. Without `--port` a free one is taken."""


class NotTakenError(UserError):
    """What was filled in cannot be used."""


class Filled(BaseModel):
    """The page's form, as somebody filled it in."""

    name: str = ""
    organization: str = ""
    reach: str = "relay"
    address: str = ""
    relay: str = SMEE


@dataclass(frozen=True, slots=True)
class Choice:
    """`public_url` is where people reach the service; `relay_url` where GitHub delivers instead, if it cannot reach it there;
    `organization` whose App it will be, None for one's own."""

    name: str
    organization: str | None
    public_url: str
    relay_url: str | None


@dataclass(slots=True)
class Setup:
    """`asked` are the registrations that were begun, by the state that GitHub gives back."""

    read: Settings
    kept: AppSecrets
    own_url: str
    key: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    asked: dict[str, Choice] = field(default_factory=dict)
    made: Registered | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"{self.own_url}/{self.key}"

    @property
    def github(self) -> str:
        return self.read.github_web_url.rstrip("/")


async def prepare(read: Settings, own_url: str, *, replace: bool) -> Setup:
    """Before anybody registers anything: that the keys can be kept. Raises AlreadySetUpError, SaidElsewhereError, and what the
    secrets' place raises."""
    said = sorted({name.lower() for name in _LEARNT} & read.model_fields_set - {"public_url", "relay_url"})
    if read.private_key_path is not None:
        said.append("private_key_path")
    if said:
        names = ", ".join(PREFIX + name.upper() for name in said)
        raise SaidElsewhereError(f"{names}: set in the environment, which wins. Take it out there first.")
    kept = await asyncio.to_thread(open_secrets, read.secrets_kept)
    await asyncio.to_thread(kept.keep, {})
    held = await asyncio.to_thread(kept.read)
    if not replace and any(value and name.removeprefix(PREFIX) == "APP_ID" for name, value in held.items()):
        raise AlreadySetUpError
    return Setup(read, kept, own_url)


async def register(
    read: Settings, *, port: int, replace: bool, begun: Callable[[str], Awaitable[None]]
) -> Registered:
    """Serves the page until somebody has registered an App. `begun` is told its address. Raises PortTakenError, and as `prepare`."""
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OSError:
        raise PortTakenError from None
    with listener:
        setup = await prepare(read, f"http://127.0.0.1:{listener.getsockname()[1]}", replace=replace)
        server = Server(serving(create(setup)))
        served = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await begun(setup.address)
            await setup.done.wait()
        finally:
            server.should_exit = True
            await served
    assert setup.made is not None
    return setup.made


def create(setup: Setup) -> FastAPI:
    """The page, and where GitHub sends the browser back to."""
    web = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    pages = Pages(slug=setup.read.app_slug, github_web_url=setup.github)
    answers.install(web, pages, github=setup.github)
    # A name of somebody else's that leads to this machine is not ours to answer to.
    web.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1"])
    serve_static(web)

    def form(said: Filled, problem: str | None = None) -> Response:
        return pages.page(
            "setup.html", None, 400 if problem else 200, here=f"/{setup.key}", problem=problem, said=said
        )

    @web.get("/created")
    async def created(code: str = "", state: str = "") -> Response:
        """GitHub's way back. Loaded once more, it asks once more: the keys may not have arrived."""
        choice = setup.asked.get(state)
        if choice is None or not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", code):
            raise MissingError("This is no answer to a registration that was begun here.")
        async with setup.alone:
            if setup.made is None:
                setup.made = await keys_of(setup, code, choice)
        setup.done.set()
        return RedirectResponse(f"{setup.made.url}/installations/new", 303)

    @web.get("/{key}")
    async def page(key: str) -> Response:
        _require_key(setup, key)
        home = setup.read.public_url or f"http://{setup.read.host}:{setup.read.port}"
        return form(Filled(address=home))

    @web.post("/{key}")
    async def begin(key: str, said: Annotated[Filled, Form()]) -> Response:
        _require_key(setup, key)
        try:
            choice = await chosen(setup.read, said)
        except MagicodeError as error:
            return form(said, error.message)
        state = secrets.token_urlsafe(24)
        setup.asked[state] = choice
        whose = f"organizations/{choice.organization}/" if choice.organization else ""
        action = f"{setup.github}/{whose}settings/apps/new?{urlencode({'state': state})}"
        answer = pages.page(
            "setup_go.html", None, action=action, manifest=json.dumps(manifest(choice, setup.own_url))
        )
        answer.headers[policy.HEADER] = policy.policy(setup.github, script=True)
        return answer

    return web


def _require_key(setup: Setup, key: str) -> None:
    if not secrets.compare_digest(key.encode(), setup.key.encode()):
        raise MissingError("There is nothing here. `magicode setup` says at which address its page is.")


async def chosen(read: Settings, said: Filled) -> Choice:
    """What was filled in, with a channel of its own where a relay is to be used. Raises NotTakenError, and what the relay
    raises."""
    name, organization = said.name.strip(), said.organization.strip().removeprefix("@")
    if len(name) > LONGEST_NAME:
        raise NotTakenError(f"GitHub takes names of up to {LONGEST_NAME} characters.")
    if organization and not _LOGIN.fullmatch(organization):
        raise NotTakenError("An organization is given by its name in its address on GitHub, such as `acme`.")
    public_url = _address(said.address, "The service's address")
    if said.reach == "relay":
        return Choice(
            name,
            organization or None,
            public_url,
            await new_channel(_address(said.relay, "The relay's address")),
        )
    if said.reach != "public":
        raise NotTakenError("Say how GitHub is to reach this service.")
    if _host(public_url) in _HERE and _host(read.github_web_url) not in _HERE:
        raise NotTakenError("GitHub cannot reach this machine by that address. A relay leads there.")
    return Choice(name, organization or None, public_url, None)


def _address(text: str, what: str) -> str:
    """Raises NotTakenError."""
    try:
        parts = urlsplit(text.strip().rstrip("/"))
    except ValueError:
        parts = urlsplit("")
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _HERE)
    if not secure or not parts.hostname or parts.query or parts.fragment or parts.username is not None:
        raise NotTakenError(
            f"{what} begins with https:// and names a host; http:// is for this machine alone."
        )
    return parts.geturl()


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def manifest(choice: Choice, own_url: str) -> dict[str, Any]:
    """What GitHub is asked to register: `app-manifest.yml` with addresses."""
    return {
        **({"name": choice.name} if choice.name else {}),
        "url": choice.public_url,
        "hook_attributes": {"url": choice.relay_url or f"{choice.public_url}{WEBHOOKS}", "active": True},
        "redirect_url": f"{own_url}/created",
        "callback_urls": [f"{choice.public_url}{RETURN}"],
        "public": False,
        "default_permissions": dict(PERMISSIONS),
        "default_events": sorted(EVENTS),
    }


async def keys_of(setup: Setup, code: str, choice: Choice) -> Registered:
    """Fetched and kept. Raises NotTakenError where the App is there and its keys are not: it is to be deleted there."""
    settings_page = f"{setup.github}/settings/apps"
    try:
        made = await converted(code, api_url=setup.read.github_api_url)
    except MissingError:
        raise NotTakenError(
            f"GitHub no longer gives out this App's keys: it does so once, within an hour. Delete the App at {settings_page} "
            "and begin again."
        ) from None
    found = {
        "APP_ID": str(made.id),
        "APP_SLUG": made.slug,
        "CLIENT_ID": made.client_id,
        "CLIENT_SECRET": made.client_secret,
        "PRIVATE_KEY": made.private_key,
        "PUBLIC_URL": choice.public_url,
        "WEBHOOK_SECRET": made.webhook_secret or "",
        "RELAY_URL": choice.relay_url or "",
    }
    try:
        held = await asyncio.to_thread(setup.kept.read)
        spelt = {name.removeprefix(PREFIX): name for name in held if name.removeprefix(PREFIX) in _LEARNT}
        found |= {"WEBHOOK_SECRET_PREVIOUS": ""} if "WEBHOOK_SECRET_PREVIOUS" in spelt else {}
        await asyncio.to_thread(
            setup.kept.keep, {spelt.get(name, name): value for name, value in found.items()}
        )
    except MagicodeError as error:
        raise NotTakenError(
            f"The App is registered, and its keys could not be kept: {error.message} Delete it at {settings_page} and begin again."
        ) from None
    return made
