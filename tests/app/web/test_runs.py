"""The runs on pages: who sees which, a list of many, one as it happens, stopped and tried again without a comment."""

from __future__ import annotations

import asyncio
import contextlib
import html
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.types import Message

from app import steering, worker
from app.errors import MissingError
from app.main import create as create_web
from app.nouns import Account, Run, RunState
from app.web import live
from app.web.names import Names
from app.web.patience import config
from infra.postgres.store import PostgresTransaction
from tests.app.web.browser import Browser, Whole, opened
from tests.line.conftest import Stages
from tests.line.conversations import ask, branches, create, finish, notes, playbook, scenario
from tests.line.seen import until
from tests.line.stage import Stage

SILENT = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 120}}


def at(stage: Stage, run: Run | None = None, more: str = "") -> str:
    return f"/installations/{stage.installation}/runs" + ("" if run is None else f"/{run.id}") + more


def listed(page: httpx.Response) -> list[str]:
    return re.findall(r'<a href="/installations/\d+/runs/([0-9a-f-]{36})">', page.text)


def link(page: httpx.Response, label: str) -> str | None:
    found = re.search(rf'href="([^"]*)">{label}</a>', page.text)
    return html.unescape(found[1]) if found else None


@contextlib.asynccontextmanager
async def signed_in(stage: Stage, login: str) -> AsyncIterator[Browser]:
    async with opened(stage) as browser:
        await browser.sign_in(login)
        yield browser


@pytest.fixture
async def finished(raise_stage: Stages, sample: Path) -> tuple[Stage, Run]:
    """A run that opened a pull request."""
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    return stage, run


@pytest.fixture
async def at_work(raise_stage: Stages, sample: Path) -> tuple[Stage, Run]:
    """A run whose model is silent, for as long as the issue says what it says."""
    slowly, at_once = scenario(SILENT, finish(), when="Take your time"), create("NOTES.md", "A note.\n")
    stage = await raise_stage({"octo/fairshare": sample}, playbook(slowly, scenario(at_once, finish())))
    await ask(stage, body="Take your time.")

    async def asked() -> bool:
        return any(one.action == "model.asked" for one in await stage.log())

    await until(asked)
    (run,) = await stage.runs()
    return stage, run


# --- what is seen ----------------------------------------------------------------------------------------------------


async def test_a_run_is_told_by_its_stations_and_in_numbers_and_without_its_code(
    finished: tuple[Stage, Run],
) -> None:
    stage, run = finished
    async with signed_in(stage, "ada") as ada:
        page = await ada.get(at(stage, run))
        assert page.status_code == 200
        Whole.require(page.text)
        assert re.findall(r'<li class="(\w+)"', page.text).count("done") == 8, "each station of a fix"
        assert f"pull/{run.pull_request}" in page.text
        assert re.search(r"Turns of the model</dt><dd>[1-9]", page.text)
        assert re.search(r"Tools used</dt><dd>[1-9]", page.text)
        assert re.search(r"Files touched</dt><dd>1 \(\+1 −0 lines\)", page.text)
        assert f"{run.input_tokens:,} in" in page.text
        assert "NOTES.md" not in page.text
        assert "<script" not in page.text, "nothing is to come"
        assert "script-src" not in page.headers["content-security-policy"]
        assert (await ada.get(at(stage))).text.count(str(run.id)) == 1


async def test_a_list_of_many_is_met_once_each_and_narrowed(finished: tuple[Stage, Run]) -> None:
    stage, run = finished
    async with stage.house.store.transaction(stage.installation) as transaction:
        for number in range(120):
            other = replace(
                run, id=uuid4(), meaning=f"m{number}", number=1000 + number, state=RunState.FAILED,
                created_at=run.created_at - timedelta(minutes=number // 2), branch=None, pull_request=None,
            )  # fmt: skip
            await transaction.add_run(other)
    async with signed_in(stage, "ada") as ada:
        page = await ada.get(at(stage))
        met = listed(page)
        while (older := link(page, "Older runs")) is not None:
            page = await ada.get(older)
            met += listed(page)
        assert len(met) == len(set(met)) == 121
        only = await ada.get(at(stage, more="?state=opened&verb=fix&repository=octo/fairshare"))
        assert listed(only) == [str(run.id)]
        assert listed(await ada.get(at(stage, more="?state=cancelled"))) == []


@pytest.mark.parametrize("query", ["state=x", "verb=x", "repository=octo/none", "beyond=x"])
async def test_what_cannot_be_read_is_said(finished: tuple[Stage, Run], query: str) -> None:
    stage, _ = finished
    async with signed_in(stage, "ada") as ada:
        assert (await ada.get(at(stage, more=f"?{query}"))).status_code == 400


async def test_a_reader_sees_the_runs_of_the_repository_and_nothing_else(finished: tuple[Stage, Run]) -> None:
    stage, run = finished
    async with signed_in(stage, "rita") as rita:
        page = await rita.get(at(stage, run))
        assert page.status_code == 200
        assert "/settings" not in page.text
        assert "<button>Stop" not in page.text
        mine = await rita.get(at(stage, more="?repository=octo/fairshare"))
        assert listed(mine) == [str(run.id)]
        assert (await rita.get(at(stage))).status_code == 404, "of all repositories"
        assert (await rita.get(at(stage, more="?repository=1"))).status_code == 404
    told = [one.details for one in await stage.log() if one.action == "data.looked" and one.actor == "rita"]
    assert [one["what"] for one in told if one] == ["runs"], "each look is written down, once"


async def test_a_stranger_learns_nothing(finished: tuple[Stage, Run]) -> None:
    stage, run = finished
    stage.github.world.add_user("tess")
    async with signed_in(stage, "tess") as tess:
        nowhere = await tess.get(f"/installations/987654321/runs/{run.id}")
        for path in (at(stage, run), at(stage, run, "/live"), f"{at(stage)}/{uuid4()}", at(stage)):
            page = await tess.get(path)
            assert (page.status_code, page.text) == (404, nowhere.text), path
        key = await tess.form_key()
        for what in ("stop", "retry"):
            answer = await tess.post(at(stage, run, f"/{what}"), {"form_key": key})
            assert (answer.status_code, answer.text) == (404, nowhere.text)
    async with opened(stage) as nobody:
        assert (await nobody.get(at(stage, run, "/live"), follow=False)).status_code == 303


async def test_programs_read_runs_by_their_token_and_change_none(finished: tuple[Stage, Run]) -> None:
    stage, run = finished
    here = f"/installations/{stage.installation}"
    async with signed_in(stage, "ada") as ada, opened(stage) as program:

        async def shown(*scopes: str) -> dict[str, str]:
            sent = {"scopes": list(scopes), "days": 1}
            made = await ada.api("POST", f"{here}/tokens", sent, form_key=await ada.form_key())
            return {"Authorization": f"Bearer {made.json()['token']}"}

        may, may_not = await shown("runs"), await shown("log")
        page = (await program.api("GET", f"{here}/runs?state=opened&limit=1", **may)).json()
        assert ([one["id"] for one in page["runs"]], page["next"]) == ([str(run.id)], None)
        one = (await program.api("GET", f"{here}/runs/{run.id}", **may)).json()
        assert [each["standing"] for each in one["stations"]] == ["done"] * 8
        assert (one["figures"]["files"], one["cost_usd"]) == (1, str(run.cost_usd))
        for what in ("stop", "retry"):
            assert (await program.api("POST", f"{here}/runs/{run.id}/{what}", **may)).status_code == 403
        assert (await program.api("GET", f"{here}/runs", **may_not)).status_code == 403
        assert (await program.api("GET", f"{here}/runs/{run.id}", **may_not)).status_code == 403
        assert (await program.api("GET", f"{here}/runs/{run.id}")).status_code == 401
        assert (await program.api("GET", f"{here}/runs/{uuid4()}", **may)).status_code == 404
        key = await ada.form_key()
        for what in ("stop", "retry"):
            assert (await ada.api("POST", f"{here}/runs/{run.id}/{what}")).status_code == 403
            answer = await ada.api("POST", f"{here}/runs/{run.id}/{what}", form_key=key)
            assert (answer.status_code, answer.json()["status"]) == (409, 409)


# --- as it happens ---------------------------------------------------------------------------------------------------


async def watched(browser: Browser, path: str) -> AsyncIterator[tuple[str, str]]:
    """Each event's name and what it brings."""
    name, lines = "", []
    async with browser.client.stream("GET", browser.url + path, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            kind, _, rest = line.partition(": ")
            if kind == "event":
                name = rest
            elif kind == "data":
                lines.append(rest)
            elif not line and name:
                yield name, "\n".join(lines)
                name, lines = "", []


def stands_at(piece: str) -> str:
    (found,) = re.findall(r'aria-current="step"><strong>([^<]*)', piece)
    return str(found)


async def test_a_run_is_watched_until_it_has_ended(at_work: tuple[Stage, Run]) -> None:
    stage, run = at_work
    async with signed_in(stage, "rita") as rita, signed_in(stage, "wim") as wim:
        page = await rita.get(at(stage, run))
        assert f'data-live="{at(stage, run, "/live")}"' in page.text
        assert "script-src 'self'; connect-src 'self';" in page.headers["content-security-policy"]
        stations, told = [], []
        async for name, piece in watched(rita, at(stage, run, "/live")):
            told.append(name)
            if name == "journey":
                stations.append(stands_at(piece))
                if len(stations) == 1:
                    assert (await stopped(wim, stage, run)).status_code == 200
        assert stations[0] == "Asking the model"
        assert told[-1] == "end"
    assert (await stage.ended())[-1].state is RunState.CANCELLED


async def test_who_is_signed_out_everywhere_is_told_nothing_more(at_work: tuple[Stage, Run]) -> None:
    stage, run = at_work
    async with signed_in(stage, "rita") as rita, asyncio.timeout(60):
        told = []
        async for name, _ in watched(rita, at(stage, run, "/live")):
            told.append(name)
            await stage.house.store.end_every_session()
        assert told == ["journey"], "and no word of its end, which has not come"
    (now,) = await stage.runs()
    assert not now.state.ended


async def test_nobody_is_watched_for_beyond_what_is_good_for_all(
    at_work: tuple[Stage, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, run = at_work
    monkeypatch.setattr(live, "LASTS_SECONDS", 2.0)
    async with signed_in(stage, "rita") as rita:
        async with asyncio.timeout(60):
            assert [name async for name, _ in watched(rita, at(stage, run, "/live"))] == ["journey"]
        monkeypatch.setattr(live, "LASTS_SECONDS", 60.0)
        async with contextlib.AsyncExitStack() as open_ones:
            held = []  # a stream that nobody holds is closed
            for _ in range(live.OF_ONE_PERSON):
                streamed = rita.client.stream("GET", rita.url + at(stage, run, "/live"))
                answer = await open_ones.enter_async_context(streamed)
                held.append(answer.aiter_lines())
                await anext(held[-1])
            assert (await rita.get(at(stage, run, "/live"))).status_code == 429

        async def free() -> bool:
            async with rita.client.stream("GET", rita.url + at(stage, run, "/live")) as answer:
                return answer.status_code == 200

        await until(free)


async def test_who_begins_to_watch_many_at_once_gets_no_more_places(
    at_work: tuple[Stage, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, run = at_work
    count, before, all_there, names_of = live.OF_ONE_PERSON + 3, 0, asyncio.Event(), Names.of

    async def together(names: Names, tenant: int) -> Mapping[int, str]:
        nonlocal before
        before += 1
        await all_there.wait()
        return await names_of(names, tenant)

    async with signed_in(stage, "rita") as rita:

        async def opening(open_ones: contextlib.AsyncExitStack) -> int:
            streamed = rita.client.stream("GET", rita.url + at(stage, run, "/live"))
            return (await open_ones.enter_async_context(streamed)).status_code

        async with contextlib.AsyncExitStack() as open_ones:
            with monkeypatch.context() as patch:
                patch.setattr(Names, "of", together)
                asking = [asyncio.create_task(opening(open_ones)) for _ in range(count)]

                async def none_is_on_the_way() -> bool:
                    return before + sum(one.done() for one in asking) == count

                await until(none_is_on_the_way)
                all_there.set()
                answers = await asyncio.gather(*asking)
            assert Counter(answers) == {200: live.OF_ONE_PERSON, 429: 3}

        async def all_free() -> bool:
            async with contextlib.AsyncExitStack() as open_ones:
                return [await opening(open_ones) for _ in range(live.OF_ONE_PERSON)] == [
                    200
                ] * live.OF_ONE_PERSON

        await until(all_free)


@pytest.mark.parametrize("how", ["it cannot be sent to", "it is seen to be gone"])
async def test_a_client_that_left_before_the_first_word_keeps_no_place(how: str) -> None:
    streams, told = live.Streams(asyncio.Event()), list[str]()

    async def telling() -> AsyncIterator[str]:
        told.append("begun")
        yield ""

    async def receive() -> Message:
        if how == "it cannot be sent to":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        if how == "it cannot be sent to":
            raise OSError
        await asyncio.Event().wait()

    for _ in range(live.OF_ONE_PERSON + 1):
        with contextlib.suppress(OSError):
            await live.Stream(telling(), streams.one(1))({"type": "http"}, receive, send)
    assert told == [], "nothing ever asked for what it would tell"
    with streams.one(1):
        pass


async def test_a_server_that_leaves_lets_go_of_whoever_watches(at_work: tuple[Stage, Run]) -> None:
    stage, run = at_work
    leaving, listener = asyncio.Event(), worker._listener("127.0.0.1", 0)
    server = worker.Server(config(create_web(stage.house, leaving=leaving)))
    serving = asyncio.create_task(worker._until_cancelled(server, listener, leaving))
    there = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with signed_in(stage, "rita") as rita:
        streamed = rita.client.stream("GET", there + at(stage, run, "/live"))
        async with streamed as answer:
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("retry:")
            serving.cancel()
            async with asyncio.timeout(60):
                assert [line async for line in lines]
                with contextlib.suppress(asyncio.CancelledError):
                    await serving


async def test_what_nobody_asks_costs_no_question_to_github(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes(), working=False)
    async with stage.at_work():
        await ask(stage)
        await stage.ended()
    # Nobody works any more: what a worker has still to do behind a run's end asks GitHub as well.
    await stage.settled()
    before = len(stage.github.world.requests)
    async with opened(stage) as nobody:
        page = await nobody.get(at(stage, more="?repository=octo/fairshare"), follow=False)
        called = await nobody.api("GET", f"{at(stage)}?repository=octo/fairshare")
    assert (page.status_code, called.status_code) == (303, 401)
    asked = [one.route for one in stage.github.world.requests[before:] if one.caller != "user"]
    assert "/installation/repositories" not in asked
    async with signed_in(stage, "ada") as ada:
        await ada.get(at(stage, more="?repository=octo/fairshare"))
    asked = [one.route for one in stage.github.world.requests[before:] if one.caller != "user"]
    assert "/installation/repositories" in asked, "by which names are looked up"


# --- stopped, and tried again ----------------------------------------------------------------------------------------


async def stopped(browser: Browser, stage: Stage, run: Run) -> httpx.Response:
    page = await browser.get(at(stage, run))
    return await browser.submit(page, at(stage, run, "/stop"))


async def test_who_may_write_stops_a_run_and_has_it_tried_again_once(at_work: tuple[Stage, Run]) -> None:
    stage, run = at_work
    async with signed_in(stage, "wim") as wim:
        page = await stopped(wim, stage, run)
        assert "told to stop" in page.text
        (ended,) = await stage.ended()
        assert (ended.state, await branches(stage)) == (RunState.CANCELLED, [])
        await say_otherwise(stage, run)
        page = await wim.get(at(stage, run))
        assert "Stop this run" not in page.text
        again = await wim.submit(page, at(stage, run, "/retry"))
        once_more = await wim.submit(page, at(stage, run, "/retry"))
        assert again.url == once_more.url, "the same run, however often it is asked for"
    first, second = await stage.ended(2)
    assert (second.verb, second.state, second.asker_login) == ("retry", RunState.OPENED, "wim")
    assert [one["number"] for one in await stage.pulls()] == [second.pull_request]
    actions = [(one.action, one.actor, one.run_id) for one in await stage.log()]
    assert actions.count(("run.stop_asked", "wim", str(first.id))) == 1
    assert actions.count(("run.asked", "wim", str(second.id))) == 1
    async with signed_in(stage, "ada") as ada:
        for done, what in ((first, "stop"), (second, "stop"), (first, "retry"), (second, "retry")):
            answer = await ada.post(at(stage, done, f"/{what}"), {"form_key": await ada.form_key()})
            wanted = 200 if (done, what) == (first, "retry") else 409
            assert answer.status_code == wanted, (done.verb, what)
    assert len(await stage.runs()) == 2


async def test_two_who_try_again_at_once_make_one_run(at_work: tuple[Stage, Run]) -> None:
    stage, run = at_work
    await steering.stop(stage.house, stage.installation, run.id, "wim")
    await stage.ended()
    await say_otherwise(stage, run)
    people = [await account(stage, login) for login in ("wim", "ada")]
    made = await asyncio.gather(
        *(steering.try_again(stage.house, stage.installation, run.id, person) for person in people * 4)
    )
    assert len({one.id for one in made}) == 1
    assert len(await stage.ended(2)) == 2


async def test_who_tries_again_a_moment_behind_another_gets_the_others_run(
    at_work: tuple[Stage, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's is there once this one looks whether anybody is at work."""
    stage, run = at_work
    await steering.stop(stage.house, stage.installation, run.id, "wim")
    await stage.ended()
    wim, ada = [await account(stage, login) for login in ("wim", "ada")]
    real, others = PostgresTransaction.active_run, list[Run]()

    async def behind_another(self: PostgresTransaction, repository_id: int, number: int) -> Run | None:
        monkeypatch.undo()
        others.append(await steering.try_again(stage.house, stage.installation, run.id, ada))
        return await real(self, repository_id, number)

    monkeypatch.setattr(PostgresTransaction, "active_run", behind_another)
    mine = await steering.try_again(stage.house, stage.installation, run.id, wim)
    assert [one.id for one in others] == [mine.id]


async def test_a_reader_neither_stops_nor_tries_again(at_work: tuple[Stage, Run]) -> None:
    stage, run = at_work
    async with signed_in(stage, "rita") as rita:
        page = await rita.get(at(stage, run))
        assert "<button>Stop" not in page.text
        key = await rita.form_key()
        for what in ("stop", "retry"):
            assert (await rita.post(at(stage, run, f"/{what}"), {"form_key": key})).status_code == 404
            assert (await rita.post(at(stage, run, f"/{what}"), {"form_key": "x"})).status_code == 403
    (still,) = await stage.runs()
    assert (still.state, still.cancel_requested) == (RunState.RUNNING, False)


async def test_what_nobody_may_ask_for_is_not_tried_again(raise_stage: Stages, sample: Path) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    await ask(stage, user="rita", by="rita")
    (run,) = await stage.ended()
    assert run.reason == "no_write_permission"
    with pytest.raises(steering.NotRetryableError):
        await steering.try_again(stage.house, stage.installation, run.id, await account(stage, "ada"))
    with pytest.raises(MissingError):
        await steering.try_again(stage.house, stage.installation, UUID(int=1), await account(stage, "ada"))
    with pytest.raises(MissingError):
        await steering.stop(stage.house, stage.installation, UUID(int=1), "ada")


async def say_otherwise(stage: Stage, run: Run) -> None:
    there = f"/repos/octo/fairshare/issues/{run.number}"
    (await stage.client().patch(there, json={"body": "A note is missing."})).raise_for_status()


async def account(stage: Stage, login: str) -> Account:
    found: Any = (await stage.client().get(f"/users/{login}")).json()
    return Account(int(found["id"]), str(found["login"]), str(found["type"]))
