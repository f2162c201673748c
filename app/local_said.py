"""What is said of a request on a local repository: for people, for programs, and the patch itself for `git apply`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import BinaryIO

from app.errors import MagicodeError, RefusedError, UserError
from app.local_run import Made, said
from app.nouns import CheckRun, ChecksReport, FileEdit, Spending
from app.pulls.neutralise import visible

Say = Callable[[str], None]
Print = Callable[[dict[str, object]], None]


def hand_over(made: Made, spent: Spending, *, apply: bool, say: Say, out: BinaryIO) -> int:
    """Puts the answer or the patch on `out`, or the patch into the files; gives the exit code.

    A change that cannot be written into the files is not lost: it goes to `out`.
    """
    if made.answer is not None:
        say(f"Spent: {said(spent)}.")
        out.write(visible(made.answer).encode("utf-8", "replace") + b"\n")
        return 0
    say(f"\n{report(made)}\n\nSpent: {said(spent)}.")
    if not apply:
        out.write(made.patch)
        return 0
    try:
        made.apply()
    except RefusedError as error:
        say(f"magicode: {error.message} The patch is on standard output instead.")
        out.write(made.patch)
        return 1
    # A name may hold what a terminal would obey.
    out.writelines(f"{change_of(edit)} {ascii(edit.path)[1:-1]}\n".encode("ascii") for edit in made.edits)
    return 0


def hand_over_document(made: Made, spent: Spending, *, apply: bool, tell: Print) -> int:
    """The same as one document; gives the exit code."""
    told = {**document(made, spent), "applied": False}
    if not apply or made.answer is not None:
        tell(told)
        return 0
    try:
        made.apply()
    except RefusedError as error:
        tell(told | why_not(error))
        return 1
    tell(told | {"applied": True})
    return 0


def why_not(error: MagicodeError) -> dict[str, object]:
    """How a request ended that an error ended."""
    outcome = "refused" if isinstance(error, UserError | RefusedError) else "failed"
    return {"outcome": outcome, "reason": error.reason, "message": error.message}


def change_of(edit: FileEdit) -> str:
    """`created`, `deleted` or `changed`."""
    return "created" if edit.before is None else "deleted" if edit.after is None else "changed"


def report(made: Made) -> str:
    """A change in words, for a terminal: what a model or a program wrote is stripped of what a terminal would obey."""
    parts = [visible(f"{made.title}\n\n{made.summary}").strip()]
    changed = f"{len(made.edits)} file(s), {made.added_lines} line(s) added, {made.removed_lines} removed."
    parts.append("\n".join([changed, *_checks(made.checks)]))
    if made.concerns:
        found = "\n".join(f"- {visible(one)}" for one in made.concerns)
        parts.append(f"Left open:\n{found}")
    return "\n\n".join(parts)


def _checks(checks: ChecksReport | None) -> list[str]:
    if checks is None:
        return ["Checks were not run."]
    lines = [f"Check `{visible(one.command)}` {_ended(one)}." for one in checks.runs]
    if checks.not_run is not None:
        lines.append(
            f"{'Some checks' if lines else 'Checks'} were not run, because {visible(checks.not_run)}."
        )
    return lines


def _ended(run: CheckRun) -> str:
    if run.passed:
        return f"passed ({run.seconds:.1f} s)"
    how = f"failed with exit code {run.exit_code}" if run.ended == "exited" else f"was ended ({run.ended})"
    before = {None: "", True: ", as it does without the change", False: ", and passes without the change"}
    return how + before[run.failed_before]


def document(made: Made, spent: Spending) -> dict[str, object]:
    """The same for programs. `patch_encoding` is `utf-8`, or `base64` for a patch that is not UTF-8."""
    checks = made.checks
    patch, encoding = _text(made.patch)
    return {
        "outcome": "patch" if made.answer is None else "answer",
        "answer": made.answer,
        "asks": made.asks,
        "title": made.title,
        "summary": made.summary,
        "checked_how": made.checked_how,
        "patch": patch,
        "patch_encoding": encoding,
        "root": str(made.root),
        "base": made.base,
        "files": [{"path": edit.path, "change": change_of(edit)} for edit in made.edits],
        "added_lines": made.added_lines,
        "removed_lines": made.removed_lines,
        "checks": None if checks is None else _checks_document(checks),
        "concerns": list(made.concerns),
        "spending": spending_document(spent),
    }


def _checks_document(checks: ChecksReport) -> dict[str, object]:
    runs = [
        {
            "command": one.command,
            "ended": one.ended,
            "exit_code": one.exit_code,
            "passed": one.passed,
            "failed_before": one.failed_before,
            "seconds": round(one.seconds, 3),
        }
        for one in checks.runs
    ]
    return {"passed": checks.passed, "not_run": checks.not_run, "runs": runs}


def spending_document(spent: Spending) -> dict[str, object]:
    """Dollars as a number; `unpriced_calls` says how many model calls they do not hold."""
    return {
        "model": spent.model,
        "turns": spent.turns,
        "input_tokens": spent.input_tokens,
        "cached_tokens": spent.cached_tokens,
        "output_tokens": spent.output_tokens,
        "cost_usd": float(spent.cost_usd),
        "unpriced_calls": spent.unpriced_calls,
    }


def _text(patch: bytes) -> tuple[str, str]:
    try:
        return patch.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(patch).decode("ascii"), "base64"
