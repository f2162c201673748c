"""Which entries of a log are asked for: by time, repository, run, kind and actor.

An entry is about a repository if its details name it, or, where they name none, if its run is one of that repository.
What is about the whole installation (a setting, an export) is about no repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from app.actionlog.entry import timestamp
from app.errors import UserError
from app.nouns import Action

KINDS: Final = tuple(
    sorted({action.value for action in Action} | {action.value.split(".")[0] for action in Action})
)
"""What `kinds` may name: actions, and their first parts."""

_LOGIN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9_])?(?:\[bot\])?")


class UnknownKindError(UserError):
    """There is no such kind of action."""


class UnreadableFilterError(UserError):
    """A time is written as 2026-11-20 or 2026-11-20T14:30:00+01:00 (UTC where nothing is said), a person by the login."""


@dataclass(frozen=True, slots=True)
class Filter:
    """All of what is given must hold; nothing given is the whole log. `since` is the first moment that is in, `until` the
    first that is out. `kinds` are actions (`model.called`) or their first parts (`model`); any of them will do."""

    since: datetime | None = None
    until: datetime | None = None
    repository_id: int | None = None
    run_id: UUID | None = None
    kinds: tuple[str, ...] = ()
    actor: str | None = None

    def __post_init__(self) -> None:
        """Raises UnknownKindError: a slip of the pen would look like an empty log."""
        for kind in self.kinds:
            if kind not in KINDS:
                known = ", ".join(KINDS)
                raise UnknownKindError(f"There is no kind of action {kind!a}. There are: {known}.")

    @property
    def whole(self) -> bool:
        return self == Filter()

    def document(self) -> dict[str, Any]:
        """What is given, in values of JSON; by it the header of an export says of what the file is a part."""
        given: Mapping[str, Any] = {
            "since": None if self.since is None else timestamp(self.since),
            "until": None if self.until is None else timestamp(self.until),
            "repository": self.repository_id,
            "run": None if self.run_id is None else str(self.run_id),
            "kinds": list(self.kinds) or None,
            "actor": self.actor,
        }
        return {name: value for name, value in given.items() if value is not None}


def read_filter(
    *,
    since: str | None = None,
    until: str | None = None,
    repository_id: int | None = None,
    run_id: UUID | None = None,
    kinds: Iterable[str] = (),
    actor: str | None = None,
) -> Filter:
    """A filter from what people type. Raises UnreadableFilterError and UnknownKindError."""
    login = actor.strip().removeprefix("@") if actor is not None else None
    if login is not None and not _LOGIN.fullmatch(login):
        raise UnreadableFilterError
    named = tuple(sorted({kind.strip() for kind in kinds}))
    return Filter(_time(since), _time(until), repository_id, run_id, named, login)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnreadableFilterError from None
