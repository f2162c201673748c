"""A playbook: what a scripted model says next, decided from the conversation it is sent and from nothing else.

The number of assistant turns in the conversation is the position in the scenario, so runs side by side do not disturb
each other. Refuses to improvise: where no turn fits, the answer is NoTurnError and never a canned success.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from app.errors import InvalidError, UserError
from app.nouns import AssistantTurn, ModelRequest, Stop, ToolTurn, UserTurn

PLAYBOOK_MODEL = "playbook-1"

_PLACE = re.compile(r"\{([A-Za-z_]\w*)(:int)?\}")


class PlaybookError(UserError):
    """The playbook cannot be read; the message says where and why."""


class NoTurnError(InvalidError):
    """The playbook has no turn for this request."""


# --- the file --------------------------------------------------------------------------------------------------------


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class When(_Part):
    """All that is stated must hold. Texts are searched, not matched whole; `contains` may be a list, all of which count.

    `contains` and `matches` look at the newest user or tool text (for a scenario: at the first user text).
    """

    contains: tuple[str, ...] = ()
    matches: str | None = None
    anywhere_contains: tuple[str, ...] = ()
    system_contains: tuple[str, ...] = ()
    tool_result_of: str | None = None
    tool_failed: bool | None = None

    @field_validator("contains", "anywhere_contains", "system_contains", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("matches")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        return value if value is None else _compiled(value).pattern


class PlannedCall(_Part):
    """A tool call. `raw` sends these characters as the arguments, JSON or not, instead of `arguments`."""

    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    raw: str | None = None


class PlannedUsage(_Part):
    """Tokens to report instead of those counted from the text. `input_tokens` counts all of the prompt."""

    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(ge=0)
    cached_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)


class Overload(_Part):
    """Refuse this request the first `times` times it is sent, in these words."""

    times: int = Field(default=1, ge=1)
    status: Literal[429, 500, 502, 503, 529] = 529
    message: str = "Overloaded"
    retry_after_seconds: float | None = Field(default=None, ge=0)


class Disconnect(_Part):
    """Drop the connection after so many pieces of the stream, the first `times` times."""

    after_chunks: int = Field(default=2, ge=0)
    times: int = Field(default=1, ge=1)


class Slow(_Part):
    """Fall silent for so long after so many pieces of the stream, the first `times` times."""

    seconds: float = Field(gt=0)
    after_chunks: int = Field(default=1, ge=0)
    times: int = Field(default=1, ge=1)


BrokenKind = Literal["overloaded", "rate_limited", "failing"]


class Broken(_Part):
    """Tell an error inside a stream that began well, after so many pieces, the first `times` times."""

    kind: BrokenKind = "overloaded"
    after_chunks: int = Field(default=2, ge=0)
    times: int = Field(default=1, ge=1)


class PlannedTurn(_Part):
    """One answer. `capture` holds patterns with named groups, looked for in the newest text, then in older ones.

    `{name}` in `say` and in `arguments` becomes the captured text; a whole value `{name:int}` becomes a number.
    `repeat` makes the turn answer so many positions in a row; `forever` all that follow. `interleaved` sends the pieces
    of parallel calls in turns, `novelties` mixes in events and fields that nobody knows yet, and with `filtered` it is the
    provider's filter that stops the answer where it is, not the model that declines.
    """

    when: When = When()
    capture: tuple[str, ...] = ()
    thinks: str | None = None
    say: str = ""
    calls: tuple[PlannedCall, ...] = ()
    stop: Stop | None = None
    usage: PlannedUsage | None = None
    overload: Overload | None = None
    disconnect: Disconnect | None = None
    slow: Slow | None = None
    broken: Broken | None = None
    interleaved: bool = False
    novelties: bool = False
    filtered: bool = False
    repeat: Annotated[int, Field(ge=1)] | Literal["forever"] = 1

    @field_validator("capture", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("capture")
    @classmethod
    def _named(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not _compiled(pattern).groupindex:
                raise ValueError(f"the pattern {pattern!r} has no named group, such as (?P<path>...)")
        return value

    @model_validator(mode="after")
    def _says_something(self) -> PlannedTurn:
        thought_only = self.thinks is not None and self.stop is Stop.LENGTH
        if not self.say and not self.calls and self.stop is not Stop.REFUSAL and not thought_only:
            raise ValueError("a turn says something, calls a tool, or refuses, or is cut off while it thinks")
        if self.filtered and self.stop is not Stop.REFUSAL:
            raise ValueError("a turn that is filtered stops with 'refusal'")
        if self.calls and (self.stop is Stop.END or (self.stop is Stop.REFUSAL and not self.filtered)):
            raise ValueError("a turn with calls stops with 'tools' or 'length', or is filtered")
        return self


class Choice(_Part):
    """One position with several possible answers: the first whose `when` holds."""

    first_of: tuple[PlannedTurn, ...] = Field(min_length=1)
    repeat: Annotated[int, Field(ge=1)] | Literal["forever"] = 1


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "choice" if "first_of" in value else "turn"
    return "choice" if isinstance(value, Choice) else "turn"


Step = Annotated[Annotated[PlannedTurn, Tag("turn")] | Annotated[Choice, Tag("choice")], Discriminator(_kind)]


class Scenario(_Part):
    """A conversation from its first answer to its last; chosen by the first user text."""

    name: str
    when: When = When()
    turns: tuple[Step, ...] = Field(min_length=1)


class Playbook(_Part):
    """The file. The first scenario whose `when` holds plays."""

    description: str = ""
    models: tuple[str, ...] = Field(default=(PLAYBOOK_MODEL,), min_length=1)
    scenarios: tuple[Scenario, ...] = Field(min_length=1)


def parse(text: str) -> Playbook:
    """Read YAML. Raises PlaybookError that names the place: unknown keys, patterns that do not compile, empty turns."""
    try:
        return Playbook.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise PlaybookError(f"The playbook is not YAML: {error}") from None
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()
        )
        raise PlaybookError(f"The playbook cannot be played: {found}") from None


def load(path: Path) -> Playbook:
    """Read a file. Raises PlaybookError."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlaybookError(f"The playbook {path.name} cannot be opened: {error.strerror}") from None


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.DOTALL | re.MULTILINE)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} does not compile: {error}") from None


# --- the play --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlayedCall:
    """`arguments` is the text that goes over the wire, JSON unless the playbook wants it broken."""

    id: str
    tool: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Play:
    """One answer, with every place filled in. `digest` names the conversation it answers."""

    scenario: str
    position: int
    digest: str
    thinks: str | None
    say: str
    calls: tuple[PlayedCall, ...]
    stop: Stop
    usage: PlannedUsage | None
    overload: Overload | None
    disconnect: Disconnect | None
    slow: Slow | None
    broken: Broken | None = None
    interleaved: bool = False
    novelties: bool = False
    filtered: bool = False


def play(playbook: Playbook, request: ModelRequest) -> Play:
    """The answer to this conversation. Raises NoTurnError, which says which request had none."""
    texts = list(_texts(request))
    first = next((turn.text for turn in request.turns if isinstance(turn, UserTurn)), "")
    position = sum(isinstance(turn, AssistantTurn) for turn in request.turns)
    scenario = next((one for one in playbook.scenarios if _holds(one.when, request, first, texts)), None)
    if scenario is None:
        raise _no_turn(f"no scenario's 'when' holds for the first message {_short(first)}")
    newest = texts[-1] if texts else ""
    where = f"request {position + 1} of scenario '{scenario.name}', whose newest text is {_short(newest)}"
    step = _at(scenario, position)
    if step is None:
        raise _no_turn(f"the scenario is over: {where}")
    options = step.first_of if isinstance(step, Choice) else (step,)
    turn = next((one for one in options if _holds(one.when, request, newest, texts)), None)
    if turn is None:
        raise _no_turn(f"no turn's 'when' holds: {where}")
    captured = _captured(turn.capture, texts, where)
    return _filled(turn, captured, scenario.name, position, conversation_digest(request))


def _at(scenario: Scenario, position: int) -> PlannedTurn | Choice | None:
    covered = 0
    for step in scenario.turns:
        if step.repeat == "forever":
            return step
        covered += step.repeat
        if position < covered:
            return step
    return None


def _filled(
    turn: PlannedTurn, captured: Mapping[str, str], scenario: str, position: int, digest: str
) -> Play:
    calls = tuple(
        PlayedCall(
            hashlib.sha256(f"{digest}:{index}".encode()).hexdigest()[:24],
            call.tool,
            json.dumps(_put(call.arguments, captured), ensure_ascii=False) if call.raw is None else call.raw,
        )
        for index, call in enumerate(turn.calls)
    )
    stop = turn.stop or (Stop.TOOLS if calls else Stop.END)
    return Play(
        scenario, position, digest, turn.thinks, str(_put(turn.say, captured)), calls, stop,
        turn.usage, turn.overload, turn.disconnect, turn.slow, turn.broken, turn.interleaved, turn.novelties,
        turn.filtered,
    )  # fmt: skip


def _captured(patterns: Iterable[str], texts: list[str], where: str) -> dict[str, str]:
    captured: dict[str, str] = {}
    for pattern in patterns:
        compiled = _compiled(pattern)
        match = next((found for text in reversed(texts) if (found := compiled.search(text))), None)
        if match is None:
            raise _no_turn(f"the pattern {pattern!r} is found nowhere in what was sent: {where}")
        captured.update({name: value or "" for name, value in match.groupdict().items()})
    return captured


def _put(value: Any, captured: Mapping[str, str]) -> Any:
    """Braces that name nothing captured stay: code is full of them."""
    if isinstance(value, dict):
        return {key: _put(inner, captured) for key, inner in value.items()}
    if isinstance(value, list):
        return [_put(inner, captured) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _PLACE.fullmatch(value)
    if whole and whole[2] and whole[1] in captured:
        return int(captured[whole[1]])
    return _PLACE.sub(lambda place: captured.get(place[1], place[0]), value)


def _holds(when: When, request: ModelRequest, text: str, texts: list[str]) -> bool:
    everything = "\n".join(texts)
    return (
        all(part in text for part in when.contains)
        and (when.matches is None or _compiled(when.matches).search(text) is not None)
        and all(part in everything for part in when.anywhere_contains)
        and all(part in request.system for part in when.system_contains)
        and (when.tool_result_of is None or when.tool_result_of in _answered_tools(request))
        and (when.tool_failed is None or when.tool_failed == _failed(request))
    )


def _texts(request: ModelRequest) -> Iterable[str]:
    """User and tool texts, oldest first; the results of one turn are one text."""
    for turn in request.turns:
        if isinstance(turn, UserTurn):
            yield turn.text
        elif isinstance(turn, ToolTurn):
            yield "\n".join(result.text for result in turn.results)


def _answered_tools(request: ModelRequest) -> set[str]:
    """The tools whose results the newest turns carry."""
    names = {
        call.id: call.name for turn in request.turns if isinstance(turn, AssistantTurn) for call in turn.calls
    }
    return {names.get(result.call_id, "") for turn in _newest(request) for result in turn.results}


def _failed(request: ModelRequest) -> bool:
    return any(result.is_error for turn in _newest(request) for result in turn.results)


def _newest(request: ModelRequest) -> list[ToolTurn]:
    newest: list[ToolTurn] = []
    for turn in reversed(request.turns):
        if isinstance(turn, AssistantTurn):
            break
        if isinstance(turn, ToolTurn):
            newest.append(turn)
    return newest


def _no_turn(why: str) -> NoTurnError:
    return NoTurnError(f"The playbook has no turn for this request: {why}.", reason="playbook_has_no_turn")


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= 120 else flat[:120] + "…")


# --- figures ---------------------------------------------------------------------------------------------------------


def tokens(text: str) -> int:
    """About how many tokens a text is: four bytes each, rounded up."""
    return math.ceil(len(text.encode("utf-8", "surrogatepass")) / 4)


def prompt_texts(request: ModelRequest) -> list[str]:
    """The prompt in the order in which a provider reads and caches it: tools, system, turns."""
    parts = [
        json.dumps([tool.name, tool.description, dict(tool.parameters)], sort_keys=True)
        for tool in request.tools
    ]
    parts.append(request.system)
    for turn in request.turns:
        if isinstance(turn, UserTurn):
            parts.append("user " + turn.text)
        elif isinstance(turn, ToolTurn):
            parts.append(
                "tool " + json.dumps([[one.call_id, one.text, one.is_error] for one in turn.results])
            )
        else:
            called = [[call.id, call.name, call.raw or dict(call.arguments or {})] for call in turn.calls]
            parts.append("assistant " + json.dumps([turn.text, called], sort_keys=True))
    return parts


def conversation_digest(request: ModelRequest) -> str:
    """The same for the same conversation, whichever wire it came over."""
    seed = "\x00".join(prompt_texts(request))
    return hashlib.sha256(seed.encode("utf-8", "surrogatepass")).hexdigest()


def output_tokens(played: Play) -> int:
    spoken = [played.thinks or "", played.say, *(call.tool + call.arguments for call in played.calls)]
    return max(1, sum(tokens(text) for text in spoken))
