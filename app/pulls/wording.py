"""Every sentence that MagiCode says to people on GitHub, as functions that return Markdown.

What comes from a model, a file or a person passes through `neutralise` here, and nothing else is trusted to have
done so. Nothing here says that a check passed which was not run.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from app.nouns import Change, Checks, Outcome, RunState, Spending
from app.pulls.neutralise import BODY_LIMIT, code, cut, length, neutralise, one_line
from app.pulls.template import fill

TITLE_LIMIT: Final = 256
SUBJECT_LIMIT: Final = 72
PATH_SHOWN: Final = 300
LIST_LIMIT: Final = 8_000

BLOCK_BEGIN: Final = "<!-- magicode:begin -->"
BLOCK_END: Final = "<!-- magicode:end -->"

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


def has_trailer(message: str, run_id: UUID | None = None) -> bool:
    """Whether a commit's message ends with our trailer (of this run)."""
    last = message.rstrip().rsplit("\n", 1)[-1]
    return last == trailer(run_id) if run_id else last.startswith(f"{TRAILER}: ")


# --- the status comment ----------------------------------------------------------------------------------------------


def working(run_id: UUID, stage: Stage, *, cost_usd: Decimal | None = None) -> str:
    """The stages in order: done, at work, to come."""
    stages = list(Stage)
    at = stages.index(stage)
    lines = [
        f"- [{'x' if place < at else ' '}] {f'**{one.value} …**' if place == at else one.value}"
        for place, one in enumerate(stages)
    ]
    spent = f"\n\nSpent so far: {dollars(cost_usd)}." if cost_usd else ""
    return _body(run_id, "**Working on it.**\n\n" + "\n".join(lines) + spent)


_ENDS: Final = {
    RunState.OPENED: "Pull request opened",
    RunState.UPDATED: "Pull request updated",
    RunState.ANSWERED: "Answered",
    RunState.REFUSED: "Not done",
    RunState.FAILED: "Failed",
    RunState.CANCELLED: "Cancelled",
}


def ended(run_id: UUID, outcome: Outcome, spending: Spending | None, ledger_head: str) -> str:
    """The final state: which, why, what it cost, what to do next, and the action log's head."""
    link = f": #{outcome.pull_request}" if outcome.pull_request else ""
    parts = [f"**{_ENDS.get(outcome.state, 'Ended')}**{link}."]
    if outcome.message:
        message = outcome.message
        parts.append(message if isinstance(message, Ours) else neutralise(message))
    if outcome.next_step:
        parts.append(f"**Next:** {neutralise(outcome.next_step)}")
    parts.append(_footer(spending, ledger_head))
    return _body(run_id, "\n\n".join(parts))


def checks_ended(checks: Checks) -> str:
    """Never that they passed when one did not."""
    if checks.failed:
        return f"Its checks have ended, and {checks.failed} of {checks.total} did not pass. It is ready for review."
    return f"Its {checks.total} check(s) passed. It is ready for review."


def _body(key: UUID | str, text: str) -> str:
    return cut(f"{marker(key)}\n{text}", BODY_LIMIT)


def _footer(spending: Spending | None, ledger_head: str) -> str:
    head = f"Action log head: {code(ledger_head)}" if ledger_head else "Action log head: none yet"
    return f"<sub>{cost(spending)} · {head}</sub>"


def dollars(amount: Decimal) -> str:
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def cost(spending: Spending | None) -> str:
    """What the model cost, and how many of its calls had no known price."""
    if spending is None or not (spending.input_tokens or spending.output_tokens or spending.turns):
        return "No model was called: $0.00"
    if not spending.cost_usd and not spending.unpriced_calls:
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


# --- the commit and the pull request ---------------------------------------------------------------------------------


def title(change: Change, number: int) -> str:
    return one_line(change.title, TITLE_LIMIT) or f"Change for issue {number}"


def commit_message(run_id: UUID, change: Change, *, number: int, closes: bool) -> str:
    """Subject, summary, `Fixes #n` (issues only), and our trailer last.

    https://docs.github.com/en/issues/tracking-your-work-with-issues/using-issues/linking-a-pull-request-to-an-issue
    """
    subject = one_line(change.title, SUBJECT_LIMIT) or f"Change for issue {number}"
    summary = cut(neutralise(change.summary), 8_000, "(Cut here.)")
    closing = f"Fixes #{number}\n" if closes else ""
    return "\n\n".join(part for part in (subject, summary, closing + trailer(run_id)) if part)


def pull_request_body(
    run_id: UUID,
    change: Change,
    *,
    number: int,
    closes: bool,
    ledger_head: str,
    template: str | None = None,
    checks_run: str | None = None,
) -> str:
    """The body of a new pull request. With a template of the repository's own, its headings are filled first.

    `checks_run` is what plain code knows about checks that it ran; without it the body says that none was run.
    """
    sections = {"summary": neutralise(change.summary), "checked": _checked(change, checks_run)}
    filled, placed = fill(template, sections) if template else ("", frozenset[str]())
    closing = f"Fixes #{number}" if closes else ""
    block = _block(run_id, change, ledger_head, {k: v for k, v in sections.items() if k not in placed})
    head = "\n\n".join(part for part in (opened_marker(run_id), closing) if part)
    room = BODY_LIMIT - length(head) - length(block) - 8
    middle = cut(filled, max(room, 1_000), "(The template was cut here.)")
    return cut("\n\n".join(part for part in (head, middle, block) if part))


def revised_body(
    body: str, run_id: UUID, change: Change, *, ledger_head: str, checks_run: str | None = None
) -> str:
    """The body of an open pull request with our block replaced, and every other word of it as people left it."""
    sections = {"summary": neutralise(change.summary), "checked": _checked(change, checks_run)}
    block = _block(run_id, change, ledger_head, sections)
    before, begin, rest = body.partition(BLOCK_BEGIN)
    _, end, after = rest.partition(BLOCK_END)
    kept = (before, after) if begin and end else (f"{body.rstrip()}\n\n", "")
    room = BODY_LIMIT - length(block)
    first = cut(kept[0], max(room - 2_000, 2_000), "(Cut here.)\n\n")
    return cut(first + block + kept[1])


def _block(run_id: UUID, change: Change, ledger_head: str, sections: dict[str, str]) -> str:
    """Cut from within, so that its ends and its marker stay."""
    parts = [BLOCK_BEGIN, marker(run_id)]
    if "summary" in sections:
        parts += ["## What was changed, and why", cut(sections["summary"], 24_000, "(Cut here.)")]
    if "checked" in sections:
        parts += ["## How it was checked", cut(sections["checked"], 8_000, "(Cut here.)")]
    parts += ["## Files", _files(change), "---", _footer(change.spending, ledger_head), BLOCK_END]
    return "\n\n".join(parts)


def _checked(change: Change, checks_run: str | None) -> str:
    if checks_run:
        return neutralise(checks_run)
    said = "MagiCode ran none of the repository's checks on this change; your own checks and a review decide."
    if change.checked_how.strip():
        quoted = "\n".join(f"> {line}" for line in neutralise(change.checked_how).split("\n"))
        said += f"\n\nThe model's own words about it, which nobody has verified:\n\n{quoted}"
    return said


def _files(change: Change) -> str:
    changed = [
        f"- {code(edit.path[:PATH_SHOWN])} "
        f"({'created' if edit.before is None else 'deleted' if edit.after is None else 'changed'})"
        for edit in change.edits
    ]
    lines = f"{change.added_lines} line(s) added, {change.removed_lines} removed."
    if not change.looked_at:
        return f"{_first(changed)}\n\n{lines}"
    looked = _first([f"- {code(path[:PATH_SHOWN])}" for path in change.looked_at])
    summary = f"<summary>Files looked at ({len(change.looked_at)})</summary>"
    return f"{_first(changed)}\n\n{lines}\n\n<details>{summary}\n\n{looked}\n\n</details>"


def _first(lines: Sequence[str]) -> str:
    """As many of the lines as a list may take of the body, and how many more there are."""
    shown: list[str] = []
    room = LIST_LIMIT
    for line in lines:
        room -= length(line) + 1
        if room < 0:
            break
        shown.append(line)
    more = len(lines) - len(shown)
    return "\n".join([*shown, *([f"- … and {more} more"] if more else [])])


# --- help, near misses, a second request ----------------------------------------------------------------------------

_VERBS: Final = (
    ("fix", "work on this issue and open a pull request (also: plain words after the mention)"),
    ("revise", "change the open pull request (also: plain words on a pull request of ours)"),
    ("retry", "start a run again that failed"),
    ("cancel", "stop the run that is at work here"),
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


def not_available(verb: str, mention: str = "magicode") -> Ours:
    return Ours(f"{code(verb)} is not available in this version, so I did nothing.\n\n{help_text(mention)}")


def busy(link: str | None) -> Ours:
    """To a second request while one is at work; `link` is the first one's status comment, from GitHub itself."""
    where = (
        f" ([its status]({link}))"
        if link and link.startswith(("https://", "http://")) and _plain(link)
        else ""
    )
    return Ours(
        f"Another request is at work here{where}, and one is worked on at a time. Nothing was started for this one.\n\n"
        "**Next:** wait for it to end and ask again, or cancel it."
    )


def _plain(link: str) -> bool:
    return not any(one in link for one in "()<>[]\\ \n\t\"'`")


# --- why something was not done --------------------------------------------------------------------------------------

_CONTACT: Final = "ask whoever runs this service; the run's id is in this comment's source"

_WHY: Final[dict[str, tuple[str, str]]] = {
    "archived": ("This repository is archived: nothing can be written to it.", "unarchive it and ask again."),
    "disabled": ("GitHub has disabled this repository.", "see its page on GitHub for the reason."),
    "repository_empty": (
        "This repository is empty: there is no code to work on.",
        "push a first commit and ask again.",
    ),
    "no_issues": (
        "Issues are switched off in this repository.",
        "switch them on in its settings and ask again.",
    ),
    "repository_missing": (
        "The repository is gone, or the App can no longer see it.",
        "check the App's installation: does it include this repository?",
    ),
    "installation_missing": ("The App is no longer installed here.", "install it again and ask again."),
    "installation_suspended": ("The App's installation is suspended.", "unsuspend it and ask again."),
    "permission_not_granted": (
        "GitHub says that the App was not granted a permission that this needs.",
        "an owner accepts the App's permissions in the installation's settings; then ask again.",
    ),
    "locked": ("This conversation is locked.", "unlock it and ask again."),
    "budget": (
        "The cost limit was reached before the change was ready; nothing was published.",
        "ask again with a higher `up to $…`.",
    ),
    "human_commits": (
        "Somebody has committed to the branch since my last commit there. It is theirs now, and I leave it alone.",
        "go on by hand, or close that pull request and ask again for a new one.",
    ),
    "branch_moved": ("The branch moved while I was working; nothing was written over it.", "ask again."),
    "not_our_pull_request": (
        "This pull request was not opened by me, and I commit to no branch of others.",
        "ask on the issue instead.",
    ),
    "pull_request_closed": ("This pull request is closed.", "reopen it, or ask again on the issue."),
    "branch_rules": (
        "The repository's rules do not let me write this branch or commit.",
        "an administrator can let the App pass that rule for `magicode/` branches.",
    ),
    "branch_protected": (
        "The branch is protected, and I write to no protected branch.",
        "take `magicode/` branches out of the protection.",
    ),
    "push_protection": (
        "GitHub's push protection found a secret in the change, and I do not bypass it.",
        "have a person look at the request.",
    ),
    "no_commits": (
        "GitHub sees no difference between the branch and its base: the change is there already.",
        "close the issue if it is solved.",
    ),
    "rate_limited": (
        "GitHub's rate limit for this installation was reached, and waiting for it took too long.",
        "ask again in an hour.",
    ),
    "github_unavailable": (
        "GitHub did not answer as it should for too long.",
        "ask again later; https://www.githubstatus.com says more.",
    ),
    "network": ("GitHub could not be reached for too long.", "ask again later."),
    "repository_too_large": ("The repository is larger than this service takes.", _CONTACT + "."),
}

_OURS_TO_MEND: Final[dict[str, tuple[str, str]]] = {
    "model_key_refused": (
        "The model's provider refused this service's key, or the key may not use this model; nothing was published.",
        f"{_CONTACT}; then ask again with `retry`.",
    ),
    "model_quota_exhausted": (
        "This service's account with the model's provider has no credit left; nothing was published.",
        f"{_CONTACT}; then ask again with `retry`.",
    ),
    "model_unknown": (
        "The model's provider knows no model of the name that is configured; nothing was published.",
        f"mend `model` in `.github/magicode.yml` if it names one, else {_CONTACT}.",
    ),
    "token_refused": (
        "GitHub did not accept this service's credentials.",
        f"{_CONTACT}; then ask again with `retry`.",
    ),
    "setting_missing": (
        "This service is not configured fully: it has no model to ask.",
        f"{_CONTACT}; then ask again with `retry`.",
    ),
}
"""What is no fault of the request: such a run failed, and a redelivery may start it again."""

_MODEL_DOWN: Final = (
    "The model's provider did not answer as it should; nothing was published.",
    "ask again later; if it stays so, " + _CONTACT + ".",
)


_NEXT: Final = (
    ("edited_since", "read it once more and ask again."),
    ("no_write_permission", "somebody with write access makes the same request."),
    ("closed", "reopen it and ask again."),
    ("assigned", "one of them asks, or you assign yourself or me too, and ask again."),
    ("already_fixed", "review that one; if it does not solve this, unlink or close it and ask again."),
    ("opted_out", "take the label off if it no longer holds, and ask again."),
    ("switched_off", "change that line on the base branch and ask again."),
    ("budget_", "ask for a smaller step, or with a higher `up to $…`."),
    ("model_", "put the request in other words and ask again."),
    ("stuck", "say more exactly what should be different, and ask again."),
    ("nothing_changed", "say more exactly what should be different, and ask again."),
    ("archive_", _CONTACT + "."),
    ("workspace_", _CONTACT + "."),
    ("repository_too", _CONTACT + "."),
    ("repofile", "mend `.github/magicode.yml` on the base branch and ask again."),
    ("path_", "ask again without that part, or make it by hand."),
    ("secret", "look at what the change would have published, and make it by hand."),
    ("", "see the reason above; ask again once it no longer holds."),
)
"""By the beginning of a reason whose error brings its own sentence; the first that fits."""


def why(reason: str) -> tuple[str, str]:
    """What a reason means in a sentence, and what to do next; two empty strings for a reason without a sentence here."""
    return _WHY.get(reason, ("", ""))


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


def outcome(error: MagicodeError) -> Outcome:
    """How a run ends that an error ended: refused, failed or cancelled, with words for people.

    An error without a sentence of its own here is told in its own message; a defect is told without its details.
    """
    if error.reason in _OURS_TO_MEND:
        return Outcome(RunState.FAILED, error.reason, *_OURS_TO_MEND[error.reason])
    sentence, next_step = why(error.reason)
    match error:
        case StoppedError():
            said = "Stopped, as asked; nothing more was written."
            return Outcome(RunState.CANCELLED, error.reason, said, "ask again when you want it done.")
        case DefectError():
            said = "A mistake of ours ended this run; nothing more was written, and the operator is told."
            return Outcome(RunState.FAILED, error.reason, said, f"ask again with `retry`, or {_CONTACT}.")
        case TransientError():
            if error.reason.startswith("model_"):
                sentence, next_step = _MODEL_DOWN
            said = sentence or "Something that this needs was away for too long."
            return Outcome(RunState.FAILED, error.reason, said, next_step or "ask again later with `retry`.")
        case InvalidError() if sentence:
            # GitHub names the rule or the protection that it refused by.
            sentence += f" GitHub's words: {error.message}"
    if not next_step:
        next_step = next(step for beginning, step in _NEXT if error.reason.startswith(beginning))
    return Outcome(RunState.REFUSED, error.reason, sentence or error.message, next_step)
