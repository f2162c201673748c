"""What a stranger with the stored points must not learn: keyed ids, rotated vectors, sealed locations.

The rotation is obfuscation, not encryption: with about as many known (text, vector) pairs as dimensions it is solved.
It keeps a stolen collection from being matched against the public model; the real controls are isolation and
destroying the key. The locations are encrypted.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from embeddings.embed import Vectors

_PAD = 64
_NONCE = 12


@dataclass(frozen=True, slots=True)
class Location:
    """Where a chunk is. Clear only in memory."""

    path: str
    start_line: int
    end_line: int
    symbol: str


class Protection:
    """One installation's protection, derived from its data key. Two keys, or two installations, share nothing."""

    def __init__(
        self, key: bytes, installation_id: int, *, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """`key` is 32 bytes or more. Raises ValueError for a shorter one."""
        if len(key) < 32:
            raise ValueError("an installation's key has at least 32 bytes")
        self._key = key
        self._installation_id = installation_id
        self._random = random
        self._rotations: dict[int, Vectors] = {}

    def collection(self) -> str:
        """The collection's name."""
        return f"i{self._named('collection')[:24]}"

    def repository(self, repository_id: int) -> str:
        return self._named("repository", str(repository_id))[:32]

    def file(self, repository_id: int, path: str, sha: str, rules: str) -> str:
        """A file's key: the same for the same path and blob on every branch. `rules` names encoder and chunker."""
        return self._named("file", str(repository_id), path, sha, rules)[:32]

    def point(self, file: str, number: int) -> str:
        """A point's id, a UUID because Qdrant takes no other strings."""
        return str(uuid.UUID(hex=self._named("point", file, str(number))[:32], version=4))

    def rotate(self, vectors: Vectors) -> Vectors:
        """The rows in the installation's own space: all cosines stay as they were."""
        matrix = self._rotations.get(vectors.shape[1])
        if matrix is None:
            matrix = self._rotations[vectors.shape[1]] = rotation(self._derive("rotation"), vectors.shape[1])
        return (vectors.astype(np.float32) @ matrix).astype(np.float32)

    def seal(self, location: Location, point: str) -> str:
        """AES-256-GCM under a derived key, bound to its point, padded so that its length tells little."""
        clear = json.dumps([location.path, location.start_line, location.end_line, location.symbol]).encode(
            "ascii"
        )
        padded = clear + b" " * (-len(clear) % _PAD)
        nonce = self._random(_NONCE)
        return base64.b64encode(nonce + self._aead.encrypt(nonce, padded, point.encode())).decode("ascii")

    def unseal(self, sealed: str, point: str) -> Location | None:
        """None for what this key did not seal for this point."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            path, start, end, symbol = json.loads(
                self._aead.decrypt(raw[:_NONCE], raw[_NONCE:], point.encode())
            )
        except (ValueError, InvalidTag):
            return None
        return Location(path, start, end, symbol)

    @cached_property
    def _aead(self) -> AESGCM:
        return AESGCM(self._derive("location"))

    @cached_property
    def _names(self) -> bytes:
        return self._derive("names")

    def _derive(self, purpose: str) -> bytes:
        """RFC 5869, one key for each purpose and installation."""
        info = f"magicode embeddings {purpose} {self._installation_id}".encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._key)

    def _named(self, *parts: str) -> str:
        """HMAC-SHA256 over the parts, each with its length, in hex."""
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return hmac.new(self._names, message, hashlib.sha256).hexdigest()


def rotation(seed: bytes, dimension: int) -> Vectors:
    """A uniformly random orthogonal matrix: QR of a Gaussian one with R's diagonal made positive (Mezzadri, 2007,
    https://arxiv.org/abs/math-ph/0609050).

    The Gaussians come from SHAKE-256 by Box and Muller rather than from numpy's generators, whose streams may change
    between versions; a changed matrix would make every stored vector worthless.
    """
    count = dimension * dimension
    raw = np.frombuffer(hashlib.shake_256(seed).digest(16 * count), dtype=">u8").reshape(2, count)
    uniform = (raw >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    normal = np.sqrt(-2.0 * np.log1p(-uniform[0])) * np.cos(2.0 * np.pi * uniform[1])
    q, r = np.linalg.qr(normal.reshape(dimension, dimension))
    return (q * np.where(np.diagonal(r) < 0, -1.0, 1.0)).astype(np.float32)
