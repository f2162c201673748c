"""What is told of the faults and attacks: nothing is called proven that fell, was skipped, or was not played."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.prove import BEGIN, ROOMS, ROOT, collected, document, markdown, table

ABOUT = {
    "commit": "abc",
    "changed_since": False,
    "began": "2026-01-01T00:00:00+00:00",
    "length": "at length",
    "machine": "2 cores",
    "python": "3.11",
    "seconds": 60,
    "pytest": 0,
}
KEPT: dict[str, Any] = {
    "ok": True,
    "words": 3,
    "scenarios": [{}],
    "places": {"logs": {"bytes": 2**20}},
    "forms": ["plain"],
    "hits": [],
}


def claim(what: str = "A thing | done", **other: Any) -> dict[str, Any]:
    row = {"group": "Webhook", "what": what, "outcome": "It is refused", "place": "tests/attacks/test_x.py"}
    row |= {"cases": 1, "held": 1, "fell": [], "skipped": [], "seconds": 1.0, "figures": [["kills", 7]]}
    return row | other


def test_what_held_is_told_with_its_cases_and_figures() -> None:
    told = document([claim(), claim("Another", cases=3, held=3)], KEPT, ABOUT)
    assert (told["ok"], told["claims"], told["cases"]) == (True, 2, 4)
    text = markdown(told)
    assert "**Everything that was tried held.**" in text
    assert "| A thing \\| done | It is refused *kills: 7* | 1 | yes |" in text
    assert "| Webhook | 2 | 4 | 4 | 0 | 0 | 2 |" in text


@pytest.mark.parametrize(
    ("claims", "kept", "about"),
    [
        pytest.param([], KEPT, ABOUT, id="nothing was played"),
        pytest.param([claim(held=0, fell=["test_x: it was not"])], KEPT, ABOUT, id="one fell"),
        pytest.param([claim(held=0, skipped=["no bwrap here"])], KEPT, ABOUT, id="one was skipped"),
        pytest.param([claim()], None, ABOUT, id="the proof of no code broke off"),
        pytest.param([claim()], KEPT | {"ok": False}, ABOUT, id="code was found"),
        pytest.param([claim()], KEPT, ABOUT | {"pytest": 3}, id="the tests broke off"),
    ],
)
def test_nothing_else_is_called_proven(claims: list[Any], kept: Any, about: Any) -> None:
    told = document(claims, kept, about)
    assert not told["ok"]
    assert "**Not proven" in markdown(told)
    for one in claims:
        for reason in (*one["fell"], *one["skipped"]):
            assert reason in markdown(told)


PLAYED = """
import pytest
from tests.claims import case, claim

@pytest.mark.parametrize("x", [case("g", "b c", "d", 1), case("g", "e f", "d", 2)])
def test_x(x, lengths, record_property):
    record_property("figure", x)
    assert x == lengths.choose(suite=1, prove=2)

@claim("g", "left out", "d")
def test_skipped():
    pytest.skip("why")
"""


@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_case_is_gathered_from_every_worker(tmp_path: Path, workers: str) -> None:
    (tmp_path / "test_played.py").write_text(PLAYED)
    out = tmp_path / "claims.json"
    options = ["-q", "-n", workers, "--claims", str(out), "-p", "tests.conftest", "--rootdir", str(ROOT)]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            str(tmp_path / "test_played.py"),
            *options,
            "-c",
            str(ROOT / "pyproject.toml"),
        ],
        cwd=ROOT,
        check=False,
        capture_output=True,
    )
    rows = {one["what"]: one for one in json.loads(out.read_text())}
    assert {
        what: (one["cases"], one["held"], len(one["fell"]), len(one["skipped"])) for what, one in rows.items()
    } == {
        "b c": (1, 1, 0, 0),
        "e f": (1, 0, 1, 0),
        "left out": (1, 0, 0, 1),
    }
    assert rows["b c"]["figures"] == [["figure", 1]]


@pytest.mark.parametrize("room", ROOMS)
def test_the_table_in_the_rooms_readme_is_what_its_tests_claim(room: str) -> None:
    said = (ROOT / "tests" / room / "README.md").read_text(encoding="utf-8").partition(BEGIN)[2].strip()
    assert said == table(collected(room)).strip(), "run `python -m tests.prove --tables`"
