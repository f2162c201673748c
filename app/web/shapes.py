"""What the API takes and gives, with examples: its OpenAPI document is made of these."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.nouns import RunEvent
from app.web.access import Scope

_WHEN = "2026-11-20T14:30:00Z"
_ID = "3f2b6c1e-8a55-4c9b-9d2e-0c7f6a1b2c3d"
_HEAD = "128:5d41402abc4b2a76b9719d911017c592ae0cd1b0c8d0a1e2b3f4a5968778695a:100002"


class Shape(BaseModel):
    """Nothing unknown is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Problem(BaseModel):
    """https://www.rfc-editor.org/rfc/rfc9457"""

    type: str = Field(examples=["urn:magicode:not_yours"])
    title: str = Field(examples=["not yours"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["Only an administrator of this installation may see this."])


# --- what is sent ----------------------------------------------------------------------------------------------------


class NewValue(Shape):
    """In the words that a comment would use."""

    value: Annotated[str, Field(max_length=1100, examples=["6 months"])]


class NewRole(Shape):
    role: Annotated[
        str,
        Field(
            max_length=20,
            examples=["viewer"],
            description="viewer, requester, administrator, or default: what GitHub says.",
        ),
    ]


class NewKey(Shape):
    key: Annotated[SecretStr, Field(description="Never given back.", examples=["sk-…"])]
    base_url: Annotated[
        str | None,
        Field(
            max_length=500,
            examples=["https://models.example.com/v1"],
            description="Compatible endpoints only.",
        ),
    ] = None


class NewToken(Shape):
    scopes: Annotated[list[Scope], Field(examples=[["log", "export"]])] = []
    days: Annotated[int, Field(ge=1, le=365, examples=[30])] = 30


class NewHook(Shape):
    url: Annotated[
        SecretStr,
        Field(
            max_length=2000,
            description="Begins with `https://`. Never given back: it may hold a secret.",
            examples=["https://ci.example.com/magicode"],
        ),
    ]
    events: Annotated[list[RunEvent], Field(min_length=1, max_length=3, examples=[["run.ended"]])] = list(
        RunEvent
    )


class Heads(Shape):
    """Heads that pull requests and status comments quote, to compare the log with."""

    heads: Annotated[
        list[Annotated[str, Field(max_length=110)]], Field(max_length=50, examples=[[_HEAD]])
    ] = []


class Confirmation(Shape):
    account: Annotated[str, Field(max_length=100, examples=["octo-org"], description="The account's login.")]


# --- what is given ---------------------------------------------------------------------------------------------------


class SessionShape(Shape):
    """`form_key` is what a script of this browser shows in the header X-Form-Key where it changes something."""

    login: str = Field(examples=["octocat"])
    form_key: str
    ends_at: datetime = Field(examples=[_WHEN])


class InstallationShape(Shape):
    id: int = Field(examples=[100002])
    account: str = Field(examples=["octo-org"])
    account_type: str = Field(examples=["Organization"])
    suspended: bool
    paused_at: datetime | None = Field(
        examples=[None], description="Since when the App is uninstalled or its plan over."
    )


class SummaryShape(InstallationShape):
    """`held` counts rows by table, vectors and stored exports."""

    held: dict[str, int] = Field(examples=[{"runs": 12, "entries": 128, "vectors": 4096, "objects": 1}])
    log_since: datetime | None = Field(examples=[_WHEN])
    log_head: str = Field(examples=[_HEAD])


class SettingShape(Shape):
    name: str = Field(examples=["keep-runs"])
    value: str = Field(examples=["12 months"])
    means: str = Field(examples=["how long ended runs are kept; deliveries 30 days at most"])
    example: str = Field(examples=["6 months"])


class DestinationShape(Shape):
    provider: str = Field(examples=["anthropic"])
    model: str = Field(examples=["anthropic:NAME"])
    host: str = Field(examples=["api.anthropic.com"])
    region: str = Field(examples=["global"])
    own_key: bool
    allowed: bool


class SettingsShape(Shape):
    settings: list[SettingShape]
    destinations: list[DestinationShape] = Field(description="Where code may go now.")
    receipts_fingerprint: str


class ChangedShape(Shape):
    name: str = Field(examples=["keep-runs"])
    old: str = Field(examples=["12 months"])
    new: str = Field(examples=["6 months"])


class MemberShape(Shape):
    """Somebody with a role of their own; `login` is what they were called when it was given."""

    id: int = Field(examples=[583231], description="GitHub's id of the account.")
    login: str = Field(examples=["octocat"])
    role: str = Field(examples=["viewer"])
    given_by: str = Field(examples=["hubot"])
    given_at: datetime = Field(examples=[_WHEN])


class RoleChangedShape(Shape):
    login: str = Field(examples=["octocat"])
    old: str = Field(examples=["default"])
    new: str = Field(examples=["viewer"])


class KeyShape(Shape):
    """What may be seen of a key."""

    provider: str = Field(examples=["openai"])
    last_four: str = Field(examples=["x9Qz"])
    base_url: str | None = Field(examples=[None])
    created_by: str = Field(examples=["octocat"])
    created_at: datetime = Field(examples=[_WHEN])
    checked_at: datetime | None = Field(examples=[_WHEN])
    why_unchecked: str = Field(default="", examples=[""])


class ShownOnce(Shape):
    """An answer with a secret that is kept nowhere: whoever asks again under the same Idempotency-Key is told its id alone."""

    id: UUID


class TokenShape(Shape):
    id: UUID = Field(examples=[_ID])
    scopes: list[str] = Field(examples=[["log"]])
    created_by: str = Field(examples=["octocat"])
    created_at: datetime = Field(examples=[_WHEN])
    expires_at: datetime = Field(examples=[_WHEN])


class MadeToken(TokenShape, ShownOnce):
    token: str = Field(examples=["mgc_100002_…"], description="Shown this once.")


class HookShape(Shape):
    """What may be seen of a webhook. `last_status` is what it answered at `last_at`, None for nothing."""

    id: UUID = Field(examples=[_ID])
    host: str = Field(examples=["ci.example.com"])
    events: list[RunEvent] = Field(examples=[["run.ended"]])
    created_by: str = Field(examples=["octocat"])
    created_at: datetime = Field(examples=[_WHEN])
    last_at: datetime | None = Field(examples=[_WHEN])
    last_status: int | None = Field(examples=[200])


class MadeHook(HookShape, ShownOnce):
    secret: str = Field(examples=["whsec_…"], description="What it is signed with. Shown this once.")


class SentShape(Shape):
    """Whether it was taken (any status of 2xx), and what was answered; `why` says in a word why there was no answer."""

    taken: bool
    status: int | None = Field(examples=[200])
    why: str = Field(examples=[""])


class RunShape(Shape):
    """A request and what became of it; `about` is the issue that the pull request `number` was opened for, or `number` itself."""

    id: UUID = Field(examples=[_ID])
    repository_id: int = Field(examples=[1296269])
    number: int = Field(examples=[42])
    about: int = Field(examples=[42])
    verb: str = Field(examples=["fix"])
    asked_by: str = Field(examples=["octocat"])
    state: str = Field(examples=["opened"], description="`queued`, `running`, or one of six ends.")
    reason: str | None = Field(examples=["opened"])
    stop_asked: bool
    pull_request: int | None = Field(examples=[43])
    attempts: int = Field(examples=[1])
    input_tokens: int = Field(examples=[5120])
    cached_tokens: int = Field(examples=[4096])
    output_tokens: int = Field(examples=[640])
    cost_usd: str = Field(examples=["0.0421"])
    cost_limit_usd: str | None = Field(examples=["3"])
    asked_at: datetime = Field(examples=[_WHEN])
    started_at: datetime | None = Field(examples=[_WHEN])
    ended_at: datetime | None = Field(examples=[_WHEN])


class SumShape(Shape):
    """Of some runs together; `cost_usd` is exact."""

    runs: int = Field(examples=[12])
    input_tokens: int = Field(examples=[61440])
    cached_tokens: int = Field(examples=[49152])
    output_tokens: int = Field(examples=[7680])
    cost_usd: str = Field(examples=["0.5052"])


class DayShape(SumShape):
    day: date = Field(examples=["2026-11-20"])


class RepositorySumShape(SumShape):
    repository_id: int = Field(examples=[1296269])


class BudgetShape(Shape):
    """`alert` is the highest of 80, 90 and 100 that `percent` reaches."""

    setting: str = Field(examples=["limit-month"])
    limit_usd: str = Field(examples=["200"])
    spent_usd: str = Field(examples=["164.2"])
    percent: int = Field(examples=[82])
    alert: int | None = Field(examples=[80])


class UsageShape(Shape):
    """Of the last `days` days of UTC, today among them. `outcomes` counts runs by what became of them: `merged`, `open` and `closed`
    pull requests, and the other ends. Of the `opened` pull requests half came within `half_seconds`, nine of ten within `most_seconds`."""

    days: int = Field(examples=[30])
    since: date = Field(examples=["2026-10-22"])
    total: SumShape
    by_day: list[DayShape]
    by_repository: list[RepositorySumShape]
    outcomes: dict[str, int] = Field(examples=[{"merged": 7, "open": 2, "refused": 3}])
    opened: int = Field(examples=[9])
    half_seconds: float = Field(examples=[82.5])
    most_seconds: float = Field(examples=[240.0])
    budgets: list[BudgetShape]


class RunsPage(Shape):
    """`next` is the `beyond` of the page that follows, None at the end."""

    runs: list[RunShape]
    next: UUID | None = Field(examples=[_ID])


class StationShape(Shape):
    """`seconds` is how long this is behind the station before."""

    name: str = Field(examples=["Asking the model"])
    standing: str = Field(examples=["done"], description="`done`, `at work`, `to come` or `not needed`.")
    at: datetime | None = Field(examples=[_WHEN])
    seconds: float | None = Field(examples=[4.2])


class FiguresShape(Shape):
    """What was counted over all tries; None for what was not come to."""

    turns: int = Field(examples=[6])
    unanswered: int = Field(examples=[0], description="Questions to the model that brought nothing (yet).")
    tools: int = Field(examples=[9])
    models: list[str] = Field(examples=[["NAME"]])
    files: int | None = Field(examples=[2])
    added: int | None = Field(examples=[12])
    removed: int | None = Field(examples=[3])
    checks: int | None = Field(examples=[2])
    passed: int | None = Field(examples=[2])
    problems: int | None = Field(examples=[0], description="What a second look at the change remarked.")


class JourneyShape(RunShape):
    stations: list[StationShape]
    figures: FiguresShape


class EntryShape(Shape):
    """One link of the chain; `details` is None where they cannot be opened any more."""

    installation_id: int = Field(examples=[100002])
    seq: int = Field(examples=[128])
    at: str = Field(examples=["2026-11-20T14:30:00.123456Z"])
    actor: str = Field(examples=["magicode"])
    action: str = Field(examples=["model.called"])
    run_id: str | None = Field(examples=[_ID])
    details: dict[str, Any] | None = Field(examples=[{"provider": "anthropic", "input_tokens": 5120}])
    details_hash: str
    previous_hash: str
    hash: str


class DownloadedEntry(EntryShape):
    """With what its details' hash was salted with, so that it can be verified."""

    salt: str | None


class LogPage(Shape):
    """`next` is the `after` of the page that follows, None at the end."""

    entries: list[EntryShape]
    next: int | None = Field(examples=[228])
    head: str = Field(examples=[_HEAD])


class FindingShape(Shape):
    kind: str = Field(examples=["edited"])
    position: int
    seq: int
    message: str


class ReportShape(Shape):
    """The chain, recomputed."""

    ok: bool
    entries: int
    head: str | None = Field(examples=[_HEAD])
    closed: int = Field(description="Entries whose details cannot be opened any more.")
    pruned_to: int = Field(description="The last entry that retention removed, as a later one attests.")
    quoted_heads: int
    findings: list[FindingShape]
    more_findings: int


class ExportShape(Shape):
    """`state` is `asked`, `made`, `failed` or `expired`; it can be downloaded from `made_at` until `expires_at`."""

    id: UUID = Field(examples=[_ID])
    state: str = Field(examples=["made"])
    asked_by: str = Field(examples=["octocat"])
    asked_at: datetime = Field(examples=[_WHEN])
    made_at: datetime | None = Field(examples=[_WHEN])
    expires_at: datetime | None = Field(examples=[_WHEN])
    size: int | None = Field(examples=[20480])
    sha256: str | None
    percent: int = Field(examples=[100], description="How much of it is written.")


class ErasureShape(Shape):
    """`step` says how far it is; `receipt` is the signed document once there is one."""

    id: UUID = Field(examples=[_ID])
    installation_id: int = Field(examples=[100002])
    asked_at: datetime = Field(examples=[_WHEN])
    step: str = Field(examples=["vectors"])
    done: bool
    receipt_url: str = Field(examples=[f"/api/receipts/100002/{_ID}"])
    receipt: dict[str, Any] | None = None
