"""What people are told of an installation's settings, of where their code may go, and of keys: sentences alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from app.pulls.neutralise import code, one_line
from app.pulls.wording import Ours

SAID_ON: Final = "2026-11-21"
"""When what follows about the providers was read."""

# https://developers.openai.com/api/docs/guides/your-data
# https://developers.openai.com/api/docs/guides/prompt-caching#prompt-cache-retention
# https://platform.claude.com/docs/en/manage-claude/api-and-data-retention
_KEEPS: Final = {
    "openai": (
        "every request says `store: false`, so no conversation is stored. Its abuse monitoring may keep prompts and answers "
        "for up to 30 days unless the organization that pays has zero data retention; from gpt-5.5 on, the beginning of a "
        "prompt is cached for up to 24 hours."
    ),
    "anthropic": (
        "a request cannot ask for less, a contract decides: prompts and answers are commonly deleted within 30 days, and kept "
        "longer where a rule of its was broken. The beginning of a prompt is cached for five minutes, in memory."
    ),
}
_ELSEWHERE: Final = "what is kept there is for whoever runs it to say."


@dataclass(frozen=True, slots=True)
class Row:
    """A setting: its name, what it is now, what it means, and an example of a value."""

    name: str
    now: str
    means: str
    example: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where code may be sent. `key` is whose key pays, with the last four characters of the customer's own."""

    provider: str
    host: str
    region: str
    allowed: bool
    own_key: str | None


def overview(
    rows: Sequence[Row],
    places: Sequence[Place],
    *,
    members: int,
    held: str | None,
    fingerprint: str,
    mention: str,
    url: str | None,
) -> Ours:
    """What is kept, for how long, where it may go, and how each of it is changed. `members`: how many have a role of their own;
    `held`: whose legal hold is on."""
    table = "\n".join(f"| {code(row.name)} | {code(row.now)} | {row.means} |" for row in rows)
    parts = [
        f"**Legal hold:** {code(held)}. Nothing is removed, whatever else stands here." if held else "",
        f"| setting | now | what it is |\n|---|---|---|\n{table}",
        (
            "**What is kept:** requests with their figures (no text of anybody's), the action log, vectors in a space of your own "
            "and encrypted places in files, your settings and keys. No code, no prompt and no comment is kept here. A request whose "
            "pull request is still open is remembered for at least 12 months. Backups are gone 30 days after what they hold."
        ),
        f"**Where code may go** (as the providers said on {SAID_ON}):\n\n{_places(places)}",
        "**To change one**, somebody who administers every repository of this installation writes one of these behind the "
        f"mention of {code(mention)}, in a comment of its own:\n\n"
        + "\n".join(f"- `settings {row.name} {row.example}`" for row in rows),
        (
            f"**Roles:** {_counted(members)} here. `settings member LOGIN viewer` makes somebody one who sees runs and asks for "
            "nothing, `requester` one who administers nothing, `administrator` one who administers this installation, and `default` "
            "leaves it to GitHub again. None of them lets anybody do to code what GitHub would not."
        ),
        "What narrows `providers` or `regions` stops the runs at work that it concerns, at once.",
        _keys(mention, url),
        f"**Receipts** of deletions are signed by the key with the fingerprint {code(fingerprint)}."
        if fingerprint
        else "",
    ]
    return Ours("\n\n".join(part for part in parts if part))


def changed(name: str, old: str, new: str, *, narrower: bool) -> Ours:
    """A setting was changed, or was so already."""
    if old == new:
        return Ours(f"{code(name)} is {code(new)} already; nothing was changed.")
    stops = (
        " Runs at work that send elsewhere are stopped within seconds, and nothing more goes there."
        if narrower
        else ""
    )
    return Ours(f"{code(name)} is {code(new)} now; it was {code(old)}.{stops} The action log has it.")


def _counted(members: int) -> str:
    if members == 1:
        return "one person has a role of their own"
    return f"{members or 'no'} people have a role of their own"


def role_changed(login: str, old: str, new: str) -> Ours:
    """Somebody's role was changed, or was that already."""
    if old == new:
        return Ours(f"The role of {code(login)} is {code(new)} already; nothing was changed.")
    return Ours(f"The role of {code(login)} is {code(new)} now; it was {code(old)}. The action log has it.")


def key_in_public(mention: str, url: str | None) -> Ours:
    """To a comment that seems to hold a key."""
    return Ours(
        "There seems to be a key in that comment. I did not take it and kept nothing of it, but **whoever can read this "
        "repository can read it, and GitHub has sent it to others by mail: revoke it at its provider now**. Deleting the comment "
        f"is not enough.\n\n{_keys(mention, url)}"
    )


def _keys(mention: str, url: str | None) -> str:
    where = f"on {url}, after signing in, or " if url else ""
    return (
        f"**Keys of your own** for a provider are never set in a comment. Set them {where}ask whoever runs {code(mention)} to: "
        "`magicode provider-keys set` reads one from standard input."
    )


def _places(places: Sequence[Place]) -> str:
    if not places:
        return "- nowhere: no provider can be asked."
    lines = []
    for place in places:
        pays = (
            f"your own key {code(place.own_key)} pays"
            if place.own_key is not None
            else "this service's key pays"
        )
        kept = (
            _KEEPS[place.provider] if place.host.endswith((".openai.com", ".anthropic.com")) else _ELSEWHERE
        )
        said = "allowed" if place.allowed else "**not allowed**, nothing is sent there"
        lines.append(
            f"- {code(place.provider)} at {code(one_line(place.host, 200))}, region {code(place.region)}: {said}; {pays}. "
            f"What it keeps: {kept}"
        )
    return "\n".join(lines)
