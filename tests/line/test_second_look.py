"""The second look at a change, on whole requests: what becomes of its verdict, and what it costs."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.nouns import RunState
from infra.models.playbook import Playbook
from tests.line.conftest import Stages
from tests.line.conversations import (
    ask,
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

UNSIGNED = "NOTES.md does not say who wrote it."
OPEN = "## Left open"
LOOKED = "A second look, by a model"


def until_mended(mark: str, **found: list[str]) -> dict[str, Any]:
    """Finds this until the diff holds `mark`."""
    return looks({"first_of": [{**verdict(), "when": {"contains": mark}}, verdict(**found)]})


def written(*after: dict[str, Any], look: dict[str, Any] | None = None) -> Playbook:
    said = scenario(create("NOTES.md", "A note.\n"), finish(), *after)
    return playbook(*([look] if look else []), said)


async def up(raise_stage: Stages, sample: Path, book: Playbook, **settings: Any) -> Stage:
    repository_file(sample, **{"checks": ["true"], **settings})
    return await raise_stage({"octo/fairshare": sample}, book)


async def test_a_look_that_approves_is_told_and_nothing_stands_open(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, notes())
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, (look,) = await conversations(stage)
    assert len(author) == 2
    assert "+A note." in look
    assert "NOTES.md says nothing" in look, "it sees the request"
    assert "Read it again." not in look, "and not what the author says of it"
    body = await body_of(stage)
    assert LOOKED in body
    assert OPEN not in body
    assert await logged(stage, "second_look.taken") == [{"verdict": True, "problems": 0}]


async def test_it_is_counted_in_the_run_in_the_log_and_in_the_pull_requests_footer(
    raise_stage: Stages, sample: Path
) -> None:
    dear = {**verdict(), "usage": {"input_tokens": 70_000, "output_tokens": 10}}
    stage = await up(raise_stage, sample, written(look=looks(dear)))
    await ask(stage)
    (run,) = await stage.ended()
    calls = await logged(stage, "model.called")
    assert len(calls) == 3
    assert calls[2]["input_tokens"] == 70_000
    assert run.input_tokens == sum(one["input_tokens"] for one in calls)
    assert abs(run.cost_usd - sum(Decimal(one["cost_usd"]) for one in calls)) < Decimal("0.00001")
    assert run.cost_usd > Decimal("0.21")
    shown = f"Cost: ${run.cost_usd:.4f} · {run.input_tokens:,} tokens in"
    assert f"{shown}, {run.output_tokens:,} out · 3 turn(s)" in await body_of(stage)
    assert shown in await ended_well_told(stage, run)


async def test_problems_go_back_to_the_author_once_and_a_mended_change_has_none(
    raise_stage: Stages, sample: Path
) -> None:
    mends = (edit("NOTES.md", "A note.", "A note by Wim."), finish("Write a signed note", "It was missing."))
    stage = await up(raise_stage, sample, written(*mends, look=until_mended("by Wim", missing=[UNSIGNED])))
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, second = await conversations(stage)
    assert (len(author), len(second)) == (4, 2)
    assert f"- Missing: {UNSIGNED}" in author[2].rpartition("<findings-")[2]
    assert UNSIGNED not in second[1], "the second look has fresh eyes each time"
    (pull,) = await stage.pulls()
    assert pull["title"] == "Write a signed note"
    assert LOOKED in pull["body"]
    assert OPEN not in pull["body"]
    assert [one["problems"] for one in await logged(stage, "second_look.taken")] == [1, 0]


async def test_what_its_author_leaves_as_it_is_stands_in_the_body_under_its_heading(
    raise_stage: Stages, sample: Path
) -> None:
    look = looks(verdict(missing=[UNSIGNED], risky=["@ada is told nothing of it."]))
    stands = finish("Write the note", "It was signed all along.")
    stage = await up(raise_stage, sample, written(stands, look=look))
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, second = await conversations(stage)
    assert len(author) == 3, "told once, and not again"
    assert len(second) == 1, "the same change is not looked at twice"
    body = await body_of(stage)
    assert "It was signed all along." in body, "what the author says about it is published"
    listed = body.partition(OPEN)[2].partition("##")[0]
    assert f"- Missing: {UNSIGNED}" in listed.replace("\u200b", "")
    assert "- Risky: @\u200bada is told" in listed, "and mentions nobody"
    assert LOOKED not in body
    assert "left open there: 2 remarks" in await ended_well_told(stage, run)


async def test_a_mend_that_breaks_a_check_is_not_taken(raise_stage: Stages, sample: Path) -> None:
    mends = (edit("NOTES.md", "A note.", "A tpyo by Wim."), finish("Write a signed note", "It was missing."))
    book = written(*mends, look=until_mended("by Wim", missing=[UNSIGNED]))
    stage = await up(raise_stage, sample, book, checks=["! grep tpyo NOTES.md"])
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    (pull,) = await stage.pulls()
    assert pull["title"] == "Write the note"
    assert "The one command passed" in pull["body"]
    assert UNSIGNED in pull["body"].partition(OPEN)[2].replace("\u200b", "")
    assert "5 turn(s)" not in pull["body"]
    assert "6 turn(s)" in pull["body"]


@pytest.mark.parametrize(
    "turns",
    [
        ({"say": "I approve of it."}, {"say": "It is fine."}),
        ({"say": "I will not.", "stop": "refusal"},),
        (
            {"calls": [{"tool": "verdict", "arguments": {"does_what_was_asked": True}}]},
            {"calls": [{"tool": "verdict", "raw": "{broken"}]},
        ),
    ],
    ids=["words", "refusal", "malformed"],
)
async def test_no_verdict_never_reads_as_an_approval(
    raise_stage: Stages, sample: Path, turns: tuple[dict[str, Any], ...]
) -> None:
    stage = await up(raise_stage, sample, written(look=looks(*turns)))
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, second = await conversations(stage)
    assert len(second) == len(turns)
    assert len(author) == 2, "its author can do nothing about that"
    body = await body_of(stage)
    assert "gave no verdict" in body.partition(OPEN)[2]
    assert LOOKED not in body
    assert "approve" not in body
    assert [one["verdict"] for one in await logged(stage, "second_look.taken")] == [False]


async def test_a_provider_in_trouble_costs_the_second_look_and_not_the_change(
    raise_stage: Stages, sample: Path
) -> None:
    # A scenario without a turn for it: the provider refuses the request for good.
    book = written(look=looks({**verdict(), "when": {"contains": "nothing that is ever said"}}))
    stage = await up(raise_stage, sample, book)
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert "There was no second look" in (await body_of(stage)).partition(OPEN)[2]


async def test_a_deleted_test_is_named_although_the_model_approves(raise_stage: Stages, sample: Path) -> None:
    drops = edit(
        "tests/test_split.py",
        "    def test_nobody_is_an_error(self):\n"
        "        with self.assertRaises(ValueError):\n"
        "            split_evenly(100, [])\n",
        "",
    )
    book = playbook(
        scenario(drops, finish("Drop a test", "It was slow."), finish("Drop a test", "It was slow."))
    )
    stage = await up(raise_stage, sample, book)
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, _ = await conversations(stage)
    assert "test_nobody_is_an_error" in author[2].rpartition("<findings-")[2]
    body = await body_of(stage)
    assert "test_nobody_is_an_error" in body.partition(OPEN)[2]
    assert LOOKED not in body


async def test_switched_off_it_is_not_taken_and_deleted_tests_are_named_all_the_same(
    raise_stage: Stages, sample: Path
) -> None:
    deletes = {"calls": [{"tool": "delete", "arguments": {"path": "tests/test_ledger.py"}}]}
    book = playbook(
        scenario(create("NOTES.md", "A note.\n"), finish(), when="harmless"),
        scenario(deletes, finish("Drop tests", "Slow."), finish("Drop tests", "Slow.")),
    )
    stage = await up(raise_stage, sample, book, second_look=False)
    await ask(stage, body="Something harmless.")
    await stage.ended()
    body = await body_of(stage)
    assert LOOKED not in body
    assert OPEN not in body
    await ask(stage, body="Something else.")
    runs = await stage.ended(2)
    assert [run.state for run in runs] == [RunState.OPENED] * 2
    (newest,) = [one for one in await stage.pulls() if one["title"] == "Drop tests"]
    assert "tests/test_ledger.py" in newest["body"].partition(OPEN)[2].partition("##")[0]
    _, second = await conversations(stage)
    assert second == []
    assert await logged(stage, "second_look.taken") == []


async def test_a_revision_that_mends_it_leaves_nothing_open(raise_stage: Stages, sample: Path) -> None:
    book = playbook(
        until_mended("by Wim", missing=[UNSIGNED]),
        scenario(edit("NOTES.md", "A note.", "A note by Wim."), finish("Sign the note"), when="sign it"),
        scenario(create("NOTES.md", "A note.\n"), finish(), finish()),
    )
    stage = await up(raise_stage, sample, book)
    await ask(stage)
    await stage.ended()
    (pull,) = await stage.pulls()
    assert OPEN in pull["body"]
    await stage.comment(pull["number"], "@magicode please sign it")
    runs = await stage.ended(2)
    assert runs[1].state is RunState.UPDATED
    body = await body_of(stage)
    assert OPEN not in body
    assert LOOKED in body
