"""How much of a run's prompts the providers' caches can give back, computed from the bytes that were sent.

The measure reads nothing but the requests, as the simulated provider received them, and knows the providers' rules:
https://platform.claude.com/docs/en/build-with-claude/prompt-caching
https://developers.openai.com/api/docs/guides/prompt-caching
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.agent import Limits, collect
from app.agent.loop import Author, Material
from app.nouns import (
    ModelAnswer,
    ModelRequest,
    Patch,
    Repository,
    Request,
    Snippet,
    ToolResult,
    ToolTurn,
    TreeEntry,
    UserTurn,
)
from app.ports import Model
from app.workspace.tree import SnapshotWorkspace, blob_sha
from infra.models.choose import OpenModels
from infra.models.playbook import PLAYBOOK_MODEL, Playbook
from infra.simulator.model.serve import environment, running

ROOT = Path(__file__).parents[3]
GOAL = 0.80

# --- the measure -----------------------------------------------------------------------------------------------------

SHORTEST = 1024  # tokens; no shorter prefix is cached by either provider
LONGEST_SHORTEST = 4096  # what some of Anthropic's models want
STEP = 128  # of OpenAI's models before gpt-5.6
LOOKBACK = 20  # blocks


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request in the order in which a cache sees it: the bytes of each block, and where the request asks for an entry.

    `apart` names what must be alike for two prompts to meet in a cache at all.
    """

    blocks: tuple[bytes, ...]
    marks: tuple[int, ...]
    apart: tuple[str, ...]

    @property
    def tokens(self) -> float:
        return sum(map(len, self.blocks)) / 4

    def up_to(self, block: int) -> bytes:
        return b"\x1e".join(self.blocks[: block + 1])


def read_prompt(raw: str) -> Prompt:
    body = json.loads(raw)
    return _anthropic(body) if "messages" in body else _openai(body)


def _anthropic(body: dict[str, Any]) -> Prompt:
    blocks: list[dict[str, Any]] = [*body.get("tools", ()), *body.get("system", ())]
    for message in body["messages"]:
        blocks += [{"role": message["role"], **block} for block in message["content"]]
    marks = tuple(index for index, block in enumerate(blocks) if block.pop("cache_control", None))
    return Prompt(tuple(map(_bytes, blocks)), marks, (body["model"],))


def _openai(body: dict[str, Any]) -> Prompt:
    blocks = [*body.get("tools", ()), body.get("instructions", ""), *body["input"]]
    return Prompt(
        tuple(map(_bytes, blocks)), (len(blocks) - 1,), (body["model"], body.get("prompt_cache_key", ""))
    )


def _bytes(block: object) -> bytes:
    """In the order in which the fields were sent: a client that shuffles them misses the cache."""
    return json.dumps(block, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def from_anthropics_cache(prompt: Prompt, before: Prompt, shortest: int = SHORTEST) -> float:
    """Tokens: from each breakpoint back over 20 blocks, the first place where the request before wrote an entry."""
    written = {before.up_to(mark) for mark in before.marks if len(before.up_to(mark)) / 4 >= shortest}
    found = 0.0
    for mark in prompt.marks:
        for block in range(mark, max(-1, mark - LOOKBACK), -1):
            if prompt.up_to(block) in written:
                found = max(found, sum(map(len, prompt.blocks[: block + 1])) / 4)
                break
    return found


def from_openais_cache(prompt: Prompt, before: Prompt) -> float:
    """Tokens by the rule that gives less: all of the request before, as from gpt-5.6 on, or steps of 128 tokens."""
    whole = before.up_to(len(before.blocks) - 1)
    if before.tokens < SHORTEST or prompt.up_to(len(before.blocks) - 1) != whole:
        return 0.0
    return float(before.tokens // STEP * STEP)


def shares(raws: Sequence[str], shortest: int = SHORTEST) -> tuple[float, list[float]]:
    """The share of all input tokens that came from a cache, and each request's own. The first finds none."""
    prompts = [read_prompt(raw) for raw in raws]
    cached = [0.0]
    for before, prompt in pairwise(prompts):
        if prompt.apart != before.apart:
            cached.append(0.0)
        elif len(prompt.apart) == 1:
            cached.append(from_anthropics_cache(prompt, before, shortest))
        else:
            cached.append(from_openais_cache(prompt, before))
    total = sum(prompt.tokens for prompt in prompts)
    return sum(cached) / total, [one / prompt.tokens for one, prompt in zip(cached, prompts, strict=True)]


# --- a run of ten turns ----------------------------------------------------------------------------------------------


def workspace(folder: Path, blobs: Path) -> SnapshotWorkspace:
    """The files of a folder as a commit's tree, as a run has it."""
    held: dict[str, int] = {}
    entries = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or "__pycache__" in path.parts:
            continue
        content = path.read_bytes()
        (blobs / blob_sha(content)).write_bytes(content)
        held[blob_sha(content)] = len(content)
        entries.append(
            TreeEntry(path.relative_to(folder).as_posix(), "100644", blob_sha(content), len(content))
        )
    return SnapshotWorkspace("a" * 40, blobs, entries, held, [])


def turns(paths: Sequence[str]) -> list[dict[str, Any]]:
    """What a model does with a request: looks around, reads, writes a file, reads again, hands in."""

    def read(number: int, **lines: int) -> dict[str, Any]:
        return {"tool": "read", "arguments": {"path": paths[number % len(paths)], **lines}}

    def thinking(*calls: dict[str, Any]) -> dict[str, Any]:
        return {"thinks": "What is this made of?", "say": "I look at the next part.", "calls": list(calls)}

    new = {"tool": "create", "arguments": {"path": "notes/why.md", "text": "Because.\n" * 20}}
    done = {"title": "Say why", "summary": "It was not said.", "checked_how": "Read it."}
    return [
        thinking({"tool": "list", "arguments": {}}, {"tool": "grep", "arguments": {"pattern": "def "}}),
        thinking(read(0, start_line=1, end_line=80)),
        thinking(read(1, start_line=1, end_line=60), read(2, start_line=1, end_line=60)),
        thinking({"tool": "grep", "arguments": {"pattern": "import"}}),
        thinking(read(3, start_line=1, end_line=80)),
        thinking(read(0, start_line=80, end_line=160)),
        thinking(new),
        thinking({"tool": "read", "arguments": {"path": "notes/why.md"}}),
        thinking({"tool": "search", "arguments": {"question": "where is it said why"}}),
        {"calls": [{"tool": "finish", "arguments": done}]},
    ]


@dataclass(frozen=True, slots=True)
class Played:
    patch: Patch
    calls: list[ModelAnswer]
    raws: list[str]
    told: list[dict[str, int]]


async def play(
    folder: Path, blobs: Path, wire: str, wrap: Callable[[Model], Model] = lambda model: model
) -> Played:
    """The agent's own loop over the folder, with a scripted model on the wire; and what the wire was sent."""
    tree = workspace(folder, blobs)
    paths = [entry.path for entry in tree.entries() if entry.path.endswith(".py")]
    paths.sort(key=lambda path: -len(tree.read(path)))
    places = [Snippet(path, 1, 60, "", 1.0) for path in paths[:4]]
    calls: list[ModelAnswer] = []

    async def search(_question: str, limit: int) -> Sequence[Snippet]:
        return places[:limit]

    async def fence() -> None:
        return None

    async def on_call(answer: ModelAnswer) -> None:
        calls.append(answer)

    outline = "\n".join(f"{entry.path}: {entry.size}" for entry in tree.entries())
    instructions = list(collect(tree)) or [("AGENTS.md", "Write plainly. " * 60)]
    material = Material(ASKED, tree, places, instructions, outline)
    playbook = Playbook.model_validate({"scenarios": [{"name": "s", "turns": turns(paths)}]})
    async with running(playbook) as base_url:
        models = OpenModels(environment(base_url))
        (model,) = models.chain([f"{wire}:{PLAYBOOK_MODEL}"])
        author = Author(
            material, model=wrap(model), search=search, limits=Limits(), fence=fence, on_call=on_call
        )
        patch = await author.propose()
        sent = await requests_at(base_url)
        await models.close()
    return Played(patch, calls, [one["raw"] for one in sent], [one["usage"] for one in sent])


async def requests_at(base_url: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        sent: list[dict[str, Any]] = (await client.get(f"{base_url}/_simulator/requests")).json()
        return sent


ASKED = Request(
    Repository(1, "o", "r", "main", False, False, False, True, 1, "https://github.invalid/o/r"),
    7, "Say why", "Nothing says why it is so. It ought to be said somewhere. " * 5, ("@magicode fix this",), (), "main",
    "a" * 40,
)  # fmt: skip

FOLDERS = {"a package of 48 kB": ROOT / "webhooks", "a tiny one": ROOT / "infra" / "simulator" / "sample"}


@pytest.mark.parametrize("folder", FOLDERS.values(), ids=list(FOLDERS))
@pytest.mark.parametrize("wire", ["anthropic", "openai"])
async def test_in_a_run_of_ten_turns_at_least_80_percent_of_the_input_comes_from_the_cache(
    wire: str, folder: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    played = await play(folder, tmp_path, wire)
    assert [edit.path for edit in played.patch.edits] == ["notes/why.md"]
    assert len(played.raws) == 10
    share, each = shares(played.raws)
    record_property("share", share)
    assert share >= GOAL
    assert each[0] == 0.0
    # The simulated provider counts by itself, and tells the adapter, which tells the budget.
    assert sum(one["cached_tokens"] for one in played.told) >= GOAL * sum(
        one["input_tokens"] for one in played.told
    )
    for told, own in zip(played.told, each, strict=True):
        assert told["cached_tokens"] / told["input_tokens"] == pytest.approx(own, abs=0.03)
    assert [answer.usage.cached_tokens for answer in played.calls] == [
        one["cached_tokens"] for one in played.told
    ]


async def test_anthropics_models_that_cache_only_long_prompts_do_so_too(tmp_path: Path) -> None:
    played = await play(FOLDERS["a package of 48 kB"], tmp_path, "anthropic")
    assert shares(played.raws, LONGEST_SHORTEST)[0] >= GOAL


async def test_a_turn_of_many_calls_is_found_again_although_more_than_20_blocks_came_between() -> None:
    calls = [{"tool": "read", "arguments": {"path": f"{number}.py"}} for number in range(16)]
    playbook = Playbook.model_validate(
        {"scenarios": [{"name": "s", "turns": [{"calls": calls, "repeat": 3}]}]}
    )
    turns: list[Any] = [UserTurn("Read it all. " * 600)]
    async with running(playbook) as base_url:
        models = OpenModels(environment(base_url))
        model = models.one(f"anthropic:{PLAYBOOK_MODEL}")
        for _ in range(3):
            answer = await model.answer(ModelRequest("rules", tuple(turns), (), 1000))
            results = tuple(ToolResult(call.id, "text " * 50) for call in answer.turn.calls)
            turns += [answer.turn, ToolTurn(results)]
        raws = [one["raw"] for one in await requests_at(base_url)]
        await models.close()
    _, each = shares(raws)
    assert min(each[1:]) > 0.5
    # With a breakpoint at the end alone, the third request would find nothing of the second.
    ends = [edited(raw, lambda body: keep_marks(body, 1)) for raw in raws]
    assert shares(ends)[1][1:] == [0.0, 0.0]


# --- what the measure sees -------------------------------------------------------------------------------------------


@dataclass
class Clocked:
    """A model whose rules begin with the time, as somebody might think useful."""

    model: Model
    minute: int = 0

    @property
    def provider(self) -> str:
        return self.model.provider

    @property
    def name(self) -> str:
        return self.model.name

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.minute += 1
        now = f"It is 12:{self.minute:02}.\n\n"
        return await self.model.answer(replace(request, system=now + request.system))


@pytest.mark.parametrize("wire", ["anthropic", "openai"])
async def test_a_clock_in_the_rules_would_be_noticed(wire: str, tmp_path: Path) -> None:
    played = await play(FOLDERS["a tiny one"], tmp_path, wire, Clocked)
    assert len(played.raws) == 10
    assert shares(played.raws)[0] < 0.1
    # OpenAI's tools stand before the rules; of its own figures those of the tools may be left.
    assert sum(one["cached_tokens"] for one in played.told) < 0.5 * sum(
        one["input_tokens"] for one in played.told
    )


Edit = Callable[[dict[str, Any]], None]


def edited(raw: str, edit: Edit) -> str:
    body = json.loads(raw)
    edit(body)
    return json.dumps(body)


def keep_marks(body: dict[str, Any], most: int) -> None:
    """Takes away all but the last breakpoints."""
    marked = [
        block
        for message in body.get("messages", ())
        for block in message["content"]
        if "cache_control" in block
    ]
    marked = [*(block for block in body.get("system", ()) if "cache_control" in block), *marked]
    for block in marked[: len(marked) - most]:
        del block["cache_control"]


def opening_changes(number: int) -> Edit:
    def edit(body: dict[str, Any]) -> None:
        first = (body.get("messages") or body["input"])[0]["content"][0]
        first["text"] = f"Request number {number}. " + first["text"]

    return edit


def tools_change_places(number: int) -> Edit:
    def edit(body: dict[str, Any]) -> None:
        tools = body["tools"]
        body["tools"] = tools[number % len(tools) :] + tools[: number % len(tools)]

    return edit


def fields_change_places(number: int) -> Edit:
    def edit(body: dict[str, Any]) -> None:
        if number % 2:
            body["tools"] = [dict(reversed(tool.items())) for tool in body["tools"]]

    return edit


def key_changes(number: int) -> Edit:
    def edit(body: dict[str, Any]) -> None:
        body["prompt_cache_key"] = f"magicode-{number}"

    return edit


def model_changes(number: int) -> Edit:
    def edit(body: dict[str, Any]) -> None:
        body["model"] = f"model-{number}"

    return edit


def no_marks(_number: int) -> Edit:
    return lambda body: keep_marks(body, 0)


def nothing_changes(_number: int) -> Edit:
    return lambda _body: None


@pytest.mark.parametrize("wire", ["anthropic", "openai"])
async def test_what_spoils_a_cache_lowers_the_measured_share(wire: str, tmp_path: Path) -> None:
    played = await play(FOLDERS["a tiny one"], tmp_path, wire)

    def share(change: Callable[[int], Edit]) -> float:
        return shares([edited(raw, change(number)) for number, raw in enumerate(played.raws)])[0]

    assert share(nothing_changes) >= GOAL
    spoiling = [tools_change_places, fields_change_places, model_changes]
    spoiling += [no_marks] if wire == "anthropic" else [key_changes, opening_changes]
    for change in spoiling:
        assert share(change) == 0.0, change.__name__
    # On Anthropic's wire the rules have a breakpoint of their own, and only they are left.
    assert share(opening_changes) < 0.6


async def test_what_is_shortened_later_leaves_the_opening_in_the_cache(tmp_path: Path) -> None:
    played = await play(FOLDERS["a tiny one"], tmp_path, "anthropic")

    def shorten(body: dict[str, Any]) -> None:
        body["messages"][2]["content"][0]["content"] = "[left out]"

    _, each = shares([played.raws[-2], edited(played.raws[-1], shorten)])
    assert 0.3 < each[1] < shares(played.raws[-2:])[1][1]


def test_a_prompt_that_is_too_short_for_a_cache_counts_as_none() -> None:
    body = {"model": "m", "system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]}
    raw = json.dumps({**body, "messages": [{"role": "user", "content": [{"type": "text", "text": "y"}]}]})
    assert shares([raw, raw])[0] == 0.0
    openai = json.dumps({"model": "m", "instructions": "x", "input": [{"type": "message"}]})
    assert shares([openai, openai])[0] == 0.0
