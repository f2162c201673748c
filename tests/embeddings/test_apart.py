"""What a process apart says of a file is what would be said here, and where it is not, it is not believed."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from embeddings.apart import FUNCTION, apart
from embeddings.languages import Structure, answered, definitions
from infra.apart import Apart
from tests.embeddings.test_chunk_languages import HOSTILE, SAMPLES

DEVOURING = re.sub(r"(.{100})", r"\1\n", f"{'x' * 10} => " * 4_000).split("\n")
"""56 kB. In one process with who asks, Java's parser took 1.2 GB of memory for half of it and 4.2 GB for this, C's 4.6 GB."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Structure]:
    parser = Apart(FUNCTION)
    yield apart(parser)
    parser.close()


@pytest.mark.parametrize("path", SAMPLES)
def test_it_finds_what_would_be_found_here(elsewhere: Structure, path: str) -> None:
    lines = SAMPLES[path][0].split("\n")
    assert (found := elsewhere(path, lines)) == definitions(path, lines)
    assert found


@pytest.mark.parametrize(
    "text", ["def f():\n    return 'ü\u2028\x85\x0c'\n", "", "\0", "def 日本(): pass", "\udc80 = 1"]
)
def test_each_character_comes_there_as_it_is(elsewhere: Structure, text: str) -> None:
    lines = text.split("\n")
    assert elsewhere("a.py", lines) == definitions("a.py", lines)


def test_a_name_that_is_no_text_comes_there_too(elsewhere: Structure) -> None:
    assert elsewhere("\udcff.py", ["def f(): pass"]) == definitions("a.py", ["def f(): pass"])


def test_a_file_in_no_language_of_ours_begins_no_process() -> None:
    assert apart(lambda _: pytest.fail("asked"))("notes.txt", ["def f(): pass"]) is None


@pytest.mark.parametrize("ending", ["c", "java", "cpp", "cs"])
def test_a_file_that_takes_its_parser_gigabytes_takes_nothing_here(elsewhere: Structure, ending: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert elsewhere(f"a.{ending}", DEVOURING) in (None, [])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10
    assert elsewhere("a.py", ["def f():", "    pass"]), "the next file is read"


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_hostile_is_answered(elsewhere: Structure, kind: str) -> None:
    """The same as here or nothing: what is stopped by a clock may be stopped a little earlier or later."""
    lines = re.sub(r"(.{100})", r"\1\n", HOSTILE[kind][:20_000]).split("\n")
    here = definitions("a.py", lines)
    assert elsewhere("a.py", lines) in (here, None) or here is None


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"{}",
        b"[1]",
        b"\xff",
        [["f", -1, 1, "f"]],
        [["f", 0, 3, "f"]],
        [["f", 1, 1, "f"]],
        [["f", 0.0, 1, "f"]],
        [["f", "0", 1, "f"]],
        [["f", True, 2, "f"]],
        [["f", 0, 1]],
        [["f", 0, 1, None]],
        [["f", 1, 2, "f"], ["g", 0, 1, "g"]],
        [["f", 0, 10**30, "f"]],
    ],
)
def test_what_could_not_have_been_found_is_not_believed(answer: Any) -> None:
    said = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    assert apart(lambda _: said)("a.py", ["def f():", "    pass"]) is None


def test_what_could_have_been_found_is() -> None:
    (one,) = apart(answered)("a.py", ["def f():", "    pass"]) or ()
    assert (one.name, one.start, one.end) == ("f", 0, 2)
