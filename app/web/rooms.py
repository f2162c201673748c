"""Puts the pages and the API before the service's own doors."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response

from app.house import House
from app.web import actions, answers, api, choices, deletion, exports, overview, signin, tokens
from app.web.access import Access
from app.web.attempts import Attempts
from app.web.desk import Desk
from app.web.looks import Looks
from app.web.pages import Pages, style
from app.web.session import COOKIE, Cookies
from app.web.signin import Gate


def mount(web: FastAPI, house: House) -> None:
    cookies = Cookies(house.store, house.keys, house.clock)
    gate = Gate(cookies, house.sign_in, house.public_url, Attempts(house.clock))
    pages = Pages(slug=house.slug, github_web_url=house.github_web_url)
    desk = Desk(house, gate, Access(house), Looks(house), pages)
    answers.install(web, pages, github=house.github_web_url, secure=gate.secure)
    for room in (overview, choices, tokens, actions, exports, deletion):
        web.include_router(room.routes(desk))
    web.include_router(signin.routes(gate))
    web.include_router(api.routes(desk))
    css = style()

    @web.get("/", include_in_schema=False)
    async def landing(request: Request) -> HTMLResponse:
        return pages.page("landing.html", await gate.cookies.session(request.cookies.get(COOKIE)))

    @web.get("/static/style.css", include_in_schema=False)
    async def stylesheet() -> Response:
        return Response(css, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})
