"""What an export holds, file by file and column by column, and what it leaves out and why. The archive's README says this,
and tests hold it to what is written and to what the database has."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

FORMAT: Final = "magicode-export/1"
MANIFEST: Final = "manifest.json"
README: Final = "README.txt"


@dataclass(frozen=True, slots=True)
class File:
    """`table` is the database's that it comes from, if it comes from one; `columns` what each row or the one object has."""

    name: str
    what: str
    columns: Mapping[str, str]
    table: str | None = None


_WHO: Final = "login on GitHub"
_RUN: Final = "the run's id"

RUN_COLUMNS: Final[Mapping[str, str]] = {
    "id": "the run's id, which its comments on GitHub and its entries in the action log carry",
    "repository_id": "GitHub's id of the repository",
    "number": "of the issue or pull request that it was asked on",
    "is_pull_request": "whether that is a pull request",
    "verb": "what was asked for",
    "occasion": "what asked: a comment, review, label or assignment, with GitHub's id or time of it",
    "comment_id": "GitHub's id of the comment that asked",
    "asker_id": "GitHub's id of who asked",
    "asker_login": "login of who asked",
    "meaning": "a keyed hash of what was asked, by which it is done once; nothing can be read from it",
    "input_hash": "a keyed hash of the texts when it was asked, by which a later edit is seen",
    "cost_limit_usd": "the limit that was asked for, in US dollars",
    "state": "queued, running, opened, updated, answered, refused, failed or cancelled",
    "attempt": "how many workers took it up",
    "blocked_by": "the run that was at work on the same subject",
    "cancel_requested": "whether somebody asked to stop it",
    "reason": "why it ended as it did, in a word",
    "status_comment_id": "GitHub's id of our comment about it",
    "branch": "our branch",
    "base_sha": "the commit that it started from",
    "head_sha": "the commit that it made",
    "pull_request": "the number of the pull request that it opened or changed",
    "input_tokens": "tokens sent to models, the cached ones included",
    "cached_tokens": "those of them that a provider had in its cache",
    "output_tokens": "tokens that models wrote",
    "cost_usd": "what that cost, in US dollars, where the price is known",
    "created_at": "when it was asked",
    "started_at": "when it was begun",
    "ended_at": "when it ended",
    "subject": "the issue that the pull request was opened for",
    "fingerprint": "a keyed hash of what failed in CI, for a run that mends it",
}

ACTION_COLUMNS: Final[Mapping[str, str]] = {
    "installation_id": "whose log it is",
    "seq": "the entry's number, without gaps",
    "at": "when, UTC",
    "actor": "who: a login on GitHub, or magicode",
    "action": "what was done",
    "run_id": "in which run",
    "details": "to what; JSON",
    "salt": "what the details are hashed with",
    "details_hash": "their hash",
    "previous_hash": "the hash of the entry before",
    "hash": "the entry's own",
}

FILES: Final[Sequence[File]] = (
    File(README, "This text.", {}),
    File(
        "installation.json",
        "The installation as it is known here. One object.",
        {
            "account_id": "GitHub's id of the account",
            "account_login": "its login",
            "account_type": "Organization or User",
            "suspended": "whether somebody there has suspended the App",
            "github_id": "GitHub's present id of the installation, where the App was installed again",
            "uninstalled_at": "since when it is uninstalled",
            "plan_cancelled_at": "since when its plan is over",
            "hooked": "whether it has webhooks",
        },
        "installations",
    ),
    File(
        "settings.json",
        "What has been chosen, and what holds where nothing was. One object.",
        {
            "document": "each setting and its value; null: all that the service offers; `members`: who has a role of their own, by GitHub's id, with the login of then",
            "legal_hold": "whether nothing at all may be removed",
            "changed_by": f"{_WHO} of who changed something last; null: nobody ever did",
            "changed_at": "when that was",
        },
        "settings",
    ),
    File(
        "retention.json",
        "How long what is kept, and what a deletion leaves that is not ours to delete. One object.",
        {
            "runs_months": "how long ended runs are kept; deliveries 30 days at most",
            "log_months": "how long the action log is kept",
            "exports_days": "how long an export can be fetched",
            "uninstalled_days": "how long everything waits after the App was uninstalled; after a plan's end 29 days at most",
            "erasure": "whether a deletion has begun: null, since nothing can be exported from then on",
            "remains": "what would be left elsewhere by a deletion at the moment of this export: where, what, until when",
        },
    ),
    File(
        "data_key.json",
        "The key under which this installation's data is sealed: that there is one, never the key. One object.",
        {"master_key_id": "the name of the master key that wraps it; null: none was made yet"},
        "data_keys",
    ),
    File(
        "provider_keys.json",
        "Your own keys of model providers: that they are there, never the keys. A list.",
        {
            "provider": "whose key it is",
            "last_four": "its last four characters; empty for a short one",
            "base_url": "the address that it is for; null: the provider's own",
            "created_by": f"{_WHO} of who gave it",
            "created_at": "when",
            "checked_at": "when the provider last said that it takes it",
        },
        "provider_keys",
    ),
    File(
        "api_tokens.json",
        "Tokens for this service's API: that they are there, never the tokens. A list.",
        {
            "id": "its id",
            "scopes": "what it may do",
            "created_by": f"{_WHO} of who made it",
            "created_at": "when",
            "expires_at": "until when it is good",
        },
        "api_tokens",
    ),
    File(
        "hooks.json",
        "Addresses of your own that are told of runs: that they are there, never the addresses or their secrets. A list.",
        {
            "id": "its id",
            "host": "the host in its address; empty where it cannot be opened any more",
            "events": "what it is told of",
            "created_by": f"{_WHO} of who made it",
            "created_at": "when",
            "last_at": "when something was last sent to it",
            "last_status": "what it answered then, as HTTP counts; null: nothing",
        },
        "hooks",
    ),
    File(
        "exports.json",
        "Exports that were asked for on GitHub or on the web; this one too, if it was. A list.",
        {
            "id": "its id",
            "state": "asked, made or failed",
            "asked_by": f"{_WHO} of who asked",
            "asked_at": "when",
            "place": "its name in the store of exports, or that it is to have there",
            "size": "in bytes, before it was sealed",
            "sha256": "of the ZIP, hexadecimal",
            "made_at": "when it was made",
            "expires_at": "until when it can be fetched",
            "run_id": f"{_RUN} that asked for it",
            "percent": "how much of it was written when that was last noted, of a hundred",
        },
        "exports",
    ),
    File(
        "vectors.json",
        "How many vectors the index of your code has. The vectors themselves are made from your code, anew at any time. A list.",
        {
            "repository_id": "GitHub's id; null for one that no run names any more",
            "collection": "the name of the collection, which is a keyed hash",
            "vectors": "how many",
        },
    ),
    File("runs.csv", "Every request, a row each. Empty cells: nothing.", RUN_COLUMNS, "runs"),
    File("runs.jsonl", "The same, as JSON, an object a line.", RUN_COLUMNS, "runs"),
    File(
        "deliveries.csv",
        "Every event that GitHub told of, a row each.",
        {
            "guid": "GitHub's id of the delivery",
            "event": "its name",
            "action": "what happened",
            "outcome": "what was made of it",
            "received_at": "when",
        },
        "deliveries",
    ),
    File(
        "actions.jsonl",
        "The action log, an entry a line; `magicode actions verify actions.jsonl` checks it, with no access to the service; "
        "`--anchors SAVED` holds it to the heads that were quoted on GitHub before this export was made.",
        ACTION_COLUMNS,
        "entries",
    ),
    File("actions.csv", "The same, as a table; it can be checked too.", ACTION_COLUMNS, "entries"),
    File(
        "usage.csv",
        "Tokens and dollars by day (UTC), repository and model. What a run used in calls that are not in the log any more "
        "stands under no model.",
        {
            "day": "the day",
            "repository_id": "GitHub's id; empty where the run is not there any more",
            "provider": "of the model",
            "model": "its name",
            "calls": "how often it was called",
            "input_tokens": "tokens sent, the cached ones included",
            "cached_tokens": "those that the provider had in its cache",
            "output_tokens": "tokens written",
            "cost_usd": "in US dollars, of the calls whose price is known",
            "unpriced_calls": "calls whose price is not known",
        },
    ),
)
"""In the order in which they are written; the manifest comes last."""

MANIFEST_KEYS: Final[Mapping[str, str]] = {
    "format": FORMAT,
    "installation_id": "whose data this is",
    "export_id": "the id of this export",
    "made_at": "when all of it was read, UTC",
    "log_head": "the head of the action log at that moment: number, hash, installation. All files are as of it",
    "files": "of every file its name, what it is, its SHA-256, its bytes, and its rows where it has any",
    "left_out": "what is stored and not exported, and why",
}

LEFT_OUT: Final[Mapping[str, str]] = {
    "installation_id": "the same in every row: the manifest says it",
    "data_keys.wrapped": "the key itself, which opens nothing outside of this service",
    "provider_keys.sealed": "the key itself: whoever has the archive would have the key",
    "hooks.sealed": "the address and the secret: an address may hold a secret too",
    "api_tokens.hash": "the token itself, hashed",
    "kept_answers": "what the API answered within the last day, kept for whoever asks the same again: what was done stands in the log",
    "entries.sealed": "the same as the details, sealed",
    "erasures": "there is none as long as anything can be exported; a receipt says what was in it",
    "magicode_jobs": "the queue of what is to be done next: ids that stand in the other files; and hashes of who is signed in, which is no "
    "installation's",
    "vectors": "made from your code, and anew from it at any time; the counts are in vectors.json",
    "code, texts, prompts and answers": "not stored here at all",
}
"""By table and column, or by what else they are called."""


def document(name: str) -> File:
    return next(one for one in FILES if one.name == name)


def readme(installation_id: int, made_at: datetime, head: str) -> str:
    """Every file and every column, in plain words."""
    parts = [
        _wrapped(
            f"All that MagiCode holds about installation {installation_id}, as of {made_at:%Y-%m-%d %H:%M:%S} UTC. "
            "The action log's head at that moment:"
        ),
        head,
        _wrapped(
            f"Times are UTC, texts are UTF-8, CSV is RFC 4180. A cell that a spreadsheet would run as a formula has an "
            f"apostrophe before it. {MANIFEST} has a SHA-256 of every file: `sha256sum FILE` says the same."
        ),
        f"{MANIFEST}\n\n  What is in this archive. One object.\n\n{_listed(MANIFEST_KEYS)}",
    ]
    for one in FILES:
        columns = f"\n\n{_listed(one.columns)}" if one.columns else ""
        parts.append(f"{one.name}\n\n{_wrapped(one.what, '  ')}{columns}")
    parts.append(f"Not in this archive\n\n{_listed(LEFT_OUT)}")
    return "\n\n\n".join(parts) + "\n"


def _listed(columns: Mapping[str, str]) -> str:
    return "\n".join(_wrapped(f"{name}: {means}", "  ", "      ") for name, means in columns.items())


def _wrapped(text: str, first: str = "", then: str | None = None) -> str:
    return textwrap.fill(
        text,
        100,
        initial_indent=first,
        subsequent_indent=first if then is None else then,
        break_on_hyphens=False,
        break_long_words=False,
    )
