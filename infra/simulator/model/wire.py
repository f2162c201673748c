"""What the two wire formats share: an error as the provider words it, a request once it is understood, an event."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from pydantic import ValidationError

from app.nouns import ModelRequest


class WireError(Exception):
    """The simulated provider refuses the request with this status and this body."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(status))
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the prompt as it is cached; `breakpoint` where the request asked for the cache to reach to here."""

    text: str
    breakpoint: bool


@dataclass(frozen=True, slots=True)
class Understood:
    """A valid request. `cache_key` is OpenAI's `prompt_cache_key`."""

    model: str
    stream: bool
    request: ModelRequest
    segments: tuple[Segment, ...]
    cache_key: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    data: Mapping[str, Any]

    def encode(self) -> bytes:
        return f"event: {self.name}\ndata: {json.dumps(self.data, ensure_ascii=False)}\n\n".encode()


def most_telling(error: ValidationError) -> tuple[str, str, tuple[str | int, ...]]:
    """Type, message and place of the error that reached deepest: of a union's variants, the one that was meant."""
    deepest = max(error.errors(), key=lambda one: len(one["loc"]))
    place = tuple(
        part for part in deepest["loc"] if isinstance(part, int) or not ("[" in part or part == "str")
    )
    return deepest["type"], deepest["msg"], place


def canonical(value: object) -> str:
    """The same text for the same JSON, without cache marks, which are no part of what is cached."""
    return json.dumps(_without_marks(value), sort_keys=True, ensure_ascii=False)


def _without_marks(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_marks(inner) for key, inner in value.items() if key != "cache_control"}
    if isinstance(value, list):
        return [_without_marks(inner) for inner in value]
    return value


def braided(strands: Sequence[Sequence[Event]]) -> Iterator[Event]:
    """One event of each in turns, until all are told."""
    for round_ in zip_longest(*strands):
        yield from (event for event in round_ if event is not None)


def with_novelties(events: Iterator[Event]) -> Iterator[Event]:
    """The same stream with an unknown field in every event and unknown events between: clients pass over both."""
    for number, event in enumerate(events):
        yield Event(event.name, {**event.data, "x_of_tomorrow": {"number": number}})
        yield Event("x.of_tomorrow", {"type": "x.of_tomorrow", "number": number})


def pieces(text: str, size: int = 24) -> list[str]:
    """The text as a stream brings it, in several parts."""
    return [text[start : start + size] for start in range(0, len(text), size)]
