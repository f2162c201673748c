"""Settings in comments: what is shown, what is changed and by whom, and keys that do not belong there."""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal
from pathlib import Path

import pytest

from app.custody import settings
from app.custody.settings import InstallationSettings
from app.nouns import Run, RunState
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    ended_well_told,
    logged,
    notes,
    ours,
    plans,
    playbook,
)
from tests.line.stage import Stage


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    return await raise_stage({"octo/fairshare": sample}, notes())


async def say(stage: Stage, number: int, words: str, *, user: str = "ada") -> Run:
    """The run that these words were."""
    count = len(await stage.runs())
    await stage.comment(number, f"@magicode {words}", user=user)
    return (await stage.ended(count + 1))[-1]


async def present(stage: Stage) -> InstallationSettings:
    async with stage.house.store.transaction(stage.installation) as transaction:
        return await settings.read(transaction)


async def test_settings_say_what_is_kept_for_how_long_and_where_it_may_go(stage: Stage) -> None:
    number = await stage.open_issue("Settings", user="ada")
    run = await say(stage, number, "settings")
    assert (run.state, run.reason) == (RunState.ANSWERED, "settings")
    said = (await ours(stage, number))[-1]
    assert "**Settings**" in said
    for name in (one.name for one in settings.SETTINGS):
        assert f"| `{name}` |" in said
        assert f"`settings {name} " in said
    assert "`anthropic` at `127.0.0.1`, region `unknown`: allowed; this service's key pays" in said
    assert "No code, no prompt and no comment is kept here" in said
    assert "provider-keys set" in said
    assert "fingerprint" in said
    assert "Legal hold:" not in said
    assert await asked_of_the_model(stage) == []


async def test_an_administrator_of_the_installation_changes_one_and_the_log_says_so(stage: Stage) -> None:
    number = await stage.open_issue("Settings", user="ada")
    run = await say(stage, number, "settings keep-runs 6 months.")
    assert (run.state, run.reason) == (RunState.ANSWERED, "setting_changed")
    assert "`keep-runs` is `6 months` now; it was `12 months`" in (await ours(stage, number))[-1]
    assert (await present(stage)).runs_months == 6
    (entry,) = [one for one in await stage.log() if one.action == "setting.changed"]
    assert entry.actor == "ada"
    assert dict(entry.details or {}) == {"name": "keep-runs", "old": "12 months", "new": "6 months"}
    await say(stage, number, "settings keep-runs 6 months")
    assert "already; nothing was changed" in (await ours(stage, number))[-1]


async def test_who_does_not_administer_sees_and_changes_nothing(stage: Stage) -> None:
    number = await stage.open_issue("Settings")
    for words in ("settings", "settings providers none"):
        run = await say(stage, number, words, user="wim")
        assert (run.state, run.reason) == (RunState.REFUSED, "not_an_administrator")
        assert "keep-runs" not in (await ours(stage, number))[-1]
    assert (await present(stage)).providers is None


async def test_who_administers_one_repository_of_several_sees_and_may_not_change(
    raise_stage: Stages, sample: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "README.md").write_text("Another.\n")
    stage = await raise_stage({"octo/fairshare": sample, "octo/other": other}, notes())
    world = stage.github.world
    elsewhere = world.repository("octo/other")
    assert elsewhere is not None
    elsewhere.collaborators["ada"] = "write"
    number = await stage.open_issue("Settings", user="ada")
    assert (await say(stage, number, "settings")).reason == "settings"
    run = await say(stage, number, "settings legal-hold on")
    assert (run.state, run.reason) == (RunState.REFUSED, "not_an_administrator")
    assert (await present(stage)).legal_hold is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("settings keep-rums 6 months", "Did you mean"),
        ("settings providers opnai", "Did you mean"),
        ("settings keep-runs a while", "how many months"),
    ],
)
async def test_a_near_miss_gets_help_and_changes_nothing(stage: Stage, words: str, said: str) -> None:
    number = await stage.open_issue("Settings", user="ada")
    run = await say(stage, number, words)
    assert run.state is RunState.REFUSED
    assert said in await ended_well_told(stage, run)
    assert await logged(stage, "setting.changed") == []


@pytest.mark.parametrize("user", ["ada", "wim"])
async def test_a_key_in_a_comment_is_never_taken_and_is_said_to_be_public(stage: Stage, user: str) -> None:
    number = await stage.open_issue("Settings")
    key = "sk-ant-api03-AbCdEf0123456789AbCdEf0123456789"
    run = await say(stage, number, f"settings provider-key anthropic\n\n{key}", user=user)
    assert (run.state, run.reason) == (RunState.REFUSED, "key_in_public")
    said = (await ours(stage, number))[-1]
    assert "**A key in public**" in said
    assert "revoke it" in said
    assert key not in said
    async with stage.house.store.transaction(stage.installation) as transaction:
        assert list(await transaction.provider_keys()) == []
    assert key not in str([one.details for one in await stage.log()])


async def test_a_legal_hold_is_shown_with_whose_it_is_and_stops_a_deletion(stage: Stage) -> None:
    number = await stage.open_issue("Settings", user="ada")
    await say(stage, number, "settings legal-hold on")
    await say(stage, number, "settings")
    assert "**Legal hold:** `on, by ada since" in (await ours(stage, number))[-1]
    run = await say(stage, number, "delete")
    assert (run.state, run.reason) == (RunState.REFUSED, "legal_hold")


async def test_an_installations_limit_for_the_day_ends_the_next_run_before_a_model_is_asked(
    stage: Stage,
) -> None:
    await ask(stage)
    (first,) = await stage.ended()
    assert first.cost_usd > 0
    number = await stage.open_issue("Settings", user="ada")
    await say(stage, number, "settings limit-day $0.0001")
    before = len(await asked_of_the_model(stage))
    run = await say(stage, number, "fix this")
    assert (run.state, run.reason) == (RunState.REFUSED, "budget_installation")
    assert "limit-day" in await ended_well_told(stage, run)
    assert len(await asked_of_the_model(stage)) == before


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (Decimal("0.5"), None),
        (Decimal("0.85"), "**Budget:** more than 80 % of what runs here may cost today (UTC) is used."),
        (Decimal("1.0"), "**Budget:** what runs here may cost today (UTC) is used up."),
    ],
)
async def test_a_run_that_brings_a_budget_to_80_90_or_100_percent_says_so_and_the_next_one_does_not(
    stage: Stage, share: Decimal, said: str | None
) -> None:
    """The third request costs what the second one did, whose prompt was kept from the first: then `share` of the limit is spent."""
    costs = []
    for count in (1, 2):
        await ask(stage)
        costs.append((await stage.ended(count))[-1].cost_usd)
    limit = ((costs[0] + 2 * costs[1]) / share).quantize(Decimal("0.0001"), ROUND_FLOOR)
    await settings.change(
        stage.house.store,
        stage.house.ledger,
        stage.house.clock,
        installation_id=stage.installation,
        by="ada",
        wanted=settings.wanted(f"limit-day ${limit}"),
    )
    await ask(stage)
    told = await ended_well_told(stage, (await stage.ended(3))[-1])
    assert ("**Budget:**" in told) is (said is not None)
    assert said is None or said in told
    number = await stage.open_issue("Settings", user="ada")
    await say(stage, number, "settings")
    assert "**Budget:**" not in (await ours(stage, number))[-1]


async def test_an_installations_limit_for_a_run_holds_beside_the_askers(stage: Stage) -> None:
    number = await stage.open_issue("Settings", user="ada")
    assert (await say(stage, number, "settings limit-run $0.0001")).reason == "setting_changed"
    run = await say(stage, number, "fix this up to $3")
    assert run.state is RunState.REFUSED
    assert run.reason == "budget_dollars"
    assert run.cost_usd < Decimal("0.1")


async def test_what_an_installation_leaves_alone_is_not_changed_and_the_answer_names_the_kind(
    stage: Stage,
) -> None:
    number = await stage.open_issue("Settings", user="ada")
    assert (await say(stage, number, "settings leave-alone documentation")).reason == "setting_changed"
    run = await say(stage, number, "fix this")
    assert (run.state, run.reason) == (RunState.REFUSED, "path_denied")
    told = await ended_well_told(stage, run)
    assert "is one of the `documentation`" in told
    assert "`leave-alone`" in told
    assert await stage.pulls() == []


async def test_an_installation_wants_a_plan_first_in_every_repository(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, playbook(plans()))
    number = await stage.open_issue("Settings", user="ada")
    assert (await say(stage, number, "settings plan-first on")).reason == "setting_changed"
    run = await say(stage, number, "fix this")
    assert (run.state, run.reason) == (RunState.ANSWERED, "planned")
    assert await stage.pulls() == []


async def test_the_models_of_the_settings_are_asked_where_the_repository_names_none(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await raise_stage({"octo/fairshare": sample}, notes())
    number = await stage.open_issue("Settings", user="ada")
    await say(stage, number, "settings models openai:playbook-1")
    await say(stage, number, "fix this")
    assert {one["provider"] for one in await logged(stage, "model.called")} == {"openai"}
