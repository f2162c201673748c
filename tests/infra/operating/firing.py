"""The rules fire where they should and nowhere else, by Prometheus' own `promtool`: what a service told before and after something
happened to it becomes series, and the rules are asked. `make rules` plays it; it is no part of `make test`, which needs no Prometheus.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import shutil
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import infra.operating
from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE
from app.errors import RefusedError, TransientError
from app.nouns import QueueLoad, Spending
from infra.metrics import Metrics
from infra.models.playbook import load
from infra.traces import Traces
from infra.watch import ServiceWatch
from tests.line.conftest import SIMULATOR, Stages, raise_stage, sample
from tests.line.stage import Stage

__all__ = ["raise_stage", "sample"]

RULES = Path(infra.operating.__file__).parent / "alerts.yml"
TOKEN = "what-shows-figures"
BEFORE, AFTER = 30, 30
"""Minutes."""
BUSY = ("magicode_queue_jobs{", "magicode_queue_working_jobs{", "magicode_queue_oldest_seconds{")


def series(before: str, after: str) -> list[dict[str, str]]:
    """Each gauge stands as it was, and then as it is. Each counter grows in ten minutes by what it has grown, and goes on so; one
    that was never counted before is told from its first figure on."""
    then = _samples(before)
    told = []
    for name, value in _samples(after).items():
        was = f"{then[name]}x{BEFORE - 1}" if name in then else f"_x{BEFORE - 1}"
        if name.partition("{")[0].endswith(("_total", "_bucket", "_count", "_sum")):
            slope = (value - then.get(name, 0.0)) / 10
            told.append({"series": name, "values": f"{was} {then.get(name, 0.0) + slope}+{slope}x{AFTER}"})
        else:
            told.append({"series": name, "values": f"{was} {value}x{AFTER}"})
    return told


def _samples(text: str) -> dict[str, float]:
    return {
        f"{one.name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in sorted(one.labels.items()))}}}": one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name.startswith("magicode_") and not one.name.endswith("_created")
    }


def require_fires(folder: Path, before: str, after: str, *alerts: str) -> None:
    """Exactly these, once it has happened for twenty minutes."""
    shutil.copy(RULES, folder / "alerts.yml")
    asked = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series(before, after),
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{BEFORE + 20}m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{one}"}}', "value": 1} for one in sorted(alerts)
                        ],
                    }
                ],
            }
        ],
    }
    (folder / "test.yml").write_text(yaml.safe_dump(asked), encoding="utf-8")
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- a whole service -------------------------------------------------------------------------------------------------


async def up(raise_stage: Stages, sample: Path, *, working: bool = True) -> Stage:
    playbook = load(SIMULATOR / "sample.playbook.yml")
    environ = {"MAGICODE_METRICS_TOKEN": TOKEN}
    return await raise_stage({"octo/fairshare": sample}, playbook, environ=environ, working=working)


async def told(stage: Stage) -> str:
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        return (await client.get(f"{stage.url}/metrics")).text


async def told_at_rest(stage: Stage) -> str:
    """Once no queue has work any more: what a run leaves to be done is done after its end."""
    async with asyncio.timeout(120):
        while True:
            figures = await told(stage)
            queues = [value for name, value in _samples(figures).items() if name.startswith(BUSY)]
            if queues and not any(queues):
                return figures
            await asyncio.sleep(0.1)


async def test_a_request_that_goes_well_wakes_nobody(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    stage = await up(raise_stage, sample)
    before = await told(stage)
    await stage.comment(await stage.open_issue(ISSUE_TITLE, ISSUE_BODY), COMMENT)
    await stage.ended()
    require_fires(tmp_path, before, await told_at_rest(stage))


async def test_forged_deliveries_are_told_of(raise_stage: Stages, sample: Path, tmp_path: Path) -> None:
    stage = await up(raise_stage, sample, working=False)
    before = await told(stage)
    headers = {"X-GitHub-Event": "ping", "X-GitHub-Delivery": "g", "Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        for number in range(30):
            forged = {"X-Hub-Signature-256": f"sha256={number:064x}"}
            answer = await client.post(f"{stage.url}/webhooks/github", content=b"{}", headers=forged)
            assert answer.status_code == 401
    require_fires(tmp_path, before, await told(stage), "ForgedWebhooks")


async def test_bodies_that_are_made_to_do_harm_are_told_of(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    stage = await up(raise_stage, sample, working=False)
    before = await told(stage)
    body, secret = b'{"action": "created", "action": "deleted"}', stage.environ["MAGICODE_WEBHOOK_SECRET"]
    headers = {
        "X-GitHub-Event": "issues",
        "X-GitHub-Delivery": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "Content-Type": "application/json",
        "X-Hub-Signature-256": f"sha256={hmac.new(secret.encode(), body, 'sha256').hexdigest()}",
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        for _ in range(30):
            answer = await client.post(f"{stage.url}/webhooks/github", content=body, headers=headers)
            assert answer.status_code == 400
    require_fires(tmp_path, before, await told(stage), "HostileBodies")


async def test_tokens_and_other_tenants_ids_that_are_tried_are_told_of(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    stage = await up(raise_stage, sample, working=False)
    before = await told(stage)
    async with httpx.AsyncClient(trust_env=False, base_url=stage.url) as client:
        for number in range(60):
            guessed = {"Authorization": f"Bearer mgc_{number:064x}"}
            answer = await client.get(f"/api/installations/{number + 1}/runs", headers=guessed)
            assert answer.status_code == 401
        for _ in range(15):
            assert (await client.get("/metrics")).status_code == 401
    require_fires(tmp_path, before, await told(stage), "TokensTried", "FiguresTried")


async def test_runs_that_nobody_works_on_are_told_of(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    stage = await up(raise_stage, sample, working=False)
    before = await told(stage)
    await stage.comment(await stage.open_issue(ISSUE_TITLE, ISSUE_BODY), COMMENT)
    await stage.settled()
    require_fires(tmp_path, before, await told(stage), "NobodyWorks")


# --- what a stage does not come to -----------------------------------------------------------------------------------

IDLE = [QueueLoad("runs", 0, 0, 0, 0.0)]


def many(act: Callable[[], None], count: int) -> None:
    for _ in range(count):
        act()


def fails(watch: ServiceWatch, reason: str) -> None:
    error = RefusedError if reason.endswith("refused") else TransientError
    with pytest.raises(error), watch.model("anthropic"):
        raise error(reason=reason)


def away(watch: ServiceWatch) -> None:
    many(lambda: fails(watch, "model_overloaded"), 20)


def key_refused(watch: ServiceWatch) -> None:
    many(lambda: fails(watch, "model_key_refused"), 5)


def secrets(watch: ServiceWatch) -> None:
    many(lambda: watch.ended("fix", "refused", "secret"), 5)


def workflows(watch: ServiceWatch) -> None:
    many(lambda: watch.ended("fix", "refused", "path_denied"), 8)


def outsiders(watch: ServiceWatch) -> None:
    many(lambda: watch.ended("fix", "refused", "no_write_permission"), 40)


def failures(watch: ServiceWatch) -> None:
    many(lambda: watch.ended("fix", "opened", "opened"), 20)
    many(lambda: watch.ended("fix", "failed", "defect"), 10)


def unavailable(watch: ServiceWatch) -> None:
    many(lambda: watch.delivered("queued", "", 0.01), 50)
    many(lambda: watch.delivered("unavailable", "database_away", 0.01), 10)


def slow(watch: ServiceWatch) -> None:
    many(lambda: watch.delivered("queued", "", 0.01), 500)
    many(lambda: watch.delivered("queued", "", 2.0), 100)


def late(watch: ServiceWatch) -> None:
    many(lambda: watch.begun("fix", 3.0), 20)
    many(lambda: watch.begun("fix", 100.0), 5)


def dear(watch: ServiceWatch) -> None:
    watch.spent("openai", Spending(cost_usd=Decimal(80)))


def missed(watch: ServiceWatch) -> None:
    watch.missed(2, 4000.0)


def budget(watch: ServiceWatch) -> None:
    watch.left_at_github(0.02)


def github_away(watch: ServiceWatch) -> None:
    for status, count in (("200", 10), ("502", 5), ("none", 5)):
        for _ in range(count):
            with watch.github("GET /repos/{owner}/{repo}") as doing:
                doing.came_to(status)


def foreign_forms(watch: ServiceWatch) -> None:
    many(lambda: watch.answered("POST", "/installations/{tenant}/settings", 403, 0.01), 30)


def others_ids(watch: ServiceWatch) -> None:
    many(lambda: watch.answered("GET", "/installations/{tenant}/runs", 404, 0.01), 150)


@pytest.mark.parametrize(
    ("happens", "alerts"),
    [
        (away, ["ModelAway"]),
        (key_refused, ["ModelKeyRefused"]),
        (secrets, ["SecretsInChanges"]),
        (workflows, ["ChangesWhereNoneMayBe"]),
        (outsiders, ["OutsidersAsk"]),
        (failures, ["RunsFail"]),
        (unavailable, ["DeliveriesUnavailable", "DeliveriesUnavailableSlowly"]),
        (slow, ["DeliveriesSlow"]),
        (late, ["RunsBeginLate"]),
        (dear, ["CostRises"]),
        (missed, ["WebhooksMissed"]),
        (budget, ["GitHubBudgetLow"]),
        (github_away, ["GitHubRefuses"]),
        (foreign_forms, ["ForeignForms"]),
        (others_ids, ["OthersIdsTried"]),
    ],
    ids=lambda one: one.__name__ if callable(one) else "",
)
def test_what_happens_is_told_of(
    happens: Callable[[ServiceWatch], None], alerts: list[str], tmp_path: Path
) -> None:
    watch = ServiceWatch(Metrics(), Traces(None))
    watch.delivered("queued", "", 0.01)
    before = watch.told(IDLE)[0].decode()
    happens(watch)
    after = watch.told(IDLE)[0].decode()
    require_fires(tmp_path, before, after, *alerts)


def test_a_service_without_its_database_and_one_that_is_gone_are_told_of(tmp_path: Path) -> None:
    watch = ServiceWatch(Metrics(), Traces(None))
    well = watch.told(IDLE)[0].decode()
    require_fires(tmp_path, well, watch.told(None)[0].decode(), "DatabaseAway")
    require_fires(tmp_path, "", "", "NothingIsHeard")


@pytest.mark.parametrize("queue", ["runs", "own_runs", "own_quick"])
def test_a_queue_that_grows_old_is_told_of(tmp_path: Path, queue: str) -> None:
    watch = ServiceWatch(Metrics(), Traces(None))
    before = watch.told(IDLE)[0].decode()
    after = watch.told([QueueLoad(queue, 4, 2, 0, 900.0)])[0].decode()
    require_fires(tmp_path, before, after, "QueueOld")
