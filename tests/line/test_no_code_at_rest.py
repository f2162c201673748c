"""A secret word that stands in the code, a path, the issue, a comment and the model's words is found nowhere afterwards."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.nouns import RunState
from infra.encoder import BundledEncoder
from infra.models.playbook import Playbook, parse
from infra.simulator.ci import failing, passing
from tests.conftest import Database
from tests.line.conftest import Stages
from tests.line.conversations import (
    create,
    edit,
    finish,
    looks,
    ours,
    prompts,
    reasons,
    repository_file,
    scenario,
    verdict,
)
from tests.line.conversations import playbook as script

IN_CODE, IN_PATH, IN_ISSUE, IN_COMMENT, FROM_MODEL = (
    "zephyrquartz", "mulberryfjord", "oxbowlantern", "tamarackvellum", "gossamerpyrite",
)  # fmt: skip
WORDS = (IN_CODE, IN_PATH, IN_ISSUE, IN_COMMENT, FROM_MODEL)


def playbook() -> Playbook:
    path = f"fairshare/{IN_PATH}.py"
    finish = {
        "title": f"Say {FROM_MODEL}",
        "summary": f"{FROM_MODEL} it is.",
        "checked_how": f"By {FROM_MODEL}.",
    }
    edit = {"path": path, "old": f'"{IN_CODE}"', "new": f'"{IN_CODE} {FROM_MODEL}"'}
    turns = [
        {"say": FROM_MODEL, "calls": [{"tool": "read", "arguments": {"path": path}}]},
        {"calls": [{"tool": "grep", "arguments": {"pattern": IN_CODE}}]},
        {"calls": [{"tool": "edit", "arguments": edit}]},
        {"when": {"tool_failed": False}, "calls": [{"tool": "finish", "arguments": finish}]},
    ]
    answer = [{"calls": [{"tool": "answer", "arguments": {"text": f"Which {FROM_MODEL}?"}}]}]
    return parse(
        json.dumps(
            {
                "scenarios": [
                    {"name": "change", "when": {"contains": "please change"}, "turns": turns},
                    {"name": "ask", "turns": answer},
                ]
            }
        )
    )


def forms(word: str) -> dict[str, bytes]:
    plain = word.encode()
    encoded = {f"base64+{shift}": base64.b64encode(b" " * shift + plain + b"  ")[4:-4] for shift in range(3)}
    return {
        "plain": plain,
        "upper": plain.upper(),
        "hex": plain.hex().encode(),
        "utf-16": word.encode("utf-16-le"),
        **encoded,
    }


def files_in(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        for root, _, names in os.walk(folder):
            for name in names:
                path = Path(root, name)
                if path.is_file() and not path.is_symlink():
                    yield path


def inflated(data: bytes) -> bytes:
    """What compressed streams in it hold: zlib's and gzip's, wherever they begin."""
    out = []
    for mark, bits in ((b"\x78\x9c", 15), (b"\x78\x01", 15), (b"\x78\xda", 15), (b"\x1f\x8b\x08", 31)):
        at = data.find(mark)
        while at >= 0:
            with contextlib.suppress(zlib.error):
                out.append(zlib.decompressobj(bits).decompress(data[at:], 1 << 22))
            at = data.find(mark, at + 1)
    return b"\n".join(out)


def hits(paths: Iterator[Path], words: tuple[str, ...] = WORDS) -> tuple[list[str], int]:
    """(where a word was found in which form, bytes searched)"""
    found, searched = [], 0
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError:
            continue
        searched += len(data)
        whole = data + b"\n" + inflated(data)
        found += [
            f"{path}: {word} as {form}"
            for word in words
            for form, seen in forms(word).items()
            if seen in whole
        ]
    return found, searched


@pytest.fixture
def everything_logged(tmp_path: Path) -> Iterator[Path]:
    """Every logger, at its most talkative, into a file."""
    file = tmp_path / "service.log"
    handler = logging.FileHandler(file)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield file
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.long
async def test_no_planted_word_is_found_at_rest_after_a_change_and_an_answer(
    raise_stage: Stages,
    sample: Path,
    tmp_path: Path,
    database: Database,
    everything_logged: Path,
    bundled: BundledEncoder,
) -> None:
    (sample / f"fairshare/{IN_PATH}.py").write_text(f'WORD = "{IN_CODE}"\n')
    began = time.time()
    stage = await raise_stage({"octo/fairshare": sample}, playbook(), encoder=bundled)
    first = await stage.open_issue("Change the word", f"{IN_ISSUE}: please change {IN_PATH}.")
    await stage.comment(first, f"@magicode fix this, {IN_COMMENT}")
    second = await stage.open_issue("Another", f"{IN_ISSUE} again")
    await stage.comment(second, f"@magicode fix {IN_COMMENT}")
    runs = await stage.ended(2)
    assert {run.state for run in runs} == {RunState.OPENED, RunState.ANSWERED}
    (pull,) = await stage.pulls()
    assert "WORD" not in pull["title"], "the run went through, and published"
    await stage.settled()
    nothing_at_rest(WORDS, tmp_path, database, everything_logged, began)


def nothing_at_rest(
    words: tuple[str, ...], tmp_path: Path, database: Database, everything_logged: Path, began: float
) -> None:
    """Looks for the words in the database's own files, the index, shared memory, the log and temporary files."""
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        (cluster,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    places = [Path(cluster), tmp_path / "stage" / "data", Path("/dev/shm")]
    found, searched = hits(files_in(*places), words)
    in_log, log_bytes = hits(iter([everything_logged]), words)
    loose = [
        path
        for path in files_in(Path(tempfile.gettempdir()))
        if tmp_path not in path.parents and path.stat().st_mtime >= began and path.stat().st_size < 50_000_000
    ]
    in_temporary, _ = hits(iter(loose), words)
    assert searched > 20_000_000, "the stores were really read"
    assert log_bytes > 10_000, "the log was really written"
    assert found + in_log + in_temporary == []


IN_CHECK, IN_CI, IN_THREAD, IN_PLAN, IN_VERDICT = (
    "wickerbasalt", "larkspurcobalt", "thistleanchor", "juniperlodestar", "saffronkestrel",
)  # fmt: skip
LATER_WORDS = (IN_CHECK, IN_CI, IN_THREAD, IN_PLAN, IN_VERDICT, FROM_MODEL)


def conversation() -> Playbook:
    """A plan, a note that a check and a second look find fault with, a review's wish, and what CI finds fault with."""
    plan = {
        "summary": f"Write it: {IN_PLAN}.",
        "files": [{"path": "NOTES.md", "change": IN_PLAN}],
        "steps": [IN_PLAN],
        "risks": [IN_PLAN],
    }
    replied = finish(f"Say {FROM_MODEL}")
    replied["calls"][0]["arguments"]["replies"] = [{"comment_id": "{thread:int}", "text": FROM_MODEL}]
    faulty = {**verdict(risky=[f"It says {IN_VERDICT}."]), "when": {"contains": "tpyo"}}
    return script(
        looks({"first_of": [faulty, verdict()]}),
        {
            "name": "a plan",
            "when": {"system_contains": "Your task is a plan"},
            "turns": [{"calls": [{"tool": "plan", "arguments": plan}]}],
        },
        scenario(edit("NOTES.md", "slip", FROM_MODEL), finish(), when=f"E {IN_CI}"),
        scenario(
            edit("NOTES.md", "A note.\n", "A note.\nA slip.\n"),
            {**replied, "capture": [r"(?s)comment_id[=\" :]+(?P<thread>\d+)"]},
            when=IN_THREAD,
        ),
        scenario(create("NOTES.md", "A tpyo.\n"), finish(), edit("NOTES.md", "tpyo", "note"), finish()),
    )


@pytest.mark.long
async def test_no_planted_word_is_found_at_rest_after_a_plan_checks_a_review_and_failing_ci(
    raise_stage: Stages, sample: Path, tmp_path: Path, database: Database, everything_logged: Path
) -> None:
    prints = f"printf '%s%s\\n' {IN_CHECK[:6]} {IN_CHECK[6:]}; ! grep tpyo NOTES.md"
    repository_file(sample, checks=[prints])
    began = time.time()
    stage = await raise_stage({"octo/fairshare": sample}, conversation())
    stage.github.on_push(
        lambda code: [
            failing("tests", f"E {IN_CI}\nFAILED tests/test_note.py")
            if "slip" in code.text("NOTES.md")
            else passing("tests")
        ]
    )
    issue = await stage.open_issue("A note is missing", "Please write one.")
    await stage.comment(issue, "@magicode plan")
    await stage.ended(1)
    await stage.comment(issue, "@magicode go")
    await stage.ended(2)
    (pull,) = await stage.pulls()
    wish = {"path": "NOTES.md", "line": 1, "body": f"@magicode please say {IN_THREAD}"}
    reviewed = await stage.client().post(
        f"/repos/octo/fairshare/pulls/{pull['number']}/reviews",
        json={"event": "REQUEST_CHANGES", "body": f"{IN_THREAD}!", "comments": [wish]},
    )
    assert reviewed.status_code == 200, reviewed.text
    runs = await stage.ended(4, within=120)
    assert reasons(runs) == [
        ("plan", "answered", "planned"),
        ("go", "opened", "opened"),
        ("revise", "updated", "updated"),
        ("mend", "updated", "mended"),
    ]
    await stage.settled()
    told = await prompts(stage)
    for word in (IN_CHECK, IN_CI, IN_THREAD, IN_PLAN, IN_VERDICT):
        assert word in told, "it was really there to be kept"
    (pull,) = await stage.pulls()
    written = [pull["title"], pull["body"], *await ours(stage, issue), *await ours(stage, pull["number"])]
    for word in (IN_CHECK, IN_CI):
        assert word not in "\n".join(written), "what a command prints is not published"
    nothing_at_rest(LATER_WORDS, tmp_path, database, everything_logged, began)


def test_the_search_finds_a_word_that_is_there(tmp_path: Path) -> None:
    for number, form in enumerate(forms(IN_CODE).values()):
        (tmp_path / f"{number}").write_bytes(b"\0junk" + form + b"junk\0")
    (tmp_path / "zlib").write_bytes(
        b"junk" + zlib.compress(b"some text with " + IN_CODE.encode() + b" inside")
    )
    found, _ = hits(files_in(tmp_path), (IN_CODE,))
    assert len({line.split(":")[0] for line in found}) == len(forms(IN_CODE)) + 1
