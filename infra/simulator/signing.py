"""GitHub's own signature on the commits that it makes for an App, and how it is verified.

The signature is real (Ed25519 over the commit's unsigned bytes), in an armour of its own instead of OpenPGP's. It lies
in the commit object, so a commit says for itself whether GitHub signed it.
"""

from __future__ import annotations

import base64
import textwrap
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.simulator.git import CommitObject
from infra.simulator.state import World, stamp

_BEGIN = "-----BEGIN SIMULATED SIGNATURE-----"
_END = "-----END SIMULATED SIGNATURE-----"


@lru_cache(maxsize=8)
def _private_key(pem: str) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def new_signing_key() -> str:
    """A PEM."""
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        .decode()
    )


def sign(world: World, payload: str) -> str:
    raw = _private_key(world.signing_key_pem).sign(_bytes(payload))
    return "\n".join([_BEGIN, *textwrap.wrap(base64.b64encode(raw).decode(), 64), _END])


def is_verified(world: World, commit: CommitObject) -> bool:
    if commit.signature is None or not commit.signature.startswith(_BEGIN):
        return False
    letters = commit.signature.removeprefix(_BEGIN).strip().removesuffix(_END)
    try:
        raw = base64.b64decode("".join(letters.split()))
        _private_key(world.signing_key_pem).public_key().verify(raw, _bytes(commit.payload))
    except (InvalidSignature, ValueError):
        return False
    return True


def verification(world: World, commit: CommitObject) -> dict[str, Any]:
    """https://docs.github.com/rest/git/commits#get-a-commit-object"""
    if commit.signature is None:
        return {
            "verified": False,
            "reason": "unsigned",
            "signature": None,
            "payload": None,
            "verified_at": None,
        }
    good = is_verified(world, commit)
    return {
        "verified": good,
        "reason": "valid" if good else "unknown_key",
        "signature": commit.signature,
        "payload": commit.payload,
        "verified_at": stamp(commit.committer.date) if good else None,
    }


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
