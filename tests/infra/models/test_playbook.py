"""Playbooks: what is refused when they are read, and what they say when they are played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.nouns import AssistantTurn, ModelRequest, Stop, ToolCall, ToolResult, ToolTurn, Turn, UserTurn
from infra.models.playbook import (
    NoTurnError,
    Play,
    Playbook,
    PlaybookError,
    conversation_digest,
    load,
    parse,
    play,
)

SAID = AssistantTurn("ok", ())


def asked(*turns: Turn, system: str = "") -> ModelRequest:
    return ModelRequest(system, turns, (), 100)


def one(turn: dict[str, Any]) -> Playbook:
    return Playbook.model_validate({"scenarios": [{"name": "s", "turns": [turn]}]})


def played(turn: dict[str, Any], *turns: Turn) -> Play:
    return play(one(turn), asked(*turns))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scenarios: []", "at least 1"),
        ("scenarios: [{name: s, turns: []}]", "at least 1"),
        ("scenarios: [{name: s, turns: [{say: x, sey: y}]}]", "sey: Extra inputs"),
        ("scenarios: [{name: s, turns: [{say: x, when: {containz: y}}]}]", "containz"),
        ("scenarios: [{name: s, turns: [{}]}]", "says something, calls a tool, or refuses"),
        ("scenarios: [{name: s, turns: [{calls: [{tool: a}], stop: end}]}]", "stops with"),
        ("scenarios: [{name: s, turns: [{calls: [{tool: a}], stop: refusal}]}]", "or is filtered"),
        ("scenarios: [{name: s, turns: [{say: a, filtered: true}]}]", "stops with 'refusal'"),
        ("scenarios: [{name: s, turns: [{say: a, broken: {kind: odd}}]}]", "kind"),
        ("scenarios: [{name: s, turns: [{say: x, capture: 'no group'}]}]", "named group"),
        ("scenarios: [{name: s, turns: [{say: x, capture: '(?P<a'}]}]", "does not compile"),
        ("scenarios: [{name: s, when: {matches: '('}, turns: [{say: x}]}]", "does not compile"),
        ("scenarios: [{name: s, turns: [{first_of: []}]}]", "first_of"),
        ("scenarios: [{name: s, turns: [{say: x, repeat: 0}]}]", "repeat"),
        ("[", "not YAML"),
        ("just text", "cannot be played"),
    ],
)
def test_a_playbook_with_a_mistake_is_refused_and_the_place_is_named(text: str, said: str) -> None:
    with pytest.raises(PlaybookError, match=said):
        parse(text)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlaybookError, match=r"gone\.yml"):
        load(tmp_path / "gone.yml")


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    path.write_text("scenarios: [{name: ä, turns: [{say: ü}]}]", encoding="utf-8")
    assert load(path).scenarios[0].name == "ä"


def test_the_position_is_the_number_of_answers_already_given() -> None:
    playbook = parse(
        "scenarios: [{name: s, turns: [{say: one}, {say: two, repeat: 2}, {say: rest, repeat: forever}]}]"
    )
    said = [play(playbook, asked(UserTurn("q"), *[SAID, UserTurn("go on")] * n)).say for n in range(6)]
    assert said == ["one", "two", "two", "rest", "rest", "rest"]


def test_after_the_last_turn_there_is_none() -> None:
    with pytest.raises(NoTurnError, match="request 2 of scenario 's'"):
        played({"say": "only"}, UserTurn("q"), SAID, UserTurn("and now?"))


def test_the_scenario_is_chosen_by_the_first_message_and_not_by_a_later_one() -> None:
    playbook = parse(
        "scenarios: [{name: a, when: {contains: apples}, turns: [{say: A, repeat: forever}]},"
        " {name: p, when: {matches: 'p[e]ars'}, turns: [{say: P, repeat: forever}]}]"
    )
    assert play(playbook, asked(UserTurn("pears"))).say == "P"
    assert play(playbook, asked(UserTurn("pears"), SAID, UserTurn("apples"))).say == "P"
    with pytest.raises(NoTurnError, match="plums"):
        play(playbook, asked(UserTurn("plums")))


CALLED = AssistantTurn("", (ToolCall("1", "read", {}), ToolCall("2", "grep", {})))
RESULTS = ToolTurn((ToolResult("1", "def f(): ..."), ToolResult("2", "nothing found", is_error=True)))


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"contains": "def f"}, True),
        ({"contains": ["def f", "nothing"]}, True),
        ({"contains": ["def f", "something"]}, False),
        ({"contains": "please"}, False),
        ({"anywhere_contains": ["please", "def f"]}, True),
        ({"matches": r"^def \w+\("}, True),
        ({"matches": r"^nothing$"}, False),
        ({"system_contains": "careful"}, True),
        ({"system_contains": "careless"}, False),
        ({"tool_result_of": "grep"}, True),
        ({"tool_result_of": "edit"}, False),
        ({"tool_failed": True}, True),
        ({"tool_failed": False}, False),
        ({"tool_failed": True, "contains": "please"}, False),
    ],
)
def test_conditions_look_at_what_was_sent(when: dict[str, Any], holds: bool) -> None:
    playbook = Playbook.model_validate(
        {
            "scenarios": [
                {
                    "name": "s",
                    "turns": [{"say": "-"}, {"first_of": [{"when": when, "say": "yes"}, {"say": "no"}]}],
                }
            ]
        }
    )
    request = asked(UserTurn("please fix"), CALLED, RESULTS, system="Be careful.")
    assert play(playbook, request).say == ("yes" if holds else "no")


def test_a_turn_whose_condition_fails_is_no_turn() -> None:
    with pytest.raises(NoTurnError, match="no turn's 'when' holds"):
        played({"when": {"contains": "x"}, "say": "-"}, UserTurn("y"))


def test_what_is_captured_is_put_in_and_other_braces_stay() -> None:
    turn = {
        "capture": [r"line (?P<line>\d+)", r"file (?P<path>\S+)"],
        "say": "Editing {path}.",
        "calls": [
            {"tool": "edit", "arguments": {"at": "{line:int}", "new": ["f'{x} {path}' {}", {"d": "{line}"}]}}
        ],
    }
    result = played(turn, UserTurn("file a.py line 12"))
    assert result.say == "Editing a.py."
    assert result.calls[0].arguments == '{"at": 12, "new": ["f\'{x} a.py\' {}", {"d": "12"}]}'


def test_the_newest_text_is_searched_first() -> None:
    turn = {"say": "-", "repeat": 1}
    playbook = Playbook.model_validate(
        {"scenarios": [{"name": "s", "turns": [turn, {"capture": "is (?P<it>\\w+)", "say": "{it}"}]}]}
    )
    assert play(playbook, asked(UserTurn("is old"), SAID, UserTurn("is new"))).say == "new"
    assert play(playbook, asked(UserTurn("is old"), SAID, UserTurn("nothing here"))).say == "old"


def test_a_pattern_that_is_not_found_is_no_turn() -> None:
    with pytest.raises(NoTurnError, match="found nowhere"):
        played({"capture": "(?P<a>never)", "say": "{a}"}, UserTurn("x"))


def test_a_turn_with_calls_stops_for_them_and_one_without_ends() -> None:
    assert played({"say": "x"}, UserTurn("")).stop is Stop.END
    assert played({"calls": [{"tool": "t"}]}, UserTurn("")).stop is Stop.TOOLS


TEXTS = st.text(max_size=30)


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_the_same_conversation_gets_the_same_answer_and_each_call_an_id_of_its_own(
    a: str, b: str, calls: int
) -> None:
    turn = {"say": "x", "calls": [{"tool": "t"}] * calls}
    first, again, other = (played(turn, UserTurn(text)) for text in (a, a, a + b + "!"))
    assert first == again
    ids = [call.id for call in (*first.calls, *other.calls)]
    assert len(set(ids)) == 2 * calls


@given(TEXTS, TEXTS)
def test_two_conversations_have_two_digests(a: str, b: str) -> None:
    same = conversation_digest(asked(UserTurn(a))) == conversation_digest(asked(UserTurn(b)))
    assert same == (a == b)
