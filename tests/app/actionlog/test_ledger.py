"""Appending to the chain, on the real store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.actionlog.entry import UnwritableFactsError, genesis
from app.actionlog.export import opened
from app.actionlog.ledger import Head, Ledger
from app.actionlog.verify import Anchor, verify
from app.custody.keys import Keys
from app.jobs.accept import NOBODY
from app.nouns import Action, Entry
from app.ports import Store

RUN = UUID("6b7c9a8e-0000-4000-8000-000000000001")


async def stored(store: Store, installation_id: int) -> Sequence[tuple[Entry, bytes]]:
    async with store.transaction(installation_id) as transaction:
        return await transaction.entries()


async def test_entries_follow_each_other_and_verify(ledger: Ledger, store: Store, keys: Keys) -> None:
    recorder = ledger.recorder(1, RUN)
    first = await ledger.record(
        1, Action.WEBHOOK_ACCEPTED, "ada", facts={"event": "issue_comment", "number": 3}
    )
    second = await recorder(
        Action.MODEL_CALLED, provider="anthropic", input_tokens=10, cost_usd=0.1, cached=False, stop=None
    )
    assert (first.seq, first.previous_hash) == (1, genesis(1))
    assert (second.seq, second.previous_hash, second.run_id, second.actor) == (2, first.hash, RUN, "magicode")
    head = await ledger.head(1)
    assert head == Head(2, second.hash, 1)
    assert Anchor.parse(str(head)) == Anchor(2, second.hash, 1)
    entries = [entry async for entry in opened(store, keys, 1)]
    assert entries[0].details == {"event": "issue_comment", "number": 3}
    assert entries[1].details == {
        "provider": "anthropic",
        "input_tokens": 10,
        "cost_usd": 0.1,
        "cached": False,
        "stop": None,
    }
    assert [entry.hash for entry in entries] == [first.hash, second.hash]
    assert verify(entries).ok


async def test_what_is_returned_is_what_is_stored(ledger: Ledger, store: Store) -> None:
    written = await ledger.record(1, Action.RUN_ENDED, run_id=RUN, facts={"state": "opened"})
    [(read, _)] = await stored(store, 1)
    assert read == written


async def test_installations_have_chains_of_their_own_and_so_has_the_service(
    ledger: Ledger, store: Store
) -> None:
    for installation_id in (1, 2, NOBODY):
        await ledger.record(installation_id, Action.WEBHOOK_REFUSED)
        assert (await ledger.head(installation_id)).seq == 1
    heads = {(await ledger.head(installation_id)).hash for installation_id in (1, 2, NOBODY)}
    assert len(heads) == 3
    assert [entry.installation_id for entry, _ in await stored(store, 2)] == [2]


async def test_an_empty_chain_has_the_genesis_as_its_head(ledger: Ledger) -> None:
    assert await ledger.head(1) == Head(0, genesis(1), 1)
    assert genesis(1) != genesis(2)


async def test_many_writers_make_one_chain(ledger: Ledger, store: Store, keys: Keys) -> None:
    # More than the store has connections; none of them waits long enough for one to be turned away.
    await asyncio.gather(*(ledger.record(1, Action.TOKEN_MINTED, facts={"n": n}) for n in range(20)))
    entries = [entry async for entry in opened(store, keys, 1)]
    assert [entry.seq for entry in entries] == list(range(1, 21))
    assert {entry.details["n"] for entry in entries if entry.details} == set(range(20))
    assert verify(entries).ok


async def test_an_entry_is_there_only_if_its_transaction_commits(ledger: Ledger, store: Store) -> None:
    async def fail() -> None:
        async with store.transaction(1) as transaction:
            await ledger.append(transaction, 1, Action.RUN_STARTED, "ada", RUN, {"verb": "fix"})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await stored(store, 1) == []
    async with store.transaction(1) as transaction:
        for n in range(3):
            await ledger.append(transaction, 1, Action.RUN_STARTED, "ada", RUN, {"n": n})
    assert (await ledger.head(1)).seq == 3


async def test_a_clock_that_goes_back_does_not_turn_time_round(ledger: Ledger, watch: Any) -> None:
    first = await ledger.record(1, Action.RUN_STARTED)
    watch.now -= timedelta(hours=1)
    second = await ledger.record(1, Action.RUN_ENDED)
    assert second.at == first.at


async def test_details_and_salts_are_not_at_rest_in_clear(ledger: Ledger, store: Store) -> None:
    secret = "a-word-that-must-not-be-found"
    entry = await ledger.record(1, Action.COMMENT_CREATED, facts={"word": secret})
    again = await ledger.record(1, Action.COMMENT_CREATED, facts={"word": secret})
    assert entry.details_hash != again.details_hash
    assert secret not in repr(await stored(store, 1))


async def test_sealed_details_open_in_their_own_place_only(ledger: Ledger, store: Store, keys: Keys) -> None:
    await ledger.record(1, Action.RUN_STARTED, facts={"n": 1})
    await ledger.record(1, Action.RUN_STARTED, facts={"n": 2})
    rows = await stored(store, 1)

    class Swapped:
        """The store, with the sealed details of its two entries exchanged."""

        def transaction(self, installation_id: int) -> Any:
            return self

        async def __aenter__(self) -> Any:
            self._inner = store.transaction(1)
            real = await self._inner.__aenter__()
            (a, sa), (b, sb) = rows
            fields = {name: getattr(a, name) for name in Entry.__dataclass_fields__}
            swapped = Entry(**{**fields, "sealed": b.sealed})

            class Transaction:
                wrapped_key = real.wrapped_key

                async def entries(self, **_: object) -> list[tuple[Entry, bytes]]:
                    return [(swapped, sa), (b, sb)]

            return Transaction()

        async def __aexit__(self, *error: Any) -> None:
            await self._inner.__aexit__(*error)

    swapped: Any = Swapped()
    entries = [entry async for entry in opened(swapped, keys, 1)]
    assert entries[0].details is None
    assert entries[1].details == {"n": 2}


@pytest.mark.parametrize("value", [Decimal(1), float("nan"), float("inf"), b"x", ["a"], {"a": 1}, "\ud800"])
async def test_facts_that_no_verifier_could_read_are_refused(
    value: Any, ledger: Ledger, store: Store
) -> None:
    with pytest.raises(UnwritableFactsError):
        await ledger.record(1, Action.RUN_STARTED, facts={"fact": value})
    assert await stored(store, 1) == []
