"""Deliveries and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import and_, func, or_, select, update

from app.nouns import BESIDE_VERBS, Run, RunState
from infra.postgres.rows import TenantRows
from infra.postgres.tables import runs

AT_WORK = (
    runs.c.state.in_([RunState.QUEUED.value, RunState.RUNNING.value])
    & runs.c.blocked_by.is_(None)
    & runs.c.verb.not_in(sorted(BESIDE_VERBS))
)
ADD_DELIVERY: LiteralString = (
    "INSERT INTO magicode.deliveries (installation_id, guid, event, action, outcome, received_at)"
    " VALUES (%(installation_id)s, %(guid)s, %(event)s, %(action)s, %(outcome)s, now())"
    " ON CONFLICT DO NOTHING RETURNING guid"
)
_ABOUT = func.coalesce(runs.c.subject, runs.c.number)
_ADD_RUN: LiteralString = (
    f"INSERT INTO {runs.fullname} ({', '.join(runs.c.keys())})"  # noqa: S608 names of ours
    f" VALUES ({', '.join(f'%({column.name})s' for column in runs.c)})"
    f" ON CONFLICT DO NOTHING RETURNING {', '.join(runs.c.keys())}"
)
REFUSALS: LiteralString = (
    "SELECT count(*) AS refused FROM magicode.runs WHERE installation_id = %(installation_id)s AND asker_id = %(asker_id)s"
    " AND state = 'refused' AND created_at >= %(since)s AND reason = ANY(%(reasons)s)"
)
_RUN_COLUMNS = frozenset(field.name for field in fields(Run)) - {
    "id",
    "installation_id",
    "meaning",
    "created_at",
}


class RunRows(TenantRows):
    """The part of `app.ports.Transaction` that is about requests."""

    async def add_delivery(self, guid: str, event: str, action: str | None, outcome: str) -> bool:
        values = {
            "installation_id": self._tenant,
            "guid": guid,
            "event": event,
            "action": action,
            "outcome": outcome,
        }
        return await self._row(ADD_DELIVERY, values) is not None

    async def add_run(self, run: Run) -> Run:
        """As the port says; the run comes back with `blocked_by` set when another is at work on the subject."""
        wanted = values_of_run(run) | {"installation_id": self._tenant}
        while True:
            row = await self._row(_ADD_RUN, wanted)
            if row is not None:
                return run_of(row)
            there = await self._one_run(self._runs().where(runs.c.meaning == run.meaning))
            if there is not None:
                return there
            # Not the meaning stood in the way, so the one place at work on this subject did. If its holder has just
            # ended, the place is free and the next turn takes it.
            active = await self.active_run(run.repository_id, run.about)
            wanted["blocked_by"] = None if active is None else active.id

    async def run(self, run_id: UUID, *, lock: bool = False) -> Run | None:
        statement = self._runs().where(runs.c.id == run_id)
        return await self._one_run(statement.with_for_update() if lock else statement)

    async def active_run(self, repository_id: int, number: int) -> Run | None:
        return await self._one_run(
            self._runs().where(runs.c.repository_id == repository_id, number == _ABOUT, AT_WORK)
        )

    async def opened_for(self, repository_id: int, pull_request: int) -> int | None:
        opener = await self._one_run(
            self._runs()
            .where(
                runs.c.repository_id == repository_id,
                runs.c.pull_request == pull_request,
                runs.c.branch.is_not(None),
            )
            .order_by(runs.c.created_at)
            .limit(1)
        )
        return None if opener is None else opener.about

    async def runs(
        self,
        *,
        repository_id: int | None = None,
        number: int | None = None,
        about: int | None = None,
        verb: str | None = None,
        state: RunState | None = None,
        asker_id: int | None = None,
        since: datetime | None = None,
        beyond: UUID | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        statement = self._runs().order_by(runs.c.created_at.desc(), runs.c.id).limit(limit)
        if repository_id is not None:
            statement = statement.where(runs.c.repository_id == repository_id)
        if number is not None:
            statement = statement.where(runs.c.number == number)
        if about is not None:
            statement = statement.where(about == _ABOUT)
        if verb is not None:
            statement = statement.where(runs.c.verb == verb)
        if state is not None:
            statement = statement.where(runs.c.state == state.value)
        if asker_id is not None:
            statement = statement.where(runs.c.asker_id == asker_id)
        if since is not None:
            statement = statement.where(runs.c.created_at >= since)
        if beyond is not None:
            statement = statement.where(self._behind(beyond))
        return [run_of(row) for row in (await self._connection.execute(statement)).mappings()]

    async def update_run(self, run_id: UUID, **columns: object) -> Run:
        """Raises KeyError for a run that is not there, TypeError for a column that a run does not have or never changes."""
        unknown = columns.keys() - _RUN_COLUMNS
        if unknown:
            raise TypeError(f"a run has no column to change named {', '.join(sorted(unknown))}")
        changed = await self._connection.execute(
            update(runs)
            .where(runs.c.installation_id == self._tenant, runs.c.id == run_id)
            .values(**columns)
            .returning(*runs.c)
        )
        row = changed.mappings().first()
        if row is None:
            raise KeyError(run_id)
        return run_of(row)

    async def run_by_branch(self, repository_id: int, branch: str) -> Run | None:
        return await self._one_run(
            self._runs()
            .where(runs.c.repository_id == repository_id, runs.c.branch == branch)
            .order_by(runs.c.created_at.desc())
            .limit(1)
        )

    def _behind(self, run_id: UUID) -> Any:
        """The time is compared by itself too, since an index is in its order."""
        of_it = select(runs.c.created_at).where(runs.c.installation_id == self._tenant, runs.c.id == run_id)
        then = of_it.scalar_subquery()
        return and_(runs.c.created_at <= then, or_(runs.c.created_at < then, runs.c.id > run_id))

    def _runs(self) -> Any:
        return select(runs).where(runs.c.installation_id == self._tenant)

    async def _one_run(self, statement: Any) -> Run | None:
        row = (await self._connection.execute(statement)).mappings().first()
        return None if row is None else run_of(row)


def values_of_run(run: Run) -> dict[str, object]:
    return {field.name: getattr(run, field.name) for field in fields(Run)}


def run_of(row: Mapping[Any, Any]) -> Run:
    values: Mapping[str, Any] = {field.name: row[field.name] for field in fields(Run)}
    times = {name: _utc(values[name]) for name in ("created_at", "started_at", "ended_at")}
    return Run(**{**values, **times, "state": RunState(values["state"])})


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else at.astimezone(UTC)
