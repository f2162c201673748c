"""The pictures of what was used: sums that are right to the cent, of this installation alone, and budgets that say when they end."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from html import unescape
from uuid import uuid4

import pytest
import pytest_asyncio

from app.custody import settings
from app.custody.settings import Budget
from app.nouns import Run, RunState
from app.web.usage import used
from tests.app.web.browser import Browser, opened
from tests.line.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def put(stage: Stage, tenant: int, at: datetime, **given: object) -> Run:
    """A run that ended a minute after it was asked for."""
    made = Run(
        id=uuid4(), installation_id=tenant, repository_id=int(str(given.get("repository_id", 5))), number=7, is_pull_request=False,
        verb="fix", occasion="comment", comment_id=1, asker_id=9, asker_login="wim", meaning=str(uuid4()), input_hash="h",
        cost_limit_usd=None, state=RunState.QUEUED, attempt=0, blocked_by=None, cancel_requested=False, reason=None,
        status_comment_id=None, branch=None, base_sha=None, head_sha=None, pull_request=None, input_tokens=0, cached_tokens=0,
        output_tokens=0, cost_usd=Decimal(0), created_at=at, started_at=None, ended_at=None,
    )  # fmt: skip
    async with stage.house.store.transaction(tenant) as transaction:
        await transaction.add_run(made)
        fields = {name: value for name, value in given.items() if name != "repository_id"}
        return await transaction.update_run(
            made.id, **{"started_at": at, "ended_at": at + timedelta(seconds=60), **fields}
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tenant(shared: Stage) -> int:
    """Whose runs these are; another has one as well."""
    tenant, day, now = shared.installation, timedelta(days=1), datetime.now(UTC)
    other = next(one.id for one in shared.github.world.installations.values() if one.id != tenant)
    cost = {"cost_usd": Decimal("0.10"), "input_tokens": 1_000, "cached_tokens": 600, "output_tokens": 50}
    await put(shared, tenant, now, state=RunState.OPENED, reason="merged", **cost)
    await put(shared, tenant, now - day, state=RunState.OPENED, reason="closed_unmerged", **cost)
    await put(shared, tenant, now - 2 * day, state=RunState.OPENED, reason="opened", repository_id=6, **cost)
    await put(shared, tenant, now - 20 * day, state=RunState.REFUSED, reason="closed", **cost)
    await put(shared, tenant, now - 40 * day, state=RunState.FAILED, reason="defect", **cost)
    await put(shared, other, now, state=RunState.OPENED, reason="opened", cost_usd=Decimal(99))
    return tenant


async def newest(stage: Stage) -> date:
    """The day of the newest run: another one may have begun since it was put there."""
    return max([run.created_at for run in await stage.runs()]).astimezone(UTC).date()


async def test_the_sums_are_those_of_the_runs_and_of_nobody_else(shared: Stage, tenant: int) -> None:
    week, month, quarter = [await used(shared.house, tenant, days) for days in (7, 30, 90)]
    assert [one.total.cost_usd for one in (week, month, quarter)] == [
        Decimal("0.30"), Decimal("0.40"), Decimal("0.50"),
    ]  # fmt: skip
    assert (month.total.runs, month.total.tokens, month.total.cache_share) == (4, 4_200, 60.0)
    assert dict(week.outcomes) == {"merged": 1, "open": 1, "closed": 1}
    assert dict(quarter.outcomes) == {"merged": 1, "open": 1, "closed": 1, "refused": 1, "failed": 1}
    assert [(name, one.runs) for name, one in month.repositories] == [(5, 3), (6, 1)]
    assert (month.opened, month.half_seconds, month.most_seconds) == (3, 60.0, 60.0)


async def test_every_day_has_its_bar(shared: Stage, tenant: int) -> None:
    last, today = await newest(shared), {datetime.now(UTC).date()}
    month, quarter = await used(shared.house, tenant, 30), await used(shared.house, tenant, 90)
    today.add(datetime.now(UTC).date())
    assert len(month.cost_bars) == 30
    assert month.cost_bars[-1].day in today
    heights = {bar.day: bar.height for bar in month.cost_bars}
    assert [heights[last - timedelta(days=ago)] for ago in (3, 2, 1, 0)] == [0, 100, 100, 100]
    assert len(quarter.cost_bars) == 90
    assert sum(bar.sum.runs for bar in quarter.cost_bars) == quarter.total.runs == 5


async def test_the_page_says_and_draws_it(shared: Stage, tenant: int, ada: Browser) -> None:
    page = await ada.get(f"/installations/{tenant}/usage?days=30")
    said = re.sub(r"\s+", " ", unescape(page.text))
    assert "<dt>Cost</dt><dd>$0.4000</dd>" in said
    assert 'pull request merged</td><td class="number">1</td><td class="number">25 %' in said
    assert said.count('<rect class="bar"') == 60
    assert "style=" not in page.text
    assert (await ada.get(f"/installations/{tenant}/usage?days=12")).text.count('<rect class="bar"') == 60
    assert (await ada.get(f"/installations/{tenant}/usage?days='")).status_code == 200


async def test_a_program_is_told_the_same(shared: Stage, tenant: int, ada: Browser) -> None:
    today = {datetime.now(UTC).date()}
    told = (await ada.api("GET", f"/installations/{tenant}/usage?days=30")).json()
    today.add(datetime.now(UTC).date())
    assert told["total"] == {
        "runs": 4, "input_tokens": 4_000, "cached_tokens": 2_400, "output_tokens": 200, "cost_usd": "0.400000",
    }  # fmt: skip
    last, runs = await newest(shared), {one["day"]: one["runs"] for one in told["by_day"]}
    assert (len(told["by_day"]), runs[last.isoformat()]) == (30, 1)
    assert date.fromisoformat(told["by_day"][-1]["day"]) in today
    assert [(one["repository_id"], one["runs"]) for one in told["by_repository"]] == [(5, 3), (6, 1)]
    assert (await ada.api("GET", f"/installations/{tenant}/usage?days=1000")).status_code == 400


async def test_only_administrators_see_it(shared: Stage, tenant: int) -> None:
    async with opened(shared) as browser:
        await browser.sign_in("wim")
        assert (await browser.get(f"/installations/{tenant}/usage")).status_code == 404


@pytest.mark.parametrize(
    ("limit", "said", "alert"),
    [
        ("$1", "30 %", None),
        ("$0.37", "81 %", 80),
        ("$0.33", "90 %", 90),
        ("$0.30", "100 %", 100),
        ("$0.10", "300 %", 100),
    ],
)
async def test_a_budget_says_how_much_is_used_and_warns_at_80_90_and_100(
    shared: Stage, tenant: int, ada: Browser, limit: str, said: str, alert: int | None
) -> None:
    budget = Budget("limit-month", "this month", Decimal(limit[1:]), Decimal("0.30"))
    assert (f"{budget.percent} %", budget.alert) == (said, alert)
    assert budget.crossed_by(Decimal("0.30")) == alert
    assert budget.crossed_by(Decimal(0)) is None
    page = await ada.get(f"/installations/{tenant}/settings")
    await ada.submit(page, f"/installations/{tenant}/settings", name="limit-day", value=limit)
    now = None
    while now is None or now.date() != datetime.now(UTC).date():  # both of them of the same day
        now = datetime.now(UTC)
        async with shared.house.store.transaction(tenant) as transaction:
            (found,) = await settings.budgets(transaction, await settings.read(transaction), now)
        shown = unescape((await ada.get(f"/installations/{tenant}/usage")).text)
    assert f"{found.percent} % of what runs may cost today" in shown
    assert ('role="alert"' in shown) is (found.alert is not None)
