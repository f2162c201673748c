"""What a person sees: plain pages that need no script, filled from templates that escape all they are given."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from app.actionlog.summary import lasted
from app.errors import MissingError
from app.pulls.wording import dollars
from app.web.session import Session

_STATIC: Final = {
    "style.css": "text/css",
    "live.js": "text/javascript",
    "setup.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_TICKED = re.compile(r"`([^`\n]{1,200})`")


class Pages:
    """Renders templates. Makes no request and decides nothing."""

    def __init__(self, *, slug: str, github_web_url: str) -> None:
        self._templates = Environment(
            loader=PackageLoader("app.web"),
            autoescape=select_autoescape(default=True, default_for_string=True),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(
            {"when": when, "ticked": ticked, "clock": clock, "lasting": lasting, "dollars": dollars}
        )
        self._streamed = self._templates.overlay(enable_async=True)
        self._always = {"slug": slug, "github": github_web_url.rstrip("/"), "refresh": None}

    def page(self, name: str, session: Session | None, status: int = 200, **values: Any) -> HTMLResponse:
        template = self._templates.get_template(name)
        return HTMLResponse(template.render(self._always | {"session": session} | values), status)

    def piece(self, name: str, **values: Any) -> str:
        """A part of a page, as it stands in the whole one."""
        return self._templates.get_template(name).render(self._always | values)

    def stream(self, name: str, session: Session, **values: Any) -> StreamingResponse:
        """A page that is sent while it is made: what `values` yields is shown as it comes."""
        template = self._streamed.get_template(name)

        async def pieces() -> AsyncIterator[str]:
            async for piece in template.generate_async(self._always | {"session": session} | values):
                yield piece

        return StreamingResponse(pieces(), media_type="text/html", headers={"X-Accel-Buffering": "no"})

    def sorry(self, request: Request, status: int, message: str) -> HTMLResponse:
        """In the error's own words."""
        return self.page("sorry.html", None, status, message=message, path=request.url.path)


def when(at: datetime | None) -> str:
    """In UTC, to the minute."""
    return "never" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def clock(at: datetime | None) -> str:
    """In UTC, to the second."""
    return "" if at is None else at.astimezone(UTC).strftime("%H:%M:%S")


def lasting(seconds: float) -> str:
    """Of what is short the tenths too."""
    return f"{seconds:.1f} s" if seconds < 10 else lasted(seconds)


def ticked(text: str) -> Markup:
    """What stands between backticks in a sentence of ours, as code; all of it escaped before."""
    return Markup(_TICKED.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 (escaped first)


def serve_static(web: FastAPI) -> None:
    """What the pages load, all of it ours."""
    kept = {name: static(name) for name in _STATIC}

    @web.get("/static/{name}", include_in_schema=False)
    async def of_the_pages(name: str) -> Response:
        if name not in kept:
            raise MissingError("There is nothing here.")
        return Response(
            kept[name], media_type=_STATIC[name], headers={"Cache-Control": "public, max-age=3600"}
        )


def static(name: str) -> str:
    return (files("app.web") / "static" / name).read_text(encoding="utf-8")
