"""Twenty megabytes are edited, or refused with the nearest text, in about a second of processor time, whatever they are.

The limits are several times what was measured, so that only another order of growth goes past them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from app.agent.apply_patch import apply_patch
from app.agent.draft import Draft
from app.agent.edits import ToolError, replace
from tests.app.tree import Tree

SIZE = 20_000_000
LIMIT = 6.0  # seconds of processor time
CODE = b"".join(b"    result = compute(alpha, beta, %06d)\n" % n for n in range(SIZE // 41))
PIECE = "    result = compute(alpha, beta, 200000)\n    result = compute(alpha, beta, 200001)\n"


def spent(work: Callable[[], object]) -> tuple[float, str]:
    start = time.process_time()
    try:
        work()
        said = ""
    except ToolError as error:
        said = str(error)
    return time.process_time() - start, said


@pytest.mark.parametrize(
    ("data", "old"),
    [
        (CODE, PIECE),
        (CODE.replace(b"\n", b"\r\n"), PIECE),
        (CODE.replace(b"200000)", b"200000)  "), PIECE),
        (CODE, PIECE.replace("    ", "")),
    ],
    ids=["exact", "line ends", "trailing space", "indentation"],
)
def test_a_large_file_is_edited_at_every_level(data: bytes, old: str) -> None:
    seconds, said = spent(lambda: replace(data, old, "x\ny\n", "a.py"))
    assert not said
    assert seconds < LIMIT


@pytest.mark.parametrize(
    ("data", "old", "shows"),
    [
        (CODE, PIECE.replace("200001", "2x0001"), "200001\t"),
        (CODE, "nothing like this stands here\nat all\n", "nor anything like it"),
        (b"    x\n" * 1_900_000, "    x\n" * 999 + "y\n", "does not occur"),
        (b"\n" * SIZE, "a\n\nb", "does not occur"),
        (b" " * SIZE + b"a", "a  \nb", "does not occur"),
        (b"ab" * (SIZE // 2), "ab" * 5000 + "b", "does not occur"),
        (b"function a(){return 1};" * (SIZE // 23), "function b(){return 2};", "does not occur"),
        (b"".join([b" x\n" * 999 + b"  x\n"] * 1500), "x\n" * 1000, "does not occur"),
        (CODE, CODE[:400_000].decode().replace("00001", "x"), "nearest text"),
    ],
    ids=[
        "near miss",
        "nothing near",
        "one line over and over",
        "newlines alone",
        "spaces alone",
        "two letters",
        "one long line",
        "blocks that almost fit",
        "long piece",
    ],
)
def test_a_large_file_without_the_text_is_refused_without_growing_slower(
    data: bytes, old: str, shows: str
) -> None:
    seconds, said = spent(lambda: replace(data, old, "x\n", "a.py"))
    assert shows in said
    assert seconds < LIMIT


def test_lines_at_irregular_depths_are_given_up_after_a_counted_number_of_comparisons() -> None:
    chance = random.Random(1)
    data = b"".join(b" " * chance.randint(0, 9) + b"x\n" for _ in range(1_500_000))
    seconds, said = spent(lambda: replace(data, "          x\n" * 1000, "z\n"))
    assert "too many lines like it" in said
    assert seconds < LIMIT


def test_a_patch_of_many_hunks_reads_a_large_file_in_its_three_ways_once() -> None:
    numbers = range(1000, 400_000, 20_000)
    hunks = "".join(f"@@\n-result = compute(alpha, beta, {n:06d})\n+result = other({n})\n" for n in numbers)
    draft = Draft(Tree({"a.py": CODE}))
    text = f"*** Begin Patch\n*** Update File: a.py\n{hunks}*** End Patch\n"
    seconds, said = spent(lambda: apply_patch(draft, text))
    assert not said
    assert draft.read("a.py").count(b"    result = other(") == len(numbers)
    assert seconds < LIMIT


def test_headers_that_stand_everywhere_do_not_make_a_patch_slow() -> None:
    data = b"".join(b"head\n  x = 1\n  y = 1\n" for _ in range(300_000))
    draft = Draft(Tree({"a.py": data}))
    text = "*** Begin Patch\n*** Update File: a.py\n@@ head\n@@ head\n-  x = 1\n+  x = 2\n*** End Patch\n"
    seconds, said = spent(lambda: apply_patch(draft, text))
    assert "1,000 or more times" in said
    assert seconds < LIMIT
