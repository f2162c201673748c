"""A watch for tests: it keeps what it is told of GitHub, in the order of the answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from app.ports import Doing, Unwatched


class Heard(Unwatched):
    """Each request's method, template and status (0: no answer), into the caller's list."""

    def __init__(self, heard: list[tuple[str, str, int]]) -> None:
        self._heard = heard

    @contextmanager
    def github(self, request: str) -> Iterator[Doing]:
        doing = _Doing()
        try:
            yield doing
        finally:
            if doing.status is not None:
                method, _, template = request.partition(" ")
                self._heard.append((method, template, doing.status))


class _Doing:
    status: int | None = None

    def came_to(self, what: str) -> None:
        self.status = int(what) if what.isdecimal() else 0
