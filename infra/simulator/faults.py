"""Failures on request: for a route, the next n times, a status, a delay, a dropped connection, a secondary limit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from infra.simulator.answers import unprocessable

KINDS = ("status", "delay", "drop_before", "drop_after", "secondary_limit")


@dataclass
class Fault:
    """`times` counts down; a fault with none left is spent. `method` "*" is any; `route` is searched in the path.

    `status` answers without an effect, with `message` or words of its own; `delay` waits `seconds` and goes on; `drop_before` closes the connection
    without any effect, `drop_after` once the effect has taken place.
    """

    kind: str
    route: re.Pattern[str]
    method: str = "*"
    times: int = 1
    status: int = 502
    seconds: float = 0.0
    skip: int = 0
    message: str = ""

    def meets(self, method: str, path: str) -> bool:
        return self.times > 0 and self.method in ("*", method) and self.route.search(path) is not None


class Faults:
    def __init__(self) -> None:
        self.waiting: list[Fault] = []

    def add(self, fields: dict[str, Any]) -> Fault:
        """Raises 422 for a fault that is none."""
        kind = fields.get("kind")
        if kind not in KINDS:
            raise unprocessable(f"kind must be one of {', '.join(KINDS)}")
        try:
            fault = Fault(
                kind=kind,
                route=re.compile(str(fields.get("route", ""))),
                method=str(fields.get("method", "*")).upper(),
                times=int(fields.get("times", 1)),
                status=int(fields.get("status", 502)),
                seconds=float(fields.get("seconds", 60 if kind == "secondary_limit" else 0)),
                skip=int(fields.get("skip", 0)),
                message=str(fields.get("message", "")),
            )
        except (ValueError, TypeError, re.error) as error:
            raise unprocessable(f"not a fault: {error}") from error
        self.waiting.append(fault)
        return fault

    def take(self, method: str, path: str) -> Fault | None:
        """The first fault that meets this request, one use of it spent."""
        for fault in self.waiting:
            if not fault.meets(method, path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None


def described(fault: Fault) -> dict[str, Any]:
    return {
        "kind": fault.kind,
        "method": fault.method,
        "route": fault.route.pattern,
        "times": fault.times,
        "skip": fault.skip,
        "status": fault.status,
        "seconds": fault.seconds,
        "message": fault.message,
    }
