"""The pure rules: who may ask, whether the input is still the frozen one, what is tried again and when."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import (
    DefectError,
    InvalidError,
    LimitedError,
    RefusedError,
    SupersededError,
    TransientError,
    UserError,
)
from app.jobs.freeze import EditedSinceError, input_hash, keyed_hash, require_unchanged
from app.jobs.permission import NotAllowedError, may_ask, require
from app.jobs.retries import LONGEST, TAKES, retry_after
from webhooks.command import Verb


@pytest.mark.parametrize(
    ("permission", "fix", "delete"),
    [
        ("admin", True, True), ("maintain", True, False), ("write", True, False), ("triage", False, False),
        ("read", False, False), ("none", False, False), ("", False, False), ("Admin", False, False),
    ],
)  # fmt: skip
def test_who_may_write_may_ask_and_administrators_may_more(permission: str, fix: bool, delete: bool) -> None:
    assert may_ask(permission, "fix") is fix
    assert may_ask(permission, "delete") is delete


@pytest.mark.parametrize("verb", list(Verb))
def test_a_refusal_says_who_what_and_what_next(verb: Verb) -> None:
    with pytest.raises(NotAllowedError) as caught:
        require("read", verb.value, "mona")
    assert isinstance(caught.value, RefusedError)
    for word in ("mona", "`read`", f"`{verb.value}`"):
        assert word in caught.value.message
    assert "mona" not in caught.value.reason
    require("admin", verb.value, "mona")


texts = st.lists(st.tuples(st.text(max_size=5), st.text(max_size=20)), max_size=4)


@given(texts, texts)
def test_different_texts_have_different_hashes(one: Any, two: Any) -> None:
    same = sorted(one) == sorted(two)
    assert (input_hash(b"k" * 32, one) == input_hash(b"k" * 32, two)) is same


def test_a_text_cannot_flow_into_its_neighbour() -> None:
    assert keyed_hash(b"k", b"p", ["ab", "c"]) != keyed_hash(b"k", b"p", ["a", "bc"])
    assert keyed_hash(b"k", b"p", ["a"]) != keyed_hash(b"k", b"q", ["a"])
    assert keyed_hash(b"k", b"p", ["a"]) != keyed_hash(b"l", b"p", ["a"])


def test_an_edit_after_the_trigger_is_noticed() -> None:
    frozen = [("issue.title", "It breaks"), ("issue.body", "at night\r\n")]
    run: Any = SimpleNamespace(input_hash=input_hash(b"k" * 32, frozen))
    require_unchanged(run, b"k" * 32, list(reversed(frozen)))
    for changed in (frozen[:1], [frozen[0], ("issue.body", "at night\n")], [*frozen, ("comment.body", "")]):
        with pytest.raises(EditedSinceError) as caught:
            require_unchanged(run, b"k" * 32, changed)
        assert caught.value.reason == "edited_since"
        assert isinstance(caught.value, UserError)


def test_the_waits_grow_and_end() -> None:
    waits = [retry_after(TransientError(), taken) for taken in range(TAKES)]
    assert waits == [
        timedelta(seconds=5),
        timedelta(seconds=15),
        timedelta(seconds=45),
        timedelta(seconds=135),
        None,
    ]


@given(st.timedeltas(timedelta(days=-1), timedelta(days=30)))
def test_the_servers_own_delay_is_obeyed_within_reason(delay: timedelta) -> None:
    wait = retry_after(TransientError(retry_after=delay), 0)
    assert wait is not None
    assert wait == min(max(delay, timedelta(0)), LONGEST)


@pytest.mark.parametrize(
    "error", [UserError(), InvalidError(), DefectError(), SupersededError(), ValueError(), KeyError()]
)
def test_nothing_but_the_transient_is_tried_again(error: Exception) -> None:
    assert retry_after(error, 0) is None


def test_a_limit_is_waited_for_as_long_as_it_says_and_is_no_failed_try() -> None:
    """https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit"""
    fifty = LimitedError(retry_after=timedelta(minutes=50))
    assert [retry_after(fifty, taken) for taken in (0, 4, 20)] == [timedelta(minutes=50)] * 3
    untold = [retry_after(LimitedError(), taken) for taken in (0, 1, 2, 3, 4, 50)]
    assert untold == [timedelta(minutes=minutes) for minutes in (1, 2, 4, 8, 16, 16)]
    assert retry_after(LimitedError(retry_after=timedelta(0)), 0) == timedelta(seconds=1)
    assert retry_after(fifty, 100) is None, "what has no run is not put back for ever"
