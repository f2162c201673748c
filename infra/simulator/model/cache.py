"""The providers' prompt caches, so that the share of a conversation that is read from the cache can be measured.

Simpler than theirs in two ways: nothing expires, and tokens are counted as four bytes each.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Sequence

from app.nouns import Usage
from infra.models.playbook import tokens
from infra.simulator.model.wire import Segment

SHORTEST = 1024  # tokens; neither provider caches a shorter prefix
STEP = 128  # OpenAI's cached prefixes grow in such steps
LOOKBACK = 20  # blocks before a breakpoint in which Anthropic looks for an earlier entry
REMEMBERED = 64  # prompts kept for each of OpenAI's cache keys


class PromptCache:
    """Remembers prefixes by hash (Anthropic) and prompts by cache key (OpenAI), in memory, while the simulator runs."""

    def __init__(self) -> None:
        self._prefixes: set[str] = set()
        self._prompts: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def anthropic(self, segments: Sequence[Segment], output: int) -> Usage:
        """Entries are written at breakpoints and found at them or up to 20 blocks before.

        https://platform.claude.com/docs/en/build-with-claude/prompt-caching
        """
        hashes, reach = _running(segments)
        marks = [index for index, segment in enumerate(segments) if segment.breakpoint]
        read = 0
        for mark in marks:
            for index in range(mark, max(-1, mark - LOOKBACK), -1):
                if hashes[index] in self._prefixes:
                    read = max(read, reach[index])
                    break
        last = reach[marks[-1]] if marks else 0
        written = max(0, last - read) if last >= SHORTEST else 0
        self._prefixes.update(hashes[mark] for mark in marks if reach[mark] >= SHORTEST)
        return Usage(reach[-1] if reach else 0, read, written, output)

    def openai(self, key: str, segments: Sequence[Segment], output: int) -> Usage:
        """The longest common prefix with an earlier prompt of the same key, in steps of 128 from 1,024 tokens on.

        https://developers.openai.com/api/docs/guides/prompt-caching
        """
        prompt = "\x1e".join(segment.text for segment in segments)
        total = sum(tokens(segment.text) for segment in segments)
        seen = self._prompts[key]
        shared = max((tokens(prompt[: _shared(prompt, earlier)]) for earlier in seen), default=0)
        cached = _stepped(min(shared, total))
        seen.append(prompt)
        return Usage(total, cached, max(0, _stepped(total) - cached), output)


def _shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike, found by halving: comparing slices is what Python is fast at."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _stepped(count: int) -> int:
    return count // STEP * STEP if count >= SHORTEST else 0


def _running(segments: Sequence[Segment]) -> tuple[list[str], list[int]]:
    """For each segment: the hash of all up to here, and the tokens up to here."""
    digest, count = hashlib.sha256(), 0
    hashes, reach = [], []
    for segment in segments:
        digest.update(segment.text.encode("utf-8", "surrogatepass") + b"\x1e")
        count += tokens(segment.text)
        hashes.append(digest.hexdigest())
        reach.append(count)
    return hashes, reach
