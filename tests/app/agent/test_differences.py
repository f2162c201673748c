"""Diffs for a reader with little room: they say what changed, and share the room fairly."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.agent.differences import blocks, unified
from app.nouns import FileEdit

LINES = st.lists(st.sampled_from(["a", "b", "c", "", "- x", "+ y"]), max_size=30)


def replayed(before: list[str], diff: str) -> list[str]:
    """What the hunks make of the lines before."""
    out, at = [], 0
    for line in diff.split("\n") if diff else []:
        head = re.match(r"@@ -(\d+),\d+ \+\d+,\d+ @@$", line)
        if head:
            out += before[at : int(head[1]) - 1]
            at = int(head[1]) - 1
        elif line[:1] == "+":
            out.append(line[1:])
        else:
            assert before[at] == line[1:]
            at += 1
            out += [line[1:]] if line[:1] == " " else []
    return out + before[at:]


@given(LINES, LINES)
def test_the_hunks_lead_from_before_to_after(before: list[str], after: list[str]) -> None:
    edit = FileEdit("a", *("".join(f"{line}\n" for line in lines).encode() for lines in (before, after)))
    diff = unified(edit)
    assert replayed(before, "" if diff.startswith("[") else diff) == after


def test_a_small_change_of_a_long_file_shows_only_what_is_around_it() -> None:
    before = [f"line {number}" for number in range(20_000)]
    after = [*before[:9_000], "new", *before[9_001:]]
    diff = unified(FileEdit("a", "\n".join(before).encode(), "\n".join(after).encode()))
    assert diff == (
        "@@ -8998,7 +8998,7 @@\n line 8997\n line 8998\n line 8999\n-line 9000\n+new\n line 9001\n line 9002\n line 9003"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a\nb\n" * 30_000, "b\nb\na\n" * 30_000),
        ("a\nb\n" * 950, "b\nb\na\n" * 650),
        ("x\n" + "a\n" * 1_900 + "y\n", "z\n" + "a\n" * 1_800 + "q\n"),
        ("".join(f"{n * 7 % 31}\n" for n in range(1_990)), "".join(f"{n * 11 % 31}\n" for n in range(1_990))),
    ],
)
def test_a_hostile_pair_of_files_costs_little_time(one: str, other: str) -> None:
    start = time.process_time()
    diff = unified(FileEdit("a", one.encode(), other.encode()))
    assert time.process_time() - start < 3
    assert replayed(one.splitlines(), diff) == other.splitlines()


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (b"a\0", b"b\0c", "[binary: 2 bytes before, 3 bytes after]"),
        (None, b"a\0", "[binary: nothing before, 2 bytes after]"),
        (b"a\r\n", b"a\n", "[only line ends"),
        (b"a", b"a\n", "[only line ends"),
        (None, b"new\n", "@@ -1,0 +1,1 @@\n+new"),
        (b"old\n", None, "@@ -1,1 +1,0 @@\n-old"),
        (b"caf\xe9\n", b"cafe\n", "-café\n+cafe"),
    ],
)
def test_what_has_no_plain_diff_is_named(before: bytes | None, after: bytes | None, says: str) -> None:
    assert says in unified(FileEdit("a", before, after))


def test_small_files_are_whole_and_long_ones_share_what_is_left() -> None:
    small = [FileEdit(f"s{number}", None, b"small\n") for number in range(3)]
    long = [FileEdit(f"l{number}", None, b"a long line of text\n" * 3_000) for number in range(2)]
    shown = blocks([*long, *small], 20_000)
    assert all("left out" not in block and "+small" in block for block in shown[2:])
    assert all("characters left out here" in block and 8_000 < len(block) < 11_000 for block in shown[:2])
    assert 'path="l0" change="created"' in shown[0]


def test_very_many_files_are_counted() -> None:
    shown = blocks([FileEdit(f"f{number}", b"a\n", b"b\n") for number in range(230)])
    assert len(shown) == 201
    assert shown[-1] == "[30 more files are changed and not shown]"


def test_invisible_characters_are_announced() -> None:
    (shown,) = blocks([FileEdit("a.py", b"a\n", "a \u202e\n".encode())])
    assert "U+202E RIGHT-TO-LEFT OVERRIDE" in shown
