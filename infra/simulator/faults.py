"""Failures on request: for a route, the next n times, one of the ways in which GitHub and what lies before it are known to fail.

Each happens to one request; some change the simulator's own state, so that what follows them is as it would be: a token that
was revoked stays so, an hour's requests that are spent stay spent, and what is not yet to be seen appears after a while.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from infra.simulator.answers import unprocessable

KINDS: Final[Mapping[str, str]] = {
    "status": "answers `status`, and nothing takes place",
    "status_after": "answers `status` once the effect has taken place",
    "delay": "waits `seconds` and goes on",
    "hang_before": "never answers, and nothing takes place",
    "hang_after": "never answers once the effect has taken place",
    "drop_before": "closes the connection, and nothing takes place",
    "drop_after": "closes the connection once the effect has taken place",
    "reset_before": "resets the connection, and nothing takes place",
    "reset_after": "resets the connection once the effect has taken place",
    "malformed": "the effect takes place and its answer is spoilt in the way of `form`",
    "revoked": "the token that came with it is revoked from now on: 401",
    "expired": "the token that came with it has come to its end: 401",
    "late": "what it makes is to be seen by nobody but people for `seconds`: 404, and left out of lists",
    "primary_limit": "the caller's requests of this hour are spent, for `seconds`: `status` 403 or 429",
    "secondary_limit": "a secondary limit: `status` 403 or 429, `header` as it says; for all the caller's requests if it `holds`",
}
FORMS: Final = ("truncated", "html", "shape", "empty", "too_long", "gzip", "not_utf8")
HEADERS: Final = ("retry-after", "date", "reset", "none")
_SECONDS: Final = {"secondary_limit": 60.0, "primary_limit": 3600.0, "late": 2.0}
_STATUS: Final = {"secondary_limit": 403, "primary_limit": 403}


@dataclass
class Fault:
    """`times` counts down; a fault with none left is spent. `skip` lets so many pass first. `method` "*" is any; `route` is
    searched in the path; `installation` (0: any) is the caller's. `KINDS` says what each kind does.

    `form` of a malformed answer: cut off, a page of HTML, another shape of JSON, no body, a Content-Length that is too long,
    bytes that say that they are gzip, bytes that are no UTF-8. `header` of a secondary limit: `Retry-After` in seconds or as
    a date, only `x-ratelimit-reset`, or none.
    """

    kind: str
    route: re.Pattern[str]
    method: str = "*"
    times: int = 1
    status: int = 502
    seconds: float = 0.0
    skip: int = 0
    message: str = ""
    form: str = "truncated"
    header: str = "retry-after"
    holds: bool = False
    installation: int = 0

    def meets(self, method: str, path: str, installation: int) -> bool:
        return (
            self.times > 0
            and self.method in ("*", method)
            and self.installation in (0, installation)
            and self.route.search(path) is not None
        )

    @property
    def comes_first(self) -> bool:
        """Whether nothing takes place."""
        return not (self.kind.endswith("_after") or self.kind in ("malformed", "late", "delay"))


class Faults:
    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    def add(self, told: dict[str, Any]) -> Fault:
        """Raises 422 for a fault that is none."""
        kind = str(told.get("kind"))
        unknown = set(told) - {each.name for each in fields(Fault)}
        if kind not in KINDS or unknown:
            raise unprocessable(
                f"kind must be one of {', '.join(KINDS)}; unknown: {', '.join(sorted(unknown))}"
            )
        try:
            fault = Fault(
                kind=kind,
                route=re.compile(str(told.get("route", ""))),
                method=str(told.get("method", "*")).upper(),
                times=int(told.get("times", 1)),
                status=int(told.get("status", _STATUS.get(kind, 502))),
                seconds=float(told.get("seconds", _SECONDS.get(kind, 0))),
                skip=int(told.get("skip", 0)),
                message=str(told.get("message", "")),
                form=str(told.get("form", "truncated")),
                header=str(told.get("header", "retry-after")),
                holds=bool(told.get("holds", False)),
                installation=int(told.get("installation", 0)),
            )
        except (ValueError, TypeError, re.error) as error:
            raise unprocessable(f"not a fault: {error}") from error
        if fault.form not in FORMS or fault.header not in HEADERS:
            raise unprocessable(f"form is one of {', '.join(FORMS)}, header one of {', '.join(HEADERS)}")
        self.waiting.append(fault)
        return fault

    def take(self, method: str, path: str, installation: int = 0) -> Fault | None:
        """The first fault that meets this request, one use of it spent."""
        for fault in self.waiting:
            if not fault.meets(method, path, installation):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None


def described(fault: Fault) -> dict[str, Any]:
    told = {each.name: getattr(fault, each.name) for each in fields(Fault)}
    return {**told, "route": fault.route.pattern}


# --- what is not to be seen yet --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hidden:
    path: re.Pattern[str]
    id: int
    until: datetime


_PLACES: Final = (
    (re.compile(r"^(/repos/[^/]+/[^/]+)/issues/\d+/comments$"), r"{0}/issues/comments/{id}(/|$)"),
    (re.compile(r"^(/repos/[^/]+/[^/]+)/pulls/\d+/comments"), r"{0}/pulls/comments/{id}(/|$)"),
    (re.compile(r"^(/repos/[^/]+/[^/]+)/pulls$"), r"{0}/(pulls|issues)/{number}(/|$)"),
    (re.compile(r"^(/repos/[^/]+/[^/]+)/git/refs"), r"{0}/(git/refs?/heads|branches|commits)/{branch}$"),
    (re.compile(r"^(/repos/[^/]+/[^/]+)/(git/commits|merges)$"), r"{0}/(git/)?(commits|trees)/{sha}$"),
    (re.compile(r"^(/repos/[^/]+/[^/]+)/git/(blobs|trees)$"), r"{0}/git/(blobs|trees)/{sha}$"),
)
"""Where what was made at a path is found afterwards."""


class Unseen:
    """What was made a moment ago and has not come to where it is read from."""

    def __init__(self) -> None:
        self._hidden: list[_Hidden] = []

    def __bool__(self) -> bool:
        return bool(self._hidden)

    def hide(self, path: str, made: object, until: datetime) -> None:
        """What this request made, until then."""
        if not isinstance(made, dict):
            return
        names = {
            "id": made.get("id"),
            "number": made.get("number"),
            "sha": made.get("sha"),
            "branch": re.escape(str(made.get("ref", "")).removeprefix("refs/heads/")),
        }
        for place, found_at in _PLACES:
            if where := place.match(path):
                pattern = found_at.format(re.escape(where[1]), **names)
                self._hidden.append(_Hidden(re.compile(f"^{pattern}"), int(made.get("id") or 0), until))

    def hides(self, path: str, now: datetime) -> bool:
        return any(one.until > now and one.path.search(path) for one in self._hidden)

    def without(self, listed: object, now: datetime) -> object:
        """A list without what is not to be seen yet; anything else as it is."""
        ids = {one.id for one in self._hidden if one.until > now and one.id}
        if not ids or not isinstance(listed, list):
            return listed
        return [one for one in listed if not (isinstance(one, dict) and one.get("id") in ids)]
