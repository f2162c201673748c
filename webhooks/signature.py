"""Tells GitHub's deliveries from forged ones by HMAC-SHA256 over the raw bytes; SHA-1 is never accepted.

https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
"""

from __future__ import annotations

import hashlib
import hmac

from webhooks.errors import BadSignatureError, MissingSecretError

HEADER = "x-hub-signature-256"
_PREFIX = "sha256="
_HEX_DIGITS = 64


class Secrets:
    """The webhook's current secret and, while it is being rotated, the one before. Never shows either."""

    __slots__ = ("_keys",)

    def __init__(self, current: str, previous: str | None = None) -> None:
        """Raises MissingSecretError when the current secret is empty or blank, or the previous one is set but blank."""
        if not current.strip() or (previous is not None and not previous.strip()):
            raise MissingSecretError
        self._keys = tuple(secret.encode() for secret in (current, previous) if secret is not None)

    def __repr__(self) -> str:
        return f"Secrets({len(self._keys)} configured)"

    def sign(self, body: bytes) -> str:
        """The header's value for this body under the current secret: what GitHub would send."""
        return _PREFIX + hmac.new(self._keys[0], body, hashlib.sha256).hexdigest()

    def verify(self, body: bytes, signature: str | None) -> None:
        """Compare in constant time with each secret.

        Raises BadSignatureError for a missing, malformed or wrong signature.
        """
        if not signature:
            raise BadSignatureError(reason="signature_missing")
        if not signature.startswith(_PREFIX) or len(signature) != len(_PREFIX) + _HEX_DIGITS:
            raise BadSignatureError(reason="signature_malformed")
        given = signature[len(_PREFIX) :].encode("utf-8", "replace")
        matches = [
            hmac.compare_digest(hmac.new(key, body, hashlib.sha256).hexdigest().encode(), given)
            for key in self._keys
        ]
        if not any(matches):
            raise BadSignatureError(reason="signature_wrong")
