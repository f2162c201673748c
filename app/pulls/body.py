"""The words of a commit and of a pull request's body: what was changed and why, how it was checked, what is left open.

Our part of the body stands between two marks. A later change replaces it and leaves every other word as people wrote it.
Nothing here says that a check passed which was not run.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from app.nouns import Change, CheckRun, ChecksReport, Spending
from app.pulls.neutralise import BODY_LIMIT, code, cut, first_of, length, neutralise, one_line, prose
from app.pulls.template import fill
from app.pulls.wording import commit_name, footer, marker, opened_marker, trailer

TITLE_LIMIT: Final = 256
SUBJECT_LIMIT: Final = 72
PATH_SHOWN: Final = 300
COMMITS_SHOWN: Final = 20

BLOCK_BEGIN: Final = "<!-- magicode:begin -->"
BLOCK_END: Final = "<!-- magicode:end -->"

UNDOES: Final = "MagiCode-Undoes"

_UNDOES: Final = re.compile(rf"^{UNDOES}: ([0-9a-f]{{40}}|[0-9a-f]{{64}})$")
_COMMITS: Final = "## Commits"
_COMMIT: Final = re.compile(r"^- ([0-9a-f]{10}): (.+)$")


# --- the commit ------------------------------------------------------------------------------------------------------


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


def undo_message(run_id: UUID, undone_sha: str, undone_message: str) -> str:
    """Names the commit that it undoes in a trailer, and the run in the last one."""
    subject = one_line(f"Undo: {undone_message.partition(chr(10))[0]}", SUBJECT_LIMIT)
    said = f"This takes back {undone_sha}, as asked. Later commits stay."
    return f"{subject}\n\n{said}\n\n{UNDOES}: {undone_sha}\n{trailer(run_id)}"


def undoes(message: str) -> str | None:
    """The commit that a commit of ours undoes, by its trailer."""
    lines = message.rstrip().split("\n")
    found = _UNDOES.match(lines[-2]) if len(lines) > 1 else None
    return found[1] if found else None


def merge_message(run_id: UUID, base_ref: str, branch: str) -> str:
    return f"Merge {one_line(base_ref, 200)} into {branch}\n\n{trailer(run_id)}"


# --- the pull request ------------------------------------------------------------------------------------------------


def pull_request_body(
    run_id: UUID,
    change: Change,
    *,
    number: int,
    closes: bool,
    ledger_head: str,
    template: str | None = None,
    commit_sha: str | None = None,
) -> str:
    """The body of a new pull request. With a template of the repository's own, its headings are filled first."""
    sections = {"summary": prose(change.summary), "checked": checked(change)}
    filled, placed = fill(template, sections) if template else ("", frozenset[str]())
    closing = f"Fixes #{number}" if closes else ""
    parts = _told({k: v for k, v in sections.items() if k not in placed}, "What was changed, and why")
    parts += _about(change) + _commits("", commit_sha, change.title)
    block = _block(run_id, parts, change.spending, ledger_head)
    head = "\n\n".join(part for part in (opened_marker(run_id), closing) if part)
    room = BODY_LIMIT - length(head) - length(block) - 8
    middle = cut(filled, max(room, 1_000), "(The template was cut here.)")
    return cut("\n\n".join(part for part in (head, middle, block) if part))


def revised_body(
    body: str, run_id: UUID, change: Change, *, ledger_head: str, commit_sha: str | None = None
) -> str:
    """The body of an open pull request with our part about its newest commit, and every other word as people left it."""
    sections = {"summary": prose(change.summary), "checked": checked(change)}
    parts = _told(sections, "What the newest commit changed, and why")
    parts += _about(change) + _commits(body, commit_sha, change.title)
    return _with_block(body, _block(run_id, parts, change.spending, ledger_head))


def undone_body(body: str, run_id: UUID, *, undone_sha: str, commit_sha: str, ledger_head: str) -> str:
    """The body of an open pull request whose last change was taken back."""
    said = (
        f"{commit_name(commit_sha)} takes back what {commit_name(undone_sha)} changed, as asked; later updates from the "
        "base branch stay. What is left are the commits below that no other one takes back.\n\n"
        "MagiCode ran no checks after this; your own checks and a review decide."
    )
    parts = ["## A change was undone", said]
    parts += _commits(body, commit_sha, f"Undo {commit_name(undone_sha)}")
    return _with_block(body, _block(run_id, parts, None, ledger_head))


def _with_block(body: str, block: str) -> str:
    before, begin, rest = body.partition(BLOCK_BEGIN)
    _, end, after = rest.partition(BLOCK_END)
    kept = (before, after) if begin and end else (f"{body.rstrip()}\n\n", "")
    room = BODY_LIMIT - length(block)
    first = cut(kept[0], max(room - 2_000, 2_000), "(Cut here.)\n\n")
    return cut(first + block + kept[1])


def _block(run_id: UUID, parts: Sequence[str], spending: Spending | None, ledger_head: str) -> str:
    """Each part is cut by itself, so that the block's ends and its marker stay."""
    return "\n\n".join([BLOCK_BEGIN, marker(run_id), *parts, "---", footer(spending, ledger_head), BLOCK_END])


def _told(sections: dict[str, str], heading: str) -> list[str]:
    parts = []
    if "summary" in sections:
        parts += [f"## {heading}", cut(sections["summary"], 20_000, "(Cut here.)")]
    if "checked" in sections:
        parts += ["## How it was checked", cut(sections["checked"], 8_000, "(Cut here.)")]
    return parts


def _about(change: Change) -> list[str]:
    parts = []
    if change.concerns:
        found = first_of([f"- {one_line(concern, 1_000)}" for concern in change.concerns])
        parts += ["## Left open", f"Look at this first:\n\n{found}"]
    return [*parts, "## Files", _files(change)]


def _commits(body: str, sha: str | None, said: str) -> list[str]:
    """Our commits, oldest first: those that our part of the body names already, and the newest."""
    if sha is None:
        return []
    ours = body.partition(BLOCK_BEGIN)[2].partition(BLOCK_END)[0].partition(f"{_COMMITS}\n")[2]
    known = [found for line in ours.split("\n") if (found := _COMMIT.match(line))]
    lines = {found[1]: one_line(found[2], 120) for found in known}
    lines[sha[:10]] = one_line(said, 120) or "(without a title)"
    shown = [f"- {name}: {what}" for name, what in lines.items()][-COMMITS_SHOWN:]
    more = [] if len(lines) <= COMMITS_SHOWN else ["- … and earlier ones"]
    return [_COMMITS, "\n".join([*more, *shown])]


# --- how it was checked ----------------------------------------------------------------------------------------------


def checked(change: Change) -> str:
    """What plain code saw, and then the model's own words as no more than that."""
    said = checks_said(change.checks)
    if change.looked_again and not change.concerns:
        other = "other " if change.checks and change.checks.runs and not change.checks.passed else ""
        said += (
            f"\n\nA second look, by a model that saw the request and the diff alone, found no {other}problem."
        )
    if change.checked_how.strip():
        quoted = "\n".join(f"> {line}" for line in prose(change.checked_how).split("\n"))
        said += f"\n\nThe model's own words about it, which nobody has verified:\n\n{quoted}"
    return said


def checks_said(report: ChecksReport | None) -> str:
    """What is known about the repository's own checks, None where it is not known whether any was run."""
    if report is None:
        return (
            "MagiCode cannot say whether the repository's checks pass on this change; "
            "your own checks and a review decide."
        )
    if not report.runs:
        because = one_line(report.not_run or "none was found", 500).rstrip(".")
        return f"Checks were not run, because {because}. Your own checks and a review decide."
    rows = first_of([f"| {_command(run)} | {_result(run)} | {run.seconds:.1f} s |" for run in report.runs])
    parts = [_verdict(report), f"| Command | Result | Time |\n|---|---|---|\n{rows}"]
    if report.not_run:
        parts.append(f"Others were not run, because {one_line(report.not_run, 500).rstrip('.')}.")
    return "\n\n".join(parts)


def _verdict(report: ChecksReport) -> str:
    ran, failed = len(report.runs), sum(not run.passed for run in report.runs)
    counted = "The one command" if ran == 1 else f"All {ran} commands"
    if not failed:
        return f"{counted} passed in a sandbox without network."
    if failed < ran:
        counted = f"{failed} of {ran} commands"
    return f"**{counted} did not pass** in a sandbox without network.{_before(failed, failed - len(report.broken))}"


def _before(failed: int, before: int) -> str:
    if not before:
        return ""
    which = f"{before} of these fail" if before < failed else "It fails" if failed == 1 else "They fail"
    return f" {which} without this change too."


_ENDED: Final = {
    "timed_out": "stopped: too slow",
    "memory": "stopped: too much memory",
    "processes": "stopped: too many processes",
    "disk": "stopped: too much written",
    "output": "stopped: too much output",
    "killed": "killed",
}


def _result(run: CheckRun) -> str:
    if run.passed:
        return "passed"
    said = f"failed (exit {run.exit_code})" if run.ended == "exited" else _ENDED.get(run.ended, "stopped")
    return f"{said}; fails without this change too" if run.failed_before else f"**{said}**"


def _command(run: CheckRun) -> str:
    """A bar ends a table's cell, in code too: https://github.github.com/gfm/#example-200"""
    return code(run.command[:PATH_SHOWN]).replace("|", "\\|")


# --- lists -----------------------------------------------------------------------------------------------------------


def _files(change: Change) -> str:
    changed = [
        f"- {code(edit.path[:PATH_SHOWN])} "
        f"({'created' if edit.before is None else 'deleted' if edit.after is None else 'changed'})"
        for edit in change.edits
    ]
    lines = f"{change.added_lines} line(s) added, {change.removed_lines} removed."
    if not change.looked_at:
        return f"{first_of(changed)}\n\n{lines}"
    looked = first_of([f"- {code(path[:PATH_SHOWN])}" for path in change.looked_at])
    summary = f"<summary>Files looked at ({len(change.looked_at)})</summary>"
    return f"{first_of(changed)}\n\n{lines}\n\n<details>{summary}\n\n{looked}\n\n</details>"
