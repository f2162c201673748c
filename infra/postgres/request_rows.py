"""What asks for a run, written down in as few round trips as it takes: GitHub waits for the answer."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, LiteralString

from psycopg.rows import dict_row

from app.nouns import Entry, Run
from infra.postgres.entry_rows import CHAIN, LAST_ENTRY, EntryRows, entry_of
from infra.postgres.run_rows import ADD_DELIVERY, REFUSALS, RunRows, run_of, values_of_run
from infra.postgres.tables import runs

_COLUMNS: LiteralString = ", ".join(runs.c.keys())
_ADD_REQUEST: LiteralString = (
    f"WITH delivered AS ({ADD_DELIVERY}), heard AS ({REFUSALS}), added AS ("  # noqa: S608 names of ours
    f" INSERT INTO {runs.fullname} ({_COLUMNS})"
    f" SELECT {', '.join(f'%({column.name})s' for column in runs.c)} FROM heard WHERE refused < %(at_most)s"
    f" ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"
    ") SELECT refused, added.* FROM heard LEFT JOIN added ON true"
)
# Only by whoever added it: who did not may have to wait for a run's row, and whoever holds that may wait for the chain.
_LOCK_CHAIN_OF: LiteralString = (
    f"SELECT {CHAIN} FROM {runs.fullname} WHERE installation_id = %(installation_id)s AND id = %(id)s"  # noqa: S608 ours
)


class RequestRows(RunRows, EntryRows):
    """The part of `app.ports.Transaction` that is about requests, with the log's head that is asked for next."""

    _head: tuple[Entry | None] | None = None

    async def add_request(
        self,
        run: Run,
        *,
        guid: str,
        event: str,
        action: str | None,
        outcome: str,
        since: datetime,
        reasons: Collection[str],
        at_most: int,
    ) -> Run | None:
        values: dict[str, Any] = values_of_run(run) | {
            "installation_id": self._tenant,
            "guid": guid,
            "event": event,
            "action": action,
            "outcome": outcome,
            "since": since,
            "reasons": list(reasons),
            "at_most": at_most,
        }
        async with (
            self._driver.cursor(row_factory=dict_row) as added,
            self._driver.cursor(row_factory=dict_row) as last,
        ):
            async with self._driver.pipeline():
                await added.execute(_ADD_REQUEST, values)
                await self._driver.execute(_LOCK_CHAIN_OF, values)
                await last.execute(LAST_ENTRY, {"tenant": self._tenant})
            row, head = await added.fetchone(), await last.fetchone()
        if row is None:
            raise AssertionError("a count is one row")
        if row["refused"] >= at_most:
            return None
        if row["id"] is None:
            return await self.add_run(run)
        self._head = (None if head is None else entry_of(head),)
        return run_of(row)

    async def last_entry(self) -> Entry | None:
        if self._head is None:
            return await super().last_entry()
        (head,), self._head = self._head, None
        return head
