"""Several master keys at once, while data moves from one to another: the first wraps, all unwrap."""

from __future__ import annotations

from typing import Protocol

from app.errors import WrongMasterKeyError
from infra.secrets.ring import CHANGED


class OneMasterKey(Protocol):
    """app.ports.MasterKey, and what a rotation needs of one."""

    @property
    def id(self) -> str: ...

    def wrap(self, key: bytes) -> bytes: ...

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes: ...

    def begin(self) -> None:
        """Makes a new current key, or goes on with a rotation that was begun and not finished."""
        ...

    def finish(self, under: str, *, keep_old: bool) -> int:
        """Everything is wrapped by the key `under`. Returns how many old ones it removed: none where another is current."""
        ...


class SeveralMasterKeys:
    """Implements app.ports.MasterKey. Each process is to have the new one behind the old one first, then the other way
    round, so that at no moment one meets a data key that it cannot unwrap."""

    def __init__(self, current: OneMasterKey, *before: OneMasterKey) -> None:
        self._current = current
        self._all = (current, *before)

    def __repr__(self) -> str:
        return f"SeveralMasterKeys({', '.join(map(repr, self._all))})"

    @property
    def id(self) -> str:
        return self._current.id

    def wrap(self, key: bytes) -> bytes:
        return self._current.wrap(key)

    def unwrap(self, master_key_id: str, wrapped: bytes) -> bytes:
        """Raises WrongMasterKeyError when none of them wrapped it, and what that one raises that did."""
        for one in self._all:
            try:
                return one.unwrap(master_key_id, wrapped)
            except WrongMasterKeyError as error:
                if error.reason == CHANGED:
                    raise
        raise WrongMasterKeyError

    def begin(self) -> None:
        """No new key: everything moves to the first one's present key."""
        self._current.wrap(bytes(32))

    def finish(self, under: str, *, keep_old: bool) -> int:
        """0: whoever named several takes the others out of the setting."""
        del under, keep_old
        return 0
