"""Path patterns: as git reads them, whatever the path, in a time that does not explode."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from app.patterns import PathPatterns
from app.repofile import parse

_line = st.lists(st.sampled_from(["a", "b", "*", "**", "/", "!", "?", "[ab]"]), min_size=1, max_size=6).map(
    "".join
)
_path = st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=4).map("/".join)


@given(st.lists(_line, max_size=3), _path)
def test_what_is_taken_in_is_what_pathspec_takes_in(lines: list[str], path: str) -> None:
    try:
        known = GitIgnoreSpec.from_lines(lines, backend="re2").check_file(path)
    except ValueError:
        with pytest.raises(ValueError, match="pattern"):
            PathPatterns(lines)
        return
    taken = PathPatterns(lines).match(path)
    if taken is not None and not known.include:
        # As git reads it and pathspec does not: behind an exception, what names a folder holds for all below it.
        assert any(line.startswith("!") for line in lines)
        assert GitIgnoreSpec.from_lines([lines[taken]], backend="re2").match_file(path)
    else:
        assert (taken is not None) is bool(known.include)


@pytest.mark.parametrize(
    ("lines", "taken"), [(["!aa", "a"], 1), (["a", "!aa"], None), (["*/"], 0), (["?*", "a", "!/"], 1)]
)
def test_a_folder_that_is_named_later_holds_for_all_below_it(lines: list[str], taken: int | None) -> None:
    assert PathPatterns(lines).match("a/aa") == taken


@pytest.mark.parametrize("path", ["a\nb/secret.key", "\n/secret.key", "caf\udce9/secret.key", "x/secret.key"])
def test_no_name_hides_what_is_forbidden(path: str) -> None:
    assert PathPatterns(["*.key"]).match(path) == 0
    assert parse(b"deny: ['*.key']").denied_by(path) == "*.key"


def test_many_large_patterns_do_not_hide_the_last_one() -> None:
    rnd = random.Random(6)
    path = "".join(rnd.choice("ab") for _ in range(2000)) + ".key"
    heavy = ["*a" + "?" * number for number in range(20, 100)]
    assert PathPatterns([*heavy, "*.key"]).match(path) == len(heavy)


@pytest.mark.parametrize("line", ["*a" * 100 + "b", "**/" + "*a/**/" * 30 + "b", "[a-z]*" * 40 + "0"])
def test_a_pattern_that_explodes_elsewhere_takes_no_time(line: str) -> None:
    began = time.process_time()
    assert PathPatterns([line]).match("a" * 250 + "/" + "a/" * 1000 + "a") is None
    assert time.process_time() - began < 2


def test_a_line_that_matches_nothing_is_told_apart() -> None:
    assert not PathPatterns(["[a-"])
    assert not PathPatterns(["# a comment"])
    assert PathPatterns(["a"])
