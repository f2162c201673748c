"""Consent on whole requests: nothing is sent to whom an installation does not allow, and withdrawing stops runs at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
import pytest

from app import choosing
from app.custody import provider_keys, settings
from app.custody.provider_keys import Saved
from app.errors import RefusedError, UserError
from app.nouns import RunState
from infra.models.playbook import PLAYBOOK_MODEL, Playbook
from infra.simulator.model.serve import running as running_model
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
    repository_file,
    scenario,
)
from tests.line.seen import until
from tests.line.stage import Stage


async def choose(stage: Stage, words: str) -> None:
    """By somebody whose permission was looked at elsewhere."""
    house = stage.house
    await settings.change(
        house.store,
        house.ledger,
        house.clock,
        installation_id=stage.installation,
        by="ada",
        wanted=settings.wanted(words),
    )


async def up(raise_stage: Stages, sample: Path, book: Playbook, **how: Any) -> Stage:
    repository_file(sample, **{"checks": ["true"], **how.pop("settings", {})})
    return await raise_stage({"octo/fairshare": sample}, book, **how)


@pytest.mark.parametrize("words", ["providers openai", "providers none", "regions eu", "regions none"])
async def test_where_nothing_is_allowed_nothing_is_sent_and_the_end_says_so(
    raise_stage: Stages, sample: Path, words: str
) -> None:
    stage = await up(raise_stage, sample, notes())
    await choose(stage, words)
    await ask(stage)
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "consent")
    said = await ended_well_told(stage, run)
    assert "Nothing was sent to any model" in said
    assert "anthropic (unknown)" in said
    assert await asked_of_the_model(stage) == []


async def test_a_list_of_models_is_narrowed_to_what_is_allowed(raise_stage: Stages, sample: Path) -> None:
    named = [f"anthropic:{PLAYBOOK_MODEL}", f"openai:{PLAYBOOK_MODEL}"]
    stage = await up(raise_stage, sample, notes(), settings={"model": named})
    await choose(stage, "providers openai")
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert {one["path"] for one in await asked_of_the_model(stage)} == {"/v1/responses"}


async def test_the_repositorys_file_does_not_widen_it(raise_stage: Stages, sample: Path) -> None:
    stage = await up(raise_stage, sample, notes(), settings={"model": f"anthropic:{PLAYBOOK_MODEL}"})
    await choose(stage, "providers openai")
    await ask(stage)
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "consent")
    assert await asked_of_the_model(stage) == []


@pytest.mark.parametrize("words", ["providers none", "regions eu"])
async def test_withdrawing_breaks_off_the_call_under_way_and_nothing_more_is_sent(
    raise_stage: Stages, sample: Path, words: str
) -> None:
    slow = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 120}}
    stage = await up(raise_stage, sample, playbook(scenario(slow, finish())))
    await ask(stage)

    async def asked() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asked)
    await choose(stage, words)
    began = monotonic()
    (run,) = await stage.ended()
    assert monotonic() - began < 10, "the call would have taken two minutes"
    assert (run.state, run.reason) == (RunState.CANCELLED, "consent_withdrawn")
    assert "no longer allows" in await ended_well_told(stage, run)
    await asyncio.sleep(2)
    assert len(await asked_of_the_model(stage)) == 1
    assert await stage.pulls() == []


BUSY = playbook(
    scenario(
        create("NOTES.md", "A note.\n") | {"overload": {"times": 5, "retry_after_seconds": 0.2}}, finish()
    )
)


@pytest.mark.parametrize(
    ("book", "at", "sent"),
    [
        pytest.param(notes(), ("model.called", 1), 1, id="between two calls"),
        pytest.param(notes(), ("model.asked", 1), 0, id="while its entry waits"),
        pytest.param(BUSY, ("model.asked", 2), 1, id="while an overload is waited out"),
    ],
)
async def test_withdrawing_between_two_requests_keeps_the_next_one_back(
    raise_stage: Stages, sample: Path, book: Playbook, at: tuple[str, int], sent: int
) -> None:
    """In the moment in which an answer is written down, or that one is asked for: the next request is the first that must not be
    sent."""
    stage = await up(raise_stage, sample, book, working=False)
    real = stage.house.ledger

    class Withdraws:
        def __init__(self) -> None:
            self.seen = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def recorder(self, installation_id: int, run_id: Any) -> Any:
            record = real.recorder(installation_id, run_id)

            async def recording(action: Any, actor: str = "magicode", **facts: Any) -> Any:
                written = await record(action, actor, **facts)
                self.seen += action == at[0]
                if (action, self.seen) == at:
                    await choose(stage, "providers none")
                return written

            return recording

    stage.house = replace(stage.house, ledger=Withdraws())  # type: ignore[arg-type]
    await ask(stage)
    async with stage.at_work():
        (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.CANCELLED, "consent_withdrawn")
    assert len(await asked_of_the_model(stage)) == sent


async def test_a_narrower_choice_that_leaves_the_run_its_model_does_not_stop_it(
    raise_stage: Stages, sample: Path
) -> None:
    slow = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 3}}
    stage = await up(raise_stage, sample, playbook(scenario(slow, finish())))
    await ask(stage)

    async def asked() -> bool:
        return bool(await asked_of_the_model(stage))

    await until(asked)
    await choose(stage, "providers anthropic")
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED


# --- keys of the customer's own --------------------------------------------------------------------------------------


@asynccontextmanager
async def somewhere(book: Playbook, key: str) -> AsyncIterator[str]:
    """Another provider, which takes this key alone."""
    async with running_model(book, api_key=key) as url:
        yield url


OWN = "sk-of-this-customer-alone-wxyz"
LOCAL = {"MAGICODE_MODEL_HOSTS": "127.0.0.1"}


async def bring(stage: Stage, url: str, key: str = OWN) -> Saved:
    house = stage.house
    return await provider_keys.put(
        house.store,
        house.keys,
        house.ledger,
        house.clock,
        house.key_check,
        installation_id=stage.installation,
        by="ada",
        provider="anthropic",
        key=key,
        base_url=url,
    )


async def take_back(stage: Stage) -> bool:
    house = stage.house
    return await provider_keys.remove(
        house.store,
        house.keys,
        house.ledger,
        installation_id=stage.installation,
        by="ada",
        provider="anthropic",
    )


async def test_a_customers_own_key_pays_and_the_services_is_not_used(
    raise_stage: Stages, sample: Path
) -> None:
    async with somewhere(notes(), OWN) as url:
        stage = await up(raise_stage, sample, notes(), environ=LOCAL)
        saved = await bring(stage, url)
        assert (saved.checked, saved.key.last_four) == (True, "wxyz")
        await choose(stage, f"models anthropic:{PLAYBOOK_MODEL}")
        await ask(stage)
        (run,) = await stage.ended()
        assert run.state is RunState.OPENED
        assert await asked_of_the_model(stage) == [], "that is the service's own provider"
        assert await take_back(stage)
        assert OWN not in str([one.details for one in await stage.log()])


async def test_a_key_is_seen_by_its_last_four_and_as_the_place_where_code_goes(
    raise_stage: Stages, sample: Path
) -> None:
    async with somewhere(notes(), OWN) as url:
        stage = await up(raise_stage, sample, notes(), environ=LOCAL)
        await bring(stage, url)
        found = await choosing.overview(stage.house, stage.installation)
        assert [one.last_four for one in found.keys] == ["wxyz"]
        assert [one.own_key for one in found.destinations] == [True, False]
        number = await stage.open_issue("Settings", user="ada")
        await stage.comment(number, "@magicode settings", user="ada")
        await stage.ended()
        (said,) = await ours(stage, number)
        assert "your own key `…wxyz` pays" in said
        assert OWN not in said


async def test_a_refused_key_and_a_private_address_are_not_kept(raise_stage: Stages, sample: Path) -> None:
    async with somewhere(notes(), OWN) as url:
        stage = await up(raise_stage, sample, notes(), environ=LOCAL)
        with pytest.raises(RefusedError):
            await bring(stage, url, "sk-another-key-that-nobody-has")
        with pytest.raises(UserError):
            await bring(stage, "https://192.168.0.1/v1")
        assert (await choosing.overview(stage.house, stage.installation)).keys == []


async def test_a_key_that_is_removed_under_a_run_stops_it_at_once(raise_stage: Stages, sample: Path) -> None:
    slow = create("NOTES.md", "A note.\n") | {"slow": {"seconds": 120}}
    book = playbook(scenario(slow, finish()))
    async with somewhere(book, OWN) as url:
        stage = await up(raise_stage, sample, book, environ=LOCAL)
        await bring(stage, url)
        await choose(stage, f"models anthropic:{PLAYBOOK_MODEL}")
        await ask(stage)

        async def asked() -> bool:
            async with httpx.AsyncClient(trust_env=False) as client:
                requests = (await client.get(f"{url}/_simulator/requests")).json()
            return any(one["path"] == "/v1/messages" for one in requests)

        await until(asked)
        assert await take_back(stage)
        (run,) = await stage.ended()
        assert (run.state, run.reason) == (RunState.CANCELLED, "provider_key_changed")
        assert await asked_of_the_model(stage) == []


async def test_where_only_addresses_of_nobody_we_know_are_allowed_that_can_be_said_too(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, notes())
    await choose(stage, "regions unknown")
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
