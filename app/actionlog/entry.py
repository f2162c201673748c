"""How an entry becomes a hash: one canonical encoding, used when it is written and when it is verified.

An entry's hash covers the installation, the position, the time, the actor, the action, the run, the salted hash of the
details, and the hash of the entry before. The details themselves are not covered in clear: when their salt and text
are destroyed the chain still holds, and says nothing about them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from types import NoneType
from uuid import UUID

from app.errors import DefectError
from app.nouns import Facts

SALT_BYTES = 32
DETAILS_PURPOSE = b"magicode/details"
SALT_PURPOSE = b"magicode/salt"

_ENTRY = b"magicode/entry/1\n"
_GENESIS = b"magicode/genesis/1\n"
_WRITABLE = frozenset({str, int, float, bool, NoneType})
# One encoder for all: to make one takes longer than to encode an entry, and a log is read a million entries at a time.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


class UnwritableFactsError(DefectError):
    """An action's facts hold something that has no canonical JSON form: give only text, numbers, booleans or None."""


def canonical(value: Mapping[str, object]) -> bytes:
    """The one JSON text of a flat object: keys sorted, no spaces, ASCII only, no NaN or infinity.

    Raises UnwritableFactsError for anything but Unicode text, int, finite float, bool and None in its values.
    """
    if not _WRITABLE.issuperset(map(type, value.values())):  # quicker than to look at each
        for each in value.values():
            if not isinstance(each, str | int | float | None):
                raise UnwritableFactsError
    try:
        text = _ENCODER.encode(value)
        if "\\ud" in text:
            for each in (*value, *value.values()):
                if isinstance(each, str):
                    each.encode(
                        "utf-8"
                    )  # refuses lone surrogates, which other languages' JSON cannot read back
    except ValueError:
        raise UnwritableFactsError from None
    return text.encode("ascii")


def details_hash(salt: bytes, details: Facts) -> str:
    """SHA-256, hexadecimal, over the salt and then the canonical details."""
    return hashlib.sha256(salt + canonical(details)).hexdigest()


def genesis(installation_id: int) -> str:
    """What the first entry of an installation's chain has as the hash before it."""
    return hashlib.sha256(_GENESIS + str(installation_id).encode("ascii")).hexdigest()


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds, which is as fine as PostgreSQL keeps time."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def entry_hash(
    *,
    installation_id: int,
    seq: int,
    at: str,
    actor: str,
    action: str,
    run_id: UUID | str | None,
    details_hash: str,
    previous_hash: str,
) -> str:
    """SHA-256, hexadecimal, over the canonical form of all that an entry says in clear; `at` as `timestamp` gives it."""
    clear = {
        "installation_id": installation_id,
        "seq": seq,
        "at": at,
        "actor": actor,
        "action": action,
        "run_id": None if run_id is None else str(run_id),
        "details_hash": details_hash,
        "previous_hash": previous_hash,
    }
    return hashlib.sha256(_ENTRY + canonical(clear)).hexdigest()


def place(installation_id: int, seq: int) -> bytes:
    """The associated data that binds sealed details and their salt to their place in the chain."""
    return f"magicode/entry/{installation_id}/{seq}".encode("ascii")
