"""A request on a local repository becomes a patch that git takes, and nothing else of it is left anywhere."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app import local_run, local_said, settings
from app.errors import RefusedError, UserError
from app.local_run import Asked, Made, Tally
from app.nouns import CheckRun, ChecksReport, ModelAnswer, ModelRequest
from infra.git_folder import NotARepositoryError
from infra.models.choose import ModelSettingError
from infra.models.playbook import PLAYBOOK_MODEL, Playbook
from infra.models.scripted import ScriptedModel
from infra.simulator.model.serve import environment, running
from infra.work_tree import InTheWayError

VERDICT = {
    "name": "a second look",
    "when": {"system_contains": "You take a second look"},
    "turns": [
        {
            "calls": [
                {
                    "tool": "verdict",
                    "arguments": {
                        "does_what_was_asked": True, "missing": [], "unasked": [], "risky": [], "tests_weakened": [],
                    },
                }
            ]
        }
    ],
}  # fmt: skip
FINISH = {
    "tool": "finish",
    "arguments": {"title": "Share fairly", "summary": "It was not fair.", "checked_how": "Read it again."},
}


def playbook(*calls: dict[str, Any], answer: str | None = None, **turn: Any) -> Playbook:
    """One turn that does all of it, or an answer."""
    if answer is not None:
        said: dict[str, Any] = {"calls": [{"tool": "answer", "arguments": {"text": answer}}]}
        return Playbook.model_validate({"scenarios": [{"name": "answer", "turns": [said | turn]}]})
    turns = [{"calls": list(calls)} | turn, {"calls": [FINISH]}]
    return Playbook.model_validate({"scenarios": [VERDICT, {"name": "work", "turns": turns}]})


def edit(path: str, old: str, new: str) -> dict[str, Any]:
    return {"tool": "edit", "arguments": {"path": path, "old": old, "new": new}}


def create(path: str, text: str) -> dict[str, Any]:
    return {"tool": "create", "arguments": {"path": path, "text": text}}


class Listening(ScriptedModel):
    """Remembers what it was asked."""

    def __init__(self, played: Playbook) -> None:
        super().__init__(played)
        self.requests: list[ModelRequest] = []

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.requests.append(request)
        return await super().answer(request)


class Words:
    """An Encoder whose vectors are bags of hashed words."""

    name = "words"
    dimension = 64
    max_tokens = 256

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        out = np.full((len(texts), self.dimension), 0.01, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                out[row, zlib.crc32(word.encode()) % self.dimension] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


def git(folder: Path, *arguments: str, stdin: bytes = b"") -> str:
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder.parent),
        "GIT_CONFIG_NOSYSTEM": "1",
        **identity,
    }
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env=environ, input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("utf-8", "surrogateescape")


def commit(folder: Path) -> None:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "A commit")


FILES = {
    "bill/share.py": b"def share(total, people):\n    return total // people\n",
    "bill/windows.py": b"first = 1\r\nsecond = 2\r\n",
    "bill/latin.py": b"# caf\xe9\nname = 1\n",
    "run.sh": b"#!/bin/sh\necho no end",
    "old.txt": b"to be deleted\n",
    "keep.txt": b"stays\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    for name, content in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    (root / "run.sh").chmod(0o755)
    commit(root)
    return root.resolve()


@pytest.fixture
def read(tmp_path: Path) -> settings.Settings:
    return settings.read({"MAGICODE_DATA_DIR": str(tmp_path / "data")})


async def run(
    read: settings.Settings, folder: Path, played: Playbook, *, text: str = "Share it fairly.", **asked: Any
) -> Made:
    how = {"checks": False, **asked}
    return await local_run.run(
        read, {}, Asked(folder, text, **how), model=ScriptedModel(played), encoder=Words()
    )


ALL_KINDS = playbook(
    edit("bill/share.py", "total // people", "divmod(total, people)"),
    edit("bill/windows.py", "second = 2", "second = 3"),
    edit("bill/latin.py", "name = 1", "name = 2"),
    edit("run.sh", "echo no end", "echo still none"),
    create("n\u00e9w folder/na\u00efve \u201cname\u201d.py", "new\n"),
    create("empty.py", ""),
    {"tool": "delete", "arguments": {"path": "old.txt"}},
)
AFTERWARDS = {
    **FILES,
    "bill/share.py": b"def share(total, people):\n    return divmod(total, people)\n",
    "bill/windows.py": b"first = 1\r\nsecond = 3\r\n",
    "bill/latin.py": b"# caf\xe9\nname = 2\n",
    "run.sh": b"#!/bin/sh\necho still none",
    "n\u00e9w folder/na\u00efve \u201cname\u201d.py": b"new\n",
    "empty.py": b"",
}
del AFTERWARDS["old.txt"]


def content(root: Path) -> dict[str, bytes]:
    files = [
        path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts
    ]
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


async def test_the_patch_is_taken_by_git_apply_byte_for_byte(read: settings.Settings, folder: Path) -> None:
    made = await run(read, folder, ALL_KINDS)
    assert content(folder) == FILES, "nothing is written unless it is asked for"
    git(folder, "apply", "--whitespace=error-all", "-", stdin=made.patch)
    assert content(folder) == AFTERWARDS
    assert os.access(folder / "run.sh", os.X_OK)
    assert b'"b/n\\303\\251w folder/na\\303\\257ve \\342\\200\\234name\\342\\200\\235.py"' in made.patch
    git(folder, "apply", "--reverse", "-", stdin=made.patch)
    assert content(folder) == FILES


async def test_applying_gives_the_same_files_and_touches_neither_the_index_nor_head(
    read: settings.Settings, folder: Path
) -> None:
    index, head = (folder / ".git" / "index").read_bytes(), git(folder, "rev-parse", "HEAD")
    made = await run(read, folder, ALL_KINDS)
    made.apply()
    assert content(folder) == AFTERWARDS
    assert os.access(folder / "run.sh", os.X_OK)
    assert (folder / ".git" / "index").read_bytes() == index
    assert git(folder, "rev-parse", "HEAD") == head


async def test_what_is_not_committed_is_neither_seen_nor_written_over(
    read: settings.Settings, folder: Path
) -> None:
    (folder / "bill" / "share.py").write_text("mine\n")
    made = await run(read, folder, ALL_KINDS)
    with pytest.raises(InTheWayError, match=r"bill/share\.py"):
        made.apply()
    assert content(folder) == {**FILES, "bill/share.py": b"mine\n"}


async def test_a_folder_inside_the_repository_stands_for_all_of_it(
    read: settings.Settings, folder: Path
) -> None:
    made = await run(read, folder / "bill", ALL_KINDS)
    assert made.root == folder
    made.apply()
    assert content(folder) == AFTERWARDS


async def test_an_answer_changes_nothing(read: settings.Settings, folder: Path) -> None:
    made = await run(read, folder, playbook(answer="Which people do you mean?"))
    assert (made.answer, made.edits, made.patch) == ("Which people do you mean?", (), b"")
    assert not made.asks
    asks = {"tool": "answer", "arguments": {"text": "Which people do you mean?", "kind": "question"}}
    played = Playbook.model_validate({"scenarios": [{"name": "asks", "turns": [{"calls": [asks]}]}]})
    made = await run(read, folder, played)
    assert made.asks
    assert local_said.document(made, Tally().spending)["outcome"] == "answer"


async def test_instructions_and_rules_are_those_of_head(read: settings.Settings, folder: Path) -> None:
    (folder / "AGENTS.md").write_text("Always share fairly, say the committed rules.\n")
    (folder / ".github").mkdir()
    (folder / ".github" / "magicode.yml").write_text("deny: [bill/]\ninstructions: Speak of sharing.\n")
    commit(folder)
    (folder / "AGENTS.md").write_text("Uncommitted words.\n")
    (folder / ".github" / "magicode.yml").write_text("enabled: false\n")
    model = Listening(ALL_KINDS)
    with pytest.raises(RefusedError) as raised:
        await local_run.run(read, {}, Asked(folder, "Share it.", checks=False), model=model, encoder=Words())
    assert raised.value.reason == "path_denied"
    told = str(model.requests[0].turns[0])
    assert "say the committed rules" in told
    assert "Speak of sharing" in told
    assert "Uncommitted" not in told
    assert "issue #" not in told


async def test_a_repository_that_is_switched_off_is_left_alone(read: settings.Settings, folder: Path) -> None:
    (folder / ".github").mkdir()
    (folder / ".github" / "magicode.yml").write_text("enabled: false\n")
    commit(folder)
    with pytest.raises(local_run.SwitchedOffError):
        await run(read, folder, ALL_KINDS)
    (folder / ".github" / "magicode.yml").write_text("enabeld: true\n")
    commit(folder)
    with pytest.raises(UserError, match="enabeld"):
        await run(read, folder, ALL_KINDS)


async def test_rules_that_are_not_here_are_not_taken_for_none(read: settings.Settings, folder: Path) -> None:
    (folder / ".github").mkdir()
    (folder / ".github" / "magicode.yml").write_text("enabled: false\n")
    commit(folder)
    sha = git(folder, "rev-parse", "HEAD:.github/magicode.yml").strip()
    (folder / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
    with pytest.raises(UserError, match="not on this machine"):
        await run(read, folder, ALL_KINDS)


async def test_the_repositorys_guards_hold_here_too(read: settings.Settings, folder: Path) -> None:
    for path in (".git/hooks/post-commit", ".github/workflows/ci.yml", "../outside"):
        with pytest.raises(RefusedError):
            await run(read, folder, playbook(create(path, "x\n")))
    assert content(folder) == FILES


async def test_a_cost_limit_ends_the_work_and_what_was_spent_is_known(
    read: settings.Settings, folder: Path
) -> None:
    usage = {"input_tokens": 1_000_000, "output_tokens": 1000}
    model = ScriptedModel(
        playbook(create("new.py", "x\n"), usage=usage), "claude-opus-5-5"
    )  # a model whose price is known
    tally = Tally()
    asked = Asked(folder, "Share it.", up_to=Decimal("0.10"), checks=False)
    with pytest.raises(RefusedError) as raised:
        await local_run.run(read, {}, asked, model=model, encoder=Words(), tally=tally)
    assert raised.value.reason == "budget_dollars"
    assert tally.spending.turns == 1
    assert tally.spending.cost_usd > Decimal("0.10")


async def test_progress_says_where_it_is_and_what_was_called(read: settings.Settings, folder: Path) -> None:
    told: list[str] = []
    await local_run.run(
        read, {}, Asked(folder, "Share it.", checks=False), model=ScriptedModel(ALL_KINDS), encoder=Words(),
        tell=told.append,
    )  # fmt: skip
    assert str(folder) in told[0]
    assert any("turn 1: edit, create, delete" in line for line in told)


async def test_only_vectors_and_sealed_places_are_kept(read: settings.Settings, folder: Path) -> None:
    await run(read, folder, ALL_KINDS)
    kept = b"".join(path.read_bytes() for path in read.data_dir.rglob("*") if path.is_file())
    assert len(kept) > 1000
    for clear in (b"people", b"share.py", b"divmod", b"fairly", os.fsencode(folder)):
        assert clear not in kept
    assert [path.name for path in read.data_dir.iterdir()] != []
    assert {path.name for path in read.data_dir.iterdir()} <= {"local", "local.key"}


async def test_which_model_is_asked(read: settings.Settings, folder: Path) -> None:
    with pytest.raises(local_run.NoModelError, match="ANTHROPIC_API_KEY"):
        await local_run.run(read, {}, Asked(folder, "x"), encoder=Words())
    with pytest.raises(ModelSettingError, match="OPENAI_API_KEY"):
        await local_run.run(read, {}, Asked(folder, "x", model="openai:gpt"), encoder=Words())
    (folder / ".github").mkdir()
    (folder / ".github" / "magicode.yml").write_text("model: anthropic:claude\n")
    commit(folder)
    with pytest.raises(ModelSettingError, match="ANTHROPIC_API_KEY"):
        await local_run.run(read, {"OPENAI_API_KEY": "k"}, Asked(folder, "x"), encoder=Words())


async def test_what_is_no_repository_is_said_before_anything_is_made(
    read: settings.Settings, tmp_path: Path
) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(NotARepositoryError):
        await run(read, tmp_path / "plain", ALL_KINDS)
    assert not read.data_dir.exists()


# --- the repository's own checks -------------------------------------------------------------------------------------

CHECK = "from bill.share import share\n\nassert share(3, 2) == (1, 1), share(3, 2)\n"


@pytest.fixture
def checked(folder: Path) -> Path:
    """Its check fails at HEAD, and passes once `share` shares fairly."""
    (folder / ".github").mkdir()
    (folder / ".github" / "magicode.yml").write_text("checks: [python3 check.py]\n")
    (folder / "check.py").write_text(CHECK)
    commit(folder)
    return folder


async def test_its_checks_run_in_the_sandbox_on_the_changed_tree(
    read: settings.Settings, checked: Path
) -> None:
    made = await run(read, checked, ALL_KINDS, checks=True)
    assert made.checks is not None
    assert made.checks.not_run is None, made.checks.not_run
    assert made.checks.passed
    assert "`python3 check.py` passed" in local_said.report(made)
    assert content(checked)["bill/share.py"] == FILES["bill/share.py"]


async def test_a_check_that_the_change_breaks_goes_back_once_and_is_told_when_it_stays_broken(
    read: settings.Settings, checked: Path
) -> None:
    (checked / "check.py").write_text("from bill.share import share\n\nassert share(4, 2) == 2\n")
    commit(checked)
    breaks = {"calls": [edit("bill/share.py", "total // people", "total / 0")]}
    again = {"calls": [edit("keep.txt", "stays", "stays here")]}
    turns = [breaks, {"calls": [FINISH]}, again, {"calls": [FINISH]}]
    played = Playbook.model_validate({"scenarios": [VERDICT, {"name": "work", "turns": turns}]})
    made = await run(read, checked, played, checks=True)
    assert made.checks is not None
    assert [one.command for one in made.checks.broken] == ["python3 check.py"]
    assert "failed with exit code 1, and passes without the change" in local_said.report(made)
    assert {one.path for one in made.edits} == {"bill/share.py", "keep.txt"}


# --- what is handed over ---------------------------------------------------------------------------------------------


async def test_a_change_that_cannot_be_written_is_handed_over_as_a_patch(
    read: settings.Settings, folder: Path
) -> None:
    made = await run(read, folder, ALL_KINDS)
    (folder / "bill" / "share.py").write_text("mine\n")
    said: list[str] = []
    out = io.BytesIO()
    assert local_said.hand_over(made, Tally().spending, apply=True, say=said.append, out=out) == 1
    assert out.getvalue() == made.patch
    assert "bill/share.py" in said[-1]
    documents: list[dict[str, Any]] = []
    assert local_said.hand_over_document(made, Tally().spending, apply=True, tell=documents.append) == 1
    assert (documents[0]["outcome"], documents[0]["applied"]) == ("refused", False)
    assert base64.b64decode(documents[0]["patch"]) == made.patch


async def test_a_document_holds_the_patch_as_text_where_it_is_text(
    read: settings.Settings, folder: Path
) -> None:
    made = await run(read, folder, playbook(create("\u00fc.py", "\u00fc\n")))
    told = local_said.document(made, Tally().spending)
    assert (told["outcome"], told["patch_encoding"]) == ("patch", "utf-8")
    assert str(told["patch"]).encode() == made.patch
    assert told["files"] == [{"path": "\u00fc.py", "change": "created"}]


def test_checks_are_told_as_they_ended_and_never_as_passed_when_they_were_not_run(tmp_path: Path) -> None:
    def ran(code: int | None, ended: str = "exited", before: bool | None = None) -> CheckRun:
        return CheckRun("make test", ended, code, 1.0, "\x1b[31mred", before)

    def report(checks: ChecksReport | None) -> str:
        return local_said.report(Made(tmp_path, "0" * 40, title="T\x1b[2J", checks=checks))

    assert "`make test` passed" in report(ChecksReport((ran(0),)))
    assert "failed with exit code 2, as it does without the change" in report(
        ChecksReport((ran(2, before=True),))
    )
    assert "was ended (timed_out)" in report(ChecksReport((ran(None, "timed_out"),)))
    assert "Checks were not run, because there is none" in report(ChecksReport((), "there is none"))
    assert "were not run" in report(None)
    assert "\x1b" not in report(None)


# --- the program -----------------------------------------------------------------------------------------------------

ROOT = Path(local_run.__file__).parent.parent


async def started(data: Path, *arguments: str, url: str | None = None) -> asyncio.subprocess.Process:
    bare = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAGICODE_", "ANTHROPIC_", "OPENAI_"))
    }
    model = {**environment(url), "MAGICODE_MODEL": f"anthropic:{PLAYBOOK_MODEL}"} if url else {}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.cli", "run", *arguments,
        env={**bare, **model, "PYTHONPATH": str(ROOT), "MAGICODE_DATA_DIR": str(data)},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def magicode(
    data: Path, *arguments: str, url: str | None = None, stdin: bytes = b""
) -> tuple[int | None, bytes, str]:
    process = await started(data, *arguments, url=url)
    out, err = await asyncio.wait_for(process.communicate(stdin), 120)
    return process.returncode, out, err.decode()


@pytest.mark.long
async def test_the_program_prints_the_patch_and_nothing_else_on_standard_output(
    folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    async with running(ALL_KINDS) as url:
        code, out, err = await magicode(data, str(folder), "Share it fairly.", "--no-checks", url=url)
        assert code == 0, err
        git(folder, "apply", "-", stdin=out)
        assert content(folder) == AFTERWARDS
        assert "Share fairly" in err
        assert "--no-checks" in err
        git(folder, "apply", "--reverse", "-", stdin=out)
        # The same again, as one document, from standard input, written into the files.
        options = ("--no-checks", "--json", "--apply", "--model", f"openai:{PLAYBOOK_MODEL}", "--up-to", "$2")
        code, out, err = await magicode(data, str(folder), "-", *options, url=url, stdin=b"Share it fairly.")
        assert code == 0, err
        told = json.loads(out)
        assert (told["outcome"], told["applied"], told["title"]) == ("patch", True, "Share fairly")
        assert told["spending"]["turns"] == 3
        assert told["checks"] == {"passed": False, "not_run": "`--no-checks` switched them off", "runs": []}
        assert content(folder) == AFTERWARDS
        # And now that the files differ from the commit, nothing is written over them.
        code, out, err = await magicode(data, str(folder), "Share it.", "--no-checks", "--apply", url=url)
        assert code == 1
        assert "uncommitted changes" in err
        assert content(folder) == AFTERWARDS
        assert out.startswith(b"diff --git ")
    assert git(folder, "status", "--porcelain") != ""


@pytest.mark.long
async def test_the_program_prints_an_answer_and_says_why_there_is_none(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(playbook(answer="It is fair\x1b[2J already.")) as url:
        code, out, err = await magicode(data, str(folder), "Is it fair?", url=url)
        assert (code, out) == (0, b"It is fair[2J already.\n"), err
    async with running(playbook(create(".github/workflows/x.yml", "x\n"))) as url:
        code, out, err = await magicode(data, str(folder), "Share it.", "--no-checks", "--json", url=url)
        assert code == 1
        told = json.loads(out)
        assert (told["outcome"], told["spending"]["turns"]) == ("refused", 2)
        assert told["message"]
        assert "Traceback" not in err
    code, out, err = await magicode(data, str(folder), "Share it.")
    assert (code, out) == (1, b"")
    assert "ANTHROPIC_API_KEY" in err
    assert "Traceback" not in err


@pytest.mark.long
async def test_the_program_stops_when_it_is_told_to(folder: Path, tmp_path: Path) -> None:
    slow = playbook(create("new.py", "x\n"), slow={"seconds": 600.0})
    async with running(slow) as url:
        process = await started(tmp_path / "data", str(folder), "Share it.", "--no-checks", url=url)
        assert process.stderr is not None
        while b"Writing the change" not in await process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), 120)
    assert (process.returncode, out) == (130, b"")
    assert b"Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{folder}"], "Missing argument"),
        (["{folder}", "  "], "empty"),
        (["{folder}/nowhere", "x"], "does not exist"),
        (["{folder}/keep.txt", "x"], "is a file"),
        (["{plain}", "x"], "git init"),
        (["{folder}", "x", "--up-to", "0"], "more than nothing"),
        (["{folder}", "x", "--up-to", "NaN"], "more than nothing"),
        (["{folder}", "x", "--up-to", "much"], "as a number"),
    ],
)
async def test_wrong_use_is_2_and_a_sentence(
    folder: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    given = [one.format(folder=folder, plain=plain) for one in arguments]
    code, out, err = await magicode(tmp_path / "data", *given)
    assert (code, out) == (2, b"")
    assert said in " ".join(re.sub(r"[^ -~]", " ", err).split())
    assert "Traceback" not in err
    assert not (tmp_path / "data").exists()
