"""A browser without scripts: keeps cookies for each host, follows redirects, fills the forms that pages really have."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import parse_qs, quote, urlsplit

import httpx

from tests.line.stage import Stage


@dataclass
class Browser:
    url: str
    github: str
    client: httpx.AsyncClient

    async def get(self, path: str, *, follow: bool = True) -> httpx.Response:
        return await self.client.get(self._at(path), follow_redirects=follow)

    async def post(self, path: str, form: Mapping[str, str]) -> httpx.Response:
        return await self.client.post(self._at(path), data=dict(form), follow_redirects=True)

    async def sign_in(self, login: str, *, then: str = "/") -> httpx.Response:
        """From our page over GitHub's and back; the page that one ends at."""
        begun = await self.get(f"/signin?then={quote(then, safe='')}", follow=False)
        code, state = await self.agree(begun.headers["location"], login)
        return await self.get(f"/signin/github?code={code}&state={state}")

    async def agree(self, address: str, login: str) -> tuple[str, str]:
        """What GitHub sends the browser back with, when this person agrees on its page."""
        form = Form.of(await self.client.get(address), "/login/oauth/authorize")
        answer = await self.client.post(
            f"{self.github}{form.action}", data={**form.fields, "person": login}, follow_redirects=False
        )
        told = parse_qs(urlsplit(answer.headers["location"]).query)
        return told["code"][0], told["state"][0]

    async def submit(self, page: httpx.Response, action: str, **filled: str) -> httpx.Response:
        """The form of this page that goes to `action`, with what is typed into it."""
        form = Form.of(page, action)
        missing = filled.keys() - form.names
        assert not missing, f"the form has no field {missing}"
        return await self.post(form.action, {**form.fields, **filled})

    async def api(self, method: str, path: str, sent: object = None, **headers: str) -> httpx.Response:
        """As a script of our own page calls it; `form_key=` shows the form key."""
        told = {
            name.replace("_", "-").replace("form-key", "X-Form-Key"): value for name, value in headers.items()
        }
        return await self.client.request(method, self._at(f"/api{path}"), json=sent, headers=told)

    async def form_key(self) -> str:
        return str((await self.api("GET", "/session")).json()["form_key"])

    def cookie(self, name: str) -> str | None:
        return next((one.value for one in self.client.cookies.jar if one.name == name), None)

    def _at(self, path: str) -> str:
        return path if "://" in path else f"{self.url}{path}"


@contextlib.asynccontextmanager
async def opened(stage: Stage) -> AsyncIterator[Browser]:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        yield Browser(stage.url, stage.github.base_url, client)


class Form(HTMLParser):
    """One form of a page: where it goes, what stands in it, and which names it has."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._wanted = re.compile(action)
        self._inside = False
        self.action = ""
        self.fields: dict[str, str] = {}
        self.names: set[str] = set()

    @classmethod
    def of(cls, page: httpx.Response, action: str) -> Form:
        form = cls(action)
        form.feed(page.text)
        assert form.action, f"no form goes to {action} on {page.url}: {page.text[:500]}"
        return form

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = not self.action and self._wanted.fullmatch(given.get("action", "")) is not None
            if self._inside:
                self.action = given["action"]
        elif self._inside and "name" in given:
            self.names.add(given["name"])
            if tag == "input" and given.get("type") not in ("checkbox", "radio", "submit"):
                self.fields[given["name"]] = given.get("value", "")
            elif tag == "input" and "checked" in given:
                self.fields[given["name"]] = given.get("value", "on")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


class Whole(HTMLParser):
    """Raises AssertionError for a page whose elements are not closed in order, or where an id stands twice."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self._open: list[str] = []
        self._ids: set[str] = set()

    @classmethod
    def require(cls, page: str) -> None:
        whole = cls()
        whole.feed(page)
        assert not whole._open, whole._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = dict(attrs).get("id")
        assert name is None or name not in self._ids, f"the id {name} stands twice"
        if name is not None:
            self._ids.add(name)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing"
