"""The conversation with a model that turns a request into a patch. It has no other effect than asking the model.

Ends of a conversation are exception types: the model finished or answered (`tools`), or its work ended (`budget`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.agent import prompt
from app.agent.budget import Budget, EndedError, Limits
from app.agent.draft import Draft
from app.agent.tools import Answered, Finished, Toolbox
from app.nouns import (
    ModelAnswer,
    ModelRequest,
    Patch,
    Request,
    Snippet,
    Stop,
    ToolResult,
    ToolTurn,
    Turn,
    UserTurn,
)
from app.ports import Fence, Model, Search, Workspace

_CUT_OFFS = 3
_REPEATS = 3
_KEPT_TURNS = 8
_SMALL = 400


async def propose(
    request: Request,
    workspace: Workspace,
    snippets: Sequence[Snippet],
    *,
    model: Model,
    search: Search,
    limits: Limits,
    instructions: Sequence[tuple[str, str]] = (),
    fence: Fence,
    on_call: Callable[[ModelAnswer], Awaitable[None]],
    monotonic: Callable[[], float] = time.monotonic,
) -> Patch:
    """Lets the model work until it finishes or answers.

    `instructions` are (path, text) of the repository's instruction files; `fence` is awaited before each model call;
    `on_call` after each, before anything it asked for is done. Raises EndedError (a RefusedError with the spending) for
    a spent budget, a refusal of the model, or a model that is stuck; lets through what the model and the fence raise.
    """
    draft = Draft(workspace)
    tools = Toolbox(workspace, draft, search)
    tools.saw(prompt.snippet_blocks(snippets, workspace)[1])
    budget = Budget(limits, monotonic)
    turns: list[Turn] = [UserTurn(prompt.opening(request, workspace, snippets, instructions))]
    conversation = _Conversation(tools, budget)
    try:
        while True:
            budget.check()
            await fence()
            asked = ModelRequest(prompt.load("system"), tuple(turns), tools.specs, budget.output_tokens)
            answer = await _ask(model, asked, budget)
            budget.charge(answer)
            await on_call(answer)
            if answer.turn.text or answer.turn.calls or answer.turn.opaque is not None:
                turns.append(answer.turn)
            turns.append(await conversation.reply(answer))
            if answer.usage.input_tokens > limits.prompt_tokens:
                turns = shed(turns)
    except Finished as end:
        words, edits = end.words, draft.edits()
        title = " ".join(words.title.split())
        return Patch(edits, title, words.summary, words.checked_how, tools.looked_at, budget.spending)
    except Answered as end:
        return Patch((), "", "", "", tools.looked_at, budget.spending, answer=end.text)


async def _ask(model: Model, request: ModelRequest, budget: Budget) -> ModelAnswer:
    try:
        async with asyncio.timeout(max(0.0, budget.seconds_left)) as limit:
            return await model.answer(request)
    except TimeoutError as error:
        if limit.expired():
            raise budget.ended("time") from error
        raise


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
        self._cut_offs = 0
        self._last: tuple[str, ...] = ()
        self._repeats = 0

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
        if self._repeated(answer):
            return self._instead(answer, prompt.load("repeated"))
        return self._with_warning(ToolTurn(tuple(await self._tools.run(answer.turn.calls))))

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
            return self._with_warning(UserTurn(prompt.load("nudge")))
        if text.strip():
            raise Answered(text.strip())
        raise self._ended(
            "model_silent", "The model ended without a change or an answer. Ask again, more exactly."
        )

    def _repeated(self, answer: ModelAnswer) -> bool:
        """True when this turn's calls are the third in a row; the fourth ends the work."""
        calls = tuple(
            f"{c.name} {json.dumps(c.arguments, sort_keys=True, default=str)} {c.raw}"
            for c in answer.turn.calls
        )
        self._repeats = self._repeats + 1 if calls == self._last else 1
        self._last = calls
        if self._repeats > _REPEATS:
            raise self._ended(
                "stuck", "The model kept repeating itself. Say more exactly what to change and where."
            )
        return self._repeats == _REPEATS

    def _instead(self, answer: ModelAnswer, text: str) -> Turn:
        if not answer.turn.calls:
            return self._with_warning(UserTurn(text))
        results = tuple(ToolResult(call.id, text, is_error=True) for call in answer.turn.calls)
        return self._with_warning(ToolTurn(results))

    def _with_warning(self, turn: UserTurn | ToolTurn) -> Turn:
        """Adds, once, that most of a limit is used: to the last text, so that every provider takes it."""
        name = None if self._warned else self._budget.wrap_up()
        if name is None:
            return turn
        self._warned = True
        note = "\n\n" + prompt.load("wrap_up").format(limit=name)
        if isinstance(turn, UserTurn):
            return UserTurn(turn.text + note)
        *rest, last = turn.results
        return ToolTurn((*rest, replace(last, text=last.text + note)))

    def _ended(self, reason: str, message: str) -> EndedError:
        return EndedError(message, reason=reason, spending=self._budget.spending)
