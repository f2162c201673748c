"""What an installation used: dollars and tokens by day and repository, what became of the requests, how long people waited, and how
much of its budgets is left. Draws by itself; nothing is asked of GitHub or a provider."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.custody import settings
from app.custody.settings import Budget
from app.house import House
from app.nouns import RunState, UsedThere
from app.web.desk import Desk, Tenant

PERIODS: Final = (7, 30, 90)
"""Days."""
USUAL: Final = 30
REPOSITORIES_AT_MOST: Final = 50


@dataclass(frozen=True, slots=True)
class Sum:
    """Of some runs together."""

    runs: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def cache_share(self) -> float:
        """Of a hundred tokens that a model was sent, how many it had kept from before."""
        return 100 * self.cached_tokens / self.input_tokens if self.input_tokens else 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """A day. `height` is its share of the highest bar's, from 0 to 100."""

    day: date
    sum: Sum
    height: float


@dataclass(frozen=True, slots=True)
class Usage:
    """`outcomes` counts the runs by what became of them; a pull request that was opened is open, merged or closed. Half of those who
    got a pull request waited `half_seconds` at the most, nine of ten `most_seconds`."""

    days: int
    since: date
    total: Sum
    cost_bars: Sequence[Bar]
    token_bars: Sequence[Bar]
    repositories: Sequence[tuple[int, Sum]]
    outcomes: Mapping[str, int]
    opened: int
    half_seconds: float
    most_seconds: float
    budgets: Sequence[Budget]


async def used(house: House, tenant: int, days: int) -> Usage:
    """Of the last so many days, today among them."""
    now = house.clock().astimezone(UTC)
    since = (now - timedelta(days=days - 1)).date()
    midnight = datetime(since.year, since.month, since.day, tzinfo=UTC)
    async with house.store.transaction(tenant) as transaction:
        rows = await transaction.used(midnight)
        opened, half, most = await transaction.opened_within(midnight)
        budgets = await settings.budgets(transaction, await settings.read(transaction), now)
    by_day = _by_day(rows, since, now.date())
    repositories = sorted(_by(rows, lambda row: row.repository_id).items(), key=lambda one: -one[1].cost_usd)
    return Usage(
        days=days,
        since=since,
        total=_sum(rows),
        cost_bars=_bars(by_day, lambda one: float(one.cost_usd)),
        token_bars=_bars(by_day, lambda one: float(one.tokens)),
        repositories=repositories[:REPOSITORIES_AT_MOST],
        outcomes=_outcomes(rows),
        opened=opened,
        half_seconds=half,
        most_seconds=most,
        budgets=budgets,
    )


def _sum(rows: Iterable[UsedThere]) -> Sum:
    taken = list(rows)
    return Sum(
        runs=sum(row.runs for row in taken),
        input_tokens=sum(row.input_tokens for row in taken),
        cached_tokens=sum(row.cached_tokens for row in taken),
        output_tokens=sum(row.output_tokens for row in taken),
        cost_usd=sum((row.cost_usd for row in taken), Decimal(0)),
    )


def _by(rows: Iterable[UsedThere], key: Callable[[UsedThere], int]) -> Mapping[int, Sum]:
    parted: defaultdict[int, list[UsedThere]] = defaultdict(list)
    for row in rows:
        parted[key(row)].append(row)
    return {name: _sum(some) for name, some in parted.items()}


def _by_day(rows: Iterable[UsedThere], since: date, until: date) -> Sequence[tuple[date, Sum]]:
    """Without a gap."""
    found = _by(rows, lambda row: (row.day - since).days)
    return [(since + timedelta(days=n), found.get(n, Sum())) for n in range((until - since).days + 1)]


def _bars(by_day: Sequence[tuple[date, Sum]], of: Callable[[Sum], float]) -> Sequence[Bar]:
    highest = max((of(one) for _, one in by_day), default=0.0)
    return [Bar(day, one, 100 * of(one) / highest if highest else 0.0) for day, one in by_day]


def _outcomes(rows: Iterable[UsedThere]) -> Mapping[str, int]:
    """Those that there are, in the order in which people care about them."""
    found: defaultdict[str, int] = defaultdict(int)
    for row in rows:
        found[_became(row)] += row.runs
    order = ["merged", "open", "closed", *(state.value for state in RunState)]
    return {name: found[name] for name in order if name in found}


def _became(row: UsedThere) -> str:
    if row.state is not RunState.OPENED:
        return row.state.value
    return {"merged": "merged", "closed_unmerged": "closed"}.get(row.reason or "", "open")


def routes(desk: Desk) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/installations/{tenant}/usage")
    async def look(request: Request, tenant: Tenant, days: str = str(USUAL)) -> Response:
        visit = await desk.looks_at(request, tenant, "usage")
        chosen = int(days) if days in map(str, PERIODS) else USUAL
        return desk.pages.page(
            "usage.html",
            visit.session,
            installation=visit.installation,
            here="usage",
            usage=await used(desk.house, tenant, chosen),
            periods=PERIODS,
            names=await desk.names.of(tenant),
        )

    return router
