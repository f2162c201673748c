"""`@magicode logs`, on the whole service: figures and a private link, and nothing that only some may see."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.actionlog.anchors import quoted_heads
from app.actionlog.verify import verify
from app.nouns import RunState
from tests.line.conftest import Stages
from tests.line.conversations import ask, create, finish, ours, playbook, scenario
from tests.line.stage import Stage

PATH = "secretfolder/hushhush.md"
WORD = "quincunx"


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path) -> Stage:
    book = playbook(scenario(create(PATH, f"{WORD}\n"), finish(f"Title {WORD}", f"Summary {WORD}.")))
    return await raise_stage({"octo/fairshare": sample}, book)


async def test_the_answer_tells_figures_of_the_last_request_and_a_private_link(stage: Stage) -> None:
    number = await ask(stage)
    (fixed,) = await stage.ended()
    assert fixed.state is RunState.OPENED
    await stage.comment(number, "@magicode logs")
    (_, asked) = await stage.ended(2)
    assert (asked.state, asked.reason) == (RunState.ANSWERED, "logs")
    said = (await ours(stage, number))[-1]
    assert f"({stage.house.public_url}/installations/{stage.installation}/actions?run={fixed.id})" in said
    assert "| `model.called` |" in said
    assert "ended as opened" in said
    assert "magicode actions verify" in said


async def test_nothing_of_the_details_is_in_it(stage: Stage) -> None:
    number = await ask(stage, f"@magicode fix this {WORD}", body=f"Body {WORD}")
    await stage.ended()
    other = await ask(stage, "@magicode fix this too", user="ada")
    await stage.ended(2)
    await stage.comment(number, "@magicode logs", user="ada")
    await stage.ended(3)
    said = (await ours(stage, number))[-1]
    assert "The action log" in said
    for detail in (
        PATH,
        "secretfolder",
        "hushhush",
        WORD,
        "wim",
        "ada",
        "fairshare",
        "magicode/issue",
        "NOTES",
    ):
        assert detail not in said, detail
    runs = {str(run.id): run.number for run in await stage.runs()}
    named = set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", said))
    assert {runs[one] for one in named} == {number}
    assert f"#{other}" not in said


async def test_the_head_in_it_is_that_of_the_log_and_verifies_an_export_later(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await stage.comment(number, "@magicode logs")
    await stage.ended(2)
    said = (await ours(stage, number))[-1]
    stated = re.search(r"--anchor ([0-9]+:[0-9a-f]{64}:[0-9]+)", said)
    assert stated is not None
    entries = await stage.log()
    seq, hashed, installation = stated[1].split(":")
    assert entries[int(seq) - 1].hash == hashed
    assert int(installation) == stage.installation
    assert verify(entries, quoted_heads(said)).ok


async def test_on_the_pull_request_it_tells_of_the_same_request(stage: Stage) -> None:
    await ask(stage)
    (fixed,) = await stage.ended()
    assert fixed.pull_request is not None
    await stage.comment(fixed.pull_request, "@magicode logs")
    await stage.ended(2)
    assert f"actions?run={fixed.id}" in (await ours(stage, fixed.pull_request))[-1]


async def test_where_nothing_was_asked_before_that_is_what_it_says(stage: Stage) -> None:
    number = await ask(stage, "@magicode logs")
    await stage.ended()
    said = (await ours(stage, number))[-1]
    assert "Nothing was asked of me here before" in said
    assert f"({stage.house.public_url}/installations/{stage.installation}/actions)" in said


async def test_who_may_not_write_is_told_nothing(stage: Stage) -> None:
    number = await ask(stage)
    await stage.ended()
    await stage.comment(number, "@magicode logs", user="rita")
    (_, refused) = await stage.ended(2)
    assert (refused.state, refused.reason) == (RunState.REFUSED, "no_write_permission")
    assert "actions?run" not in (await ours(stage, number))[-1]
