"""One request as a route sees it: who calls, what they may, the checked body, the paged answer.

A route is a function `async def name(call: Call) -> Response` under `@endpoint(METHOD, TEMPLATE)`, with GitHub's own
path template; its module lists its routes in `endpoints`. A route refuses by raising `ApiError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from infra.simulator.answers import (
    ApiError,
    Redirect,
    bad_request,
    forbidden,
    not_accessible,
    not_found,
    requires_authentication,
    unprocessable,
)
from infra.simulator.auth import Caller
from infra.simulator.state import ROLES, Repo, RequestRecord, User, World

T = TypeVar("T")

LEVELS = ("none", "read", "write", "admin")
_LOOSE = frozenset(
    {"ref", "tree_sha", "path", "branch", "basehead", "name", "dir"}
)  # parameters that may hold slashes
_NUMBERS = re.compile(r".*(_id|_number|^id)$")
_WORDS_ENDING_IN_ID = frozenset({"client_id", "node_id"})


@dataclass(frozen=True)
class Endpoint:
    """`creates_content`: counts against the content-creation limits; `limited` False: against none (a web page)."""

    method: str
    template: str
    handler: Callable[[Call], Awaitable[Response]]
    creates_content: bool
    limited: bool
    pattern: re.Pattern[str]
    literals: int


Handler = Callable[["Call"], Awaitable[Response]]


def endpoint(
    method: str, template: str, *, creates_content: bool = False, limited: bool = True
) -> Callable[[Handler], Endpoint]:
    """Turns a handler into an Endpoint for GitHub's `template`, such as `/repos/{owner}/{repo}/git/ref/{ref}`."""

    def wrap(handler: Handler) -> Endpoint:
        pattern = re.sub(r"\{(\w+)\}", _parameter, re.sub(r"[.+]", r"\\\g<0>", template))
        return Endpoint(
            method=method,
            template=template,
            handler=handler,
            creates_content=creates_content,
            limited=limited,
            pattern=re.compile(pattern + r"\Z", re.DOTALL),
            literals=sum(1 for part in template.split("/") if part and not part.startswith("{")),
        )

    return wrap


def _parameter(match: re.Match[str]) -> str:
    name = match[1]
    if name in _LOOSE:
        return f"(?P<{name}>.+)"
    if _NUMBERS.match(name) and name not in _WORDS_ENDING_IN_ID:
        return f"(?P<{name}>[0-9]+)"
    return f"(?P<{name}>[^/]+)"


class _Json(JSONResponse):
    """JSON in which bytes that are no UTF-8 (a path's, say) have become U+FFFD."""

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()


class Body:
    """A request's JSON object, read field by field; a wrong type is GitHub's 422."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    def string(self, name: str) -> str:
        """A required string."""
        return str(self._typed(name, str, "a string", required=True))

    def string_or(self, name: str, default: T) -> str | T:
        value = self._typed(name, str, "a string")
        return default if value is None else str(value)

    def integer_or(self, name: str, default: T) -> int | T:
        value = self._typed(name, int, "an integer")
        return default if value is None else int(value)

    def boolean_or(self, name: str, default: bool) -> bool:
        value = self._typed(name, bool, "a boolean")
        return default if value is None else bool(value)

    def object_or(self, name: str, default: T) -> dict[str, Any] | T:
        value = self._typed(name, dict, "an object")
        return default if value is None else dict(value)

    def list_or(self, name: str, default: T) -> list[Any] | T:
        value = self._typed(name, list, "an array")
        return default if value is None else list(value)

    def strings_or(self, name: str, default: T) -> list[str] | T:
        value = self.list_or(name, None)
        if value is None:
            return default
        if not all(isinstance(item, str) for item in value):
            raise unprocessable(f"Invalid request.\n\nFor 'items', {_said(value)} is not a string.")
        return value

    def _typed(self, name: str, kind: type, said: str, *, required: bool = False) -> Any:
        value = self.fields.get(name)
        if name not in self.fields and required:
            raise unprocessable(f'Invalid request.\n\n"{name}" wasn\'t supplied.')
        if value is None and not required:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise unprocessable(f"Invalid request.\n\nFor 'properties/{name}', {_said(value)} is not {said}.")
        return value


def _said(value: Any) -> str:
    return "nil" if value is None else json.dumps(value, ensure_ascii=False)


class Call:
    """A routed request. `parameters` are the template's, percent-decoded."""

    def __init__(self, world: World, request: Request, caller: Caller, record: RequestRecord) -> None:
        self.world = world
        self.request = request
        self.caller = caller
        self.record = record
        self.parameters: dict[str, str] = {}

    # what was sent

    def text(self, name: str) -> str:
        return self.parameters[name]

    def number(self, name: str) -> int:
        return int(self.parameters[name])

    def query(self, name: str, default: str = "") -> str:
        return self.request.query_params.get(name, default)

    async def body(self) -> Body:
        """Raises 400 for what is not JSON or not an object. No body at all is an empty object."""
        raw = await self.request.body()
        if not raw.strip():
            return Body({})
        try:
            data = json.loads(raw)
        except ValueError as error:
            raise bad_request("Problems parsing JSON") from error
        if not isinstance(data, dict):
            raise bad_request("Body should be a JSON object")
        return Body(data)

    # who may

    @property
    def actor(self) -> User:
        """The account that acts: the user, or the App's bot for an installation. 401 for nobody, 403 for the App."""
        if self.caller.user is None:
            raise requires_authentication() if self.caller.kind == "anonymous" else not_accessible()
        return self.caller.user

    @property
    def by_app(self) -> bool:
        return self.caller.kind == "installation"

    def repo(self, permission: str = "metadata", level: str = "read", *, role: str | None = None) -> Repo:
        """The path's repository, once the caller may see it and has `permission` at `level`.

        Raises 404 for what the caller may not see, a redirect for a former name, 403 for a missing permission, an
        archived repository (for anything but reading) or a disabled one.
        """
        return self.repo_any((permission, level), role=role)

    def repo_any(self, *alternatives: tuple[str, str], role: str | None = None) -> Repo:
        """As `repo`, where any of several permissions will do (a comment: issues or pull requests)."""
        repo = self.visible()
        self.require_any(repo, *alternatives, role=role)
        return repo

    def visible(self) -> Repo:
        """The path's repository if the caller may see it, without any further check.

        A token that a user gave the App would reach what both may; here it reaches none.
        """
        if self.caller.token is not None and self.caller.token.refresh is not None:
            raise not_accessible()
        full_name = f"{self.parameters['owner']}/{self.parameters['repo']}"
        repo = self.world.repository(full_name)
        if repo is None:
            moved = self.world.renamed(full_name)
            if moved is None or not self.caller.sees(moved):
                raise not_found()
            self._redirect(moved)
        assert repo is not None
        if not self.caller.sees(repo):
            raise not_found()
        if repo.disabled:
            raise ApiError(
                403,
                "Repository access blocked",
                extra={"block": {"reason": "tos", "created_at": None, "html_url": None}},
            )
        return repo

    def _redirect(self, moved: Repo) -> None:
        rest = self.record.path.split("/", 4)[4:]
        query = f"?{self.request.url.query}" if self.request.url.query else ""
        location = "/".join([f"{self.world.base_url}/repositories/{moved.id}", *rest]) + query
        raise Redirect(location, 301 if self.request.method in ("GET", "HEAD") else 307)

    def redirect_issue(self, repository_id: int, number: int) -> NoReturn:
        """To where an issue was moved, for whoever may see it there: https://docs.github.com/rest/issues/issues#get-an-issue"""
        target = self.world.repositories.get(repository_id)
        if target is None or not self.caller.sees(target):
            raise not_found()
        rest = self.record.path.split("/issues/", 1)[1].partition("/")[2]
        location = f"{self.world.base_url}/repositories/{repository_id}/issues/{number}" + (
            f"/{rest}" if rest else ""
        )
        raise Redirect(location, 301 if self.request.method in ("GET", "HEAD") else 307)

    def require(self, repo: Repo, permission: str, level: str = "read", *, role: str | None = None) -> None:
        """For users, `role` is the weakest role that will do; by default the one named like `level`."""
        self.require_any(repo, (permission, level), role=role)

    def require_any(self, repo: Repo, *alternatives: tuple[str, str], role: str | None = None) -> None:
        level = alternatives[0][1]
        self.record.permissions.extend(f"{name}:{wanted}" for name, wanted in alternatives)
        writing = level != "read"
        if self.caller.kind in ("anonymous", "client") and writing:
            raise requires_authentication()
        if self.caller.kind == "user":
            self._require_role(repo, alternatives[0][0], level, role)
        elif self.caller.kind in ("installation", "app") and not self._granted(repo, alternatives):
            raise not_accessible()
        if writing and repo.archived:
            raise forbidden("Repository was archived so is read-only.")

    def _granted(self, repo: Repo, alternatives: Sequence[tuple[str, str]]) -> bool:
        if all(level == "read" for _, level in alternatives) and not repo.private:
            return True
        if self.caller.kind == "app" or not self.caller.covers(repo):
            return False
        held = self.caller.permissions
        return any(
            LEVELS.index(held.get(name, "none")) >= LEVELS.index(level) for name, level in alternatives
        )

    def _require_role(self, repo: Repo, permission: str, level: str, role: str | None) -> None:
        needed = role or level
        held = self.role_in(repo)
        if ROLES.index(held) >= ROLES.index(needed):
            return
        if permission in ("contents", "workflows"):
            raise not_found()
        raise forbidden("Must have admin rights to Repository.")

    def role_in(self, repo: Repo) -> str:
        """The calling user's role: everybody reads a public repository."""
        held = repo.role(self.actor)
        return "read" if held == "none" and not repo.private else held

    # what is answered

    def answer(self, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return _Json(data, status, dict(headers or {}))

    def nothing(self, status: int = 204) -> Response:
        return Response(status_code=status)

    def page(
        self,
        items: Iterable[T],
        shape: Callable[[T], Any],
        *,
        envelope: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> Response:
        """One page of `items` with GitHub's `Link` header; in `{"total_count", envelope: [...]}` where one is named.

        https://docs.github.com/rest/using-the-rest-api/using-pagination-in-the-rest-api
        """
        everything = list(items)
        part, headers = self.cut(everything)
        shaped = [shape(item) for item in part]
        if envelope is None:
            return self.answer(shaped, headers=headers)
        return self.answer(
            {"total_count": len(everything), **(extra or {}), envelope: shaped}, headers=headers
        )

    def cut(self, items: Sequence[T], default: int = 30) -> tuple[Sequence[T], dict[str, str]]:
        """The asked page of `items` and its `Link` header."""
        size = min(max(self._positive("per_page", default), 1), 100)
        page = max(self._positive("page", 1), 1)
        last = max(1, -(-len(items) // size))
        links: dict[str, int] = {}
        if page > 1:
            links |= {"prev": min(page - 1, last)}
        if page < last:
            links |= {"next": page + 1, "last": last}
        if page > 1:
            links |= {"first": 1}
        said = ", ".join(f'<{self._page_url(number)}>; rel="{name}"' for name, number in links.items())
        return items[(page - 1) * size : page * size], ({"Link": said} if said else {})

    def _positive(self, name: str, default: int) -> int:
        value = self.query(name)
        return int(value) if value.isascii() and value.isdigit() else default

    def _page_url(self, page: int) -> str:
        pairs = [(k, v) for k, v in parse_qsl(self.request.url.query, keep_blank_values=True) if k != "page"]
        return f"{self.world.base_url}{self.record.path}?{urlencode([*pairs, ('page', str(page))])}"
