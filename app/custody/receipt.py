"""The receipt of a deletion: a JSON document that the service signs, and that anybody can check with no access to it.

It says what was destroyed and how many, what was searched again afterwards, and what is not ours to delete, with dates. It
holds ids, times and counts; no name of a person, and nothing of what was deleted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from app.errors import UserError

FORMAT = "magicode-receipt/1"
KEYS_FORMAT = "magicode-receipt-keys/1"
SIGNING_PURPOSE = b"magicode/receipts"
"""What the signing key is derived for, from the data key of the service's own chain."""

BACKUPS_KEPT = timedelta(days=30)
PROVIDERS_KEEP = timedelta(days=30)
FLAGGED_KEPT = timedelta(days=730)

_SIGNED = b"magicode/receipt/1\n"
_FENCED = re.compile(r"```json\r?\n(.*?)\r?\n```", re.DOTALL)
_KEY_HEX = re.compile(r"[0-9a-f]{64}")


class NotAReceiptError(UserError):
    """This file holds no receipt: it is the JSON document, or the comment that holds it, whole and as it was given."""


class NotAPublicKeyError(UserError):
    """This is no public key: it is 64 hexadecimal digits, or the document at /.well-known/magicode-receipts.json."""


class Signer:
    """Signs receipts with Ed25519 (https://www.rfc-editor.org/rfc/rfc8032): the same receipt, the same signature."""

    def __init__(self, seed: bytes) -> None:
        """`seed` is 32 secret bytes."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @cached_property
    def public_key(self) -> str:
        """64 hexadecimal digits."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    def sign(self, receipt: Mapping[str, object]) -> dict[str, object]:
        """The receipt with the public key and the signature."""
        whole = {**receipt, "public_key": self.public_key}
        return {**whole, "signature": self._key.sign(_signed_bytes(whole)).hex()}

    def keys_document(self) -> dict[str, object]:
        """What the service publishes, for `magicode data verify-receipt --public-key`."""
        key = {
            "algorithm": "Ed25519",
            "public_key": self.public_key,
            "fingerprint": fingerprint(self.public_key),
        }
        return {"format": KEYS_FORMAT, "keys": [key]}


def fingerprint(public_key: str) -> str:
    """SHA-256 of the key's 32 bytes, hexadecimal."""
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()


# --- what it says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Destroyed:
    """What a receipt is made of. `closed_at` is from when on nothing of the installation was read or written any more,
    `searched_at` when the stores were searched again and nothing was found."""

    installation_id: int
    github_id: int
    account_id: int
    erasure_id: UUID
    reason: str
    asked_at: datetime
    closed_at: datetime
    searched_at: datetime
    rows: Mapping[str, int]
    vectors: int
    objects: int
    jobs: int
    master_key_id: str  # as it may be told in public
    wrapped_sha256: str
    log_head: str
    found: Mapping[str, int]


def receipt(destroyed: Destroyed) -> dict[str, object]:
    """The document without its signature: the same for the same facts, whoever writes it and whenever."""
    return {
        "format": FORMAT,
        "installation_id": destroyed.installation_id,
        "github_installation_id": destroyed.github_id,
        "account_id": destroyed.account_id,
        "erasure_id": str(destroyed.erasure_id),
        "reason": destroyed.reason,
        "asked_at": stamp(destroyed.asked_at),
        "closed_at": stamp(destroyed.closed_at),
        "ended_at": stamp(destroyed.searched_at),
        "destroyed": {
            "rows": dict(destroyed.rows),
            "vectors": destroyed.vectors,
            "objects": destroyed.objects,
            "jobs": destroyed.jobs,
        },
        "key": {
            "master_key_id": destroyed.master_key_id,
            "wrapped_key_sha256": destroyed.wrapped_sha256,
        },
        "log_head": destroyed.log_head,
        "searched_again": {"at": stamp(destroyed.searched_at), "found": dict(destroyed.found)},
        "remains": [_remain(one) for one in remains(destroyed.closed_at, destroyed.searched_at)],
    }


@dataclass(frozen=True, slots=True)
class Remains:
    """What this service cannot delete: where it is, what, until when (None: until somebody there deletes it)."""

    where: str
    what: str
    until: datetime | None
    source: str | None = None


def remains(closed_at: datetime, ended_at: datetime) -> Sequence[Remains]:
    """With the dates that follow from when nothing more was sent, and from when all was destroyed.

    What providers keep is told as they publish it for their APIs; a contract with them may say less.
    """
    return (
        Remains(
            "GitHub", "comments, commits, branches and pull requests, until people delete them there", None
        ),
        Remains(
            "OpenAI",
            "requests to its models, for monitoring abuse (storage is switched off in each request)",
            closed_at + PROVIDERS_KEEP,
            "https://platform.openai.com/docs/guides/your-data",
        ),
        Remains(
            "Anthropic",
            "requests to its models",
            closed_at + PROVIDERS_KEEP,
            "https://privacy.anthropic.com/en/articles/7996866-how-long-do-you-store-personal-data",
        ),
        Remains(
            "Anthropic",
            "requests that its classifiers flagged",
            closed_at + FLAGGED_KEPT,
            "https://privacy.anthropic.com/en/articles/7996866-how-long-do-you-store-personal-data",
        ),
        Remains("other model providers that the installation allowed", "requests, as they publish it", None),
        Remains(
            "backups of this service",
            "rows and vectors as they were, and the wrapped key where a backup does not leave keys out",
            ended_at + BACKUPS_KEPT,
        ),
        Remains(
            "this service", "the ids, times and counts of this receipt, so that it can be shown again", None
        ),
    )


def stamp(at: datetime) -> str:
    """RFC 3339 in UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _remain(one: Remains) -> dict[str, object]:
    return {
        "where": one.where,
        "what": one.what,
        "until": None if one.until is None else stamp(one.until),
        "source": one.source,
    }


# --- checking it -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """`problems` is empty for a receipt that holds. `key_known`: the key was given, not taken from the receipt itself."""

    erasure_id: str
    fingerprint: str
    key_known: bool
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(document: Mapping[str, Any], public_keys: Sequence[str] = ()) -> Verdict:
    """Whether one of these keys signed exactly this; without keys, whether the one did that the receipt names."""
    named, signature = str(document.get("public_key", "")), str(document.get("signature", ""))
    problems = [] if _KEY_HEX.fullmatch(named) else ["it names no public key"]
    if not problems and not _fits(document, named, signature):
        problems.append("its signature does not fit: it was changed, or not signed by this key")
    if public_keys and named not in public_keys:
        problems.append("it was signed with another key than the service's")
    if not problems:
        problems += _unsound(document)
    mark = fingerprint(named) if _KEY_HEX.fullmatch(named) else ""
    return Verdict(str(document.get("erasure_id", "")), mark, bool(public_keys), tuple(problems))


def _fits(document: Mapping[str, Any], public_key: str, signature: str) -> bool:
    whole = {name: value for name, value in document.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        # Written as it was signed: other spellings of the same bytes are no signature of ours.
        if signature != bytes.fromhex(signature).hex():
            return False
        key.verify(bytes.fromhex(signature), _signed_bytes(whole))
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _unsound(document: Mapping[str, Any]) -> list[str]:
    """What no service of ours would have signed."""
    searched = document.get("searched_again")
    found = searched.get("found") if isinstance(searched, dict) else None
    if not isinstance(found, dict) or not found or any(found.values()):
        return ["it does not say that the stores were searched again and nothing was found"]
    return []


def read_receipt(text: str) -> dict[str, Any]:
    """The receipt in a JSON file or in the comment that holds it. Raises NotAReceiptError."""
    for candidate in (text, *_FENCED.findall(text)):
        try:
            found = json.loads(candidate, object_pairs_hook=_once)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and found.get("format") == FORMAT:
            return found
    raise NotAReceiptError


def read_public_keys(text: str) -> Sequence[str]:
    """Keys in hexadecimal, or the document that the service publishes. Raises NotAPublicKeyError."""
    bare = text.strip().lower()
    if _KEY_HEX.fullmatch(bare):
        return (bare,)
    try:
        document = json.loads(text)
        keys = [str(one["public_key"]) for one in document["keys"] if document["format"] == KEYS_FORMAT]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise NotAPublicKeyError from None
    if not keys or not all(_KEY_HEX.fullmatch(one) for one in keys):
        raise NotAPublicKeyError
    return keys


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A name that stands twice could be read as either, so it is no receipt."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


_encode: Callable[[object], str] = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False
).encode


def _signed_bytes(whole: Mapping[str, object]) -> bytes:
    """Names sorted, no spaces, ASCII alone: the one form of a document. Raises ValueError for what JSON has no form for."""
    return _SIGNED + _encode(dict(whole)).encode("ascii")


__all__ = [
    "Destroyed",
    "NotAPublicKeyError",
    "NotAReceiptError",
    "Remains",
    "Signer",
    "Verdict",
    "fingerprint",
    "read_public_keys",
    "read_receipt",
    "receipt",
    "remains",
    "stamp",
    "verify",
]
