"""What a person asked for, as read from one signed delivery."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum


class Verb(StrEnum):
    """What can be asked for in a comment. Plain words mean FIX on an issue and REVISE on a pull request."""

    FIX = "fix"
    PLAN = "plan"
    GO = "go"
    REVISE = "revise"
    EXPLAIN = "explain"
    RETRY = "retry"
    CANCEL = "cancel"
    UNDO = "undo"
    LOGS = "logs"
    EXPORT = "export"
    DELETE = "delete"
    SETTINGS = "settings"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Ask:
    """One mention, read: the verb, the words that follow it, a cost limit if one was set.

    `near_miss` holds the word that looked like a verb but is none (`@magicode fxi`): it is answered with help
    and a suggestion, never guessed at.
    """

    verb: Verb
    words: str = ""
    cost_limit_usd: Decimal | None = None
    near_miss: str | None = None
    suggestion: Verb | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """A GitHub account, as the payload names it."""

    id: int
    login: str
    is_bot: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """An admitted request.

    `occasion` names the signed thing that carried it and can be told again from the body alone:
    `comment:<id>`, `review:<id>`, `review-comment:<id>`, `labeled:<updated_at>`, `assigned:<updated_at>`.
    With the repository's id, the number and the verb it is the request's meaning: two deliveries with the same
    meaning are one request, whatever their headers say.

    `group` names what was submitted as a whole and arrives in several deliveries: `review:<id>` for a review and for each
    comment that came with it. Where it is set it stands for the occasion in the meaning.

    `texts` are what the asker saw when asking (`issue.title`, `issue.body`, `comment.body`), kept only long
    enough to be hashed: the run compares what it fetches later with the hash.
    """

    ask: Ask
    occasion: str
    installation_id: int
    repository_id: int
    repository_full_name: str
    number: int
    is_pull_request: bool
    actor: Actor
    comment_id: int | None
    texts: tuple[tuple[str, str], ...] = ()
    group: str = ""
