"""What the machinery around the service asks it, and who may see its figures."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.demo import COMMENT, ISSUE_BODY, ISSUE_TITLE
from app.nouns import RunState
from app.settings import read
from infra.models.playbook import load
from infra.simulator.collector import collecting
from infra.traces import ENDPOINT
from tests.figures import Figures
from tests.line.conftest import SIMULATOR, Stages
from tests.line.seen import until
from tests.line.stage import Stage

TOKEN = "what-shows-figures"
OPEN = {"MAGICODE_METRICS_TOKEN": TOKEN}


async def asked(stage: Stage, path: str, authorization: str | None = None) -> httpx.Response:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode())]
    async with httpx.AsyncClient(trust_env=False, base_url=stage.url, headers=headers, timeout=60) as client:
        return await client.get(path)


async def figures(stage: Stage) -> Figures:
    answer = await asked(stage, "/metrics", f"Bearer {TOKEN}")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Figures(answer.text)


async def test_figures_are_shown_to_nobody_where_no_token_is_set(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage(
        {"octo/fairshare": sample}, load(SIMULATOR / "sample.playbook.yml"), working=False
    )
    for authorization in (None, "Bearer", "Bearer None", "Bearer null", f"Bearer {TOKEN}"):
        answer = await asked(stage, "/metrics", authorization)
        assert answer.status_code == 403
        assert "magicode_" not in answer.text


@pytest.mark.parametrize("length", [1, 15])
def test_a_token_that_can_be_guessed_is_refused_at_the_start(length: int) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        read({"MAGICODE_METRICS_TOKEN": "x" * length})


async def test_a_whole_request_is_seen_in_figures_and_as_one_trace(raise_stage: Stages, sample: Path) -> None:
    async with collecting() as collector:
        environ = {**OPEN, ENDPOINT: collector.url, "OTEL_BSP_SCHEDULE_DELAY": "200"}
        stage = await raise_stage(
            {"octo/fairshare": sample}, load(SIMULATOR / "sample.playbook.yml"), environ=environ
        )
        for wrong in (None, "Bearer", f"Basic {TOKEN}", "Bearer what-shows-figureſ", f"Bearer {TOKEN}x"):
            answer = await asked(stage, "/metrics", wrong)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "magicode_" not in answer.text
        issue = await stage.open_issue(ISSUE_TITLE, ISSUE_BODY)
        await stage.comment(issue, COMMENT)
        (run,) = await stage.ended()
        assert run.state is RunState.OPENED

        async def counted() -> Figures | None:
            """Both are counted once their end is written down."""
            told = await figures(stage)
            ended = told.of("magicode_runs_total", verb="fix", state="opened", reason=run.reason or "")
            return (
                told if ended and told.of("magicode_jobs_total", task="acknowledge", outcome="ok") else None
            )

        told: Figures = await until(counted, within=60)
        assert told.of("magicode_runs_total", verb="fix", state="opened", reason=run.reason or "") == 1
        assert told.of("magicode_deliveries_total", outcome="queued", reason="") == 1
        assert told.of("magicode_jobs_total", task="acknowledge", outcome="ok") == 1
        assert told.of("magicode_run_wait_seconds_count", verb="fix") == 1
        stations = {one["station"] for one in told.labels("magicode_station_seconds_count")}
        assert {"reading", "fetching", "publishing"} <= stations
        calls = told.of("magicode_model_calls_total", provider="anthropic", outcome="ok")
        assert calls >= 2
        assert told.of("magicode_cost_dollars_total", provider="anthropic") == pytest.approx(
            float(run.cost_usd), abs=1e-5
        )
        assert (
            told.of("magicode_model_tokens_total", provider="anthropic", kind="output") == run.output_tokens
        )
        opened = told.of(
            "magicode_github_requests_total", request="POST /repos/{owner}/{repo}/pulls", status="201"
        )
        assert opened == 1
        assert 0 < told.of("magicode_github_budget_left") < 1
        assert told.of("magicode_database_up") == 1
        assert told.of("magicode_log_records_total", level="error") == 0

        await until_handed_over(stage, run.id, collector.handed)
        of_run = [one for one in collector.spans if UUID(bytes=one.trace_id) == run.id]
        names = [one.name for one in of_run]
        assert {"job work", "station publishing", "model anthropic"} <= set(names)
        assert "POST /repos/{owner}/{repo}/pulls" in names
        inside = {one.span_id for one in of_run}
        (work,) = [one for one in of_run if one.name == "job work"]
        (publishing,) = [one for one in of_run if one.name == "station publishing"]
        assert publishing.parent_span_id == work.span_id
        (pull,) = [one for one in of_run if one.name == "POST /repos/{owner}/{repo}/pulls"]
        assert pull.parent_span_id in inside
        handed = b"".join(map(without_chance, collector.handed)).lower()
        for word in (
            b"fairshare",
            b"octo/",
            ISSUE_TITLE.encode().lower(),
            b"wim",
            b"ghs_",
            stage.url.encode(),
        ):
            assert word not in handed


def without_chance(body: bytes) -> bytes:
    """All that was handed over but ids and times, in whose bytes any short word may stand by chance."""
    told = ExportTraceServiceRequest.FromString(body)
    for resource in told.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                for name in (
                    "trace_id",
                    "span_id",
                    "parent_span_id",
                    "start_time_unix_nano",
                    "end_time_unix_nano",
                ):
                    span.ClearField(name)
    return told.SerializeToString()


async def until_handed_over(stage: Stage, run_id: UUID, handed: list[bytes]) -> None:
    for _ in range(600):
        if any(b"job work" in body and str(run_id).encode() in body for body in handed):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no trace of {stage.repository}'s run was handed over")


async def test_what_nobody_may_ask_for_is_counted_by_our_own_words_alone(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage(
        {"octo/fairshare": sample}, load(SIMULATOR / "sample.playbook.yml"), environ=OPEN, working=False
    )
    async with httpx.AsyncClient(trust_env=False, base_url=stage.url, timeout=60) as client:
        for number in range(5):
            await client.get(f"/guessed/{number}?q=a-word-of-theirs")
            await client.request(f"WORD{number}", "/healthz")
            await client.get(f"/installations/{number}/runs")
        await client.post("/webhooks/github", content=b"{}", headers={"X-GitHub-Event": "a-word-of-theirs"})
    text = (await asked(stage, "/metrics", f"Bearer {TOKEN}")).text
    assert "theirs" not in text
    assert "guessed" not in text
    assert "WORD" not in text
    told = Figures(text)
    routes = {one["route"] for one in told.labels("magicode_http_answers_total")}
    assert len(routes) <= 5, routes
    assert told.of("magicode_http_answers_total", method="GET", route="none", status="404") == 5
    (refused,) = told.labels("magicode_deliveries_total")
    assert refused["outcome"] == "refused"


async def test_jobs_that_wait_are_told_by_whichever_process_is_asked(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage(
        {"octo/fairshare": sample}, load(SIMULATOR / "sample.playbook.yml"), environ=OPEN, working=False
    )
    for _ in range(3):
        await stage.comment(await stage.open_issue(ISSUE_TITLE, ISSUE_BODY), COMMENT)
    await stage.settled()
    await asyncio.sleep(1.1)
    told = await figures(stage)
    assert told.of("magicode_queue_jobs", queue="runs") == 3
    assert told.of("magicode_queue_jobs", queue="quick") >= 3
    assert 1 <= told.of("magicode_queue_oldest_seconds", queue="runs") < 60
    assert told.of("magicode_queue_working_jobs", queue="runs") == 0
