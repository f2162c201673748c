"""A proof that did not go as it should is none: a hit, an unread word, a blind search, another end, each fails it."""

from __future__ import annotations

import json

import pytest
from rich.console import Console

from app.prove.places import LOG
from app.prove.proof import Played, Report
from app.prove.scenarios import SCENARIOS, planted, playbook
from app.prove.search import Hit, Search, Searched
from app.prove.told import document, show
from app.prove.words import Canary, fresh

ENDS = (("fix", "opened", "opened"),)


def report() -> Report:
    """One that proves what it says."""
    said = Report(words=1, reached={"code": ["sent to the model"]}, forms_found={"hex": True})
    said.control_found = {"control: in the log": True}
    said.played = [Played("a change", list(ENDS), ENDS)]
    said.searched = [Searched("the log", files=1, bytes=10), Searched("the log", files=1, bytes=20)]
    said.cores = {"pattern": "core", "limit": [0, 0], "another_program_left_one": True}
    return said


def test_nothing_found_of_what_was_seen_is_a_proof() -> None:
    assert report().ok
    told = document(report())
    assert told["places"]["the log"]["bytes"] == 30
    assert told["places"]["the log"]["searches"] == 2


def unread(said: Report) -> None:
    said.reached["code"] = []


def hit(said: Report) -> None:
    said.hits = [Hit("the log", "service.log", 7, "plain", "code")]


def blind(said: Report) -> None:
    said.forms_found["hex"] = False


def blind_somewhere(said: Report) -> None:
    said.control_found["control: in the log"] = False


def ended_otherwise(said: Report) -> None:
    said.played = [Played("a change", [("fix", "failed", "defect")], ENDS)]


def broke_off(said: Report) -> None:
    said.played = [Played("a change", [], ENDS, "Of 1 runs: fix running.")]


def nothing_played(said: Report) -> None:
    said.played = []


@pytest.mark.parametrize(
    "spoil", [unread, hit, blind, blind_somewhere, ended_otherwise, broke_off, nothing_played]
)
def test_anything_less_proves_nothing(spoil: object) -> None:
    said = report()
    spoil(said)  # type: ignore[operator]
    assert not said.ok
    assert not document(said)["ok"]


def test_a_hit_is_told_by_its_place_and_source_on_the_terminal_too() -> None:
    said = report()
    hit(said)
    out = Console(record=True, width=200, file=None, quiet=False, stderr=True)
    show(out, json.loads(json.dumps(document(said))))
    text = out.export_text()
    assert "the log: service.log at 7: code, plain" in text
    assert "Not proven" in text


def test_every_scenario_s_words_are_told_apart_and_its_playbook_can_be_played() -> None:
    words = planted(SCENARIOS)
    assert (
        len({one.word for one in words.canaries})
        == len(words.canaries)
        == 2 * len({one.source for one in words.canaries})
    )
    book = playbook(SCENARIOS, words)
    assert len(book.scenarios) == len(SCENARIOS) + 1
    everything = book.model_dump_json().encode()
    found = {one.source for one in Search(words.canaries).data(everything, Searched("playbook"), "")}
    assert {"model: title", "model: plan", "provider's error: fails"} <= found
    assert Search([Canary("none", 0, fresh())]).data(everything, Searched("playbook"), "") == []


def test_warnings_are_told_unless_a_word_stands_in_the_log() -> None:
    said = report()
    said.warned = ["2026-11-23T00:00:00Z WARNING infra.postgres.queue A job failed."]
    assert document(said)["warned"] == said.warned
    said.hits = [Hit(LOG, "service-1.log", 7, "plain", "code")]
    assert document(said)["warned"] == []
