"""The conversation with a model that turns a request into a patch. It has no other effect than asking the model.

Ends of a conversation are exception types: the model finished, planned or answered (`tools`), or its work ended (`budget`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.agent import prompt
from app.agent.asking import Asking, watched
from app.agent.budget import Budget, EndedError, Limits
from app.agent.chain import edit_form
from app.agent.cleaning import visible
from app.agent.draft import Draft
from app.agent.prompt import Material, Mode
from app.agent.stuck import REPEATS, Repetition
from app.agent.tools import HANDED_IN, Answered, Ended, Finished, Planned, Toolbox
from app.errors import DefectError
from app.nouns import (
    ModelAnswer,
    ModelRequest,
    Patch,
    Spending,
    Stop,
    ToolResult,
    ToolTurn,
    Turn,
    UserTurn,
)
from app.ports import Fence, Model, RunChecks, Search

__all__ = ["Author", "Material", "Mode"]

_CUT_OFFS = 3
_KEPT_TURNS = 8
_SMALL = 400
_MOST_FINDINGS = 40_000


class Author:
    """One conversation about one request. Its budget is spent by `propose` and `mend` together.

    `fence` is awaited before each model call, and while checks run; `on_call` for each answer that was paid for, before
    anything that it asked for is done. `checks` None: nothing can be run.
    """

    def __init__(
        self,
        material: Material,
        *,
        model: Model,
        search: Search,
        limits: Limits,
        fence: Fence,
        on_call: Callable[[ModelAnswer], Awaitable[None]],
        mode: Mode = Mode.CHANGE,
        checks: RunChecks | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        request, workspace = material.request, material.workspace
        self._limits = limits
        self._budget = Budget(limits, monotonic)
        self._asking = Asking(model, self._budget, fence, on_call)
        self._draft = Draft(workspace)
        checked = None if checks is None else watched(checks, self._budget, fence)
        self._tools = Toolbox(
            workspace,
            self._draft,
            search,
            mode=mode,
            checks=checked,
            threads=request.threads,
            apply_patch=edit_form(model) == "apply_patch",
        )
        self._tools.saw(prompt.snippet_blocks(material.snippets, workspace)[1])
        self._rules = prompt.rules(mode, with_checks=checks is not None)
        self._turns: list[Turn] = [UserTurn(prompt.opening(material))]
        self._handed_in: tuple[ToolResult, ...] = ()

    async def propose(self) -> Patch:
        """Lets the model work until it hands in a change or a plan, or answers.

        Raises EndedError (a RefusedError with the spending) for a spent budget, a refusal of the model, or a model that is
        stuck; lets through what the model and the fence raise.
        """
        return await self._work()

    async def mend(self, problems: Sequence[str]) -> Patch:
        """The same conversation goes on, told what is wrong with the change that was handed in. Raises as `propose`."""
        if not self._handed_in:
            raise DefectError("There is no change that could be mended.", reason="nothing_to_mend")
        self._turns.append(ToolTurn(_told_of(problems, self._handed_in)))
        self._handed_in = ()
        return await self._work()

    @property
    def spending(self) -> Spending:
        """All that this budget was charged with, other conversations that share it included."""
        return self._budget.spending

    def left(self) -> Limits:
        """What a conversation that shares this budget may use."""
        return self._budget.left()

    async def account(self, answer: ModelAnswer) -> None:
        """Charges this budget with a call of another conversation: the `on_call` of one that shares it."""
        await self._asking.account(answer)

    async def _work(self) -> Patch:
        conversation = _Conversation(self._tools, self._budget)
        try:
            while True:
                answer = await self._asking.ask(self._request())
                if answer.turn.text or answer.turn.calls or answer.turn.opaque is not None:
                    self._turns.append(answer.turn)
                self._turns.append(await conversation.reply(answer))
                if answer.usage.input_tokens > self._limits.prompt_tokens:
                    self._turns = shed(self._turns)
        except Ended as end:
            self._handed_in = end.results if isinstance(end, Finished) else ()
            return self._patch(end)

    def _request(self) -> ModelRequest:
        return ModelRequest(self._rules, tuple(self._turns), self._tools.specs, self._budget.output_tokens)

    def _patch(self, end: Ended) -> Patch:
        patch = Patch((), "", "", "", self._tools.looked_at, self.spending, replies=self._tools.replies)
        if isinstance(end, Finished):
            words, edits = end.words, self._draft.edits()
            title = " ".join(words.title.split())
            return replace(
                patch, edits=edits, title=title, summary=words.summary, checked_how=words.checked_how
            )
        if isinstance(end, Planned):
            return replace(patch, plan=end.plan)
        assert isinstance(end, Answered)
        return replace(patch, answer=end.text, asks=end.asks)


def _told_of(problems: Sequence[str], handed_in: Sequence[ToolResult]) -> tuple[ToolResult, ...]:
    """What is wrong, as the result of the call that handed the change in."""
    most = _MOST_FINDINGS // max(len(problems), 1)
    listed = "\n".join(f"- {prompt.trim(visible(one), most)}" for one in problems)
    text = f"{prompt.load('mend')}\n\n{prompt.block('findings', listed)}"
    return tuple(
        replace(one, text=text) if one.text == HANDED_IN and not one.is_error else one for one in handed_in
    )


def shed(turns: Sequence[Turn]) -> list[Turn]:
    """The same turns with the long tool results of all but the last few left out, so that the prompt has room."""
    note = prompt.load("shed")

    def without(turn: Turn) -> Turn:
        if not isinstance(turn, ToolTurn):
            return turn
        return ToolTurn(tuple(r if len(r.text) <= _SMALL else replace(r, text=note) for r in turn.results))

    return [*(without(turn) for turn in turns[:-_KEPT_TURNS]), *turns[-_KEPT_TURNS:]]


class _Conversation:
    """What is said back to the model after each of its answers."""

    def __init__(self, tools: Toolbox, budget: Budget) -> None:
        self._tools = tools
        self._budget = budget
        self._nudged = False
        self._warned = False
        self._told_of_undoing = False
        self._cut_offs = 0
        self._repetition = Repetition()

    async def reply(self, answer: ModelAnswer) -> Turn:
        if answer.stop is Stop.REFUSAL:
            raise self._ended(
                "model_refused", "The model declined to work on this request. Put it in other words."
            )
        if answer.stop is Stop.LENGTH:
            return self._cut_off(answer)
        self._cut_offs = 0
        if not answer.turn.calls:
            return self._nudge(answer.turn.text)
        times = self._repetition.made(answer.turn.calls)
        if times >= REPEATS:
            if times > REPEATS:
                raise self._stuck("repeating itself")
            return self._instead(answer, prompt.load("repeated"))
        results = tuple(await self._tools.run(answer.turn.calls))
        return self._with_warning(ToolTurn(self._not_in_circles(results)))

    def _cut_off(self, answer: ModelAnswer) -> Turn:
        self._cut_offs += 1
        if self._cut_offs == _CUT_OFFS:
            raise self._ended(
                "model_cut_off", "The model's answers were too long to be used. Ask for a smaller step."
            )
        return self._instead(answer, prompt.load("cut_off"))

    def _nudge(self, text: str) -> Turn:
        if not self._nudged:
            self._nudged = True
            return self._with_warning(UserTurn(prompt.load("nudge").format(ends=self._tools.ends)))
        if text.strip():
            raise Answered(text.strip())
        raise self._ended(
            "model_silent", "The model ended without a change or an answer. Ask again, more exactly."
        )

    def _not_in_circles(self, results: tuple[ToolResult, ...]) -> tuple[ToolResult, ...]:
        """Told once that its edits undo each other, the model is ended when they do so again."""
        if not self._tools.undoing:
            return results
        if self._told_of_undoing:
            raise self._stuck("undoing its own edits")
        self._told_of_undoing = True
        return _with_note(results, prompt.load("undoing"))

    def _instead(self, answer: ModelAnswer, text: str) -> Turn:
        if not answer.turn.calls:
            return self._with_warning(UserTurn(text))
        results = tuple(ToolResult(call.id, text, is_error=True) for call in answer.turn.calls)
        return self._with_warning(ToolTurn(results))

    def _with_warning(self, turn: UserTurn | ToolTurn) -> Turn:
        """Adds, once, that most of a limit is used."""
        name = None if self._warned else self._budget.wrap_up()
        if name is None:
            return turn
        self._warned = True
        note = prompt.load("wrap_up").format(limit=name, ends=self._tools.ends)
        if isinstance(turn, UserTurn):
            return UserTurn(f"{turn.text}\n\n{note}")
        return ToolTurn(_with_note(turn.results, note))

    def _stuck(self, doing: str) -> EndedError:
        return self._ended("stuck", f"The model kept {doing}. Say more exactly what to change and where.")

    def _ended(self, reason: str, message: str) -> EndedError:
        return EndedError(message, reason=reason, spending=self._budget.spending)


def _with_note(results: Sequence[ToolResult], note: str) -> tuple[ToolResult, ...]:
    """The note stands in the last text, so that every provider takes it."""
    *rest, last = results
    return (*rest, replace(last, text=f"{last.text}\n\n{note}"))
