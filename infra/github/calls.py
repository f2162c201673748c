"""The one way by which a request leaves for GitHub: retried when it reads, paced when it writes, named, translated.

A write is never repeated here: whether it had an effect is looked up by whoever made it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from types import MethodType
from typing import Any, Final, ParamSpec, TypeVar, cast

from githubkit import GitHub, Response
from githubkit.exception import GitHubException, GraphQLFailed, RequestFailed
from pydantic import ValidationError

from app.errors import LimitedError, MagicodeError, TransientError
from app.ports import UNWATCHED, Watch, Witness
from infra.github.announce import announced
from infra.github.auth import InstallationToken
from infra.github.pace import Pace, told
from infra.github.permissions import ROUTES, Route
from infra.github.translate import translated, unreadable

P = ParamSpec("P")
T = TypeVar("T")
J = TypeVar("J")
R = TypeVar("R")

LONGEST_WAIT: Final = timedelta(seconds=30)
"""A read waits no longer than this in place; a longer wait is the job queue's affair."""


class Calls:
    """Sends the requests of one token."""

    def __init__(
        self,
        *,
        pace: Pace,
        watch: Watch = UNWATCHED,
        witness: Witness | None = None,
        read_attempts: int = 4,
        retry_base_seconds: float = 0.5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pace = pace
        self._watch = watch
        self._witness = witness
        self._read_attempts = read_attempts
        self._retry_base = retry_base_seconds
        self._sleep = sleep

    async def read(
        self, method: Callable[P, Awaitable[Response[T, J]]], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The answer, validated. Tried again on TransientError, a bounded number of times."""
        send = partial(method, *args, **kwargs)

        async def whole() -> T:
            await self._pace.read()
            return parsed(await self._send(ROUTES[_name(method)], send))

        return await self._again(whole)

    async def read_response(
        self, method: Callable[P, Awaitable[Response[T, J]]], *args: P.args, **kwargs: P.kwargs
    ) -> Response[T, J]:
        """The answer as it came, for lists whose vocabulary GitHub extends and for streams."""
        send = partial(method, *args, **kwargs)

        async def sent() -> Response[T, J]:
            await self._pace.read()
            return await self._send(ROUTES[_name(method)], send)

        return await self._again(sent)

    async def revoke(
        self, method: Callable[P, Awaitable[Response[T, J]]], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Once, and without waiting for a turn."""
        try:
            await self._send(ROUTES[_name(method)], partial(method, *args, **kwargs))
        finally:
            await self._pace.revoke()

    async def _again(self, send: Callable[[], Awaitable[R]]) -> R:
        attempt = 1
        while True:
            try:
                return await send()
            except TransientError as error:
                if isinstance(error, LimitedError) and error.retry_after is None:
                    raise
                wait = self._retry_base * 2 ** (attempt - 1)
                if error.retry_after is not None:
                    wait = max(wait, error.retry_after.total_seconds())
                if (
                    error.reason == "token_refused"
                    or attempt >= self._read_attempts
                    or wait > LONGEST_WAIT.total_seconds()
                ):
                    raise
            attempt += 1
            await self._sleep(wait)

    async def pages(
        self, method: Callable[P, Awaitable[Response[T, J]]], *args: P.args, **kwargs: P.kwargs
    ) -> AsyncIterator[Response[T, J]]:
        """Every page. GitHub's `Link` header says whether there is a next one; its URL is not followed, only counted.

        https://docs.github.com/en/rest/using-the-rest-api/using-pagination-in-the-rest-api
        """
        page = 1
        while True:
            numbered: Any = {**kwargs, "per_page": 100, "page": page}
            response = await self.read_response(method, *args, **numbered)
            yield response
            if "next" not in response.raw_response.links:
                return
            page += 1

    async def items(
        self, method: Callable[P, Awaitable[Response[list[T], J]]], *args: P.args, **kwargs: P.kwargs
    ) -> list[T]:
        """Every item of every page of a list, validated."""
        return [item async for page in self.pages(method, *args, **kwargs) for item in parsed(page)]

    async def write(self, name: str, send: Callable[[], Awaitable[Response[T, J]]]) -> T:
        """One effect, once, in its turn. `name` is the call's key in ROUTES."""
        return parsed(await self.write_response(name, send))

    async def write_response(
        self, name: str, send: Callable[[], Awaitable[Response[T, J]]]
    ) -> Response[T, J]:
        """As `write`, with the answer as it came: where an answer may be empty, or says more than is documented."""
        await self._pace.write()
        return await self._send(ROUTES[name], send)

    async def query(
        self, github: GitHub[InstallationToken], name: str, query: str, variables: Mapping[str, object]
    ) -> dict[str, Any]:
        """One GraphQL query's data, tried again as reads are. `name` is the operation's, and `graphql.<name>` its key in ROUTES."""

        async def whole() -> dict[str, Any]:
            await self._pace.read()
            return await self._ask(github, name, query, variables)

        return await self._again(whole)

    async def mutate(
        self, github: GitHub[InstallationToken], mutation: str, query: str, variables: Mapping[str, object]
    ) -> None:
        """One GraphQL mutation, once, in its turn; `mutation` is its name in GitHub's schema."""
        await self._pace.write()
        await self._ask(github, mutation, query, variables)

    async def _ask(
        self, github: GitHub[InstallationToken], name: str, query: str, variables: Mapping[str, object]
    ) -> dict[str, Any]:
        """Refusals come with the status of success: https://docs.github.com/graphql/guides/forming-calls-with-graphql"""
        route = ROUTES[f"graphql.{name}"]
        with self._watch.github(f"{route.method} {route.template}") as doing:
            try:
                with announced(
                    f"{route.method} {route.template} {name}", self._witness, changes=route.changes
                ):
                    data = await github.async_graphql(query, dict(variables))
            except GitHubException as error:
                _raise_ours(error)
                doing.came_to(_status(error))
                raise await self._heeded(translated(error)) from None
            except ValidationError as error:
                raise translated(error) from None
            except (
                AttributeError
            ):  # githubkit's model of an answer asks for keys before it looks whether there can be any
                raise unreadable() from None
            doing.came_to("200")
        return data

    async def _send(self, route: Route, send: Callable[[], Awaitable[Response[T, J]]]) -> Response[T, J]:
        request = f"{route.method} {route.template}"
        with self._watch.github(request) as doing:
            try:
                with announced(request, self._witness, changes=route.changes):
                    response = await send()
            except GitHubException as error:
                _raise_ours(error)
                doing.came_to(_status(error))
                raise await self._heeded(translated(error)) from None
            except ValidationError as error:
                raise translated(error) from None
            doing.came_to(str(response.status_code))
        self._watch_limit(response.headers)
        await self._pace.seen(response.headers)
        return response

    async def _heeded(self, error: MagicodeError) -> MagicodeError:
        if isinstance(error, LimitedError):
            await self._pace.limited(error)
        return error

    def _watch_limit(self, headers: Mapping[str, str]) -> None:
        """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#checking-the-status-of-your-rate-limit"""
        limit, left = told(headers, "x-ratelimit-limit"), told(headers, "x-ratelimit-remaining")
        if limit and left is not None:
            self._watch.left_at_github(min(left / limit, 1.0))


def parsed(response: Response[T, J]) -> T:
    """The answer, validated. Raises TransientError for one that has not the documented form."""
    try:
        return response.parsed_data
    except ValidationError as error:
        raise translated(error) from None


def json_of(response: Response[T, J]) -> Any:
    """The answer's JSON as it came; None for what is none."""
    try:
        return response.raw_response.json()
    except ValueError:
        return None


def objects(response: Response[T, J], key: str | None = None) -> list[dict[str, Any]]:
    """The objects of a list (below `key`) as they came, for kinds that GitHub adds to. Raises TransientError for no list."""
    found = json_of(response)
    if key is not None:
        # A list in the place of an object that holds one would be taken for what it holds: checks that are none.
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise unreadable()
    return found


def _raise_ours(error: GitHubException) -> None:
    """What a witness raised comes wrapped: githubkit takes it for a connection that failed."""
    if isinstance(error.__cause__, MagicodeError):
        raise error.__cause__ from None


def _status(error: GitHubException) -> str:
    """The answer's status; "none" where there was none."""
    if isinstance(error, GraphQLFailed):
        return "200"
    return str(error.response.status_code) if isinstance(error, RequestFailed) else "none"


def _name(method: Callable[..., object]) -> str:
    """`issues.async_get` for githubkit's bound `IssuesClient.async_get`: the key of ROUTES."""
    client, name = cast("MethodType", method).__func__.__qualname__.split(".")
    return f"{client.removesuffix('Client').lower()}.{name}"
