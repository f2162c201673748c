"""What a person sees: plain pages that need no script, filled from templates that escape all they are given."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from app.web.session import Session


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
        self._always = {"slug": slug, "github": github_web_url.rstrip("/")}

    def page(self, name: str, session: Session | None, status: int = 200, **values: Any) -> HTMLResponse:
        template = self._templates.get_template(name)
        return HTMLResponse(template.render(**self._always, session=session, **values), status)

    def sorry(self, request: Request, status: int, message: str) -> HTMLResponse:
        """In the error's own words."""
        return self.page("sorry.html", None, status, message=message, path=request.url.path)


def style() -> str:
    return (files("app.web") / "static" / "style.css").read_text(encoding="utf-8")
