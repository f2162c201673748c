"""The simulated caches by themselves, and serving a playbook file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from infra.models.playbook import PlaybookError
from infra.simulator.model.cache import LOOKBACK, PromptCache
from infra.simulator.model.serve import serve
from infra.simulator.model.wire import Segment

BLOCK = "x" * 4096  # 1,024 tokens


def blocks(count: int, *marked: int) -> list[Segment]:
    return [Segment(f"{number:04}{BLOCK}", number in marked) for number in range(count)]


def test_an_entry_is_found_within_the_blocks_before_a_breakpoint_and_not_beyond() -> None:
    cache = PromptCache()
    first = cache.anthropic(blocks(1, 0), output=1)
    assert (first.cached_tokens, first.cache_write_tokens) == (0, first.input_tokens)
    near = cache.anthropic(blocks(LOOKBACK, LOOKBACK - 1), output=1)
    assert near.cached_tokens == first.input_tokens
    fresh = PromptCache()
    fresh.anthropic(blocks(1, 0), output=1)
    assert fresh.anthropic(blocks(LOOKBACK + 1, LOOKBACK), output=1).cached_tokens == 0


def test_what_comes_after_the_last_breakpoint_is_neither_written_nor_read() -> None:
    cache = PromptCache()
    usage = cache.anthropic(blocks(3, 1), output=1)
    assert usage.cache_write_tokens == usage.input_tokens * 2 // 3
    again = cache.anthropic(blocks(3, 1), output=1)
    assert (again.cached_tokens, again.cache_write_tokens) == (usage.cache_write_tokens, 0)


def test_a_short_prefix_is_not_cached() -> None:
    cache = PromptCache()
    short = [Segment("short", breakpoint=True)]
    assert cache.anthropic(short, output=1).cache_write_tokens == 0
    assert cache.anthropic(short, output=1).cached_tokens == 0


async def test_a_file_is_served_until_it_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "playbook.yml"
    path.write_text("scenarios: [{name: s, turns: [{say: Hello.}]}]")
    announced: asyncio.Queue[str] = asyncio.Queue()
    serving = asyncio.create_task(serve(path, announced.put_nowait))
    base_url = await asyncio.wait_for(announced.get(), 10)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{base_url}/_simulator/requests")).json() == []
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_a_file_with_a_mistake_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "playbook.yml"
    path.write_text("scenes: []")
    with pytest.raises(PlaybookError, match="scenes"):
        await serve(path, lambda _: None)
