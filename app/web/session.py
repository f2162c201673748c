"""Who a browser is, in a sealed cookie: an id, a login and a time. No token of GitHub's is in it, and nothing is stored but the
hash of a session that was signed out."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.errors import DefectError
from app.jobs.accept import NOBODY
from app.nouns import Account
from app.ports import Clock, Keys, Store

COOKIE = "magicode_session"
LASTS = timedelta(hours=8)
SIGNING_IN = "magicode_signing_in"
SIGN_IN_LASTS = timedelta(minutes=10)
"""As long as GitHub's code."""

_PURPOSE = b"magicode/sessions"


@dataclass(frozen=True, slots=True)
class Session:
    """A person who signed in. `form_key` stands in every form, so that no other site's form is taken for ours."""

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
    """Seals and opens what our cookies hold, under a key derived from the service's own data key.

    What is changed, too old, signed out, or of another service opens as None.
    """

    def __init__(
        self, store: Store, keys: Keys, clock: Clock, random: Callable[[int], str] = secrets.token_urlsafe
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._random = random

    async def begin(self, person: Account) -> tuple[str, Session]:
        """A new session and the cookie that holds it."""
        session = Session(person, self._random(24), self._clock() + LASTS)
        held: dict[str, str | int | float] = {
            "id": person.id,
            "login": person.login,
            "type": person.type,
            "form": session.form_key,
            "ends": session.ends_at.timestamp(),
        }
        return await self._seal(COOKIE, held), session

    async def session(self, cookie: str | None) -> Session | None:
        held = await self._open(COOKIE, cookie)
        if held is None:
            return None
        person = Account(id=int(held["id"]), login=str(held["login"]), type=str(held["type"]))
        ends = datetime.fromtimestamp(float(held["ends"]), UTC)
        if await self._store.session_ended(_hash(str(held["form"])), await self._known_as(person), ends):
            return None
        return Session(person, str(held["form"]), ends)

    async def end(self, session: Session) -> None:
        """Whoever has copied its cookie has nothing from now on."""
        await self._store.end_session(_hash(session.form_key), session.ends_at)

    async def end_everywhere(self, session: Session) -> None:
        """Nor has anybody who holds another session of the person that was begun until now."""
        await self.end(session)
        await self._store.end_sessions(await self._known_as(session.person), self._clock() + LASTS)

    async def begin_sign_in(self, then: str) -> tuple[str, SigningIn]:
        begun = SigningIn(self._random(24), self._random(48), then, self._clock() + SIGN_IN_LASTS)
        held: dict[str, str | int | float] = {
            "state": begun.state,
            "verifier": begun.verifier,
            "then": then,
            "ends": begun.ends_at.timestamp(),
        }
        return await self._seal(SIGNING_IN, held), begun

    async def signing_in(self, cookie: str | None) -> SigningIn | None:
        held = await self._open(SIGNING_IN, cookie)
        if held is None:
            return None
        return SigningIn(
            str(held["state"]),
            str(held["verifier"]),
            str(held["then"]),
            datetime.fromtimestamp(float(held["ends"]), UTC),
        )

    async def _seal(self, name: str, held: Mapping[str, str | int | float]) -> str:
        sealed = self._keys.seal(await self._key(), json.dumps(held).encode(), name.encode())
        return base64.urlsafe_b64encode(sealed).decode("ascii")

    async def _open(self, name: str, cookie: str | None) -> dict[str, str | int | float] | None:
        if not cookie:
            return None
        try:
            sealed = base64.b64decode(cookie, altchars=b"-_", validate=True)
            held: dict[str, str | int | float] = json.loads(
                self._keys.open(await self._key(), sealed, name.encode())
            )
        except (binascii.Error, ValueError, DefectError):
            return None
        return held if float(held["ends"]) > self._clock().timestamp() else None

    async def _known_as(self, person: Account) -> str:
        """What is stored of somebody: nothing that is told from it without our key."""
        return hmac.new(await self._key(), f"person {person.id}".encode(), hashlib.sha256).hexdigest()

    async def _key(self) -> bytes:
        async with self._store.transaction(NOBODY) as transaction:
            return self._keys.derive(await self._keys.data_key(transaction), _PURPOSE)


def _hash(form_key: str) -> str:
    """What is stored of a session: nothing that would open it."""
    return hashlib.sha256(form_key.encode()).hexdigest()
