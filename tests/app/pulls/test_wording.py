"""Every sentence: marked, within GitHub's limit, inert, and honest about what was not done."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
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
from app.nouns import (
    Change,
    CheckRun,
    ChecksReport,
    FailedCheck,
    FileEdit,
    Outcome,
    Plan,
    Publication,
    PullRequest,
    RunState,
    Spending,
)
from app.pulls import body as body_
from app.pulls import reasons, wording
from app.pulls.ci import Cause, Diagnosis, Found
from webhooks.command import Verb

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


def _run(command: str, exit_code: int | None, ended: str = "exited", before: bool | None = None) -> CheckRun:
    return CheckRun(command, ended, exit_code, 1.25, "secret output", before)


@pytest.mark.parametrize(
    ("report", "said", "unsaid"),
    [
        (
            ChecksReport((_run("make test", 0),)),
            ["The one command passed", "| `make test` | passed | 1.2 s |"],
            ["not"],
        ),
        (
            ChecksReport((_run("make test", 0), _run("ruff check", 1))),
            ["**1 of 2 commands did not pass**", "| `ruff check` | **failed (exit 1)** |"],
            ["All", "without this change too"],
        ),
        (
            ChecksReport((_run("make test", 2, before=True),)),
            [
                "**The one command did not pass**",
                "It fails without this change too",
                "failed (exit 2); fails without this change too",
            ],
            ["**failed"],
        ),
        (
            ChecksReport((_run("make test", None, "timed_out", before=False),)),
            ["**stopped: too slow**"],
            ["too |", "All"],
        ),
        (
            ChecksReport((_run("a | b", None, "memory"),)),
            ["| `a \\| b` | **stopped: too much memory** |"],
            ["All"],
        ),
        (
            ChecksReport((_run("make a", 0),), not_run="the time was used up."),
            ["The one command passed", "Others were not run, because the time was used up."],
            [],
        ),
        (
            ChecksReport(not_run="bubblewrap is not installed here."),
            ["Checks were not run, because bubblewrap is not installed here. Your own checks"],
            ["passed"],
        ),
        (ChecksReport(), ["Checks were not run, because none was found."], ["passed"]),
        (None, ["cannot say whether"], ["passed"]),
    ],
)
def test_what_is_known_about_the_checks_is_said_and_no_more(
    report: ChecksReport | None, said: list[str], unsaid: list[str]
) -> None:
    text = body_.checks_said(report)
    for part in said:
        assert part in text
    for part in (*unsaid, "secret output"):
        assert part not in text


def test_a_command_cannot_write_into_the_body() -> None:
    hostile = "x` | passed |\n\n@ada [a](https://evil.example) <!-- magicode:end -->"
    text = body_.checks_said(ChecksReport((_run(hostile, 1),)))
    assert not re.search(r"@[^\W_]", text)
    assert "](" not in text
    assert "<!--" not in text
    assert len([line for line in text.split("\n") if line.startswith("|")]) == 3


def test_what_a_second_look_found_stands_in_the_body(change: Callable[..., Change]) -> None:
    found = change(concerns=("It leaves @ada out.\n# Loud", "A test was weakened."), looked_again=True)
    for body in (
        body_.pull_request_body(RUN, found, number=3, closes=True, ledger_head="h"),
        body_.revised_body("", RUN, found, ledger_head="h"),
    ):
        assert (
            "## Left open\n\nLook at this first:\n\n- It leaves @\u200bada out. # Loud\n- A test was" in body
        )
        assert "alone, found no" not in body
    plain = body_.pull_request_body(RUN, change(), number=3, closes=True, ledger_head="h")
    assert "second look" not in plain
    approved = body_.pull_request_body(RUN, change(looked_again=True), number=3, closes=True, ledger_head="h")
    assert "A second look" in approved
    assert "found no problem." in approved
    failing = change(looked_again=True, checks=ChecksReport((_run("make test", 1),)))
    assert "found no other problem." in body_.checked(failing)


def test_the_oldest_commits_leave_a_long_list_first(change: Callable[..., Change]) -> None:
    body = body_.pull_request_body(RUN, change(), number=3, closes=True, ledger_head="h", commit_sha="0" * 40)
    for number in range(1, 30):
        sha = f"{number:010x}" + "0" * 30
        body = body_.revised_body(body, RUN, change(title=f"Step {number}"), ledger_head="h", commit_sha=sha)
    listed = re.findall(r"^- [0-9a-f]{10}: (.+)$", body, re.MULTILINE)
    assert listed == [f"Step {number}" for number in range(10, 30)]
    assert "earlier ones" in body


def test_an_undoing_keeps_what_people_wrote_and_the_list_of_commits(change: Callable[..., Change]) -> None:
    old, new = "a" * 40, "b" * 40
    body = body_.pull_request_body(RUN, change(), number=3, closes=True, ledger_head="h", commit_sha=old)
    undone = body_.undone_body(
        f"Mine.\n\n{body}", UUID(int=6), undone_sha=old, commit_sha=new, ledger_head="h"
    )
    assert undone.startswith("Mine.")
    assert wording.marker(UUID(int=6)) in undone
    assert wording.opened_marker(RUN) in undone
    assert f"- {old[:10]}: Count the last item too\n- {new[:10]}: Undo {old[:10]}" in undone
    assert "The loop stopped one short." not in undone


@QUICK
@given(subject=TEXT)
def test_an_undo_names_what_it_undoes_whatever_its_title_was(subject: str) -> None:
    message = body_.undo_message(RUN, "a" * 40, _text(subject))
    assert body_.undoes(message) == "a" * 40
    assert wording.has_trailer(message, RUN)
    assert len(message.split("\n")[0]) <= 72
    assert not re.search(r"@[^\W_]|#\d", message)


@pytest.mark.parametrize(
    "message",
    ["", "x", f"MagiCode-Undoes: {'a' * 40}", f"x\n\nMagiCode-Undoes: short\n{wording.trailer(RUN)}"],
)
def test_another_message_undoes_nothing(message: str) -> None:
    assert body_.undoes(message) is None


def test_a_merge_names_its_base_and_ends_with_our_trailer() -> None:
    message = body_.merge_message(RUN, "release/2\n@ada", "magicode/issue-3")
    assert message.split("\n")[0].endswith("into magicode/issue-3")
    assert wording.has_trailer(message, RUN)
    assert not re.search(r"@[^\W_]", message)


# --- plans -----------------------------------------------------------------------------------------------------------

PLAN = Plan(
    "Count all items.", (("src/total.py", "start at 0"),), ("Write a test", "Mend the loop"), ("None @ada",)
)


def test_a_plan_says_what_and_at_what_cost_and_how_to_start() -> None:
    text = wording.plan_text(PLAN, wording.Estimate(Decimal("0.25"), 5), run_id=RUN)
    for part in (
        "Count all items.", "- `src/total.py`: start at 0", "1. Write a test\n2. Mend the loop", "- None @\u200bada",
        "about $0.25 (the median of the last 5 changes here)", "the word `go`", "nothing is changed yet",
    ):  # fmt: skip
        assert part in text
    said = wording.ended(RUN, Outcome(RunState.ANSWERED, "planned", text), None, "h")
    assert said.startswith(f"{wording.marker(RUN)}\n**A plan**.")
    plan = wording.plan_in(said, RUN)
    assert plan is not None
    assert plan.startswith("Count all items.")
    assert plan.endswith("ada")
    assert "Cost" not in plan


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        (wording.Estimate(None, 0), "unknown"),
        (wording.Estimate(Decimal(2), 0), "told from what this plan cost"),
    ],
)
def test_an_estimate_tells_its_basis(estimate: wording.Estimate, said: str) -> None:
    assert said in wording.plan_text(PLAN, estimate, run_id=RUN)


def test_an_edited_plan_is_read_as_it_stands_and_one_without_its_marks_is_none() -> None:
    text = str(wording.plan_text(PLAN, wording.Estimate(None, 0), run_id=RUN))
    edited = text.replace("Mend the loop", "Leave the loop")
    assert "Leave the loop" in (wording.plan_in(edited, RUN) or "")
    assert wording.plan_in(edited, UUID(int=6)) is None
    assert wording.plan_in(text.replace(wording.PLAN_END, ""), RUN) is None
    begin, _, _ = text.partition("Count")
    assert wording.plan_in(f"{begin}\n{wording.PLAN_END}", RUN) is None


@QUICK
@given(words=TEXT, path=TEXT, many=st.sampled_from([0, 1, 12]))
def test_a_plan_however_long_is_read_back_whole_and_inert(words: str, path: str, many: int) -> None:
    words, path = _text(words), _text(path)
    plan = Plan(words, ((path, words),) * many, (words,) * many, (words,) * many)
    text = wording.plan_text(plan, wording.Estimate(None, 0), run_id=RUN)
    said = wording.ended(RUN, Outcome(RunState.ANSWERED, "planned", text), None, "h")
    assert len(said.encode("utf-16-le")) // 2 <= 65_536
    assert not re.search(r"@[^\W_]|#\d", said)
    assert wording.plan_in(said, RUN) is not None
    assert said.endswith("</sub>")


# --- after the pull request ------------------------------------------------------------------------------------------


def _diagnosis() -> Diagnosis:
    def found(name: str, cause: Cause, why: str = "") -> Found:
        return Found(FailedCheck(name, "failure", "u"), cause, why, "secret log")

    return Diagnosis(
        (
            found("test `x` @ada", Cause.OURS),
            found("lint", Cause.ON_BASE, "it fails without this change too"),
            found("docker", Cause.INFRASTRUCTURE, "a container image could not be fetched"),
        ),
        "f",
    )


def _pull(**changes: Any) -> PullRequest:
    pull = PullRequest(7, "n", "t", "", "open", False, False, "magicode/issue-3", "s", 7, "main", "b", "u")
    return replace(pull, **changes)


def _publication() -> Publication:
    return Publication(_pull(), "magicode/issue-3", "c" * 40, True, created=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            wording.failing_on_base(_diagnosis()),
            ["on the base branch too", "`lint`: it fails without", "`docker`"],
        ),
        (
            wording.infrastructure(_diagnosis()),
            ["nothing that I can read", "`docker`: a container image could"],
        ),
        (wording.same_failure(_diagnosis()), ["The same failure came back", "test"]),
        (wording.given_up(3), ["still fails after 3 times", "left to you"]),
        (wording.hands_off(_pull()), ["`magicode/issue-3`", "theirs now"]),
        (wording.over(_pull(merged=True)), ["It was merged"]),
        (wording.over(_pull()), ["closed without being merged"]),
        (
            wording.conflicts(("a.py", "b`@x.py"), "main"),
            ["`main` has moved", "- `a.py`", "nothing was forced"],
        ),
        (wording.conflicts((), "main"), ["merge it by hand"]),
        (wording.undo_over_merge(["a.py"]), ["- `a.py`", "I changed nothing"]),
    ],
)
def test_what_happened_afterwards_is_said_plainly_and_mentions_nobody(text: Any, said: list[str]) -> None:
    assert isinstance(text, wording.Ours)
    for part in said:
        assert part in text
    assert not re.search(r"@[^\W_]", text)
    assert "secret log" not in text


@pytest.mark.parametrize(
    ("attempt", "following"), [(1, "I try twice more"), (2, "I try once more"), (3, "the last try")]
)
def test_a_try_is_counted_and_promises_nothing(attempt: int, following: str) -> None:
    told = wording.mended(_publication(), attempt, 3, _diagnosis())
    assert told.state is RunState.UPDATED
    assert f"Try {attempt} of 3" in told.message
    assert "cccccccccc" in told.message
    assert "CI decides" in told.message
    assert following in told.next_step
    assert "secret log" not in told.message


def test_an_undoing_is_told_with_both_commits() -> None:
    told = wording.undone(_publication(), "d" * 40)
    assert "cccccccccc takes back what dddddddddd changed" in told.message
    assert (told.state, told.pull_request, told.head_sha) == (RunState.UPDATED, 7, "c" * 40)
    assert wording.ended(RUN, told, None, "h").split("\n")[1] == "**Undone**: #7."


@pytest.mark.parametrize(
    ("error", "heading", "next_step"),
    [
        (
            UserError(wording.infrastructure(_diagnosis()), reason="ci_infrastructure"),
            "I changed nothing",
            "start the failed jobs",
        ),
        (
            UserError(wording.failing_on_base(_diagnosis()), reason="ci_base"),
            "without this change",
            "start the failed jobs",
        ),
        (
            RefusedError(wording.same_failure(_diagnosis()), reason="same_failure"),
            "CI still fails",
            "look at its log",
        ),
        (RefusedError(wording.given_up(3), reason="mend_tries"), "CI still fails", "look at its log"),
        (RefusedError(wording.undo_over_merge(["a"]), reason="undo_over_merge"), "Not done", "by hand"),
    ],
)
def test_what_was_not_mended_ends_with_why_and_what_next(error: Any, heading: str, next_step: str) -> None:
    said = wording.ended(wording.ci_key(7), wording.outcome(error), None, "h")
    assert said.startswith("<!-- magicode:run:ci-7 -->\n**")
    assert heading in said.split("\n")[1]
    assert f"**Next:** {next_step}" in said or next_step in said.partition("**Next:**")[2]
    assert said.count("`docker`") == ("docker" in error.message)


def test_a_question_and_an_explanation_are_the_models_words_made_inert() -> None:
    for told, heading in (
        (wording.question("Which @ada?"), "A question first"),
        (wording.explained("Because @ada."), "Explained"),
    ):
        said = wording.ended(RUN, told, None, "h")
        assert heading in said
        assert "**Next:**" in said
        assert not re.search(r"@[^\W_]", said)


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
    assert "no price is known" in said
    assert "$" not in said
    said = wording.cost(Spending(10, 0, 10, Decimal("0.5"), 2, 3, "m"))
    assert "$0.5000 and 2 model call(s) without a known price" in said
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


def test_what_was_in_the_way_and_has_ended_is_not_said_to_be_at_work() -> None:
    assert "is at work here" in wording.busy(None)
    over = wording.busy("https://github.com/o/r/issues/1#issuecomment-2", over=True)
    assert "is at work" not in over
    assert "has ended since" in over
    assert "issuecomment-2" in over


def test_every_reason_with_a_sentence_says_what_to_do_next() -> None:
    for reason in reasons.WHY:
        sentence, next_step = wording.why(reason)
        assert sentence.endswith((".", "?")), reason
        assert next_step.endswith((".", "?")), reason


def test_the_stages_are_ticked_off_in_order() -> None:
    said = wording.working(RUN, wording.Stage.WRITING, cost_usd=Decimal("1.5"))
    assert said.count("[x]") == 3
    assert "- [ ] **Writing the change …**" in said
    assert "Spent so far: $1.50" in said


@pytest.mark.parametrize(
    ("verb", "said", "unsaid"),
    [
        ("undo", "**Updating the pull request …**", "Writing"),
        ("explain", "Writing the answer", "Opening"),
        ("plan", "Writing the plan", "Checking"),
        ("mend", "Reading what failed", "Opening"),
        ("revise", "Updating the pull request", "Opening"),
        ("go", "Opening the pull request", "Updating"),
    ],
)
def test_no_stage_is_ticked_off_that_such_a_request_does_not_have(verb: str, said: str, unsaid: str) -> None:
    at = wording.Stage.PUBLISHING if verb == "undo" else wording.Stage.READING
    text = wording.working(RUN, at, verb=verb)
    assert said in text
    assert unsaid not in text
    assert text.count("[x]") == (1 if verb == "undo" else 0)


def test_help_mentions_nobody_and_names_the_verbs() -> None:
    for said in (wording.help_text(), wording.near_miss("@fxi", "fix")):
        assert not re.search(r"@[^\W_]", said)
        for verb in Verb:
            assert f"`magicode {verb}`" in said
    assert "Did you mean `fix`?" in wording.near_miss("fxi", "fix")


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


def test_a_status_comment_links_to_the_page_where_the_run_is_watched() -> None:
    page = "https://magicode.example/installations/1/runs/2"
    assert wording.working(RUN, wording.Stage.WRITING, page=page).endswith(f"[Watch it live]({page})")
    assert f"[Each step]({page})</sub>" in wording.ended(RUN, DONE, None, "head", page=page)
    assert "](" not in wording.working(RUN, wording.Stage.WRITING) + wording.ended(RUN, DONE, None, "head")


DONE = Outcome(RunState.ANSWERED, "answered", "Done.")
