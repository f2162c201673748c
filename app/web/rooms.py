"""Puts the pages and the API before the service's own doors."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from app.house import House
from app.web import (
    actions,
    answers,
    api,
    choices,
    deletion,
    exports,
    hooks,
    members,
    overview,
    runs,
    signin,
    tokens,
    usage,
)
from app.web.access import Access
from app.web.attempts import Attempts
from app.web.desk import Desk
from app.web.live import Streams
from app.web.looks import Looks
from app.web.names import Names
from app.web.pages import Pages, serve_static
from app.web.session import COOKIE, Cookies
from app.web.signin import Gate
from app.web.watched import Watched


def mount(web: FastAPI, house: House, leaving: asyncio.Event) -> None:
    """`leaving`: whoever watches something is to be let go."""
    cookies = Cookies(house.store, house.keys, house.clock)
    gate = Gate(cookies, house.sign_in, house.public_url, Attempts(house.clock))
    pages = Pages(slug=house.slug, github_web_url=house.github_web_url)
    desk = Desk(house, gate, Access(house), Looks(house), Names(house), Streams(leaving), pages)
    answers.install(web, pages, github=house.github_web_url, secure=gate.secure)
    for room in (overview, runs, usage, choices, members, tokens, hooks, actions, exports, deletion):
        web.include_router(room.routes(desk))
    web.include_router(signin.routes(gate))
    web.include_router(api.routes(desk))
    serve_static(web)
    # Outermost, so that what the others answer is told too.
    web.add_middleware(Watched, watch=house.watch, monotonic=house.monotonic)

    @web.get("/", include_in_schema=False)
    async def landing(request: Request) -> HTMLResponse:
        return pages.page("landing.html", await gate.cookies.session(request.cookies.get(COOKIE)))
