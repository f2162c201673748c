"""What whoever runs the service does first when something is wrong: pause an installation or everybody, end what opens doors, and
say whom it met, from the log. And the other way round.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import datetime

from app.actionlog.ledger import Ledger
from app.errors import ErasedError, MissingError, UserError
from app.nouns import Action
from app.ports import GitHub, Store

OpenGitHub = Callable[[], AbstractAsyncContextManager[GitHub]]

EVERYBODY = 0
"""In the place of an installation's id; what is done to all is written down in the service's own chain, which has it too."""

OPERATOR = "operator"


class UnknownHereError(UserError):
    """No installation with this id is known here."""


@dataclass(frozen=True, slots=True)
class Contained:
    """`changed` False: it was so already. `tokens` of the API were removed; `sessions`: every browser is signed out; `at_github`: so
    it is there too."""

    installation_id: int
    changed: bool
    tokens: int = 0
    sessions: bool = False
    at_github: bool = False


@dataclass(frozen=True, slots=True)
class Affected:
    """An installation of whose log there is something in the time asked for: how many entries, by kind."""

    installation_id: int
    account: str | None
    first: datetime
    last: datetime
    actions: Mapping[str, int]


async def pause(
    store: Store, ledger: Ledger, installation_id: int, *, revoke: bool, suspend: OpenGitHub | None = None
) -> Contained:
    """From here on no job of theirs begins, and what is at work stops before its next effect and revokes its tokens of GitHub's.
    What is asked meanwhile is kept. `revoke`: the tokens of the API go for good, and with EVERYBODY all sessions. `suspend`, of one
    installation: GitHub refuses its tokens too, those that somebody else holds, and tells us of nothing that is asked meanwhile.

    Raises UnknownHereError, and what GitHub raises; then it is paused here all the same.
    """
    await require_known(store, installation_id)
    changed = await store.pause(installation_id)
    removed = 0
    if revoke:
        whose = await store.installation_ids() if installation_id == EVERYBODY else [installation_id]
        for one in whose:
            removed += await _remove_tokens(store, ledger, one)
        if installation_id == EVERYBODY:
            await store.end_every_session()
    facts = {"new": changed, "tokens": removed, "suspended": suspend is not None}
    await ledger.record(installation_id, Action.SERVICE_PAUSED, OPERATOR, None, facts)
    if suspend is not None:
        async with suspend() as github:
            # First, so that it is ended again also where the answer is never heard.
            await store.note_suspension(installation_id)
            await github.suspend(installation_id)
    return Contained(
        installation_id,
        changed,
        removed,
        sessions=revoke and installation_id == EVERYBODY,
        at_github=suspend is not None,
    )


async def resume(store: Store, ledger: Ledger, installation_id: int, *, unsuspend: OpenGitHub) -> Contained:
    """What waited begins, once GitHub makes tokens again where `pause` had it stop. One that is paused by itself stays so where
    everybody is let go. Raises UnknownHereError, and what GitHub raises; then it is paused still."""
    await require_known(store, installation_id)
    suspended = await store.suspended(installation_id)
    if suspended:
        async with unsuspend() as github:
            with suppress(MissingError):
                await github.unsuspend(installation_id)
    changed = await store.resume(installation_id)
    facts = {"new": changed, "suspended": suspended}
    await ledger.record(installation_id, Action.SERVICE_RESUMED, OPERATOR, None, facts)
    return Contained(installation_id, changed, at_github=suspended)


async def affected(
    store: Store, since: datetime, until: datetime, actions: Sequence[str] = ()
) -> Sequence[Affected]:
    """Whom to tell: by their ids, those of whom something was written down from `since` on and before `until`."""
    found = []
    for installation_id in await store.installation_ids():
        try:
            async with store.transaction(installation_id) as transaction:
                counted = await transaction.entry_counts(since, until, actions)
                known = await transaction.installation()
        except ErasedError:
            continue
        if counted:
            found.append(
                Affected(
                    installation_id,
                    None if known is None else known.account_login,
                    min(one.first for one in counted),
                    max(one.last for one in counted),
                    {one.action: one.count for one in counted},
                )
            )
    return found


async def _remove_tokens(store: Store, ledger: Ledger, installation_id: int) -> int:
    try:
        async with store.transaction(installation_id) as transaction:
            known = await transaction.api_tokens()
            for token in known:
                await transaction.remove_api_token(token.id)
                facts = {"name": "api-token", "token": str(token.id), "new": "removed"}
                await ledger.append(
                    transaction, installation_id, Action.SETTING_CHANGED, OPERATOR, None, facts
                )
            return len(known)
    except ErasedError:
        return 0


async def require_known(store: Store, installation_id: int) -> None:
    """Raises UnknownHereError. EVERYBODY is."""
    if installation_id == EVERYBODY:
        return
    async with store.transaction(installation_id) as transaction:
        if await transaction.installation() is None:
            raise UnknownHereError
