"""A folder of this machine is indexed and searched with no service running, and its code is kept nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info, threadpool_limits

from app import local, settings
from embeddings.index import Progress

ROOT = Path(local.__file__).parent.parent
FILES = {
    "billing/share.py": "def split_evenly(total, people):\n    return {p: total // len(people) for p in people}\n",
    "billing/tax.py": "def add_tax(amount, rate):\n    return amount + amount * rate // 100\n",
    "ignored/secret.py": "def split_secretly(total):\n    return total\n",
    ".gitignore": "ignored/\n",
}


class CountingEncoder:
    """Words in buckets: alike texts are near. Remembers what it was asked to encode."""

    name = "words"
    dimension = 64
    max_tokens = 256

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += texts
        out = np.full((len(texts), self.dimension), 0.01, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace("_", " ").replace("(", " ").split():
                out[row, sum(word.encode()) % self.dimension] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """As many for BLAS behind a test as before it: whoever indexes leaves one to the whole process."""
    with threadpool_limits(None, user_api="blas"):
        yield


@pytest.fixture
def read(tmp_path: Path) -> settings.Settings:
    return settings.read({"MAGICODE_DATA_DIR": str(tmp_path / "data")})


def silent(_: Progress) -> None:
    pass


async def test_a_question_finds_its_place(read: settings.Settings, folder: Path) -> None:
    found = await local.search(read, folder, "split evenly", 5, silent, encoder=CountingEncoder())
    assert (found[0].path, found[0].start_line, found[0].symbol) == ("billing/share.py", 1, "split_evenly")
    assert not any(one.path.startswith("ignored/") for one in found)
    assert len(await local.search(read, folder, "split", 1, silent, encoder=CountingEncoder())) == 1


async def test_a_folder_is_searched_in_one_thread_of_blas(read: settings.Settings, folder: Path) -> None:
    threadpool_limits(2, user_api="blas")
    async with local.folder_index(read, folder, CountingEncoder()):
        assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {1}


async def test_only_what_has_changed_is_embedded_again(read: settings.Settings, folder: Path) -> None:
    first = await local.index(read, folder, silent, encoder=CountingEncoder())
    assert (first.embedded, first.reused) == (first.files, 0)
    (folder / "billing" / "tax.py").write_text("def tax_free(amount):\n    return amount\n")
    encoder = CountingEncoder()
    second = await local.index(read, folder, silent, encoder=encoder)
    assert (second.embedded, second.reused, second.removed) == (1, first.files - 1, 1)
    assert all("tax" in text for text in encoder.texts)
    (folder / "billing" / "tax.py").unlink()
    found = await local.search(read, folder, "tax free", 5, silent, encoder=CountingEncoder())
    assert "billing/tax.py" not in {one.path for one in found}


async def test_progress_is_told(read: settings.Settings, folder: Path) -> None:
    told: list[Progress] = []
    report = await local.index(read, folder, told.append, encoder=CountingEncoder())
    assert told[-1].files == told[-1].of_files > 0
    assert told[-1].chunks == report.chunks
    assert told[-1].seconds_left == 0


async def test_two_folders_share_nothing(read: settings.Settings, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "only.py").write_text("def only_here():\n    return 1\n")
    await local.index(read, folder, silent, encoder=CountingEncoder())
    found = await local.search(read, other, "split evenly", 9, silent, encoder=CountingEncoder())
    assert {one.path for one in found} == {"only.py"}
    assert len(list((read.data_dir / "local").iterdir())) == 2


async def test_neither_code_nor_names_are_kept(read: settings.Settings, folder: Path) -> None:
    await local.search(read, folder, "split evenly", 5, silent, encoder=CountingEncoder())
    kept = b"".join(path.read_bytes() for path in read.data_dir.rglob("*") if path.is_file())
    names = b"\n".join(os.fsencode(path) for path in read.data_dir.rglob("*"))
    assert len(kept) > 1000
    for clear in (b"split_evenly", b"share.py", b"billing", b"people", os.fsencode(folder)):
        assert clear not in kept
        assert clear not in names.replace(os.fsencode(read.data_dir), b"")


async def test_an_empty_folder_has_no_places(read: settings.Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (
        await local.search(read, tmp_path / "empty", "anything", 5, silent, encoder=CountingEncoder()) == []
    )


def magicode(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAGICODE_")}
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments],
        env={**environ, "PYTHONPATH": str(ROOT), "MAGICODE_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.long
def test_the_program_indexes_and_searches_with_the_bundled_model(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = magicode(data, "index", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["embedded"] > 0
    question = "how is an amount shared among several people?"
    done = magicode(data, "search", str(folder), question, "--json", "--limit", "2")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    assert 1 <= len(found) <= 2
    assert [set(one) for one in found] == [{"path", "start_line", "end_line", "symbol", "score"}] * len(found)
    assert found[0]["path"] == "billing/share.py"
    said = magicode(data, "search", str(folder), question)
    assert said.returncode == 0
    assert "billing/share.py:1-2  split_evenly" in said.stdout.splitlines()[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["index"], ["index", "no-such-folder"], ["index", __file__], ["search", "."], ["search", ".", "  "],
        ["search", ".", "x", "--limit", "0"], ["search", "no-such-folder", "x"],
    ],
)  # fmt: skip
def test_wrong_use_is_2_and_a_sentence(arguments: list[str], tmp_path: Path) -> None:
    done = magicode(tmp_path / "data", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
