"""Who a browser is: its cookie is a random number, and the row that it opens holds an id, a login and a time, sealed. No token of
GitHub's is in either."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.errors import DefectError
from app.jobs.accept import NOBODY
from app.nouns import Account
from app.ports import Clock, Keys, Store

COOKIE = "magicode_session"
LASTS = timedelta(hours=8)
AT_MOST = 20
"""Of one person at a time: the one that was begun first goes."""
SIGNING_IN = "magicode_signing_in"
SIGN_IN_LASTS = timedelta(minutes=10)
"""As long as GitHub's code."""

_PURPOSE = b"magicode/sessions"
_BYTES = 32
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""So many bytes as `secrets.token_urlsafe` writes them. What is none of ours is not looked up."""


@dataclass(frozen=True, slots=True)
class Session:
    """A person who signed in. `form_key` stands in every form, so that no other site's form is taken for ours; `hash` is what is
    kept of the cookie."""

    hash: str
    person: Account
    form_key: str
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class SigningIn:
    """What the browser keeps while the person is at GitHub: the state, the PKCE verifier, and where to go afterwards."""

    state: str
    verifier: str
    then: str
    ends_at: datetime


class Cookies:
    """Makes our cookies and finds out what they stand for: a session is a row of the store, a sign-in is in the cookie itself. Both
    are sealed under a key derived from the service's own data key.

    What is made up, changed, too old, signed out, or of another service opens as None.
    """

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, random: Callable[[int], str] = secrets.token_urlsafe
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._random = random

    async def begin(self, person: Account) -> tuple[str, Session]:
        """A new session and the cookie that opens it, whatever the browser had before."""
        cookie = self._random(_BYTES)
        session = Session(_hash(cookie), person, self._random(24), self._clock() + LASTS)
        held: dict[str, str | int | float] = {
            "id": person.id,
            "login": person.login,
            "type": person.type,
            "form": session.form_key,
            "ends": session.ends_at.timestamp(),
        }
        key = await self._key()
        sealed = self._keys.seal(key, json.dumps(held).encode(), _bound(session.hash))
        await self._store.begin_session(
            session.hash, _known_as(key, person), sealed, session.ends_at, most=AT_MOST
        )
        return cookie, session

    async def session(self, cookie: str | None) -> Session | None:
        """Asked of the store each time: what ends it in one process ends it in all."""
        if cookie is None or _COOKIE.fullmatch(cookie) is None:
            return None
        hashed = _hash(cookie)
        sealed = await self._store.session(hashed)
        held = None if sealed is None else await self._open(sealed, _bound(hashed))
        if held is None:
            return None
        person = Account(id=int(held["id"]), login=str(held["login"]), type=str(held["type"]))
        return Session(hashed, person, str(held["form"]), datetime.fromtimestamp(float(held["ends"]), UTC))

    async def end(self, session: Session) -> None:
        """Whoever has copied its cookie has nothing from now on."""
        await self._store.end_session(session.hash)

    async def end_everywhere(self, session: Session) -> None:
        """Nor has anybody who holds another session of the person that was begun until now."""
        await self._store.end_sessions(_known_as(await self._key(), session.person))

    async def begin_sign_in(self, then: str) -> tuple[str, SigningIn]:
        begun = SigningIn(self._random(24), self._random(48), then, self._clock() + SIGN_IN_LASTS)
        held: dict[str, str | int | float] = {
            "state": begun.state,
            "verifier": begun.verifier,
            "then": then,
            "ends": begun.ends_at.timestamp(),
        }
        sealed = self._keys.seal(await self._key(), json.dumps(held).encode(), SIGNING_IN.encode())
        return base64.urlsafe_b64encode(sealed).decode("ascii"), begun

    async def signing_in(self, cookie: str | None) -> SigningIn | None:
        try:
            sealed = base64.b64decode(cookie or "", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        held = await self._open(sealed, SIGNING_IN.encode()) if sealed else None
        if held is None:
            return None
        return SigningIn(
            str(held["state"]),
            str(held["verifier"]),
            str(held["then"]),
            datetime.fromtimestamp(float(held["ends"]), UTC),
        )

    async def _open(self, sealed: bytes, bound_to: bytes) -> dict[str, str | int | float] | None:
        try:
            held: dict[str, str | int | float] = json.loads(
                self._keys.open(await self._key(), sealed, bound_to)
            )
        except (ValueError, DefectError):
            return None
        return held if float(held["ends"]) > self._clock().timestamp() else None

    async def _key(self) -> bytes:
        async with self._store.transaction(NOBODY) as transaction:
            return self._keys.derive(await self._keys.data_key(transaction), _PURPOSE)


def _bound(hashed: str) -> bytes:
    """To the one cookie that opens it: a row that was moved under another one's hash opens as nothing."""
    return f"{COOKIE} {hashed}".encode()


def _known_as(key: bytes, person: Account) -> str:
    """What is stored of somebody: nothing that is told from it without our key."""
    return hmac.new(key, f"person {person.id}".encode(), hashlib.sha256).hexdigest()


def _hash(cookie: str) -> str:
    """What is stored of a cookie: nothing that would open its session. It is random enough to need no salt."""
    return hashlib.sha256(cookie.encode()).hexdigest()
