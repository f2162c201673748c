"""Every sentence that MagiCode says to people on GitHub, as functions that return Markdown.

What comes from a model, a file or a person passes through `neutralise` here, and nothing else is trusted to have
done so. Nothing here says that a check passed which was not run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final
from uuid import UUID

from app.errors import (
    DefectError,
    InvalidError,
    MagicodeError,
    StoppedError,
    TransientError,
)
from app.nouns import MEND, Change, Checks, Outcome, Plan, Publication, PullRequest, RunState, Spending
from app.pulls.ci import Diagnosis, Found
from app.pulls.neutralise import BODY_LIMIT, code, cut, first_of, neutralise, one_line, prose
from app.pulls.reasons import CONTACT, MODEL_DOWN, NEXT, OURS_TO_MEND, WHY

TRAILER: Final = "MagiCode-Run"


class Stage(StrEnum):
    """What a running request is at, as people are told."""

    READING = "Reading the request"
    FETCHING = "Fetching the code"
    SEARCHING = "Finding the places that matter"
    WRITING = "Writing the change"
    CHECKING = "Checking the change"
    PUBLISHING = "Opening the pull request"


class Ours(str):
    """Markdown that this module composed, with its foreign parts inert already: it is not made inert as a whole."""

    __slots__ = ()


# --- marks that only machines read -----------------------------------------------------------------------------------


def marker(key: UUID | str) -> str:
    """Hidden in every comment and body: by it a later attempt finds what an earlier one wrote."""
    return f"<!-- magicode:run:{key} -->"


def opened_marker(run_id: UUID) -> str:
    """Hidden in the body of the pull request that this run opened, whoever revises it later."""
    return f"<!-- magicode:opened:{run_id} -->"


def trailer(run_id: UUID) -> str:
    """The last line of each commit of ours: https://git-scm.com/docs/git-interpret-trailers"""
    return f"{TRAILER}: {run_id}"


def commit_name(sha: str) -> str:
    """GitHub links it by itself where it stands as plain text, and not in code.
    https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/autolinked-references-and-urls#commit-shas
    """
    return sha[:10]


def has_trailer(message: str, run_id: UUID | None = None) -> bool:
    """Whether a commit's message ends with our trailer (of this run)."""
    last = message.rstrip().rsplit("\n", 1)[-1]
    return last == trailer(run_id) if run_id else last.startswith(f"{TRAILER}: ")


# --- the status comment ----------------------------------------------------------------------------------------------


def working(
    run_id: UUID | str,
    stage: Stage,
    *,
    verb: str = "fix",
    cost_usd: Decimal | None = None,
    page: str | None = None,
) -> str:
    """The stages that such a request goes through, in order: done, at work, to come. `page` is where it can be watched."""
    stages = _STAGES.get(verb, tuple(Stage))
    at = stages.index(stage) if stage in stages else 0
    said = [_AT.get((verb, one), one.value) for one in stages]
    lines = [
        f"- [{'x' if place < at else ' '}] {f'**{one} …**' if place == at else one}"
        for place, one in enumerate(said)
    ]
    spent = f"\n\nSpent so far: {dollars(cost_usd)}." if cost_usd else ""
    watched = f"\n\n[Watch it live]({page})" if page else ""
    return _body(run_id, "**Working on it.**\n\n" + "\n".join(lines) + spent + watched)


def waiting(run_id: UUID | str, until: datetime) -> str:
    """That nothing is wrong, and when it goes on."""
    return _body(
        run_id,
        "**Waiting.** GitHub limits what an App may write in an hour, and this hour's share is used up here. "
        f"This goes on by itself at about {until:%H:%M} UTC; nobody has to ask again.",
    )


def away(run_id: UUID | str) -> str:
    """That the model's provider does not answer, and that nobody has to do anything about it."""
    return _body(
        run_id,
        "**Waiting.** The model's provider does not answer as it should. It is asked again by itself, after longer and longer "
        "pauses, for about two hours; waiting costs nothing.\n\n"
        "**Next:** nothing has to be done; `cancel` in a comment that mentions me stops it.",
    )


_READS: Final = (Stage.READING, Stage.FETCHING, Stage.SEARCHING, Stage.WRITING)
_STAGES: Final = {"plan": _READS, "explain": _READS, "undo": (Stage.READING, Stage.PUBLISHING)}
_AT: Final = {
    ("plan", Stage.WRITING): "Writing the plan",
    ("explain", Stage.WRITING): "Writing the answer",
    (MEND, Stage.READING): "Reading what failed",
    **{(verb, Stage.PUBLISHING): "Updating the pull request" for verb in ("revise", "undo", MEND)},
}
"""Where a kind of request goes through other stages than a fix, or they have other names."""

_ENDS: Final = {
    RunState.OPENED: "Pull request opened",
    RunState.UPDATED: "Pull request updated",
    RunState.ANSWERED: "Answered",
    RunState.REFUSED: "Not done",
    RunState.FAILED: "Failed",
    RunState.CANCELLED: "Cancelled",
}


_HEADINGS: Final = {
    "planned": "A plan",
    "question": "A question first",
    "explained": "Explained",
    "undone": "Undone",
    "mended": "Mended, and pushed",
    "ci_base": "CI fails without this change too",
    "ci_infrastructure": "CI failed, and I changed nothing",
    "same_failure": "CI still fails",
    "mend_tries": "CI still fails",
    "merged": "Merged",
    "closed_unmerged": "Closed",
    "human_commits": "Yours now",
    "delete_announced": "Not deleted yet",
    "delete_wrong_name": "Not deleted",
    "deleting": "Deleting",
    "settings": "Settings",
    "setting_changed": "Setting changed",
    "key_in_public": "A key in public",
    "exporting": "Making your export",
    "export_underway": "Making your export",
    "exported": "Your export is ready",
    "export_failed": "No export",
    "logs": "The action log",
}
"""Headings by the reason of an end, where the state alone says too little."""


def ended(
    run_id: UUID | str,
    outcome: Outcome,
    spending: Spending | None,
    ledger_head: str,
    *,
    page: str | None = None,
) -> str:
    """The final state: which, why, what it cost, what to do next, and the action log's head; `page` is where each step of it
    is told."""
    link = f": #{outcome.pull_request}" if outcome.pull_request else ""
    heading = _HEADINGS.get(outcome.reason) or _ENDS.get(outcome.state, "Ended")
    parts = [f"**{heading}**{link}."]
    if outcome.message:
        message = outcome.message
        parts.append(message if isinstance(message, Ours) else prose(message))
    if outcome.next_step:
        parts.append(f"**Next:** {neutralise(outcome.next_step)}")
    parts.append(footer(spending, ledger_head, broken_off=outcome.state is RunState.CANCELLED, page=page))
    return _body(run_id, "\n\n".join(parts))


def with_remarks(message: str, remarks: Sequence[Ours]) -> str:
    """The message, and below it what people are told beside it."""
    if not remarks:
        return message
    first = message if isinstance(message, Ours) else prose(message)
    return Ours("\n\n".join(part for part in (first, *remarks) if part))


def checks_ended(checks: Checks, *, draft: bool = False) -> str:
    """Never that they passed when one did not; `draft`: GitHub did not let us mark it as ready."""
    now = (
        "GitHub did not let me mark it as ready, so it is still a draft."
        if draft
        else "It is ready for review."
    )
    if checks.failed:
        return f"Its checks have ended, and {checks.failed} of {checks.total} did not pass. {now}"
    return f"Its {checks.total} check(s) passed. {now}"


def opened_behind_a_failure(*, draft: bool, waits: bool) -> str:
    """Of a run that was given up behind the opening of its pull request."""
    now = "It is ready for review."
    if draft:
        now = "It is a draft until its checks end." if waits else "It is a draft."
    return f"GitHub failed while I was at work, but the pull request was open by then. {now}"


def left_open(change: Change) -> str:
    """Where to look first, for a change that was published with something left open; else nothing."""
    failing, found = len(change.checks.broken) if change.checks else 0, len(change.concerns)
    parts = []
    if failing:
        parts.append(
            f"{failing} check{'s' if failing > 1 else ''} that {'do' if failing > 1 else 'does'} not pass"
        )
    if found:
        parts.append(f"{found} remark{'s' if found > 1 else ''}")
    return f" Look first at what is left open there: {' and '.join(parts)}." if parts else ""


def _body(key: UUID | str, text: str) -> str:
    return cut(f"{marker(key)}\n{text}", BODY_LIMIT)


def footer(
    spending: Spending | None, ledger_head: str, *, broken_off: bool = False, page: str | None = None
) -> str:
    """`broken_off`: a call of the model may have been under way whose cost nobody was told."""
    head = f"Action log head: {code(ledger_head)}" if ledger_head else "Action log head: none yet"
    spent = cost(spending)
    if broken_off:
        spent = "Cost: $0.00" if spent.startswith("No model") else spent
        spent += "; a call of the model that was broken off may add to it"
    told = f" · [Each step]({page})" if page else ""
    return f"<sub>{spent} · {head}{told}</sub>"


def dollars(amount: Decimal) -> str:
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def cost(spending: Spending | None) -> str:
    """What the model cost, and how many of its calls had no known price."""
    if spending is None or not (spending.input_tokens or spending.output_tokens or spending.turns):
        return "No model was called: $0.00"
    if not spending.cost_usd:
        return f"Cost: unknown, since no price is known for this model · {_tokens(spending)}"
    said = f"Cost: {dollars(spending.cost_usd)}"
    if spending.unpriced_calls:
        said += f" and {spending.unpriced_calls} model call(s) without a known price"
    return f"{said} · {_tokens(spending)}"


def _tokens(spending: Spending) -> str:
    """Turns and model are told where they are known: a run's row keeps neither."""
    turns = f" · {spending.turns} turn(s)" if spending.turns else ""
    model = f" · {code(spending.model)}" if spending.model else ""
    return f"{spending.input_tokens:,} tokens in, {spending.output_tokens:,} out{turns}{model}"


# --- plans, questions, explanations ----------------------------------------------------------------------------------

PLAN_BEGIN: Final = "<!-- magicode:plan:{} -->"
PLAN_END: Final = "<!-- magicode:plan:end -->"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a change may cost: `usd` None where no price is known; `past` changes of this repository that it is the median
    of, 0 where it was told from the plan's own cost."""

    usd: Decimal | None
    past: int


def plan_text(plan: Plan, estimate: Estimate, mention: str = "magicode", *, run_id: UUID) -> Ours:
    """Files, steps, risks, what it may cost, and how to start it. What stands between the marks is what is worked on."""
    files = _list(f"{code(path[:300])}: {one_line(what, 500)}" for path, what in plan.files)
    steps = first_of([f"{place}. {one_line(step, 1_000)}" for place, step in enumerate(plan.steps, 1)])
    risks = _list(one_line(risk, 1_000) for risk in plan.risks)
    parts = [
        PLAN_BEGIN.format(run_id),
        cut(prose(plan.summary), 12_000, "(Cut here.)"),
        f"**Files**\n\n{files or '- none named'}",
        f"**Steps**\n\n{steps or '1. none named'}",
        f"**Risks**\n\n{risks or '- none that I see'}",
        PLAN_END,
        f"**Cost:** {_estimated(estimate)}",
        _how_to_go(mention),
    ]
    return Ours("\n\n".join(part for part in parts if part))


def _how_to_go(mention: str) -> str:
    return (
        f"**Next:** nothing is changed yet. To start, comment with the mention of {code(mention)} and the word `go`. "
        "To change the plan, edit it in this comment first: what stands here then is what I work on."
    )


def plan_in(body: str, run_id: UUID) -> str | None:
    """The plan of this run in a comment, as people have edited it; None where its marks or the words between are gone."""
    _, begin, rest = body.partition(PLAN_BEGIN.format(run_id))
    text, end, _ = rest.partition(PLAN_END)
    return (text.strip() or None) if begin and end else None


def plan_done(number: int) -> Ours:
    """To a `go` on a plan that an open pull request was made of."""
    return Ours(
        f"The plan that stands here was worked on already: #{number}. I did not begin it a second time."
    )


def question(text: str) -> Outcome:
    """The model needs to know one thing before it can begin."""
    step = "answer it in a comment that mentions me, and I begin."
    return Outcome(RunState.ANSWERED, "question", text, step)


def explained(text: str) -> Outcome:
    return Outcome(
        RunState.ANSWERED,
        "explained",
        text,
        "ask for a change, or ask again, in a new comment that mentions me.",
    )


def _estimated(estimate: Estimate) -> str:
    if estimate.usd is None:
        return "unknown, since no price is known for this model. `up to $…` after `go` sets a limit."
    basis = (
        f"the median of the last {estimate.past} changes here"
        if estimate.past
        else "told from what this plan cost, since too few changes were made here yet"
    )
    return f"{_about(estimate.usd)} ({basis}). `up to $…` after `go` sets a limit."


def _about(amount: Decimal) -> str:
    """To the cent: a guess has no more digits than that."""
    return "less than $0.01" if amount < Decimal("0.01") else f"about ${amount:.2f}"


def _list(items: Iterable[str]) -> str:
    return first_of([f"- {item}" for item in items])


# --- failing CI ------------------------------------------------------------------------------------------------------


def ci_key(pull_request: int) -> str:
    """The key of the one status comment about a pull request's CI, which every try edits."""
    return f"ci-{pull_request}"


def mended(publication: Publication, attempt: int, tries: int, diagnosis: Diagnosis | None = None) -> Outcome:
    """A try was pushed; what comes of it is not known yet."""
    what = f" after {_names(diagnosis.ours)} failed" if diagnosis and diagnosis.ours else ""
    left = tries - attempt
    said = f"Try {attempt} of {tries}: pushed {commit_name(publication.commit_sha)}{what}. CI decides whether it helped."
    rest = (
        f"if it fails again, I try {_times(left)} more."
        if left
        else "this was the last try; if it fails again, it is left to you."
    )
    return Outcome(
        RunState.UPDATED,
        "mended",
        Ours(said),
        rest,
        pull_request=publication.pull_request.number,
        head_sha=publication.commit_sha,
    )


def failing_on_base(diagnosis: Diagnosis) -> Ours:
    """All that failed fails without the change too, or is not its doing."""
    return Ours(
        "CI failed here, and it fails on the base branch too, without this change. So I changed nothing.\n\n"
        f"{_whys((*diagnosis.on_base, *diagnosis.infrastructure))}"
    )


def infrastructure(diagnosis: Diagnosis) -> Ours:
    return Ours(
        "CI failed here, and nothing that I can read says that this change is the cause. So I changed nothing.\n\n"
        f"{_whys(diagnosis.infrastructure)}"
    )


def same_failure(diagnosis: Diagnosis) -> Ours:
    return Ours(
        f"The same failure came back after my last try: {_names(diagnosis.ours)}. Trying the same again would only cost money, "
        "so I stopped."
    )


def given_up(tries: int) -> Ours:
    return Ours(f"CI still fails after {_times(tries)}, and that is as often as I try. It is left to you.")


def hands_off(pull: PullRequest) -> Ours:
    """Said once when a person has committed to the branch of ours."""
    return Ours(
        f"Somebody has committed to {code(pull.head_ref)}, so it is theirs now: I push nothing more there and leave its CI alone."
    )


def over(pull: PullRequest) -> Ours:
    """Merged or closed: nothing more is done there."""
    if pull.merged:
        return Ours("It was merged. I do nothing more here.")
    return Ours(
        "It was closed without being merged. I do nothing more here; asking again on the issue begins a new one."
    )


def _whys(found: Sequence[Found]) -> str:
    return _list(f"{code(one.check.name[:200])}: {one.why}" for one in found)


def _names(found: Sequence[Found]) -> str:
    shown = ", ".join(code(one.check.name[:100]) for one in found[:5])
    return f"{shown} and {len(found) - 5} more" if len(found) > 5 else shown


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


# --- the base branch, undoing, threads -------------------------------------------------------------------------------


CONFLICT: Final = "<!-- magicode:conflict -->"
"""Hidden where a conflict is told, so that it is found again once it is over. On a line of its own: GitHub renders no Markdown
beside it. https://github.github.com/gfm/#html-blocks"""


def conflict_in(body: str) -> list[Ours]:
    """What a status comment of ours says of a conflict, to be said again in its next state."""
    _, mark, rest = body.partition(CONFLICT)
    told = rest.partition("\n\n**Next:**")[0].partition("\n\n<sub>")[0]
    return [Ours(f"{mark}{told}")] if mark else []


def merges_again(base_ref: str) -> Ours:
    """A conflict that was told is over."""
    return Ours(f"{code(base_ref)} merges cleanly again; nothing conflicts any longer.")


def conflicts(paths: Sequence[str], base_ref: str) -> Ours:
    """The base does not merge cleanly."""
    if not paths:
        return Ours(
            f"{CONFLICT}\n{code(base_ref)} has moved and does not merge cleanly here. Nothing was merged; merge it by hand."
        )
    return Ours(
        f"{CONFLICT}\n{code(base_ref)} has moved and does not merge cleanly here. Changed on both sides:\n\n"
        f"{_list(code(path[:300]) for path in paths)}\n\nNothing was merged and nothing was forced. Merge it by hand, or close "
        "the pull request and ask again on the issue for one from where the base is now."
    )


def undone(publication: Publication, undone_sha: str) -> Outcome:
    said = (
        f"{commit_name(publication.commit_sha)} takes back what {commit_name(undone_sha)} changed. It is a new commit: nothing was "
        "forced, and both stay in the history."
    )
    return Outcome(
        RunState.UPDATED,
        "undone",
        Ours(said),
        "say what you want instead, ask to undo the change before it too, or close the pull request.",
        pull_request=publication.pull_request.number,
        head_sha=publication.commit_sha,
    )


def undo_over_merge(paths: Sequence[str]) -> Ours:
    return Ours(
        "Since my last change, an update from the base branch has touched the same files, so taking it back would take back "
        f"work of others too:\n\n{_list(code(path[:300]) for path in paths)}\n\nI changed nothing."
    )


def thread_reply(key: str, words: str, commit_sha: str | None, reason: str) -> str:
    """One reply in a review thread. `words` are the model's about this thread, `reason` says why nothing was changed."""
    said = cut(prose(words), 10_000, "(Cut here.)")
    if commit_sha is not None:
        said = f"{said}\n\nCommit: {commit_name(commit_sha)}" if said else f"See {commit_name(commit_sha)}."
    else:
        why_not = reason if isinstance(reason, Ours) else cut(prose(reason), 10_000, "(Cut here.)")
        nothing = "Nothing was changed for this."
        said = said or (f"{nothing} {why_not}" if why_not else nothing)
    return _body(key, said)


# --- help, near misses, a second request ----------------------------------------------------------------------------

_VERBS: Final = (
    ("fix", "work on this issue and open a pull request (also: plain words after the mention)"),
    ("plan", "say first what would be changed, how, and what it may cost"),
    ("go", "work on the plan that stands here, as you have edited it"),
    ("revise", "change the open pull request (also: plain words on a pull request of ours, or a review)"),
    ("explain", "answer a question about the code, and change nothing"),
    ("retry", "start the last request again that failed"),
    ("cancel", "stop the run that is at work here"),
    ("undo", "take back my last change on the pull request, with a new commit"),
    (
        "settings",
        "what is kept, for how long, and where it may go; `settings NAME VALUE` changes one, `member LOGIN ROLE` among them",
    ),
    ("logs", "figures of the last request here, and where to see every single action of it"),
    ("export", "everything that I hold about this account, as one ZIP; for its administrators"),
    (
        "delete",
        "destroy everything that I hold about this account, once a second comment confirms it; with a receipt",
    ),
    ("help", "this list"),
)


def help_text(mention: str = "magicode") -> Ours:
    """What can be asked for. `mention` is the App's name; it is written as code so that it mentions nobody."""
    rows = "\n".join(f"- `{mention} {verb}`: {what}" for verb, what in _VERBS)
    return Ours(
        f"Begin a comment with the mention of {code(mention)} and one of these:\n\n{rows}\n\n"
        "`up to $3` anywhere in it sets a cost limit. Code blocks and quotes are not read."
    )


def near_miss(word: str, suggestion: str | None, mention: str = "magicode") -> Ours:
    meant = f" Did you mean {code(suggestion)}?" if suggestion else ""
    return Ours(f"{code(word[:40])} is nothing that I know, so I did nothing.{meant}\n\n{help_text(mention)}")


def busy(link: str | None, *, over: bool = False) -> Ours:
    """To a second request while one is at work, or was when it came and is `over` by now; `link` is the first one's status comment, from
    GitHub itself."""
    where = (
        f" ([its status]({link}))"
        if link and link.startswith(("https://", "http://")) and _plain(link)
        else ""
    )
    if over:
        return Ours(
            f"Another request was at work here{where} when this one came, and one is worked on at a time. It has ended since. Nothing "
            "was started for this one.\n\n**Next:** ask again."
        )
    return Ours(
        f"Another request is at work here{where}, and one is worked on at a time. Nothing was started for this one.\n\n"
        "**Next:** wait for it to end and ask again, or cancel it."
    )


def _plain(link: str) -> bool:
    return not any(one in link for one in "()<>[]\\ \n\t\"'`")


# --- why something was not done --------------------------------------------------------------------------------------


def why(reason: str) -> tuple[str, str]:
    """What a reason means in a sentence, and what to do next; two empty strings for a reason without a sentence here."""
    return WHY.get(reason, ("", ""))


def assigned(logins: Sequence[str]) -> Ours:
    """To a request on what other people have taken on."""
    who = ", ".join(code(login) for login in logins)
    return Ours(f"This is assigned to {who}, and I do not begin what somebody else is at.")


def already_fixed(numbers: Sequence[int]) -> Ours:
    """To a request on what open pull requests of others solve already."""
    if len(numbers) == 1:
        return Ours(f"#{numbers[0]} is open and closes this when it is merged, so I did not begin another.")
    said = ", ".join(f"#{number}" for number in numbers)
    return Ours(f"{said} are open and close this when they are merged, so I did not begin another.")


def opted_out(number: int) -> Ours:
    return Ours(f"The label `no-magicode` on #{number} says to leave this alone, so I did.")


def stopped_late(branch: str, pull_request: int | None) -> Ours:
    """What a cancelled run had published by the time that it was stopped."""
    if pull_request is not None:
        return Ours("Stopped, as asked; the pull request was open by then. Close it if it is not wanted.")
    return Ours(
        f"Stopped, as asked; my commit was on the branch {code(branch)} by then, and nothing came after it. "
        "Revert it there, or delete the branch if nothing else needs it."
    )


def branch_removed(branch: str) -> Ours:
    """Of a run that ended before it opened its pull request."""
    return Ours(
        f"My commit was on the branch {code(branch)} by then, and there is no pull request for it, so I removed it."
    )


def budget_reached(period: str, percent: int) -> Ours:
    """`period` is `today` or `this month`. No dollars: a comment may be public."""
    if percent >= 100:
        return Ours(
            f"**Budget:** what runs here may cost {period} (UTC) is used up. Further requests are refused until it is over, or "
            "until an administrator allows more."
        )
    return Ours(f"**Budget:** more than {percent} % of what runs here may cost {period} (UTC) is used.")


def branch_left(branch: str) -> Ours:
    return Ours(
        f"My commit is on the branch {code(branch)}, there is no pull request for it, and GitHub did not let me remove it. "
        "You can delete it."
    )


def outcome(error: MagicodeError) -> Outcome:
    """How a run ends that an error ended: refused, failed or cancelled, with words for people.

    An error without a sentence of its own here is told in its own message; a defect is told without its details.
    """
    if error.reason in OURS_TO_MEND:
        return Outcome(RunState.FAILED, error.reason, *OURS_TO_MEND[error.reason])
    sentence, next_step = why(error.reason)
    match error:
        case StoppedError():
            said = sentence or "Stopped, as asked; nothing more was written."
            step = next_step or "ask again when you want it done."
            return Outcome(RunState.CANCELLED, error.reason, said, step)
        case DefectError():
            said = "A mistake of ours ended this run; nothing more was written, and the operator is told."
            return Outcome(RunState.FAILED, error.reason, said, f"ask again with `retry`, or {CONTACT}.")
        case TransientError():
            if error.reason.startswith("model_"):
                sentence, next_step = MODEL_DOWN
            said = sentence or "Something that this needs was away for too long."
            return Outcome(RunState.FAILED, error.reason, said, next_step or "ask again later with `retry`.")
        case InvalidError() if sentence:
            # GitHub names the rule or the protection that it refused by.
            sentence += f" GitHub's words: {error.message}"
    if not next_step:
        next_step = next(step for beginning, step in NEXT if error.reason.startswith(beginning))
    return Outcome(RunState.REFUSED, error.reason, sentence or error.message, next_step)
