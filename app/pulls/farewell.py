"""What people are told when an installation's data is to be destroyed, and when it is: sentences alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from app.pulls.neutralise import code, neutralise, one_line
from app.pulls.wording import Ours, marker

_ROWS: Final[Mapping[str, tuple[str, str]]] = {
    "runs": ("request with its figures", "requests with their figures"),
    "entries": ("entry of the action log", "entries of the action log"),
    "deliveries": ("webhook that was received", "webhooks that were received"),
    "installations": ("row that names the account", "rows that name the account"),
    "settings": ("row of settings", "rows of settings"),
    "provider_keys": ("key of a model provider", "keys of model providers"),
    "hooks": ("webhook of your own", "webhooks of your own"),
    "exports": ("export that was asked for", "exports that were asked for"),
    "data_keys": ("data key", "data keys"),
    "kept_answers": ("answer of the API", "answers of the API"),
    "vectors": ("vector of the index", "vectors of the index"),
    "objects": ("stored export", "stored exports"),
    "jobs": ("job on the queue", "jobs on the queue"),
}
"""What is counted, for one and for more; a table that is not here is called by its name."""

Remaining = Sequence[tuple[str, str, datetime | None]]
"""Where, what, and until when (None: until somebody there deletes it)."""


def erasure_marker(erasure_id: UUID) -> str:
    """Hidden in the comment that holds a receipt: by it a later attempt finds what an earlier one wrote."""
    return f"<!-- magicode:erasure:{erasure_id} -->"


def announced(
    counts: Mapping[str, int], remaining: Remaining, account: str, mention: str, *, remark: str = ""
) -> Ours:
    """What a confirmation would destroy, what it would not, and the words that confirm it."""
    parts = [
        neutralise(remark),
        (
            f"Nothing is deleted yet. This would destroy all that I hold about the account {code(account)}, in all of its "
            "repositories, and stop what is at work there:"
        ),
        _counted(counts),
        "It cannot be taken back. An export of it all can be asked for before: `export`.",
        f"What I cannot delete:\n\n{_remaining(remaining)}",
        _how_to_confirm(account, mention),
    ]
    return Ours("\n\n".join(part for part in parts if part))


def wrong_name(said: str, account: str, mention: str) -> Ours:
    """To a confirmation that names something else than the account."""
    return Ours(
        f"Nothing is deleted: you wrote {code(one_line(said, 100))}, and the account is {code(account)}.\n\n"
        + _how_to_confirm(account, mention)
    )


def not_open(account: str) -> str:
    """To a confirmation that came late, or of what was never announced: it is announced now."""
    return (
        f"You named {account}, but in the last hour I was not asked here what a deletion would destroy. "
        "So I tell it first, and the same comment, written once more, confirms it."
    )


def deleting() -> Ours:
    """To the confirmation. It stays as it is: the receipt is a comment of its own."""
    return Ours(
        "All that I hold about this account is being destroyed now, and whatever is at work for it stops. "
        "The signed receipt follows here as a comment, usually within a minute; if this service is interrupted, it goes on "
        "by itself afterwards."
    )


def stopped_by_deletion(key: UUID | str, branch: str | None = None) -> str:
    """The last state of the status comment of a request that was at work; `branch` is where its change was to go."""
    left = (
        f" If I had begun to write the change, it is on the branch {code(branch)}, which you can delete."
        if branch
        else ""
    )
    return (
        f"{marker(key)}\n**Cancelled.**\n\nThe data of this installation is being deleted, as an administrator asked, "
        f"so I stopped here. What was written to GitHub before stays.{left}"
    )


def delivered(
    erasure_id: UUID, counts: Mapping[str, int], searched_at: datetime, remaining: Remaining, document: str
) -> str:
    """The comment that hands the receipt over; the document in it can be checked as it stands."""
    parts = [
        f"{erasure_marker(erasure_id)}\n**Deleted.** All that I held about this account is destroyed:",
        _counted(counts),
        (
            "The data key is among it, so that nothing can open what was sealed under it. At "
            f"{_time(searched_at)} the stores were searched again, and nothing was found."
        ),
        f"**What I cannot delete:**\n\n{_remaining(remaining)}",
        (
            "**Next:** keep the receipt. `magicode data verify-receipt FILE` checks it with no access to this service; FILE is "
            "the document below, or this whole comment. The App is still installed, but does nothing here any more: uninstall "
            "it in the account's settings. Installing it anew begins with nothing."
        ),
        f"<details><summary>The signed receipt</summary>\n\n```json\n{document}\n```\n\n</details>",
    ]
    return "\n\n".join(parts)


def _how_to_confirm(account: str, mention: str) -> str:
    return (
        f"**Next:** to confirm, comment here within an hour with the mention of {code(mention)} and the words "
        f"{code(f'delete {account}')}. Otherwise do nothing."
    )


def _counted(counts: Mapping[str, int]) -> str:
    said = []
    for name, count in sorted(counts.items(), key=lambda one: (one[0] not in _ROWS, one[0])):
        if count:
            one, more = _ROWS.get(name, (f"row of {code(name)}", f"rows of {code(name)}"))
            said.append(f"- {count:,} {one if count == 1 else more}")
    return "\n".join(said) or "- nothing but the fact that you asked"


def _remaining(remaining: Remaining) -> str:
    return "\n".join(
        f"- {where}: {what}" + (f"; gone by {until:%Y-%m-%d}" if until else "")
        for where, what, until in remaining
    )


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
