"""Models and their budgets on whole requests: the other provider's wire, chains, unknown prices, every limit, stuck models."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.agent.chain import Chain
from app.nouns import AssistantTurn, ModelAnswer, ModelRequest, RunState, Stop, Usage
from infra.models.openai import OpenAIModel
from infra.models.playbook import PLAYBOOK_MODEL, Playbook
from infra.simulator.model.serve import running as running_model
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    body_of,
    conversations,
    create,
    edit,
    ended_well_told,
    finish,
    logged,
    looks,
    notes,
    playbook,
    repository_file,
    scenario,
    verdict,
)
from tests.line.stage import Stage


async def up(raise_stage: Stages, sample: Path, book: Playbook, /, **how: Any) -> Stage:
    settings = how.pop("settings", {})
    repository_file(sample, **{"checks": ["true"], **settings})
    return await raise_stage({"octo/fairshare": sample}, book, **how)


def using(turn: dict[str, Any], input_tokens: int) -> dict[str, Any]:
    """The same answer, at this many tokens in: 3 dollars for a million of them."""
    return {**turn, "usage": {"input_tokens": input_tokens, "output_tokens": 10}}


# --- the other wire --------------------------------------------------------------------------------------------------


async def test_the_whole_line_on_the_other_wire_with_its_own_form_of_edits(
    raise_stage: Stages, sample: Path
) -> None:
    patch = "\n".join(
        (
            "*** Begin Patch",
            "*** Add File: NOTES.md",
            "+A note with a tpyo.",
            "*** Update File: README.md",
            "@@",
            "-# fairshare",
            "+# Fairshare",
            "*** End Patch",
        )
    )
    (sample / "README.md").write_text("# fairshare\n")
    mend = "\n".join(
        (
            "*** Begin Patch",
            "*** Update File: NOTES.md",
            "@@",
            "-A note with a tpyo.",
            "+A note.",
            "*** End Patch",
        )
    )

    def patches(text: str) -> dict[str, Any]:
        return {"calls": [{"tool": "apply_patch", "arguments": {"patch": text}}]}

    book = playbook(scenario(patches(patch), finish(), patches(mend), finish()))
    stage = await up(
        raise_stage, sample, book, provider="openai", settings={"checks": ["! grep tpyo NOTES.md"]}
    )
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    (pull,) = await stage.pulls()
    files = (await stage.client().get(f"/repos/{stage.repository}/pulls/{pull['number']}/files")).json()
    assert {one["filename"]: one["additions"] for one in files} == {"NOTES.md": 1, "README.md": 1}
    assert "| passed |" in pull["body"]
    assert "A second look, by a model" in pull["body"]
    requests = await asked_of_the_model(stage)
    assert len(requests) == 6
    assert {one["path"] for one in requests} == {"/v1/responses"}
    assert {one["body"]["store"] for one in requests} == {False}
    assert {one["provider"] for one in await logged(stage, "model.called")} == {"openai"}


# --- chains ----------------------------------------------------------------------------------------------------------


async def test_where_the_first_model_is_overloaded_the_second_of_the_files_list_does_the_work(
    raise_stage: Stages, sample: Path
) -> None:
    # As often as a model is tried that another stands behind.
    busy = create("NOTES.md", "A note.\n") | {"overload": {"times": 3, "retry_after_seconds": 0}}
    named = [f"anthropic:{PLAYBOOK_MODEL}", f"openai:{PLAYBOOK_MODEL}"]
    stage = await up(raise_stage, sample, playbook(scenario(busy, finish())), settings={"model": named})
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert [one["path"] for one in await asked_of_the_model(stage)] == [
        *["/v1/messages"] * 3,
        *["/v1/responses"] * 3,
    ]
    assert [one["provider"] for one in await logged(stage, "model.called")] == ["openai"] * 3


async def test_a_model_that_does_not_exist_is_passed_over(raise_stage: Stages, sample: Path) -> None:
    named = ["openai:nobody-1", f"anthropic:{PLAYBOOK_MODEL}"]
    stage = await up(raise_stage, sample, notes(), settings={"model": named})
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert {one["provider"] for one in await logged(stage, "model.called")} == {"anthropic"}


class Declines:
    """A Model that declines, which is paid for."""

    provider, name = "anthropic", "declines-1"

    async def answer(self, _request: ModelRequest) -> ModelAnswer:
        turn = AssistantTurn("I will not.", (), maker="anthropic:declines-1")
        return ModelAnswer(turn, Stop.REFUSAL, Usage(1000, 0, 0, 10), self.name, Decimal("0.25"))


async def test_where_the_first_model_declines_the_second_works_and_both_are_paid_for_and_written_down(
    raise_stage: Stages, sample: Path
) -> None:
    book = notes()
    async with running_model(book) as url:
        works = OpenAIModel(PLAYBOOK_MODEL, "playbook-key", f"{url}/v1")
        stage = await up(raise_stage, sample, book, model=lambda _: Chain([Declines(), works]))
        await ask(stage)
        (run,) = await stage.ended()
        await works.close()
    assert run.state is RunState.OPENED
    calls = await logged(stage, "model.called")
    assert [(one["provider"], one["model"]) for one in calls] == [
        ("anthropic", "declines-1"),
        *[("openai", PLAYBOOK_MODEL)] * 3,
    ]
    assert run.input_tokens == sum(one["input_tokens"] for one in calls)
    assert run.cost_usd > Decimal("0.25")
    assert "4 turn(s)" in await body_of(stage)


async def test_where_every_model_declines_the_end_is_visible_and_each_was_counted(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, notes(), model=lambda _: Chain([Declines(), Declines()]))
    await ask(stage)
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "model_refused")
    assert run.cost_usd == Decimal("0.5")
    assert "Cost: $0.5000" in await ended_well_told(stage, run)


async def test_a_model_without_a_known_price_is_counted_in_tokens_and_that_is_said(
    raise_stage: Stages, sample: Path
) -> None:
    book = notes().model_copy(update={"models": ("nameless-9",)})
    stage = await up(raise_stage, sample, book, environ={"MAGICODE_MODEL": "anthropic:nameless-9"})
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert {one["cost_usd"] for one in await logged(stage, "model.called")} == {None}
    unknown = f"Cost: unknown, since no price is known for this model · {run.input_tokens:,} tokens in"
    for text in (await body_of(stage), await ended_well_told(stage, run)):
        assert unknown in text
        assert "$" not in text


# --- budgets ---------------------------------------------------------------------------------------------------------


def reading(*turns: dict[str, Any]) -> Playbook:
    """A model that looks at one thing after another, as long as it is let."""
    files = ("README.md", "AGENTS.md", "pyproject.toml", "fairshare/split.py", "fairshare/settle.py")
    more = [{"calls": [{"tool": "read", "arguments": {"path": path}}]} for path in files]
    return playbook(scenario(*turns, *more))


def read(path: str = "fairshare/ledger.py") -> dict[str, Any]:
    return {"calls": [{"tool": "read", "arguments": {"path": path}}]}


@pytest.mark.parametrize(
    ("environ", "comment", "turns", "reason", "told"),
    [
        ({"MAGICODE_MAX_TURNS": "3"}, "", (), "budget_turns", "limit of 3 turns"),
        (
            {"MAGICODE_MAX_TOKENS": "50000"},
            "",
            (using(read(), 60_000),),
            "budget_tokens",
            "limit of 50,000 tokens",
        ),
        ({}, " up to $0.01", (using(read(), 5_000),), "budget_dollars", "limit of $0.01"),
        (
            {"MAGICODE_MAX_SECONDS": "2"},
            "",
            ({**read(), "slow": {"seconds": 60}},),
            "budget_time",
            "limit of 2 seconds",
        ),
    ],
    ids=["turns", "tokens", "dollars", "time"],
)
async def test_each_limit_is_a_visible_end_that_tells_the_cost(
    raise_stage: Stages,
    sample: Path,
    environ: dict[str, str],
    comment: str,
    turns: tuple[dict[str, Any], ...],
    reason: str,
    told: str,
) -> None:
    stage = await up(raise_stage, sample, reading(*turns), environ=environ)
    await ask(stage, f"@magicode fix this{comment}")
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, reason)
    said = await ended_well_told(stage, run)
    assert told in said.replace("\u200b", "")
    assert await stage.pulls() == []
    if reason != "budget_time":
        assert run.cost_usd > 0
        assert f"Cost: ${run.cost_usd:.4f} · {run.input_tokens:,} tokens in" in said


async def test_at_four_fifths_of_a_limit_the_model_is_told_once_to_wrap_up(
    raise_stage: Stages, sample: Path
) -> None:
    book = playbook(
        scenario(using(read(), 200), using(create("NOTES.md", "A note.\n"), 200), using(finish(), 200))
    )
    # Two calls of 210 are four fifths and more of 500.
    stage = await up(raise_stage, sample, book, environ={"MAGICODE_MAX_TOKENS": "500"})
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, _ = await conversations(stage)
    wrap_up = "You have used most of what this request may use (tokens)"
    assert [text.count(wrap_up) for text in author] == [0, 0, 1]


async def test_a_second_look_that_the_budget_does_not_reach_for_is_said_to_be_missing(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, notes(), environ={"MAGICODE_MAX_TURNS": "2"})
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    _, second = await conversations(stage)
    assert second == []
    body = await body_of(stage)
    assert "There was no second look" in body.partition("## Left open")[2]
    assert "2 turn(s)" in body
    assert "left open there: 1 remark" in await ended_well_told(stage, run)


@pytest.mark.parametrize("turns", [3, 4, 5])
async def test_a_mend_that_runs_out_of_budget_publishes_the_first_change_with_its_concerns(
    raise_stage: Stages, sample: Path, turns: int
) -> None:
    """Two turns write it, one looks at it; what is left is too little to mend it, or to look at it once more."""
    look = looks(
        {
            "first_of": [
                {**verdict(), "when": {"contains": "by Wim"}},
                verdict(missing=["NOTES.md is not signed."]),
            ]
        }
    )
    author = scenario(
        create("NOTES.md", "A note.\n"),
        finish(),
        edit("NOTES.md", "A note.", "A note by Wim."),
        finish("Signed"),
    )
    stage = await up(raise_stage, sample, playbook(look, author), environ={"MAGICODE_MAX_TURNS": str(turns)})
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    (pull,) = await stage.pulls()
    listed = pull["body"].partition("## Left open")[2].replace("\u200b", "")
    if turns == 5:
        assert pull["title"] == "Signed"
        assert "There was no second look" in listed
    else:
        assert pull["title"] == "Write the note"
        assert "NOTES.md is not signed." in listed
    assert f"{turns} turn(s)" in pull["body"], "all of it is one budget and one bill"
    assert len(await logged(stage, "model.called")) == turns


# --- stuck -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turns",
    [
        ({**read(), "repeat": "forever"},),
        (
            create("NOTES.md", "A note.\n"),
            *[
                edit("NOTES.md", *words)
                for _ in range(4)
                for words in (("A note.", "One note."), ("One note.", "A note."))
            ],
        ),
    ],
    ids=["the same call", "edits that undo each other"],
)
async def test_a_stuck_model_is_a_visible_end(
    raise_stage: Stages, sample: Path, turns: tuple[dict[str, Any], ...]
) -> None:
    stage = await up(raise_stage, sample, playbook(scenario(*turns)))
    await ask(stage)
    (run,) = await stage.ended()
    assert (run.state, run.reason) == (RunState.REFUSED, "stuck")
    assert "The model kept" in await ended_well_told(stage, run)
    assert len(await logged(stage, "model.called")) <= 8
    assert await stage.pulls() == []
