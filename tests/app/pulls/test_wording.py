"""Every sentence: marked, within GitHub's limit, inert, and honest about what was not done."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.errors import (
    DefectError,
    InvalidError,
    MissingError,
    RefusedError,
    StoppedError,
    TransientError,
    UserError,
)
from app.nouns import Change, FileEdit, Outcome, RunState, Spending
from app.pulls import body as body_
from app.pulls import wording

RUN = UUID(int=5)
LONG = {
    "mentions": "@ada " * 20_000,
    "letters": "x" * 70_000,
    "fence": "```\n",
    "our block's end": "<!-- magicode:end -->",
    "closing": "Fixes #9",
    "wide": "😀" * 40_000,
}
SHORT = st.text(max_size=60)
TEXT = st.one_of(
    SHORT, st.sampled_from(sorted(LONG))
)  # a name of LONG stands for its text, so that reports stay short
QUICK = settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.generate))


def _text(drawn: str) -> str:
    return LONG.get(drawn, drawn)


def _change(title: str, summary: str, checked: str, path: str) -> Change:
    edit = FileEdit(path or "a", b"", b"x")
    return Change((edit,), title, summary, checked, (path,), 1, 0, Spending(1, 0, 1, Decimal(1), 0, 1, "m"))


@QUICK
@given(title=TEXT, summary=TEXT, checked=TEXT, path=TEXT, template=st.one_of(st.none(), TEXT))
def test_a_body_is_marked_inert_and_within_the_limit(
    title: str, summary: str, checked: str, path: str, template: str | None
) -> None:
    change = _change(_text(title), _text(summary), _text(checked), _text(path))
    template = None if template is None else _text(template)
    body = body_.pull_request_body(RUN, change, number=3, closes=True, ledger_head="h", template=template)
    revised = body_.revised_body(body, UUID(int=6), change, ledger_head="h2")
    for one, run in ((body, RUN), (revised, UUID(int=6))):
        assert len(one.encode("utf-16-le")) // 2 <= 65_536
        assert wording.marker(run) in one
        assert one.count(body_.BLOCK_BEGIN) == one.count(body_.BLOCK_END) == 1
        assert wording.opened_marker(RUN) in one
        assert not re.search(r"@[^\W_]", one)
        assert re.findall(r"#\d+", one) == ["#3"]
    assert wording.marker(RUN) not in revised
    assert 0 < len(body_.title(change, 3)) <= 256


@QUICK
@given(message=TEXT, next_step=TEXT, state=st.sampled_from([s for s in RunState if s.ended]))
def test_a_status_is_marked_inert_and_within_the_limit(message: str, next_step: str, state: RunState) -> None:
    said = wording.ended(RUN, Outcome(state, "r", _text(message), _text(next_step)), None, "head")
    assert len(said.encode("utf-16-le")) // 2 <= 65_536
    assert said.startswith(wording.marker(RUN))
    assert not re.search(r"@[^\W_]", said)


@QUICK
@given(title=TEXT, summary=TEXT)
def test_a_commit_message_ends_with_our_trailer_and_closes_only_our_issue(title: str, summary: str) -> None:
    message = body_.commit_message(RUN, _change(_text(title), _text(summary), "", "a"), number=3, closes=True)
    assert wording.has_trailer(message, RUN)
    assert not wording.has_trailer(message, UUID(int=6))
    assert re.findall(r"#\d+", message) == ["#3"]
    assert not re.search(r"@[^\W_]", message)
    assert len(message.split("\n")[0]) <= 72
    assert "Fixes #3\nMagiCode-Run: " in message


def test_many_long_paths_leave_the_body_whole() -> None:
    edits = tuple(FileEdit(f"{number}" + "😀" * 290, None, b"x") for number in range(500))
    change = Change(edits, "t", "s" * 60_000, "c" * 60_000, tuple(e.path for e in edits), 1, 0, Spending())
    body = body_.pull_request_body(RUN, change, number=3, closes=True, ledger_head="h", template="x" * 60_000)
    assert len(body.encode("utf-16-le")) // 2 <= 65_536
    assert body.endswith(body_.BLOCK_END)
    assert "more\n" in body


def test_a_revision_closes_nothing() -> None:
    assert "Fixes" not in body_.commit_message(RUN, _change("t", "s", "", "a"), number=3, closes=False)


def test_a_body_never_says_that_checks_ran_when_none_did(change: Callable[..., Change]) -> None:
    body = body_.pull_request_body(
        RUN, change(checked_how="All tests pass."), number=3, closes=True, ledger_head="h"
    )
    assert "cannot say whether the repository's checks pass" in body
    assert "which nobody has verified" in body
    assert "\n> All tests pass." in body


def test_a_body_has_what_the_reviewer_needs(change: Callable[..., Change]) -> None:
    body = body_.pull_request_body(RUN, change(), number=3, closes=True, ledger_head="abc123")
    for part in (
        "Fixes #3", "The loop stopped one short.", "- `src/total.py` (changed)", "- `docs/gone.md` (deleted)",
        "- `run.sh` (created)", "2 line(s) added, 2 removed", "Files looked at (2)", "Cost: $0.0123",
        "1,200 tokens in, 340 out", "Action log head: `abc123`",
    ):  # fmt: skip
        assert part in body


def test_a_revision_leaves_what_people_wrote_in_the_body(change: Callable[..., Change]) -> None:
    body = body_.pull_request_body(RUN, change(), number=3, closes=True, ledger_head="one")
    edited = f"Reviewed by hand.\n\n{body}\n\nDo not merge before Friday."
    revised = body_.revised_body(edited, UUID(int=6), change(summary="Second."), ledger_head="two")
    assert revised.startswith("Reviewed by hand.")
    assert revised.endswith("Do not merge before Friday.")
    assert "Second." in revised
    assert "stopped one short" not in revised


def test_our_block_is_appended_where_people_removed_it(change: Callable[..., Change]) -> None:
    revised = body_.revised_body("Only this.", RUN, change(), ledger_head="two")
    assert revised.startswith("Only this.\n\n<!-- magicode:begin -->")


def test_an_unknown_price_is_not_said_to_be_nothing() -> None:
    said = wording.cost(Spending(10, 0, 10, Decimal(0), 2, 2, "m"))
    assert "2 model call(s) without a known price" in said
    assert wording.cost(None) == "No model was called: $0.00"


@pytest.mark.parametrize(
    ("error", "state", "said"),
    [
        (StoppedError(), RunState.CANCELLED, "Stopped"),
        (TransientError(reason="rate_limited"), RunState.FAILED, "rate limit"),
        (TransientError(reason="model_overloaded"), RunState.FAILED, "provider"),
        (TransientError(reason="never_heard_of"), RunState.FAILED, "away"),
        (DefectError("the secret detail"), RunState.FAILED, "mistake of ours"),
        (MissingError(reason="repository_empty"), RunState.REFUSED, "empty"),
        (RefusedError(reason="human_commits"), RunState.REFUSED, "Somebody has committed"),
        (InvalidError("Protected: no.", reason="new_reason"), RunState.REFUSED, "Protected: no."),
        (UserError("Say more.", reason="unclear"), RunState.REFUSED, "Say more."),
    ],
)
def test_each_error_ends_in_one_visible_state_with_words(error: Any, state: RunState, said: str) -> None:
    outcome = wording.outcome(error)
    assert outcome.state is state
    assert said in outcome.message
    assert outcome.reason == error.reason
    assert "secret detail" not in outcome.message


def test_githubs_own_words_name_the_rule_that_it_refused_by() -> None:
    outcome = wording.outcome(InvalidError("Changes must be made by @octo/elders.", reason="branch_rules"))
    assert "GitHub's words: Changes must be made by @octo/elders." in outcome.message
    assert "@octo" not in wording.ended(RUN, outcome, None, "h")


@pytest.mark.parametrize(
    ("reason", "next_step"),
    [
        ("edited_since", "read it once more"),
        ("budget_turns", "up to $"),
        ("path_denied", "by hand"),
        ("model_silent", "other words"),
        ("never_heard_of", "reason above"),
    ],
)
def test_a_refusal_in_its_own_words_says_what_to_do_next_too(reason: str, next_step: str) -> None:
    outcome = wording.outcome(RefusedError("Because.", reason=reason))
    assert outcome.message == "Because."
    assert next_step in outcome.next_step


def test_a_link_of_our_own_survives_in_the_status_and_a_models_does_not() -> None:
    link = "https://github.com/o/r/issues/1#issuecomment-2"
    ours = Outcome(RunState.REFUSED, "busy", wording.busy(link))
    assert f"]({link})" in wording.ended(RUN, ours, None, "h")
    models = Outcome(RunState.ANSWERED, "answered", str(wording.busy(link)))
    assert "](" not in wording.ended(RUN, models, None, "h")


def test_every_reason_with_a_sentence_says_what_to_do_next() -> None:
    for reason in wording._WHY:
        sentence, next_step = wording.why(reason)
        assert sentence.endswith((".", "?")), reason
        assert next_step.endswith((".", "?")), reason


def test_the_stages_are_ticked_off_in_order() -> None:
    said = wording.working(RUN, wording.Stage.WRITING, cost_usd=Decimal("1.5"))
    assert said.count("[x]") == 3
    assert "- [ ] **Writing the change …**" in said
    assert "Spent so far: $1.50" in said


def test_help_mentions_nobody_and_names_the_verbs() -> None:
    for said in (wording.help_text(), wording.near_miss("@fxi", "fix"), wording.not_available("undo")):
        assert not re.search(r"@[^\W_]", said)
        assert "`magicode fix`" in said
    assert "Did you mean `fix`?" in wording.near_miss("fxi", "fix")
    assert "`undo` is not available in this version" in wording.not_available("undo")


def test_a_second_request_is_answered_with_a_link_only_when_it_is_one() -> None:
    assert "](https://github.com/o/r/issues/1#issuecomment-2)" in wording.busy(
        "https://github.com/o/r/issues/1#issuecomment-2"
    )
    assert "](" not in wording.busy("https://e/) [x](javascript:1")
    assert "](" not in wording.busy(None)


def test_the_cost_says_no_turns_and_no_price_that_it_does_not_know() -> None:
    assert wording.cost(Spending(1000, 0, 20, Decimal("0.5"))) == "Cost: $0.5000 · 1,000 tokens in, 20 out"
    assert "unknown" in wording.cost(Spending(1000, 0, 20))
    assert "$0" not in wording.cost(Spending(1000, 0, 20))


@pytest.mark.parametrize("reason", ["model_key_refused", "model_quota_exhausted", "token_refused"])
def test_what_only_the_operator_can_mend_is_a_failure_and_sends_nobody_to_reword_the_request(
    reason: str,
) -> None:
    said = wording.outcome(RefusedError("the provider's words", reason=reason))
    assert said.state is RunState.FAILED
    assert "provider's words" not in said.message
    assert "words" not in said.next_step
    assert "runs this service" in said.next_step


def test_a_cancelled_run_tells_what_it_had_published() -> None:
    assert "`magicode/issue-3`" in wording.stopped_late("magicode/issue-3", None)
    assert "pull request was open" in wording.stopped_late("magicode/issue-3", 4)
