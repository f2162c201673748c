"""What a stranger with the stored points must not learn: keyed ids and terms, rotated vectors, sealed paths.

The rotation is obfuscation, not encryption: with about as many known (text, vector) pairs as dimensions it is solved.
It keeps a stolen collection from being matched against the public model. A term's position says nothing of the term, but
how often terms occur, and together, is visible. The real controls are isolation and destroying the key. The paths are
encrypted.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import uuid
from collections.abc import Callable
from functools import cached_property

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from embeddings.embed import Vectors

_PAD = 64
_NONCE = 12


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

    def installation(self) -> str:
        """The name of the folder of all that is stored of the installation."""
        return f"i{self._named('installation')[:24]}"

    def repository(self, repository_id: int) -> str:
        return f"r{self._named('repository', str(repository_id))[:24]}"

    def generation(self, rules: str) -> str:
        """The name of what the same `rules` (encoder and chunker) have made."""
        return f"g{self._named('generation', rules)[:16]}"

    def point(self, *parts: str) -> str:
        """A point's id, a UUID because Qdrant takes no other strings."""
        return str(uuid.UUID(hex=self._named("point", *parts)[:32], version=4))

    def term(self, word: str) -> int:
        """A word's position in a sparse vector: 32 bits, so that among 100,000 words one or two share theirs."""
        message = word.encode("utf-8", "surrogatepass")
        return int.from_bytes(hmac.digest(self._terms, message, "sha256")[:4], "big")

    def rotate(self, vectors: Vectors) -> Vectors:
        """The rows in the installation's own space: all cosines stay as they were."""
        matrix = self._rotations.get(vectors.shape[1])
        if matrix is None:
            matrix = self._rotations[vectors.shape[1]] = rotation(self._derive("rotation"), vectors.shape[1])
        return (vectors.astype(np.float32) @ matrix).astype(np.float32)

    def seal(self, clear: str, point: str) -> str:
        """AES-256-GCM under a derived key, bound to its point, padded so that its length tells little."""
        raw = clear.encode("utf-8", "surrogatepass")
        padded = raw + b"\0" + b" " * (-(len(raw) + 1) % _PAD)
        nonce = self._random(_NONCE)
        return base64.b64encode(nonce + self._aead.encrypt(nonce, padded, point.encode())).decode("ascii")

    def unseal(self, sealed: str, point: str) -> str | None:
        """None for what this key did not seal for this point."""
        try:
            raw = base64.b64decode(sealed, validate=True)
            padded = self._aead.decrypt(raw[:_NONCE], raw[_NONCE:], point.encode())
        except (ValueError, InvalidTag):
            return None
        return padded[: padded.rindex(b"\0")].decode("utf-8", "surrogatepass")

    @cached_property
    def _aead(self) -> AESGCM:
        return AESGCM(self._derive("path"))

    @cached_property
    def _names(self) -> bytes:
        return self._derive("names")

    @cached_property
    def _terms(self) -> bytes:
        return self._derive("terms")

    def _derive(self, purpose: str) -> bytes:
        """RFC 5869, one key for each purpose and installation."""
        info = f"magicode embeddings {purpose} {self._installation_id}".encode()
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._key)

    def _named(self, *parts: str) -> str:
        """HMAC-SHA256 over the parts, each with its length, in hex."""
        encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
        message = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
        return hmac.digest(self._names, message, "sha256").hex()


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
