"""Diffs are exact: git itself applies them and takes them back."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.change.diff import added_lines, count, text, unified
from app.nouns import FileEdit

CONTENT = st.lists(
    st.sampled_from([b"a\n", b"b\n", b"c\r\n", b"\n", b"\xff\xe9\n", b"long line\n", b"x\x0cy\n"]),
    max_size=30,
).flatmap(lambda lines: st.sampled_from([b"".join(lines), b"".join(lines) + b"last without end"]))


def git_apply(folder: Path, diff: bytes, *options: str) -> None:
    command = ["git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", *options, "-"]
    done = subprocess.run(command, cwd=folder, input=diff, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode() + diff.decode("utf-8", "replace")


@settings(max_examples=60, deadline=None)
@given(CONTENT, CONTENT, st.sampled_from(["a.txt", "with space.txt", "dir/ünïcode.py", 'qu"ote\\.txt']))
def test_git_applies_a_diff_to_the_exact_bytes_and_takes_it_back(
    before: bytes, after: bytes, name: str
) -> None:
    diff = unified([FileEdit(name, before, after)])
    if before == after:
        assert diff == b""
        return
    with TemporaryDirectory() as made:
        file = Path(made) / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(before)
        git_apply(Path(made), diff)
        assert file.read_bytes() == after
        git_apply(Path(made), diff, "--reverse")
        assert file.read_bytes() == before


@pytest.mark.parametrize("content", [b"one\ntwo\n", b"no end", b""])
def test_git_creates_and_deletes_by_a_diff(tmp_path: Path, content: bytes) -> None:
    git_apply(tmp_path, unified([FileEdit("new.txt", None, content)]))
    assert (tmp_path / "new.txt").read_bytes() == content
    git_apply(tmp_path, unified([FileEdit("new.txt", content, None)]))
    assert not (tmp_path / "new.txt").exists()


def test_git_deletes_a_binary_file_by_a_diff(tmp_path: Path) -> None:
    content = b"\x89PNG\0\xff"
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "logo.png").write_bytes(content)
    subprocess.run(["git", "add", "logo.png"], cwd=tmp_path, check=True)
    git_apply(tmp_path, unified([FileEdit("logo.png", content, None)]), "--index")
    assert not (tmp_path / "logo.png").exists()


def test_a_diff_reads_as_people_know_it() -> None:
    before = b"".join(b"%d\n" % n for n in range(1, 11))
    shown = text([FileEdit("n.txt", before, before.replace(b"5\n", b"five\n").removesuffix(b"\n"))])
    assert shown.startswith(
        "diff --git a/n.txt b/n.txt\n--- a/n.txt\n+++ b/n.txt\n@@ -2,9 +2,9 @@\n 2\n 3\n 4\n-5\n+five\n 6\n"
    )
    assert shown.endswith("-10\n+10\n\\ No newline at end of file\n")


def test_far_changes_stand_in_hunks_of_their_own() -> None:
    before = b"".join(b"%d\n" % n for n in range(100))
    after = before.replace(b"10\n", b"ten\n", 1).replace(b"\n90\n", b"\nninety\n")
    assert unified([FileEdit("n", before, after)]).count(b"@@ -") == 2


def test_a_binary_file_is_named_and_not_shown() -> None:
    assert text([FileEdit("a.png", b"\0\1", b"\0\2")]).endswith("Binary files a/a.png and b/a.png differ\n")


@settings(deadline=None)
@given(CONTENT, CONTENT)
def test_added_less_removed_lines_are_what_the_file_grew_by(before: bytes, after: bytes) -> None:
    edit = FileEdit("a", before, after)
    added, removed = count(edit)

    def lines(data: bytes) -> int:
        return data.count(b"\n") + (data[-1:] not in (b"", b"\n"))

    assert added - removed == lines(after) - lines(before)
    assert len(added_lines(edit)) == added


def test_added_lines_carry_their_numbers_in_the_new_file() -> None:
    assert added_lines(FileEdit("a", b"a\nb\n", b"a\nnew\r\nb\nend")) == [(2, b"new"), (4, b"end")]


def test_two_large_files_with_nothing_in_common_are_compared_in_bounded_time() -> None:
    before = b"".join(b"%d\n" % (n % 7) for n in range(40_000))
    after = b"".join(b"%d\n" % (n % 5) for n in range(40_000)) + b"end\n"
    start = time.process_time()
    count(FileEdit("a", before, after))
    assert time.process_time() - start < 3
