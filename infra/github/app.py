"""The App on GitHub: who it is, where it is installed, and tokens narrowed to one repository and one purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast
from urllib.parse import parse_qs, quote, urlsplit

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from githubkit import GitHub, Response
from githubkit.auth import BaseAuthStrategy
from githubkit.throttling import LocalThrottler
from githubkit_schemas.v2026_03_10 import models

from app.errors import MagicodeError, MissingError, UserError
from app.nouns import Account, Delivery, GitHubShare, Installation, Registration, Repository
from app.ports import UNWATCHED, Paces, RepositoryReader, RepositoryWriter, Watch, Witness
from infra.github import shapes
from infra.github.auth import AppToken, InstallationToken
from infra.github.calls import Calls, json_of, parsed
from infra.github.client import Pooled, client
from infra.github.pace import Pace, Shared, Spaced
from infra.github.permissions import READER_PERMISSIONS
from infra.github.reader import API_VERSION, GitHubReader
from infra.github.writer import GitHubWriter

A = TypeVar("A", bound=BaseAuthStrategy)
_Listed = models.InstallationRepositoriesGetResponse200PropRepositoriesItems

CONCURRENT: Final = 12
"""In one process, so that eight that work for one installation stay below 100 at once:
https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"""

REVOKE_SECONDS: Final = 10.0

NOT_FOUND_YET_SECONDS: Final = 2.0

ASKED_AT_ONCE: Final = 8
"""How many repositories are asked about one person at the same time."""

KNOWN_WITHIN: Final = 100
"""In how many repositories, one page of GitHub's list, somebody is looked for who may have a right in any of them."""

_WRITES: Final = frozenset({"admin", "write"})

_METADATA: Final = MappingProxyType({"metadata": "read"})


def _now() -> datetime:
    return datetime.now(UTC)


class PrivateKeyError(UserError):
    """The App's private key cannot be read: it is the PEM file that GitHub gave when the key was made, whole."""


class GitHubApp:
    """Implements app.ports.GitHub. Close it with `aclose` when the process ends.

    `write_interval_seconds` keeps the writes of one installation apart, among all who share `paces`; 0 is for a server that has
    no limits. `api_url` is GitHub's, an Enterprise Server's
    (`https://HOST/api/v3`) or the simulator's. Nothing that GitHub sends is cached.
    """

    def __init__(
        self,
        *,
        app_id: int | str,
        private_key: str,
        api_url: str = "https://api.github.com",
        write_interval_seconds: float = 1.0,
        read_attempts: int = 4,
        retry_base_seconds: float = 0.5,
        watch: Watch = UNWATCHED,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], datetime] = _now,
        paces: Paces | None = None,
    ) -> None:
        """Raises PrivateKeyError."""
        require_rsa(private_key)
        self._api_url = api_url
        self._interval = write_interval_seconds
        self._read_attempts = read_attempts
        self._retry_base = retry_base_seconds
        self._watch = watch
        self._sleep = sleep
        self._transport = Pooled(transport or httpx.AsyncHTTPTransport())
        self._throttler = LocalThrottler(CONCURRENT)
        self._paces = paces
        self._share = GitHubShare(spacing=timedelta(seconds=write_interval_seconds))
        self._known_paces: dict[tuple[int, bool], Pace] = {}
        # Without the throttler: a token is minted anew in the middle of a request that has a place there, and would wait for one.
        self._github = client(
            AppToken(str(app_id), private_key, now=now), api_url=api_url, transport=self._transport
        )
        self._rest = self._github.rest(API_VERSION)

    async def app_slug(self, *, witness: Witness | None = None) -> str:
        found = await self._own(witness).read(self._rest.apps.async_get_authenticated)
        if found is None or not isinstance(found.slug, str):
            raise MissingError("GitHub does not say what this App is called.", reason="app_missing")
        return found.slug

    async def registration(self, *, witness: Witness | None = None) -> Registration:
        """https://docs.github.com/rest/apps/apps#get-the-authenticated-app
        https://docs.github.com/rest/apps/webhooks#get-a-webhook-configuration-for-an-app"""
        answer = await self._own(witness).read_response(self._rest.apps.async_get_authenticated)
        found = parsed(answer)
        if found is None or not isinstance(found.slug, str):
            raise MissingError("GitHub does not say what this App is called.", reason="app_missing")
        hook = await self._own(witness).read(self._rest.apps.async_get_webhook_config_for_app)
        return Registration(
            slug=found.slug,
            permissions={name: str(level) for name, level in found.permissions.model_dump().items() if level},
            events=frozenset(found.events),
            webhook_url=hook.url or None,
            webhook_json=hook.content_type == "json",
            webhook_tls=str(hook.insecure_ssl) == "0",
            at=_date(answer.raw_response.headers),
        )

    async def installations(self, *, witness: Witness | None = None) -> Sequence[Installation]:
        found = await self._own(witness).items(self._rest.apps.async_list_installations)
        return [_installation(one) for one in found]

    async def installed(self, github_id: int, *, witness: Witness | None = None) -> bool:
        try:
            await self._installed(github_id, witness)
        except MissingError:
            return False
        return True

    async def repositories(
        self, installation_id: int, *, witness: Witness | None = None
    ) -> Sequence[Repository]:
        """https://docs.github.com/rest/apps/installations#list-repositories-accessible-to-the-app-installation"""
        async with self._token(installation_id, None, _METADATA, witness) as (github, calls):
            return await _repositories(github, calls)

    async def administers(
        self, installation_id: int, person: Account, *, witness: Witness | None = None
    ) -> bool:
        """An organization is asked repository by repository: who its owners are, GitHub tells to Apps with a permission
        that this one does not have. The person's login is asked for by id, since it may have been another's since.
        """
        found = await self._installed(installation_id, witness)
        if found.target_type == "User":
            return found.target_id == person.id
        async with self._token(installation_id, None, _METADATA, witness) as (github, calls):
            login = await _login(github, calls, person)
            if login is None:
                return False
            held = await _repositories(github, calls)
            async for yes in _in_turn(_is_admin(github, calls, one, person.id, login) for one in held):
                if not yes:
                    return False
            return bool(held)

    async def knows(self, installation_id: int, person: Account, *, witness: Witness | None = None) -> bool:
        """Asked until a repository knows the person, in the first KNOWN_WITHIN of them alone: about somebody who left, each question
        would cost as many requests as there are repositories.

        An internal repository, which a whole company may read, counts as a public one.
        """
        await self._installed(installation_id, witness)
        async with self._token(installation_id, None, _METADATA, witness) as (github, calls):
            login = await _login(github, calls, person)
            if login is None:
                return False
            held = await _first_repositories(github, calls)
            async for yes in _in_turn(_is_known(github, calls, one, person.id, login) for one in held):
                if yes:
                    return True
            return False

    async def account(
        self, installation_id: int, login: str, *, witness: Witness | None = None
    ) -> Account | None:
        """The route for a permission in a repository tells who has the login: of those that we use anyway the one that does."""
        await self._installed(installation_id, witness)
        async with self._token(installation_id, None, _METADATA, witness) as (github, calls):
            held = await _first_repositories(github, calls)
            if not held:
                return None
            _, holder = await _permission(github, calls, shapes.repository(held[0]), login)
            return holder if holder is not None and holder.type == "User" else None

    async def _installed(self, installation_id: int, witness: Witness | None) -> models.Installation:
        """https://docs.github.com/rest/apps/apps#get-an-installation-for-the-authenticated-app"""
        try:
            return await self._own(witness).read(self._rest.apps.async_get_installation, installation_id)
        except MissingError:
            raise _installation_missing() from None

    async def deliveries(self, since: datetime, *, witness: Witness | None = None) -> Sequence[Delivery]:
        """https://docs.github.com/rest/apps/webhooks#list-deliveries-for-an-app-webhook

        The filter by status is not used: it knows answers from 200 to 599 alone, and what got no answer has none.
        """
        found: list[Delivery] = []
        cursor: dict[str, Any] = {}
        while True:
            page = await self._own(witness).read_response(
                self._rest.apps.async_list_webhook_deliveries, per_page=100, **cursor
            )
            attempts = [_delivery(one) for one in parsed(page)]
            found += [one for one in attempts if one.delivered_at >= since]
            following = _cursor(page.raw_response.links)
            if following is None or not attempts or attempts[-1].delivered_at < since:
                return found
            cursor = {"cursor": following}

    async def redeliver(self, delivery_id: int, *, witness: Witness | None = None) -> None:
        """https://docs.github.com/rest/apps/webhooks#redeliver-a-delivery-for-an-app-webhook

        Asking twice brings the same event twice, which acceptance takes for one: so it is repeated as a read is.
        """
        await self._own(witness).read(self._rest.apps.async_redeliver_webhook_delivery, delivery_id)

    async def suspend(self, installation_id: int, *, witness: Witness | None = None) -> None:
        """https://docs.github.com/rest/apps/apps#suspend-an-app-installation

        Who is suspended twice is as if once, so it is repeated as a read is; and so is the end of it.
        """
        await self._whether_suspended(self._rest.apps.async_suspend_installation, installation_id, witness)

    async def unsuspend(self, installation_id: int, *, witness: Witness | None = None) -> None:
        """https://docs.github.com/rest/apps/apps#unsuspend-an-app-installation"""
        await self._whether_suspended(self._rest.apps.async_unsuspend_installation, installation_id, witness)

    async def _whether_suspended(
        self,
        ask: Callable[[int], Awaitable[Response[Any, Any]]],
        installation_id: int,
        witness: Witness | None,
    ) -> None:
        try:
            await self._own(witness).read_response(ask, installation_id)
        except MissingError:
            raise _installation_missing() from None

    def reader(
        self, installation_id: int, repository_id: int, *, witness: Witness | None = None
    ) -> AbstractAsyncContextManager[RepositoryReader]:
        return self._reader(installation_id, repository_id, witness)

    def writer(
        self,
        installation_id: int,
        repository_id: int,
        permissions: Mapping[str, str],
        *,
        witness: Witness | None = None,
    ) -> AbstractAsyncContextManager[RepositoryWriter]:
        return self._writer(installation_id, repository_id, permissions, witness)

    async def aclose(self) -> None:
        await self._transport.close()

    @asynccontextmanager
    async def _reader(
        self, installation_id: int, repository_id: int, witness: Witness | None
    ) -> AsyncIterator[RepositoryReader]:
        async with self._token(installation_id, repository_id, READER_PERMISSIONS, witness) as (
            github,
            calls,
        ):
            yield GitHubReader(github, calls, repository_id)

    @asynccontextmanager
    async def _writer(
        self,
        installation_id: int,
        repository_id: int,
        permissions: Mapping[str, str],
        witness: Witness | None,
    ) -> AsyncIterator[RepositoryWriter]:
        # Who can write no code speaks: what becomes of a run is told even where the rest has to wait.
        speaks = permissions.get("contents") != "write"
        async with self._token(installation_id, repository_id, permissions, witness, urgent=speaks) as (
            github,
            calls,
        ):
            yield GitHubWriter(github, calls, repository_id)

    @asynccontextmanager
    async def _token(
        self,
        installation_id: int,
        repository_id: int | None,
        permissions: Mapping[str, str],
        witness: Witness | None,
        *,
        urgent: bool = False,
    ) -> AsyncIterator[tuple[GitHub[InstallationToken], Calls]]:
        async def mint() -> str:
            return await self._mint(installation_id, repository_id, permissions, witness)

        token = InstallationToken(mint)
        await token.current()
        github = self._client(token)
        calls = self._new_calls(self._pace(installation_id, urgent=urgent), witness)
        try:
            yield github, calls
        finally:
            await asyncio.shield(asyncio.ensure_future(self._revoke(github, token, calls)))

    def _pace(self, installation_id: int, *, urgent: bool) -> Pace:
        """One for each installation, and another one for what is urgent there."""
        shared = self._paces is not None and self._interval > 0
        found = self._known_paces.get((installation_id, urgent and shared))
        if found is None:
            found = Spaced(self._interval, sleep=self._sleep)
            if self._paces is not None and self._interval > 0:
                found = Shared(self._paces, installation_id, self._share, urgent=urgent, sleep=self._sleep)
            self._known_paces[installation_id, urgent and shared] = found
        return found

    async def room(self, installation_id: int) -> None:
        await self._pace(installation_id, urgent=False).begin()

    async def _mint(
        self,
        installation_id: int,
        repository_id: int | None,
        permissions: Mapping[str, str],
        witness: Witness | None,
    ) -> str:
        """https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app

        A token that was minted and not heard of costs nothing, so minting is repeated as a read is; once also where the installation
        is not found, since GitHub tells of one sooner than it can be found everywhere.
        """
        asked: dict[str, object] = {"permissions": dict(permissions)}
        if repository_id is not None:
            asked = {"repository_ids": [repository_id], **asked}
        data = cast("Any", asked)
        create = self._rest.apps.async_create_installation_access_token
        for pause in (NOT_FOUND_YET_SECONDS, None):
            try:
                return (await self._own(witness).read(create, installation_id, data=data)).token
            except MissingError as error:
                if error.reason == "repository_missing":
                    raise
            if pause is not None:
                await self._sleep(pause)
        raise _installation_missing()

    async def _revoke(
        self, github: GitHub[InstallationToken], token: InstallationToken, calls: Calls
    ) -> None:
        """A token that cannot be revoked dies within the hour by itself; the work that is done is not failed for it."""
        if not token.minted:
            return
        rest = github.rest(API_VERSION)
        try:
            async with asyncio.timeout(REVOKE_SECONDS):
                await calls.revoke(rest.apps.async_revoke_installation_access_token)
        except (MagicodeError, TimeoutError):
            pass
        finally:
            token.forget()

    def _own(self, witness: Witness | None) -> Calls:
        """By the App's JWT."""
        return self._new_calls(Spaced(0), witness)

    def _new_calls(self, pace: Pace, witness: Witness | None) -> Calls:
        return Calls(
            pace=pace,
            watch=self._watch,
            witness=witness,
            read_attempts=self._read_attempts,
            retry_base_seconds=self._retry_base,
            sleep=self._sleep,
        )

    def _client(self, auth: A) -> GitHub[A]:
        return client(auth, api_url=self._api_url, transport=self._transport, throttler=self._throttler)


def require_rsa(private_key: str) -> None:
    """Raises PrivateKeyError. https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/managing-private-keys-for-github-apps"""
    try:
        key = load_pem_private_key(private_key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise PrivateKeyError from None
    if not isinstance(key, RSAPrivateKey):
        raise PrivateKeyError


def _installation_missing() -> MissingError:
    return MissingError("The App is not installed there any more.", reason="installation_missing")


async def _repositories(github: GitHub[InstallationToken], calls: Calls) -> Sequence[Repository]:
    ask = github.rest(API_VERSION).apps.async_list_repos_accessible_to_installation
    return [shapes.repository(one) async for page in calls.pages(ask) for one in parsed(page).repositories]


async def _first_repositories(github: GitHub[InstallationToken], calls: Calls) -> Sequence[_Listed]:
    ask = github.rest(API_VERSION).apps.async_list_repos_accessible_to_installation
    return parsed(await calls.read_response(ask, per_page=KNOWN_WITHIN)).repositories


async def _in_turn(questions: Iterable[Coroutine[Any, Any, bool]]) -> AsyncIterator[bool]:
    """The answers in order, ASKED_AT_ONCE of them asked together; what is not reached is not asked. Raises what a question raised,
    in its turn."""
    left = iter(questions)
    while some := list(islice(left, ASKED_AT_ONCE)):
        for answer in await asyncio.gather(*some, return_exceptions=True):
            if isinstance(answer, BaseException):
                raise answer
            yield answer


async def _login(github: GitHub[InstallationToken], calls: Calls, person: Account) -> str | None:
    """What this person is called now; None for who is gone or nobody. https://docs.github.com/rest/users/users#get-a-user-using-their-id"""
    try:
        answer = await calls.read_response(github.rest(API_VERSION).users.async_get_by_id, person.id)
    except MissingError:
        return None
    found = shapes.person(json_of(answer))
    return found.login if found.id == person.id and found.type == "User" else None


async def _is_admin(
    github: GitHub[InstallationToken], calls: Calls, where: Repository, person_id: int, login: str
) -> bool:
    """A login or a repository that GitHub does not know any more makes nobody an administrator."""
    granted, holder = await _permission(github, calls, where, login)
    return granted == "admin" and holder is not None and holder.id == person_id


async def _is_known(
    github: GitHub[InstallationToken], calls: Calls, where: _Listed, person_id: int, login: str
) -> bool:
    """Whether they have a right there that not everybody has."""
    closed = where.private and where.visibility == "private"
    granted, holder = await _permission(github, calls, shapes.repository(where), login)
    own = granted in _WRITES or (closed and granted == "read")
    return own and holder is not None and holder.id == person_id


async def _permission(
    github: GitHub[InstallationToken], calls: Calls, where: Repository, login: str
) -> tuple[str, Account | None]:
    """What somebody has there, and who that is; `none` and nobody where GitHub knows one of both not (any more).

    https://docs.github.com/rest/collaborators/collaborators#get-repository-permissions-for-a-user
    """
    ask = github.rest(API_VERSION).repos.async_get_collaborator_permission_level
    try:
        answer = await calls.read_response(ask, where.owner, where.name, quote(login, safe=""))
    except MissingError:
        return "none", None
    return shapes.permission_of(json_of(answer))


def _cursor(links: Mapping[str | None, Mapping[str, str]]) -> str | None:
    """The next page's cursor. Its URL is not followed: where we send the App's token is ours to say."""
    url = links.get("next", {}).get("url", "")
    return next(iter(parse_qs(urlsplit(url).query).get("cursor", [])), None)


def _delivery(found: models.HookDeliveryItem) -> Delivery:
    return Delivery(
        id=found.id,
        guid=found.guid,
        event=found.event,
        delivered_at=found.delivered_at,
        redelivery=found.redelivery,
        status_code=found.status_code,
    )


def _installation(found: models.Installation) -> Installation:
    account = found.account
    login = account.login if isinstance(account, models.SimpleUser) else account.slug if account else ""
    return Installation(
        id=found.id,
        account_id=found.target_id,
        account_login=login,
        suspended=found.suspended_at is not None,
        account_type=found.target_type,
    )


def _date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
