"""The webhook's secrets, read again while the process runs, so that a rotation of them needs no restart.

It never lets strangers decide how often the secrets are read: a wrong signature is worth one look in ten seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import Lock

from app.errors import MagicodeError
from webhooks.errors import BadSignatureError
from webhooks.signature import Secrets

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
AT_MOST_EVERY_SECONDS = 10.0


class LiveSecrets(Secrets):
    """The secrets as they were read last. Safe to share between threads; it may block the one that it is used in."""

    __slots__ = ("_asked_at", "_lock", "_monotonic", "_read", "_secrets")

    def __init__(
        self, first: Secrets, read: Callable[[], Secrets], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`read` asks for the present ones, and may raise MagicodeError or ValueError: those known stay in use then."""
        self._secrets = first
        self._read = read
        self._monotonic = monotonic
        self._asked_at = monotonic()
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"LiveSecrets({self._secrets!r})"

    def sign(self, body: bytes) -> str:
        return self._secrets.sign(body)

    def verify(self, body: bytes, signature: str | None) -> None:
        """As the parent does. The secrets are read first where they are older than a minute, and once more for a signature
        that fits none of them."""
        self._renew(EVERY_SECONDS, wait=False)
        try:
            self._secrets.verify(body, signature)
        except BadSignatureError as error:
            if error.reason != "signature_wrong":
                raise
            self._renew(AT_MOST_EVERY_SECONDS, wait=True)
            self._secrets.verify(body, signature)

    def _renew(self, older_than_seconds: float, *, wait: bool) -> None:
        """At most one thread reads; the others wait for what it finds, or go on with what is known."""
        if not self._lock.acquire(blocking=wait):
            return
        try:
            now = self._monotonic()
            if now - self._asked_at < older_than_seconds:
                return
            self._asked_at = now
            self._secrets = self._read()
        except (MagicodeError, ValueError) as error:
            log.warning(
                "The webhook's secrets could not be read again; those known stay in use.",
                extra={"reason": getattr(error, "reason", type(error).__name__)},
            )
        finally:
            self._lock.release()
