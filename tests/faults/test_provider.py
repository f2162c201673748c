"""The model's provider is away for an hour, stalls, answers too late: the request waits, says so, and is not lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.errors import LimitedError
from app.jobs import retries
from app.nouns import RunState
from infra.models.anthropic import AnthropicModel
from infra.models.playbook import PLAYBOOK_MODEL, Playbook
from infra.models.retry import Patience
from infra.simulator.listener import listen
from infra.simulator.model.server import PLAYBOOK_KEY
from tests.claims import case, claim
from tests.faults.promises import kept, quiet
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    create,
    ended_well_told,
    finish,
    notes,
    ours,
    playbook,
    reasons,
    scenario,
)
from tests.line.seen import comment_of_ours, until
from tests.line.stage import Stage

GROUP = "What lies around it fails"

HASTY = Patience(
    tries=2,
    first_wait_seconds=0.01,
    longest_wait_seconds=0.02,
    connect_seconds=2.0,
    between_chunks_seconds=3.0,
    answer_seconds=10.0,
)
"""The service's patience in place, without its waits. An answer that is given up is paid for all the same, so it lasts longer than
a busy machine takes."""


@dataclass
class Provider:
    """Stands before the simulated model. `how` it fails: a status, `silent`, or None: not at all."""

    url: str = ""
    behind: str = ""
    how: int | str | None = None
    asked: int = 0
    _open: list[asyncio.Event] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.asked += 1
        if isinstance(self.how, int):
            told = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
            return JSONResponse(told, self.how)
        if self.how == "silent":
            await asyncio.sleep(60)
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            found = await client.request(
                request.method,
                f"{self.behind}{request.url.path}",
                content=await request.body(),
                headers=headers,
            )
        kept_headers = {"content-type": found.headers["content-type"]}
        return Response(found.content, found.status_code, kept_headers)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    web = Starlette(routes=[Route("/{path:path}", found.answer, methods=["POST", "GET"])])
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        found.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = _Server(uvicorn.Config(web, log_config=None, access_log=False, lifespan="off"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        yield found
        server.should_exit = server.force_exit = True
        await serving


@asynccontextmanager
async def before(
    provider: Provider, raise_stage: Stages, sample: Path, script: Playbook
) -> AsyncIterator[Stage]:
    """A stage whose model is asked through the provider; it works when a test says so."""
    model = AnthropicModel(PLAYBOOK_MODEL, PLAYBOOK_KEY, provider.url, patience=HASTY)
    stage = await raise_stage({"octo/fairshare": sample}, script, model=lambda _: model, working=False)
    provider.behind = stage.model_url
    yield stage
    await model.close()


class Hours:
    """The pauses for the provider are counted in place of being waited for. `after` they amount to so much, something happens.

    GitHub's limits go by a clock that nobody here sets forward: what they ask for is waited for.
    """

    def __init__(self, after: timedelta, happens: Any) -> None:
        self.waited = timedelta(0)
        self.pauses: list[timedelta] = []
        self._after = after
        self._happens = happens

    def __call__(self, error: BaseException, taken_before: int) -> timedelta | None:
        pause = retries.retry_after(error, taken_before)
        if pause is None or isinstance(error, LimitedError):
            return pause
        self.pauses.append(pause)
        self.waited += pause
        if self.waited >= self._after:
            self._happens()
        return timedelta(milliseconds=50)


OUTLASTED = "The request waits with growing pauses, says so, keeps no worker busy, is charged nothing for it, and is done afterwards"


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("how", "minutes"),
    [
        case(GROUP, f"The model's provider {what}", OUTLASTED, how, minutes)
        for what, how, minutes in (
            ("answers 529 (overloaded) for an hour", 529, 60),
            ("answers 503 for five minutes", 503, 5),
            ("takes requests and says nothing for five minutes", "silent", 5),
            ("refuses connections for five minutes", "refused", 5),
        )
    ],
)
async def test_an_outage_of_an_hour_is_outlasted(
    provider: Provider, raise_stage: Stages, sample: Path, how: int | str, minutes: int
) -> None:
    async with before(provider, raise_stage, sample, notes()) as stage:
        provider.how = how
        if how == "refused":
            provider.behind = "http://127.0.0.1:1"
            provider.how = None

        def back() -> None:
            provider.how, provider.behind = None, stage.model_url

        hours = Hours(timedelta(minutes=minutes), back)
        async with stage.at_work(1, retry_after=hours):
            number = await ask(stage)
            told = await comment_of_ours(stage, number, "**Waiting.**", "provider")
            assert "`cancel`" in told["body"]
            other = await stage.open_issue("Another matter")
            await stage.comment(other, "@magicode help")
            await comment_of_ours(stage, other, "Action log head:")
            runs = await stage.ended(2, within=400)
            await quiet(stage)
        run = next(one for one in runs if one.number == number)
        assert run.state is RunState.OPENED, reasons(runs)
        assert hours.waited >= timedelta(minutes=minutes)
        assert max(hours.pauses) <= timedelta(minutes=5), (
            "it is not waited for much longer than the outage is"
        )
        paid = [one["usage"] for one in await asked_of_the_model(stage) if one["usage"]]
        assert run.output_tokens == sum(one["output_tokens"] for one in paid)
        assert len(paid) == 3, "two turns and a second look, once"
        await ended_well_told(stage, run)
        await kept(stage, runs=2)


@pytest.mark.long
@pytest.mark.timeout(600)
@claim(
    GROUP,
    "The model's provider stays away for a whole day",
    "After two hours the request fails visibly, with `retry` as what to do next; the retry is done when the provider is back",
)
async def test_an_outage_longer_than_all_patience_ends_visibly(
    provider: Provider, raise_stage: Stages, sample: Path
) -> None:
    async with before(provider, raise_stage, sample, notes()) as stage:
        provider.how = 529
        hours = Hours(timedelta(days=1), lambda: None)
        async with stage.at_work(1, retry_after=hours):
            number = await ask(stage)
            (run,) = await stage.ended(within=400)
            assert (run.state, run.reason) == (RunState.FAILED, "model_overloaded")
            assert timedelta(hours=2) <= hours.waited <= timedelta(hours=3)
            said = await ended_well_told(stage, run)
            assert "`retry`" in said
            assert "No model was called: $0.00" in said
            provider.how = None
            await stage.comment(number, "@magicode retry")
            again = (await stage.ended(2))[-1]
            await quiet(stage)
        assert again.state is RunState.OPENED
        await kept(stage, runs=2)


@claim(
    GROUP,
    "A request that waits for the model's provider is cancelled",
    "It ends as cancelled at once, not minutes later at its next try",
)
async def test_who_waits_for_the_provider_can_be_cancelled(
    provider: Provider, raise_stage: Stages, sample: Path
) -> None:
    async with before(provider, raise_stage, sample, notes()) as stage:
        provider.how = 529
        minutes: list[timedelta] = []

        def ten_minutes(*_: object) -> timedelta:
            minutes.append(timedelta(minutes=10))
            return minutes[-1]

        async with stage.at_work(1, retry_after=ten_minutes):
            number = await ask(stage)
            await comment_of_ours(stage, number, "**Waiting.**")
            while not minutes:
                await asyncio.sleep(0.05)
            await stage.comment(number, "@magicode cancel")
            runs = await stage.ended(2)
            await quiet(stage)
        assert [(one.verb, one.state) for one in runs] == [
            ("fix", RunState.CANCELLED),
            ("cancel", RunState.ANSWERED),
        ]
        await kept(stage, runs=2)


@claim(
    GROUP,
    "The model's provider begins an answer and falls silent in the middle",
    "It is asked once more; nothing of the half answer is used, and the request is done",
)
async def test_an_answer_that_stalls_is_asked_for_again(
    provider: Provider, raise_stage: Stages, sample: Path
) -> None:
    stalls = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 30, "after_chunks": 2, "times": 1}}
    stage = await raise_stage(
        {"octo/fairshare": sample},
        playbook(scenario(stalls, finish())),
        model=lambda _: AnthropicModel(PLAYBOOK_MODEL, PLAYBOOK_KEY, provider.behind, patience=HASTY),
        working=False,
    )
    provider.behind = stage.model_url
    async with stage.at_work():
        await ask(stage)
        (run,) = await stage.ended()
        await quiet(stage)
    assert (run.state, run.attempt) == (RunState.OPENED, 1)
    assert len(await asked_of_the_model(stage)) == 4
    await kept(stage, runs=1)


@claim(
    GROUP,
    "The model answers after its run was cancelled",
    "The answer is used for nothing: no branch, no pull request, and the run stays cancelled",
)
async def test_an_answer_that_comes_too_late_changes_nothing(raise_stage: Stages, sample: Path) -> None:
    late = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 4, "after_chunks": 1}}
    stage = await raise_stage({"octo/fairshare": sample}, playbook(scenario(late, finish())), working=False)
    async with stage.at_work():
        number = await ask(stage)
        await until(lambda: asked_of_the_model(stage))
        await stage.comment(number, "@magicode cancel")
        runs = await stage.ended(2)
        await asyncio.sleep(4)
        await quiet(stage)
    assert runs[0].state is RunState.CANCELLED
    assert await stage.pulls() == []
    assert any("**Cancelled**" in one for one in await ours(stage, number))
    await kept(stage, runs=2)
