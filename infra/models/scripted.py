"""A Model that plays a playbook in this process: deterministic, instant, no network and no key. Not an AI."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from app.errors import TransientError
from app.nouns import AssistantTurn, ModelAnswer, ModelRequest, ToolCall, Usage
from infra.models.playbook import PLAYBOOK_MODEL, Play, Playbook, output_tokens, play, prompt_texts, tokens
from infra.models.prices import PRICES, Prices, cost
from infra.models.retry import PATIENCE, Patience, with_retries
from infra.models.wire import parse_object

# Providers cache nothing shorter: https://platform.claude.com/docs/en/build-with-claude/prompt-caching
SHORTEST_CACHED = 1024


class ScriptedModel:
    """Plays `playbook`. `answer` raises NoTurnError (an InvalidError) for a request that the playbook does not foresee.

    Overloads and lost connections of the playbook are retried as the adapters do, but nothing waits: a turn that
    outlasts the tries is a TransientError, and so is one that is slower than the patience allows.
    """

    def __init__(
        self,
        playbook: Playbook,
        name: str = PLAYBOOK_MODEL,
        *,
        prices: Prices = PRICES,
        patience: Patience = PATIENCE,
    ) -> None:
        self._playbook = playbook
        self._name = name
        self._prices = prices
        self._patience = patience

    @property
    def provider(self) -> str:
        return "scripted"

    @property
    def name(self) -> str:
        return self._name

    async def close(self) -> None:
        """Nothing is held open."""

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        tries = iter(range(self._patience.tries))

        async def attempt() -> Play:
            played = play(self._playbook, request)
            self._stumble(played, next(tries))
            return played

        played = await with_retries(attempt, self._patience, sleep=_no_wait)
        usage = _usage(played, request)
        return ModelAnswer(
            turn=AssistantTurn(
                played.say,
                tuple(_call(one.id, one.tool, one.arguments) for one in played.calls),
                maker=f"{self.provider}:{self._name}",
            ),
            stop=played.stop,
            usage=usage,
            model=self._name,
            cost_usd=cost(self._name, usage, self._prices),
        )

    def _stumble(self, played: Play, earlier: int) -> None:
        if played.overload is not None and earlier < played.overload.times:
            seconds = played.overload.retry_after_seconds
            raise TransientError(
                reason="model_overloaded", retry_after=None if seconds is None else timedelta(seconds=seconds)
            )
        if played.disconnect is not None and earlier < played.disconnect.times:
            raise TransientError(reason="model_unreachable")
        broken = played.broken
        if broken is not None and earlier < broken.times:
            raise TransientError(
                reason="model_unavailable" if broken.kind == "failing" else "model_overloaded"
            )
        slow = played.slow
        if slow is not None and earlier < slow.times and slow.seconds > self._patience.between_chunks_seconds:
            raise TransientError(reason="model_timeout")


async def _no_wait(_seconds: float) -> None:
    await asyncio.sleep(0)


def _call(call_id: str, tool: str, raw: str) -> ToolCall:
    arguments = parse_object(raw)
    return ToolCall(call_id, tool, arguments, raw=raw if arguments is None else "")


def _usage(played: Play, request: ModelRequest) -> Usage:
    """As a provider would count: what the last request already held comes from the cache, if it is long enough."""
    if played.usage is not None:
        planned = played.usage
        return Usage(
            planned.input_tokens, planned.cached_tokens, planned.cache_write_tokens, planned.output_tokens
        )
    counts = [tokens(text) for text in prompt_texts(request)]
    total = sum(counts)
    newest = counts[-1:] if played.position == 0 else counts[-2:]
    earlier = total - sum(newest) if played.position else 0
    cached = earlier if earlier >= SHORTEST_CACHED else 0
    written = total - cached if total >= SHORTEST_CACHED else 0
    return Usage(total, cached, written, output_tokens(played))
