"""Whose turn it is to ask GitHub for something, decided in the database, since several processes ask for one installation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.nouns import GitHubShare, GitHubTurn
from infra.postgres.errors import translated
from infra.postgres.tables import SCHEMA

_TAKE = text(
    f"SELECT seconds, taken FROM {SCHEMA}.take_turn("  # noqa: S608 a name of ours
    ":installation, :points, :writes, :urgent, :spacing,"
    " :per_minute, :per_hour, :points_per_minute, :longest)"
)
_HOLD = text(f"SELECT {SCHEMA}.hold_turns(:installation, :pause, :spare)")


class PostgresPaces:
    """Implements app.ports.Paces. `connected` gives a connection in a transaction that belongs to no tenant."""

    def __init__(self, connected: Callable[[], AbstractAsyncContextManager[AsyncConnection]]) -> None:
        self._connected = connected

    async def turn(
        self,
        installation_id: int,
        share: GitHubShare,
        *,
        points: int,
        writes: bool,
        urgent: bool,
        longest: timedelta,
    ) -> GitHubTurn:
        asked = {
            "installation": installation_id,
            "points": points,
            "writes": writes,
            "urgent": urgent,
            "spacing": share.spacing,
            "per_minute": share.writes_per_minute,
            "per_hour": share.writes_per_hour,
            "points_per_minute": share.points_per_minute,
            "longest": longest,
        }
        with translated():
            async with self._connected() as connection:
                row = (await connection.execute(_TAKE, asked)).one()
        return GitHubTurn(timedelta(seconds=row.seconds), row.taken)

    async def hold(self, installation_id: int, pause: timedelta, *, spare: bool) -> None:
        with translated():
            async with self._connected() as connection:
                await connection.execute(
                    _HOLD, {"installation": installation_id, "pause": pause, "spare": spare}
                )
