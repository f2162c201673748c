"""The repository's own checks, in the real sandbox, on whole requests: what is run, what is said of it, what it can see."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

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
    notes,
    playbook,
    prompts,
    repository_file,
    scenario,
)
from tests.line.stage import Stage

TYPO = "! grep tpyo NOTES.md"
"""Passes on the tree without a note, prints the wrong line where the note has one."""


def wrong_note(*after: dict[str, Any]) -> Playbook:
    """A note with a slip, and what its author does when told."""
    return playbook(scenario(create("NOTES.md", "A note with a tpyo.\n"), finish(), *after))


async def up(
    raise_stage: Stages, sample: Path, book: Playbook | None = None, *, environ: Any = None, **settings: Any
) -> Stage:
    repository_file(sample, **settings)
    return await raise_stage({"octo/fairshare": sample}, book or notes(), environ=environ)


def table(body: str) -> list[tuple[str, str]]:
    """(command, result) of each row; every row has its seconds."""
    rows = re.findall(r"^\| `(.+)` \| (.+) \| (\d+\.\d) s \|$", body, re.MULTILINE)
    return [(command, result) for command, result, _ in rows]


def unread(text: str) -> str:
    """Without the marks that keep words of others from being read by machines."""
    return text.replace("\u200b", "")


# --- what is run, and on what ----------------------------------------------------------------------------------------


async def test_the_files_checks_run_on_the_changed_tree_and_the_body_has_what_passed(
    raise_stage: Stages, sample: Path
) -> None:
    commands = ["grep -q 'A note' NOTES.md", "test -f fairshare/split.py && sleep 1.1"]
    stage = await up(raise_stage, sample, checks=commands)
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    body = await body_of(stage)
    assert table(body) == [(one, "passed") for one in commands]
    assert "All 2 commands passed in a sandbox" in body
    assert re.search(r"sleep 1\.1` \| passed \| [1-9]\.\d s", body)
    (entry,) = await logged(stage, "checks.run")
    assert (entry["commands"], entry["passed"]) == (2, 2)
    assert entry["seconds"] >= 1.1


async def test_checks_are_found_in_the_repository_without_a_word_in_its_file(stage: Stage) -> None:
    number = await stage.open_issue("Some cents are lost", "Some cents are lost: 1000 among three gives 999.")
    await stage.comment(number, "@magicode fix this")
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert table(await body_of(stage)) == [("python3 -m unittest", "passed")]
    _, (look,) = await conversations(stage)
    assert "python3 -m unittest" in look, "the second look is told what the checks said"


async def test_the_model_can_run_them_on_its_draft_and_each_run_is_written_down(
    raise_stage: Stages, sample: Path
) -> None:
    run_checks = {"calls": [{"tool": "run_checks", "arguments": {}}]}
    book = playbook(
        scenario(
            create("NOTES.md", "A tpyo.\n"),
            run_checks,
            edit("NOTES.md", "tpyo", "typo"),
            run_checks,
            finish(),
        )
    )
    stage = await up(raise_stage, sample, book, checks=[TYPO])
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, _ = await conversations(stage)
    assert "A tpyo.\n" in author[2].rpartition("<output-")[2], "it saw what the check printed"
    assert [one["passed"] for one in await logged(stage, "checks.run")] == [0, 1], "once for each draft"
    assert table(await body_of(stage)) == [(TYPO, "passed")]


# --- what fails ------------------------------------------------------------------------------------------------------


async def test_a_failing_check_goes_back_to_the_author_once_and_what_is_mended_is_published(
    raise_stage: Stages, sample: Path
) -> None:
    book = wrong_note(edit("NOTES.md", "tpyo", "typo"), finish("Write the note, spelled", "It was missing."))
    stage = await up(raise_stage, sample, book, checks=[TYPO])
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, second = await conversations(stage)
    assert (len(author), len(second)) == (4, 2)
    told = author[2].rpartition("<findings-")[2]
    assert f"`{TYPO}` does not pass with this change:\nA note with a tpyo." in told
    assert [one["passed"] for one in await logged(stage, "checks.run")] == [0, 1]
    body = await body_of(stage)
    assert table(body) == [(TYPO, "passed")]
    assert "did not pass" not in body
    assert (await stage.pulls())[0]["title"] == "Write the note, spelled"


async def test_what_its_author_does_not_mend_is_published_and_never_called_passed(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, wrong_note(finish()), checks=[TYPO, "true"])
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, _ = await conversations(stage)
    assert len(author) == 3, "told once, and not again"
    body = await body_of(stage)
    assert "**1 of 2 commands did not pass**" in body
    assert table(body) == [(TYPO, "**failed (exit 1)**"), ("true", "passed")]
    assert "tpyo." not in body, "what a command prints stays out of the body"
    told = await ended_well_told(stage, run)
    assert "1 check that does not pass" in told
    assert "passed" not in told


@pytest.mark.parametrize("then", ["gives up", "answers", "is refused"])
async def test_a_change_whose_mending_comes_to_nothing_is_published_as_it_was(
    raise_stage: Stages, sample: Path, then: str
) -> None:
    after = {
        "gives up": ({"stop": "refusal"},),
        "answers": ({"calls": [{"tool": "answer", "arguments": {"text": "I cannot."}}]},),
        "is refused": (create(".github/workflows/x.yml", "on: push\n"), finish("Another", "Another.")),
    }[then]
    stage = await up(raise_stage, sample, wrong_note(*after), checks=[TYPO])
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    (pull,) = await stage.pulls()
    assert pull["title"] == "Write the note"
    assert "**The one command did not pass**" in pull["body"]
    assert (await logged(stage, "run.ended"))[0]["cost_usd"] == str(run.cost_usd)


async def test_what_failed_before_the_change_too_is_said_and_is_not_the_authors(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, checks=["echo broken for long; exit 3"])
    await ask(stage)
    await stage.ended()
    author, second = await conversations(stage)
    assert (len(author), len(second)) == (2, 1), "the author is not told"
    body = await body_of(stage)
    assert "**The one command did not pass**" in body
    assert "It fails without this change too." in body
    assert table(body)[0][1] == "failed (exit 3); fails without this change too"
    assert "passed" not in body
    assert [one["failed_before"] for one in await logged(stage, "checks.run")] == [1]


# --- what is not run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "environ", "why"),
    [
        ({"checks": []}, {}, "`.github/magicode.yml` switches them off"),
        ({"checks": ["true"]}, {"MAGICODE_SANDBOX": "false"}, "this service has no sandbox"),
        ({"checks": ["nosuchtool --all"]}, {}, "`nosuchtool` is not there for `nosuchtool --all`"),
        (
            {"checks": ["true"], "install": ["false"]},
            {},
            "their dependencies could not be installed: `false` failed",
        ),
    ],
)
async def test_checks_that_were_not_run_are_said_to_be_so_and_why(
    raise_stage: Stages, sample: Path, settings: dict[str, Any], environ: dict[str, str], why: str
) -> None:
    stage = await up(raise_stage, sample, environ=environ, **settings)
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    body = unread(await body_of(stage))
    assert f"Checks were not run, because {why}." in body
    assert "passed" not in body
    assert table(body) == []
    assert [one["commands"] for one in await logged(stage, "checks.run")] == [0]
    _, (look,) = await conversations(stage)
    assert "They were not run, because" in look


async def test_without_a_sandbox_the_model_is_offered_no_checks(raise_stage: Stages, sample: Path) -> None:
    stage = await up(raise_stage, sample, environ={"MAGICODE_SANDBOX": "false"})
    await ask(stage)
    await stage.ended()
    author, _ = await conversations(stage)
    assert '"run_checks"' not in author[0]


async def test_a_repository_without_checks_is_told_that_none_was_found(
    raise_stage: Stages, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "README.md").write_text("# Nothing to run\n")
    stage = await raise_stage({"octo/bare": bare}, notes())
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert "Checks were not run, because no command was found that runs them." in await body_of(stage)


async def test_nothing_is_installed_unless_the_file_asks_for_it(raise_stage: Stages, sample: Path) -> None:
    (sample / "requirements.txt").write_text("a-package-that-nobody-published\n")
    stage = await up(raise_stage, sample, checks=['test ! -e "$VIRTUAL_ENV/bin"'])
    await ask(stage)
    (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    assert [result for _, result in table(await body_of(stage))] == ["passed"]


# --- what a check can see --------------------------------------------------------------------------------------------


async def test_a_check_sees_no_secret_of_the_service_and_no_network(
    raise_stage: Stages, sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-amberwillow")
    monkeypatch.setenv("SOME_OTHER_SECRET", "amberwillow")
    knocks: list[object] = []

    async def knock(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocks.append(writer)
        writer.close()

    server = await asyncio.start_server(knock, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    reach = (
        'python3 -c \'import socket; socket.create_connection(("127.0.0.1", ' + str(port) + "), 3)' "
        "&& echo WAY-OUT || echo no-way-out"
    )
    data = tmp_path / "stage" / "data"
    read = f"ls {data} && echo READ-IT || echo could-not-read; cat {data}/master.key; cat /proc/*/environ"
    look = f"env; {reach}; {read}; test ! -e NOTES.md"
    async with server:
        stage = await up(raise_stage, sample, checks=[look])
        assert (data / "master.key").is_file()
        await ask(stage)
        (run,) = await stage.ended()
    assert run.state is RunState.OPENED
    author, _ = await conversations(stage)
    printed = author[2].rpartition("<findings-")[2]
    assert "HOME=" in printed
    assert "no-way-out" in printed
    assert "could-not-read" in printed
    assert knocks == []
    for secret in ("amberwillow", "MAGICODE_", stage.environ["MAGICODE_WEBHOOK_SECRET"], "PRIVATE KEY"):
        assert secret not in printed
    everything = await prompts(stage)
    assert (data / "master.key").read_bytes().hex() not in everything
    assert stage.environ["MAGICODE_WEBHOOK_SECRET"] not in everything


async def test_a_cancelled_run_waits_for_no_check_and_publishes_nothing(
    raise_stage: Stages, sample: Path
) -> None:
    stage = await up(raise_stage, sample, checks=["sleep 61.25"])
    number = await ask(stage)
    async with asyncio.timeout(30):
        while not sleeping("61.25"):
            await asyncio.sleep(0.1)
    began = asyncio.get_running_loop().time()
    await stage.comment(number, "@magicode cancel")
    runs = await stage.ended(2, within=20)
    assert (runs[0].verb, runs[0].state) == ("fix", RunState.CANCELLED)
    assert asyncio.get_running_loop().time() - began < 5
    assert await stage.pulls() == []
    async with asyncio.timeout(5):
        while sleeping("61.25"):
            await asyncio.sleep(0.1)


def sleeping(seconds: str) -> bool:
    """Whether a process sleeps for so long."""
    wanted = b"sleep\0" + seconds.encode() + b"\0"
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (folder / "cmdline").read_bytes() == wanted:
                return True
    return False


async def test_a_service_multiplies_in_one_thread(raise_stage: Stages, sample: Path) -> None:
    """As root a sandbox is started by a fork, which ends the threads of BLAS: the service has none (infra.blas)."""
    threadpool_limits(2, user_api="blas")
    await up(raise_stage, sample)
    assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {1}
