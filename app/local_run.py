"""A request on a local git repository: the line from a commit to a checked change, with no GitHub and no service.

It starts from HEAD as it is committed and hands back a change; only vectors and encrypted places are kept, as for a
search (`app/local.py`). It publishes nothing, and what a folder holds uncommitted is neither seen nor written over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from app.agent.budget import Budget, Limits
from app.agent.chain import Chain
from app.change.diff import unified
from app.errors import DefectError, UserError
from app.local import NOBODY, folder_index
from app.making import Desk, make
from app.nouns import (
    Action,
    Change,
    ChecksReport,
    FileEdit,
    ModelAnswer,
    Patch,
    Repository,
    Request,
    RoomLimits,
    Spending,
    Tree,
)
from app.ports import Model, Room
from app.pulls.wording import Stage
from app.repofile import DEFAULT, PATH, RepoFile, parse
from app.settings import Settings
from app.wiring import filled, open_sandbox
from app.workspace.tree import REGULAR
from embeddings.embed import Encoder
from infra.git_folder import CommittedTree, GitFolder, committed, find
from infra.models.choose import OpenModels, default_spec, specs
from infra.work_tree import apply

Tell = Callable[[str], None]


class NoModelError(UserError):
    """No model is configured: set ANTHROPIC_API_KEY or OPENAI_API_KEY, and MAGICODE_MODEL or --model to choose one."""


class SwitchedOffError(UserError):
    """`.github/magicode.yml` says `enabled: false`, so nothing is done in this repository."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`model` is `provider:NAME`, or several with commas between; empty: what the repository's file, the settings or the
    keys at hand say. `up_to` are dollars, `checks` False runs none of the repository's own.
    """

    folder: Path
    text: str
    model: str = ""
    up_to: Decimal | None = None
    checks: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it: edits, or an answer in words (and then no edits), which may be a question (`asks`). `base` is the
    commit that it was made from."""

    root: Path
    base: str
    edits: tuple[FileEdit, ...] = ()
    title: str = ""
    summary: str = ""
    checked_how: str = ""
    answer: str | None = None
    asks: bool = False
    checks: ChecksReport | None = None
    concerns: tuple[str, ...] = ()
    added_lines: int = 0
    removed_lines: int = 0

    @property
    def patch(self) -> bytes:
        """What `git apply` takes, in the repository's top folder."""
        return unified(self.edits)

    def apply(self) -> None:
        """Write it into the work tree. Raises infra.work_tree.InTheWayError; then nothing was written."""
        apply(self.root, self.edits)


@dataclass(slots=True)
class Tally:
    """What a request has cost so far, also where it ends early."""

    _budget: Budget = field(default_factory=lambda: Budget(Limits(), time.monotonic))

    @property
    def spending(self) -> Spending:
        return self._budget.spending

    def charge(self, answer: ModelAnswer) -> None:
        self._budget.charge(answer)


def silent(_said: str) -> None:
    """Nobody listens."""


async def run(
    read: Settings,
    environ: Mapping[str, str],
    asked: Asked,
    *,
    tell: Tell = silent,
    tally: Tally | None = None,
    model: Model | None = None,
    encoder: Encoder | None = None,
) -> Made:
    """Play the request. `tell` hears where it is, a line at a time; `model` is asked in the place of any other.

    Raises NoModelError, SwitchedOffError, infra.git_folder.NotARepositoryError, infra.models.choose.ModelSettingError,
    infra.qdrant.FolderInUseError, and what `app.making.make` raises.
    """
    given = read
    read, environ, _ = await filled(read, environ)
    found = await asyncio.to_thread(find, asked.folder)
    async with AsyncExitStack() as rooms:
        tree = await asyncio.to_thread(rooms.enter_context, committed(found))
        repofile = _repofile(tree)
        tell(f"At work in {found.root}, from commit {found.head[:12]}.")
        asks = _Teller(tell, tally or Tally())
        desk = Desk(
            request=_request(found, asked.text),
            workspace=tree,
            repofile=repofile,
            left_alone=(),
            base_tree=Tree(found.head, tuple(tree.all_entries())),
            rules=(),
            index=await rooms.enter_async_context(folder_index(read, found.root, encoder)),
            model=model or await _model(rooms, read, environ, asked, repofile),
            limits=_limits(read, repofile, asked.up_to),
            sandbox=open_sandbox(given) if asked.checks else _NoSandbox(),
            record=_untold,
            fence=_unfenced,
            on_call=asks.called,
            index_seconds=read.index_seconds,
            prune=True,
            at=asks.at,
        )
        return _made(found, await make(desk))


# --- what it is made with --------------------------------------------------------------------------------------------


def _repofile(tree: CommittedTree) -> RepoFile:
    """HEAD's. Raises SwitchedOffError, and UserError for a file that cannot be read: what it forbids is not known then."""
    entry = tree.entry(PATH)
    try:
        repofile = parse(tree.read(PATH)) if entry is not None and entry.mode in REGULAR else DEFAULT
    except KeyError:
        raise UserError(
            f"`{PATH}` is in the commit, and its content is not on this machine. Fetch it and ask again.",
            reason="repofile_unreadable",
        ) from None
    if not repofile.enabled:
        raise SwitchedOffError
    return repofile


def _request(found: GitFolder, text: str) -> Request:
    repository = Repository(
        id=NOBODY,
        owner="local",
        name=found.name,
        default_branch=found.branch or "HEAD",
        private=True,
        archived=False,
        disabled=False,
        has_issues=False,
        size_kb=0,
        html_url="",
    )
    return Request(
        repository=repository,
        number=0,
        title="",
        body=text,
        instructions=(),
        untrusted=(),
        base_ref=found.branch or "HEAD",
        base_sha=found.head,
    )


async def _model(
    rooms: AsyncExitStack, read: Settings, environ: Mapping[str, str], asked: Asked, repofile: RepoFile
) -> Model:
    named = specs(asked.model) or repofile.model or specs(read.model or default_spec(environ) or "")
    if not named:
        raise NoModelError
    opened = OpenModels(environ)
    rooms.push_async_callback(opened.close)
    return Chain(opened.chain(named))


def _limits(read: Settings, repofile: RepoFile, up_to: Decimal | None) -> Limits:
    caps = (read.max_cost_usd, repofile.max_cost_usd, up_to)
    return Limits(
        turns=read.max_turns,
        tokens=read.max_tokens,
        dollars=min(cap for cap in caps if cap is not None),
        seconds=float(read.max_seconds),
    )


class _NoSandbox:
    """For who wants no checks to be run."""

    async def why_not(self) -> str | None:
        return "`--no-checks` switched them off"

    def open(self, _limits: RoomLimits) -> AbstractAsyncContextManager[Room]:
        raise DefectError(reason="sandbox_unusable")


async def _untold(action: Action, actor: str = "magicode", **facts: object) -> None:
    """There is no action log where nothing is published."""


async def _unfenced() -> None:
    """Nobody takes such a request over; whoever wants to stop it ends the program."""


# --- what is told ----------------------------------------------------------------------------------------------------


class _Teller:
    """Says where the request is, and what it has cost by then."""

    def __init__(self, tell: Tell, tally: Tally) -> None:
        self._tell = tell
        self._tally = tally

    def at(self, stage: Stage) -> AbstractAsyncContextManager[None]:
        self._tell(f"{stage.value} …")
        return nullcontext()

    async def called(self, answer: ModelAnswer) -> None:
        self._tally.charge(answer)
        spent = self._tally.spending
        tools = ", ".join(dict.fromkeys(call.name for call in answer.turn.calls)) or "words"
        self._tell(f"  turn {spent.turns}: {tools} ({said(spent)})")


def _made(found: GitFolder, made: Change | Patch) -> Made:
    if isinstance(made, Patch):
        return Made(found.root, found.head, answer=made.answer or "", asks=made.asks)
    return Made(
        found.root,
        found.head,
        edits=made.edits,
        title=made.title,
        summary=made.summary,
        checked_how=made.checked_how,
        checks=made.checks,
        concerns=made.concerns,
        added_lines=made.added_lines,
        removed_lines=made.removed_lines,
    )


def said(spent: Spending) -> str:
    """What was spent, for people."""
    tokens = f"{spent.input_tokens + spent.output_tokens:,} tokens"
    if not spent.unpriced_calls:
        return f"{tokens}, ${spent.cost_usd:.4f}"
    if not spent.cost_usd:
        return f"{tokens}, no price is known for {spent.model}"
    return f"{tokens}, ${spent.cost_usd:.4f} and {spent.unpriced_calls} call(s) without a known price"
