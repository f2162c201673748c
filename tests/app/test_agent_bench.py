"""The agent's benchmark: what counts as resolved, what measures nothing, and that trouble with one instance ends no other."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

BENCH = Path(__file__).parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import agent
from agent import INVALID, RESOLVED, UNRESOLVED, Bench, Instance, interval, play_all, read_instances, table
from clones import judged

from app import settings
from infra.models.playbook import Playbook
from infra.models.scripted import ScriptedModel
from infra.sandbox.bubblewrap import BubblewrapSandbox

SHARE = "def share(total, people):\n    return total // people\n"
TEST = "from share import share\n\nassert share(3, 2) == (1, 1), share(3, 2)\n"
COMMAND = "python3 test_share.py"


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


def git(folder: Path, *arguments: str) -> str:
    told = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", *arguments]
    return subprocess.run(told, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The second commit fixes what the first one breaks: who sees it has the answer."""
    root = tmp_path / "code"
    root.mkdir()
    git(root, "init", "-q")
    (root / "share.py").write_text(SHARE)
    (root / "test_share.py").write_text("from share import share\n\nassert share(4, 2)\n")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "First")
    (root / "share.py").write_text("def share(total, people):\n    return divmod(total, people)\n")
    git(root, "commit", "-q", "-a", "-m", "THE FIX")
    return root


def base(repository: Path) -> str:
    return git(repository, "rev-parse", "HEAD~1").strip()


def patch_of(repository: Path) -> str:
    (repository / "test_share.py").write_text(TEST)
    patch = git(repository, "diff", "HEAD~1", "--", "test_share.py")
    git(repository, "checkout", "-q", "--", "test_share.py")
    return patch


def instance(repository: Path, name: str, **other: Any) -> Instance:
    given = {
        "id": name, "repo_dir": repository, "base_commit": base(repository), "request": f"Share fairly: {name}.",
        "test_command": COMMAND, "test_patch": patch_of(repository),
    }  # fmt: skip
    return Instance.model_validate(given | other)


def turn(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"calls": [{"tool": tool, "arguments": arguments}]}


FINISH = turn("finish", title="Share fairly", summary="It was not.", checked_how="Read it.")
VERDICT = {
    "does_what_was_asked": True, "missing": [], "unasked": [], "risky": [], "tests_weakened": [],
}  # fmt: skip


def edits(new: str) -> dict[str, Any]:
    return turn("edit", path="share.py", old="total // people", new=new)


PLAYBOOK = Playbook.model_validate(
    {
        "scenarios": [
            {
                "name": "second look",
                "when": {"system_contains": "You take a second look"},
                "turns": [turn("verdict", **VERDICT)],
            },
            {
                "name": "right",
                "when": {"contains": "fairly: right"},
                "turns": [edits("divmod(total, people)"), FINISH],
            },
            {
                "name": "wrong",
                "when": {"contains": "fairly: wrong"},
                "turns": [edits("total / people"), FINISH],
            },
            {
                "name": "cheats",
                "when": {"contains": "fairly: cheats"},
                "turns": [turn("edit", path="test_share.py", old="assert share(4, 2)", new="pass"), FINISH],
            },
            {
                "name": "asks",
                "when": {"contains": "fairly: asks"},
                "turns": [turn("answer", text="How fair is fair?")],
            },
        ]
    }
)


def bench(tmp_path: Path, **other: Any) -> Bench:
    read = settings.read({"MAGICODE_DATA_DIR": str(tmp_path / "data")})
    given = {"sandbox": None, "model": ScriptedModel(PLAYBOOK), "checks": False, "seconds": 60.0} | other
    return Bench(read=read, environ={}, encoder=Words(), **given)


async def played(bench: Bench, *instances: Instance) -> list[dict[str, Any]]:
    out = io.StringIO()
    results = await play_all(bench, instances, [], out)
    assert [json.loads(line) for line in out.getvalue().splitlines()] == results
    return [dict(one) for one in results]


async def test_what_its_tests_accept_is_resolved_and_its_cost_is_told(
    repository: Path, tmp_path: Path
) -> None:
    (one,) = await played(bench(tmp_path), instance(repository, "right"))
    assert (one["outcome"], one["ended"]) == (RESOLVED, "patch")
    assert (one["before"]["passed"], one["after"]["passed"]) == (False, True)
    assert one["turns"] == 3
    assert one["input_tokens"] > 0
    assert one["cost_usd"] > 0
    assert one["seconds"] > 0
    assert "+    return divmod(total, people)" in one["patch"]
    assert not (tmp_path / "data").exists(), "an index of a clone is of no use to anybody"
    assert git(repository, "status", "--porcelain") == ""


async def test_what_its_tests_refuse_is_not_and_neither_is_an_answer_or_a_changed_test(
    repository: Path, tmp_path: Path
) -> None:
    wrong, cheats, asks = await played(
        bench(tmp_path), *(instance(repository, name) for name in ("wrong", "cheats", "asks"))
    )
    assert (wrong["outcome"], wrong["after"]["passed"]) == (UNRESOLVED, False)
    assert "AssertionError" in wrong["after"]["told"]
    assert (cheats["outcome"], cheats["ended"]) == (UNRESOLVED, "patch")
    assert (asks["outcome"], asks["ended"], asks["why"]) == (UNRESOLVED, "answer", "How fair is fair?")


async def test_an_instance_that_measures_nothing_is_invalid_and_asks_no_model(
    repository: Path, tmp_path: Path
) -> None:
    passes, patch, commit, missing = await played(
        bench(tmp_path, model=None),
        instance(repository, "passes", test_patch=""),
        instance(repository, "patch", test_patch="--- a/no\n+++ b/no\n@@ -1 +1 @@\n-x\n+y\n"),
        instance(repository, "commit", base_commit="0" * 40),
        instance(repository, "missing", repo_dir=tmp_path / "nowhere"),
    )
    assert {one["outcome"] for one in (passes, patch, commit, missing)} == {INVALID}
    assert "passes without any change" in passes["why"]
    assert "test_patch does not apply" in patch["why"]
    assert "cannot be checked out" in commit["why"]
    assert "cannot be cloned" in missing["why"]


async def test_it_goes_on_after_what_fails(repository: Path, tmp_path: Path) -> None:
    unforeseen, right = await played(
        bench(tmp_path), instance(repository, "unforeseen"), instance(repository, "right")
    )
    assert (unforeseen["outcome"], unforeseen["ended"]) == (UNRESOLVED, "refused")
    assert "no scenario" in unforeseen["why"]
    assert right["outcome"] == RESOLVED


async def test_a_bare_repository_will_do(repository: Path, tmp_path: Path) -> None:
    commit, patch = base(repository), patch_of(repository)
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare")
    (one,) = await played(
        bench(tmp_path),
        Instance(
            id="bare", repo_dir=tmp_path / "bare", base_commit=commit, request="Share fairly: right.",
            test_command=COMMAND, test_patch=patch,
        ),
    )  # fmt: skip
    assert one["outcome"] == RESOLVED, one["why"]


async def test_test_commands_run_in_the_sandbox(repository: Path, tmp_path: Path) -> None:
    sandbox = BubblewrapSandbox()
    outside = tmp_path / "outside"
    command = f"touch {outside}; {COMMAND}"
    (one,) = await played(
        bench(tmp_path, sandbox=sandbox), instance(repository, "right", test_command=command)
    )
    assert one["outcome"] == RESOLVED, one
    assert not outside.exists()


async def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    mark = tmp_path / "alive"
    command = f"(while :; do touch {mark}; sleep 0.1; done) & sleep 60"
    done = await judged(tmp_path, command, seconds=0.5, sandbox=None)
    assert (done.passed, done.ended, done.exit_code) == (False, "timed_out", None)
    mark.unlink(missing_ok=True)
    await asyncio.sleep(0.4)
    assert not mark.exists()


async def test_a_test_command_is_told_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "hunter2")
    monkeypatch.setenv("MAGICODE_APP_ID", "hunter2")
    done = await judged(tmp_path, "env", seconds=30, sandbox=None)
    assert done.passed
    assert "hunter2" not in done.told


# --- all of them -----------------------------------------------------------------------------------------------------


def test_the_interval_is_wilsons() -> None:
    low, high = interval(8, 10)
    assert (round(low, 4), round(high, 4)) == (0.4902, 0.9433)
    assert interval(0, 10)[0] == 0
    assert interval(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    assert interval(0, 0) == (0, 1)


def test_the_table_counts_invalid_ones_nowhere() -> None:
    def one(name: str, outcome: str, dollars: float, **more: Any) -> dict[str, Any]:
        spent = {"seconds": 2.0, "turns": 3, "input_tokens": 1000, "output_tokens": 10, "cost_usd": dollars}
        return {"id": name, "outcome": outcome, **spent, **more}

    told = table(
        [
            one("a", RESOLVED, 0.5, ended="patch"),
            one("b", UNRESOLVED, 0.25, ended="answer", unpriced_calls=1),
            one("c", INVALID, 9.0),
        ]
    )
    assert "all 2 valid" in told
    assert "0.7500 + ?" in told
    assert "2,020" in told
    assert "unresolved (answer)" in told
    assert "resolved 1 of 2: 50.0% (95 % interval 9.5% to 90.5%); 1 invalid" in told


def test_a_line_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    file = tmp_path / "instances.jsonl"
    file.write_text('{"id": "a"}\n')
    with pytest.raises(agent.UnreadableError, match="line 1: repo_dir"):
        read_instances(file)
    whole = {"id": "a", "repo_dir": ".", "base_commit": "0", "request": "x", "test_command": "true"}
    file.write_text(f"{json.dumps(whole)}\n\n{json.dumps(whole)}\n")
    with pytest.raises(agent.UnreadableError, match="line 3: the id a"):
        read_instances(file)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_program_plays_a_file_and_goes_on_where_it_stopped(repository: Path, tmp_path: Path) -> None:
    file, results, script = tmp_path / "in.jsonl", tmp_path / "out.jsonl", tmp_path / "playbook.yml"
    lines = [
        json.loads(instance(repository, name).model_dump_json()) | {"repo_dir": "code", "extra": 1}
        for name in ("right", "wrong")
    ]
    lines.append(lines[0] | {"id": "invalid", "test_patch": ""})
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    script.write_text(PLAYBOOK.model_dump_json())

    def program(*options: str) -> subprocess.CompletedProcess[str]:
        given = [str(file), "--results", str(results), "--playbook", str(script), "--no-checks", *options]
        bare = {name: value for name, value in os.environ.items() if not name.startswith("MAGICODE_")}
        return subprocess.run(
            [sys.executable, str(BENCH / "agent.py"), *given],
            env=bare, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    first = program("--limit", "1")
    assert first.returncode == 0, first.stderr
    assert "resolved 1 of 1" in first.stdout
    with results.open("a") as torn:
        torn.write('{"id": "wrong", "outc')
    second = program("--resume")
    assert second.returncode == 0, second.stderr
    assert "resolved 1 of 2" in second.stdout
    assert "1 invalid" in second.stdout
    assert "[1/2] wrong" in second.stderr
    assert "right" not in second.stderr
    ids = [json.loads(line)["id"] for line in results.read_text().splitlines() if line.endswith("}")]
    assert ids == ["right", "wrong", "invalid"]


def test_wrong_use_is_2(tmp_path: Path) -> None:
    file = tmp_path / "instances.jsonl"
    file.write_text("{\n")
    assert agent.main([str(file)]) == 2
    assert agent.main([str(tmp_path / "nowhere")]) == 2
    (tmp_path / "results").write_text("{}")
    for given in (
        ["--no-such-option"],
        [str(file), "--resume"],
        [str(file), "--results", str(tmp_path / "results")],
    ):
        with pytest.raises(SystemExit) as ended:
            agent.main(given)
        assert ended.value.code == 2
