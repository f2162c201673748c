"""Fakes that satisfy the ports: a tree in memory, a search with fixed places, a model that plays a list of turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from app.agent import Limits
from app.agent.loop import Author, Material
from app.nouns import (
    AssistantTurn,
    ChecksReport,
    FileEdit,
    ModelAnswer,
    ModelRequest,
    Patch,
    Repository,
    Request,
    Snippet,
    Stop,
    ToolCall,
    ToolResult,
    ToolTurn,
    Usage,
    UserTurn,
)
from tests.app.tree import Tree


@dataclass
class Places:
    """A Search that gives the same places for every question, and remembers what it was asked."""

    snippets: Sequence[Snippet] = ()
    asked: list[tuple[str, int]] = field(default_factory=list)

    async def __call__(self, question: str, limit: int) -> Sequence[Snippet]:
        self.asked.append((question, limit))
        return self.snippets[:limit]


@dataclass
class Checks:
    """RunChecks that give these reports in turn, the last one for ever, and remember which edits they saw."""

    reports: Sequence[ChecksReport] = (ChecksReport(not_run="no sandbox is here"),)
    saw: list[Sequence[FileEdit]] = field(default_factory=list)

    async def __call__(self, edits: Sequence[FileEdit]) -> ChecksReport:
        self.saw.append(tuple(edits))
        return self.reports[min(len(self.saw), len(self.reports)) - 1]


def says(
    *calls: tuple[str, Mapping[str, object] | None],
    text: str = "",
    stop: Stop | None = None,
    tokens: int = 100,
    cost: Decimal | None = Decimal("0.01"),
) -> ModelAnswer:
    """One answer of a model, made of tool calls (name, arguments)."""
    made = tuple(
        ToolCall(f"call-{i}", name, arguments, "{broken" if arguments is None else "")
        for i, (name, arguments) in enumerate(calls)
    )
    ended = stop or (Stop.TOOLS if calls else Stop.END)
    return ModelAnswer(
        AssistantTurn(text, made), ended, Usage(tokens, tokens // 2, 0, 10), "scripted-1", cost
    )


def finishes(title: str = "Fix it") -> ModelAnswer:
    return says(("finish", {"title": title, "summary": "It was wrong.", "checked_how": "Read it."}))


class Script:
    """A Model that plays its answers in order and keeps every request. `during` runs inside each call."""

    def __init__(self, *answers: ModelAnswer, during: Callable[[], Any] | None = None) -> None:
        self._answers = itertools.chain(answers)
        self._during = during
        self.requests: list[ModelRequest] = []

    @property
    def provider(self) -> str:
        return "scripted"

    @property
    def name(self) -> str:
        return "scripted-1"

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.requests.append(request)
        if self._during is not None:
            await self._during()
        return next(self._answers)

    def results(self, turn: int = -1) -> tuple[ToolResult, ...]:
        """What the tools said, as the request number `turn` carried it."""
        last = self.requests[turn].turns[-1]
        assert isinstance(last, ToolTurn)
        return last.results

    def opening(self) -> str:
        first = self.requests[0].turns[0]
        assert isinstance(first, UserTurn)
        return first.text


REPOSITORY = Repository(
    1, "octo", "shop", "main", False, False, False, True, 10, "https://github.invalid/octo/shop"
)


def request(**changes: Any) -> Request:
    given: dict[str, Any] = {
        "repository": REPOSITORY, "number": 7, "title": "Total is wrong", "body": "The total ignores the discount.",
        "instructions": ("@magicode fix this",), "untrusted": (), "base_ref": "main", "base_sha": "a" * 40,
    }  # fmt: skip
    return Request(**(given | changes))


@dataclass
class Bench:
    """Runs a script over a tree and keeps what happened."""

    calls: list[ModelAnswer] = field(default_factory=list)
    fences: int = 0

    async def fence(self) -> None:
        self.fences += 1

    async def on_call(self, answer: ModelAnswer) -> None:
        self.calls.append(answer)

    async def run(
        self,
        tree: Tree,
        model: Script,
        *,
        limits: Limits | None = None,
        snippets: Sequence[Snippet] = (),
        search: Places | None = None,
        asked: Request | None = None,
        **rest: Any,
    ) -> Patch:
        author = self.author(
            tree, model, limits=limits, snippets=snippets, search=search, asked=asked, **rest
        )
        return await author.propose()

    def author(
        self,
        tree: Tree,
        model: Script,
        *,
        limits: Limits | None = None,
        snippets: Sequence[Snippet] = (),
        search: Places | None = None,
        asked: Request | None = None,
        **rest: Any,
    ) -> Author:
        return Author(
            Material(asked or request(), tree, snippets), model=model, search=search or Places(),
            limits=limits or Limits(), fence=rest.pop("fence", self.fence), on_call=self.on_call, **rest,
        )  # fmt: skip


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def kit() -> type[Kit]:
    return Kit


class Kit:
    """What test files use from here, since they cannot import each other."""

    Tree = Tree
    Places = Places
    Checks = Checks
    Script = Script
    says = staticmethod(says)
    finishes = staticmethod(finishes)
    request = staticmethod(request)
