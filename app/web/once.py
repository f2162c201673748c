"""A write that is sent again under the same key is done once: who asked what is claimed before it is done, and what was answered is
kept for a day. https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/

A key is one caller's, in one installation. It is looked for behind the handler's own question who calls, so that an answer is given
again to nobody who would not be given it now.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from fastapi import Request

from app.errors import ErasedError, TransientError, UserError
from app.house import House
from app.nouns import KeptAnswer
from app.ports import Transaction

HEADER = "Idempotency-Key"
LASTS = timedelta(hours=24)
TAKEN_OVER_AFTER = timedelta(seconds=60)
"""A process that died has left its claim behind. People hear of a request after 20 s at most, whatever becomes of it."""
ASK_AGAIN_AFTER = timedelta(seconds=2)
LARGEST = 256 * 1024
"""Of an answer that is kept: only the report about a log that somebody rewrote from end to end is larger."""

_PURPOSE = b"magicode/kept-answers"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

log = logging.getLogger(__name__)


class IdempotencyKeyError(UserError):
    """An Idempotency-Key is 1 to 255 visible ASCII characters, and a request has one."""


class IdempotencyKeyReusedError(UserError):
    """You used this Idempotency-Key within a day for another request: another method, another path or another body. Take a
    new key for each thing that is to be done."""


class StillAtWorkError(TransientError):
    """The first request with this Idempotency-Key is still at work. Ask again in a moment; nothing was done twice."""


class AnsweredError(Exception):
    """This was done before, and this is what was said. It ends a handler behind the question who calls."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    media_type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Claim:
    """A request that is being done, here and nowhere else."""

    house: House
    tenant: int
    row: KeptAnswer

    async def keep(self, answer: Answer) -> None:
        """What cannot be kept has been done all the same, and is answered."""
        if len(answer.body) > LARGEST:
            await self.release()
            return
        plain = json.dumps([answer.status, answer.media_type]).encode() + b"\n" + answer.body
        try:
            async with self.house.store.transaction(self.tenant) as transaction:
                keys = self.house.keys
                sealed = keys.seal(await self._key(transaction), plain, _bound(self.tenant, self.row))
                await transaction.keep_answer(replace(self.row, status=answer.status, sealed=sealed))
        except ErasedError:
            return  # nothing is kept of an installation from then on
        except TransientError as error:
            log.warning("An answer could not be kept.", extra={"reason": error.reason})

    async def release(self) -> None:
        """It came to nothing that is final: the next one with this key begins anew. Where that cannot be written down, it does so
        once the claim is old."""
        with suppress(ErasedError, TransientError):
            async with self.house.store.transaction(self.tenant) as transaction:
                await transaction.release_answer(self.row.key, self.row.made_at)

    async def _key(self, transaction: Transaction) -> bytes:
        return self.house.keys.derive(await self.house.keys.data_key(transaction), _PURPOSE)


@dataclass(slots=True)
class Asked:
    """A write that bears a key, before it is known who sent it; `claim` is there once that is."""

    named: Sequence[str]
    method: str
    path: str
    body: bytes = field(repr=False)
    claim: Claim | None = None

    async def admitted(self, house: House, tenant: int, caller: str) -> None:
        """This caller may do it, now. Raises IdempotencyKeyError, IdempotencyKeyReusedError, StillAtWorkError and AnsweredError."""
        if self.claim is not None:
            return
        if len(self.named) != 1 or _KEY.fullmatch(self.named[0]) is None:
            raise IdempotencyKeyError
        now = house.clock()
        async with house.store.transaction(tenant) as transaction:
            key = house.keys.derive(await house.keys.data_key(transaction), _PURPOSE)
            row = KeptAnswer(
                key=_keyed(key, "key", caller, self.named[0]),
                fingerprint=_keyed(
                    key, "request", self.method, self.path, hashlib.sha256(self.body).hexdigest()
                ),
                made_at=now,
                until=now + LASTS,
            )
            found = await transaction.claim_answer(row, now - TAKEN_OVER_AFTER)
        if found is None:
            self.claim = Claim(house, tenant, row)
            return
        if not hmac.compare_digest(found.fingerprint, row.fingerprint):
            raise IdempotencyKeyReusedError
        if found.status is None or found.sealed is None:
            raise StillAtWorkError(retry_after=ASK_AGAIN_AFTER)
        head, _, body = house.keys.open(key, found.sealed, _bound(tenant, found)).partition(b"\n")
        status, media_type = json.loads(head)
        raise AnsweredError(Answer(status, media_type, body))


async def admitted(request: Request, house: House, tenant: int, caller: str) -> None:
    """Asked wherever it has become known who calls: what bears no key goes on."""
    asked = getattr(request.state, "asked", None)
    if isinstance(asked, Asked):
        await asked.admitted(house, tenant, caller)


def _bound(tenant: int, row: KeptAnswer) -> bytes:
    """To the one caller's one request: an answer that was moved under another key opens as nothing."""
    return f"kept-answer|{tenant}|{row.key}|{row.fingerprint}".encode()


def _keyed(key: bytes, *parts: str) -> str:
    return hmac.new(key, json.dumps(parts).encode(), hashlib.sha256).hexdigest()
