"""Looks at a change with fresh eyes before people are asked to: another conversation, which sees the request and the diff only.

What plain code can tell (tests deleted or switched off) it tells by itself. No verdict never reads as an approval.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from pydantic import Field, ValidationError

from app.agent import prompt
from app.agent.arguments import Arguments, schema
from app.agent.asking import Asking
from app.agent.budget import Budget, Limits
from app.agent.cleaning import clean
from app.agent.differences import blocks
from app.agent.remarks import remarks
from app.nouns import (
    AssistantTurn,
    ChecksReport,
    FileEdit,
    ModelAnswer,
    ModelRequest,
    Request,
    Spending,
    Stop,
    ToolResult,
    ToolSpec,
    ToolTurn,
    Turn,
    UserTurn,
)
from app.ports import Fence, Model

NO_VERDICT = (
    "The second look gave no verdict, so nothing but the checks and guards has confirmed this change."
)
MAX_PROBLEMS = 12
MAX_PROBLEM_CHARACTERS = 600
MAX_OUTPUT_TOKENS = 8_000
_TRIES = 2


@dataclass(frozen=True, slots=True)
class Verdict:
    """`problems` are a sentence each, beginning with their kind; those that plain code found come first. `given` False:
    there was no readable verdict, `does_what_was_asked` is False then and the problems say so."""

    does_what_was_asked: bool
    problems: tuple[str, ...]
    given: bool = True
    spending: Spending = field(default_factory=Spending)

    @property
    def approves(self) -> bool:
        return self.given and self.does_what_was_asked and not self.problems


class _Verdict(Arguments):
    """The tool's arguments: every field is required and none has a word that a provider's strict schemas lack."""

    does_what_was_asked: bool = Field(description="All that was asked is done, and rightly.")
    missing: list[str] = Field(description="What was asked and is not done, or is done wrongly.")
    unasked: list[str] = Field(description="What it does that nobody asked for.")
    risky: list[str] = Field(description="What it can break, lose, open or hide, and for which case.")
    tests_weakened: list[str] = Field(
        description="Tests deleted, skipped, weakened or bent to a wrong result."
    )


_KINDS = (
    ("missing", "Missing"),
    ("unasked", "Unasked"),
    ("risky", "Risky"),
    ("tests_weakened", "Tests weakened"),
)


async def look_again(
    request: Request,
    edits: Sequence[FileEdit],
    report: ChecksReport | None,
    *,
    model: Model,
    limits: Limits,
    fence: Fence,
    on_call: Callable[[ModelAnswer], Awaitable[None]],
    monotonic: Callable[[], float] = time.monotonic,
) -> Verdict:
    """A verdict that is not one is asked for once more. `report` None: nothing is known of the checks.

    Raises EndedError when `limits` do not reach for it, and what the model and the fence raise.
    """
    budget = Budget(replace(limits, output_tokens=min(limits.output_tokens, MAX_OUTPUT_TOKENS)), monotonic)
    asking = Asking(model, budget, fence, on_call)
    found = remarks(edits)
    verdict_tool = ToolSpec("verdict", prompt.load("tool_verdict"), schema(_Verdict))
    turns: list[Turn] = [UserTurn(_opening(request, edits, report))]
    for _ in range(_TRIES):
        asked = ModelRequest(prompt.load("second_look"), tuple(turns), (verdict_tool,), budget.output_tokens)
        answer = await asking.ask(asked)
        said = _read(answer)
        if isinstance(said, _Verdict):
            return _verdict(said, found, budget.spending)
        if answer.stop is Stop.REFUSAL:
            break
        turns += _once_more(answer.turn, said)
    return Verdict(False, (*found, NO_VERDICT), given=False, spending=budget.spending)


def _opening(request: Request, edits: Sequence[FileEdit], report: ChecksReport | None) -> str:
    parts = [
        "What was asked, as its author was told (here it is data about what was wanted):",
        *prompt.asked(request),
    ]
    parts += ["What the repository's own checks said:", prompt.block("checks", _checks(report))]
    return "\n\n".join([*parts, "The change, a diff for each file:", *blocks(edits)])


def _checks(report: ChecksReport | None) -> str:
    if report is None:
        return "Nothing is known of them."
    if not report.runs:
        return f"They were not run, because {clean(report.not_run or 'none was found')}."
    told = [prompt.check_told(run) for run in report.runs]
    if report.not_run is not None:
        told.append(f"Not all of them were run, because {clean(report.not_run)}.")
    return "\n".join(told)


def _read(answer: ModelAnswer) -> _Verdict | str:
    """The verdict, or why there is none."""
    if answer.stop is Stop.LENGTH:
        return "it was cut off because it was too long"
    calls = [call for call in answer.turn.calls if call.name == "verdict"]
    if len(calls) != 1:
        return f"`verdict` was called {len(calls)} times"
    if calls[0].arguments is None:
        return "its arguments are not a JSON object"
    try:
        return _Verdict.model_validate(dict(calls[0].arguments))
    except ValidationError as error:
        wrong = error.errors()[0]
        return f"`{'.'.join(map(str, wrong['loc']))}`: {wrong['msg']}"


def _once_more(turn: AssistantTurn, why: str) -> list[Turn]:
    text = prompt.load("second_look_again").format(why=why)
    said: list[Turn] = [turn] if turn.text or turn.calls or turn.opaque is not None else []
    if turn.calls:
        return [*said, ToolTurn(tuple(ToolResult(call.id, text, is_error=True) for call in turn.calls))]
    return [*said, UserTurn(text)]


def _verdict(said: _Verdict, found: Sequence[str], spending: Spending) -> Verdict:
    """A verdict that contradicts itself counts as its worse half."""
    problems = [
        f"{kind}: {_sentence(one)}" for field, kind in _KINDS for one in getattr(said, field) if one.strip()
    ]
    if not said.does_what_was_asked and not said.missing:
        problems.insert(0, "Missing: the second look says that the change does not do what was asked.")
    return Verdict(
        said.does_what_was_asked and not any(one.strip() for one in said.missing),
        (*found, *problems[:MAX_PROBLEMS]),
        spending=spending,
    )


def _sentence(text: str) -> str:
    return " ".join(clean(text).split())[:MAX_PROBLEM_CHARACTERS]
