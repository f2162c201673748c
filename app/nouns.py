"""The nouns that the stations hand to each other. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

# --- the run ---------------------------------------------------------------------------------------------------------


class RunState(StrEnum):
    """QUEUED and RUNNING go on; the others are the six visible ends of a request."""

    QUEUED = "queued"
    RUNNING = "running"
    OPENED = "opened"
    UPDATED = "updated"
    ANSWERED = "answered"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


@dataclass(frozen=True, slots=True)
class Run:
    """A durable request. Holds ids, states, figures and a login; never a text, a path or a repository's name.

    `meaning` is a keyed hash of (repository id, number, occasion or the review that it belongs to, verb); `input_hash` a
    keyed hash of the texts at the trigger. `attempt` counts the workers that took the run up: a writer whose attempt is
    no longer the current one is fenced off. `blocked_by` is the run that was already at work on the same subject at
    acceptance.
    `subject` is the issue that the pull request `number` was opened for, None where `number` is the subject itself.
    `fingerprint` is a keyed hash of what failed in CI, for a run that mends it.
    """

    id: UUID
    installation_id: int
    repository_id: int
    number: int
    is_pull_request: bool
    verb: str
    occasion: str
    comment_id: int | None
    asker_id: int
    asker_login: str
    meaning: str
    input_hash: str
    cost_limit_usd: Decimal | None
    state: RunState
    attempt: int
    blocked_by: UUID | None
    cancel_requested: bool
    reason: str | None
    status_comment_id: int | None
    branch: str | None
    base_sha: str | None
    head_sha: str | None
    pull_request: int | None
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    subject: int | None = None
    fingerprint: str | None = None

    @property
    def about(self) -> int:
        """The number that one run at a time works on: an issue's, also for requests on the pull request that solves it."""
        return self.number if self.subject is None else self.subject


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, said to people: `message` goes to GitHub and nowhere else; `reason` may be stored."""

    state: RunState
    reason: str
    message: str
    next_step: str = ""
    pull_request: int | None = None
    head_sha: str | None = None


BESIDE_VERBS = frozenset({"cancel", "logs", "export", "delete", "settings", "help"})
"""Verbs that are answered at once, beside a run at work on the same subject; the others wait for their turn."""

MEND = "mend"
"""The verb of a run that nobody wrote: failing CI on our own head is what asks for it."""


# --- what GitHub tells us --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repository:
    id: int
    owner: str
    name: str
    default_branch: str
    private: bool
    archived: bool
    disabled: bool
    has_issues: bool
    size_kb: int
    html_url: str

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Account:
    id: int
    login: str
    type: str  # "User", "Bot", "Organization"


class Role(StrEnum):
    """What somebody was given here in the place of what GitHub's permission alone would mean: never more on the code itself."""

    VIEWER = "viewer"
    REQUESTER = "requester"
    ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class Given:
    """A role of somebody's own in an installation, and the login of who gave it."""

    role: Role
    by: str


@dataclass(frozen=True, slots=True)
class Issue:
    """An issue or, where `is_pull_request`, the issue side of a pull request."""

    id: int
    number: int
    title: str
    body: str
    state: str  # "open", "closed"
    locked: bool
    author: Account
    is_pull_request: bool
    labels: tuple[str, ...]
    assignees: tuple[str, ...]
    html_url: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Comment:
    """`path` and `line` (1-based, None where the code has moved on) are those of a comment on a pull request's code,
    `review_id` the review that it came with, `reply_to` the comment that began its thread (None for that one itself).
    """

    id: int
    body: str
    author: Account
    html_url: str
    created_at: datetime
    updated_at: datetime
    path: str | None = None
    line: int | None = None
    review_id: int | None = None
    reply_to: int | None = None


@dataclass(frozen=True, slots=True)
class ReviewThread:
    """A conversation on a line of a pull request, its comments oldest first."""

    node_id: str
    path: str
    line: int | None
    resolved: bool
    outdated: bool
    comments: tuple[Comment, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`head` against `base`: how many commits each has that the other has not, and where they parted."""

    ahead_by: int
    behind_by: int
    merge_base_sha: str


@dataclass(frozen=True, slots=True)
class PullRequest:
    number: int
    node_id: str
    title: str
    body: str
    state: str  # "open", "closed"
    draft: bool
    merged: bool
    head_ref: str
    head_sha: str
    head_repository_id: int | None  # None when the fork is gone
    base_ref: str
    base_sha: str
    html_url: str


@dataclass(frozen=True, slots=True)
class Branch:
    name: str
    sha: str
    protected: bool


@dataclass(frozen=True, slots=True)
class Rule:
    """One effective rule from `GET /repos/{o}/{r}/rules/branches/{branch}`: its type and its parameters as sent."""

    type: str
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One blob, link or submodule of a commit's tree. `mode` is git's: 100644, 100755, 120000 or 160000."""

    path: str
    mode: str
    sha: str
    size: int | None


@dataclass(frozen=True, slots=True)
class Tree:
    sha: str
    entries: tuple[TreeEntry, ...]


@dataclass(frozen=True, slots=True)
class TreeChange:
    """What a new tree changes against its base: `blob_sha` None removes the path."""

    path: str
    mode: str
    blob_sha: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """`committer_login` is who made the commit as it is now: a person who amends or rebases leaves the author."""

    sha: str
    tree_sha: str
    parents: tuple[str, ...]
    message: str
    author_login: str | None
    verified: bool
    committer_login: str | None = None


@dataclass(frozen=True, slots=True)
class Checks:
    """Check runs and commit statuses on a head, counted."""

    pending: int
    failed: int
    passed: int

    @property
    def total(self) -> int:
        return self.pending + self.failed + self.passed


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check run or commit status that ended badly, as GitHub tells it.

    `conclusion` is a check run's (failure, timed_out, cancelled, startup_failure, action_required, stale) or a status's
    (failure, error). `job_id` names a job of GitHub Actions, whose log can be read; `steps` are its failed steps.
    `said` is what the check says itself (title, summary, annotations): data, never instructions.
    """

    name: str
    conclusion: str
    url: str
    job_id: int | None = None
    steps: tuple[str, ...] = ()
    said: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """`id` is the tenant's: the id of the first installation on this account. GitHub gives a new one when the App is
    installed again; `github_id` is the present one. `uninstalled_at` and `plan_cancelled_at` say since when it is paused.
    `hooked` says that it has hooks, and is changed with them alone.
    """

    id: int
    account_id: int
    account_login: str
    suspended: bool
    account_type: str = "Organization"  # or "User"
    github_id: int | None = None  # None: the same
    uninstalled_at: datetime | None = None
    plan_cancelled_at: datetime | None = None
    hooked: bool = False

    @property
    def present_id(self) -> int:
        """What GitHub calls it now."""
        return self.github_id or self.id

    @property
    def paused_at(self) -> datetime | None:
        """Since when nothing is done for it, and its data is kept for those who come back."""
        return min(
            (at for at in (self.uninstalled_at, self.plan_cancelled_at) if at is not None), default=None
        )


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """An installation's settings as they are stored: one JSON document of choices, none of them a text of the customer's."""

    document: str
    legal_hold: bool
    changed_by: str
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A customer's own key of a model provider, as it is stored: sealed under the installation's key."""

    provider: str
    sealed: bytes
    created_by: str
    created_at: datetime
    checked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A customer's own key of a model provider, open: in memory for as long as it is used. `base_url` None: the provider's
    own address. `since` tells it from another one that takes its place."""

    provider: str
    key: str = field(repr=False)
    base_url: str | None
    since: datetime


class RunEvent(StrEnum):
    """What hooks are told of a run. It ends more than once where a redelivery takes it up again after a failure of ours."""

    ACCEPTED = "run.accepted"
    STARTED = "run.started"
    ENDED = "run.ended"


@dataclass(frozen=True, slots=True)
class Hook:
    """An address of a customer's own that is told of runs, as it is stored: the address and the secret it is signed with sealed
    under the installation's key. `events` are words with spaces between. `last_status` is what it answered at `last_at`, None for
    nothing."""

    id: UUID
    sealed: bytes
    events: str
    created_by: str
    created_at: datetime
    last_at: datetime | None = None
    last_status: int | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the requests to a model go: `model` is `provider:NAME`, `own_key` says that the customer's own key pays."""

    model: str
    provider: str
    host: str
    region: str
    own_key: bool


@dataclass(frozen=True, slots=True)
class DataExport:
    """An export that was asked for. `place` names the object that holds it, sealed, until `expires_at`, or that is being written; `run_id` is the run
    that asked for it in a comment; `percent` is how much of it was written when somebody last noted it."""

    id: UUID
    state: str  # "asked", "made", "failed"
    asked_by: str
    asked_at: datetime
    place: str | None = None
    size: int | None = None
    sha256: str | None = None
    made_at: datetime | None = None
    expires_at: datetime | None = None
    run_id: UUID | None = None
    percent: int = 0


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token of our own API, for one installation. `hash` is its SHA-256, hexadecimal; `scopes` are words with spaces between."""

    id: UUID
    hash: str
    scopes: str
    created_by: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a write of the API was answered. `key` is a keyed hash of the caller and the key that they chose, `fingerprint` one of what
    was asked. Without `status` and `sealed` it is a claim: the request is at work since `made_at`."""

    key: str
    fingerprint: str
    made_at: datetime
    until: datetime
    status: int | None = None
    sealed: bytes | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """That an installation is being destroyed, and how far that is; afterwards the tombstone that remains.

    `reason` is `asked`, `uninstalled`, `plan_cancelled`, `operator` or, done again, `restored`. `repository_id`, `number` and `comment_id` say where
    the receipt is to be written; they and `asked_by` go once that is done. `shelf` names the folder of the vectors, which
    cannot be named again without the key; `facts` is what was counted on the way, as a JSON object.
    """

    installation_id: int
    id: UUID
    github_id: int
    account_id: int
    reason: str
    asked_at: datetime
    asked_by: str | None
    step: str
    repository_id: int | None = None
    number: int | None = None
    comment_id: int | None = None
    shelf: str | None = None
    facts: str = "{}"
    receipt: str | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class UsedThere:
    """What the runs of one UTC day in one repository used together, those that came to the same end. `reason` is None but for what
    became of a pull request: `merged` or `closed_unmerged`."""

    day: date
    repository_id: int
    state: RunState
    reason: str | None
    runs: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class Registration:
    """How the App is registered with GitHub. `webhook_url` is None where it has none; `at` is GitHub's own time."""

    slug: str
    permissions: Mapping[str, str]
    events: frozenset[str]
    webhook_url: str | None
    webhook_json: bool
    webhook_tls: bool
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Registered:
    """An App that has just been registered, with all that GitHub tells about it once and never again. `url` is its page on
    GitHub; `webhook_secret` is None where it has no webhook."""

    id: int
    slug: str
    url: str
    client_id: str
    client_secret: str = field(repr=False)
    private_key: str = field(repr=False)
    webhook_secret: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Round:
    """What one process does for everybody, again and again. `since` is how far the last one came, where that is a time."""

    since: datetime | None


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """`waiting` jobs could be taken up now, the oldest of them since `oldest_seconds`; `later` ones are to be tried again at
    their time."""

    queue: str
    waiting: int
    working: int
    later: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Dedication:
    """An installation that workers of its own work for, since when, and how many seconds ago one of them was heard (None: never)."""

    installation_id: int
    since: datetime
    heard_seconds: float | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt of GitHub's to tell us of an event. All attempts at the same event share the `guid`."""

    id: int
    guid: str
    event: str
    delivered_at: datetime
    redelivery: bool  # False: the first attempt
    status_code: int  # 0 when there was no answer

    @property
    def acknowledged(self) -> bool:
        return 200 <= self.status_code < 300


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be put on the queue. `ids` are ids alone; jobs under one `lock` are done one after the other."""

    task: str
    ids: Mapping[str, object]
    lock: str | None = None


@dataclass(frozen=True, slots=True)
class GitHubShare:
    """How much of GitHub's limits for one installation is used: less than all, since GitHub counts when a request arrives, and
    people write in the same repositories. `spacing` is between two writes."""

    spacing: timedelta = timedelta(seconds=1)
    writes_per_minute: int = 70
    writes_per_hour: int = 480
    points_per_minute: int = 720


@dataclass(frozen=True, slots=True)
class GitHubTurn:
    """How long to wait before it is one's turn, and whether the turn is taken: one that is too far away is not."""

    wait: timedelta
    taken: bool


# --- request, snippets, patch, change --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What the agent is asked to do. Lives in memory for the length of a run and nowhere else.

    `number` is 0 for a request that stands on no issue and no pull request.
    `instructions` come from people who may write to the repository; `untrusted` is quoted as data (an issue's own
    text when its author may not write). `base_ref`/`base_sha` are where the work starts. `threads` are the review threads
    to answer, their comments by people who may write; `failures` excerpts of failing CI (data); `plan` one of ours, approved.
    """

    repository: Repository
    number: int
    title: str
    body: str
    instructions: tuple[str, ...]
    untrusted: tuple[str, ...]
    base_ref: str
    base_sha: str
    is_revision: bool = False
    pull_request: PullRequest | None = None
    threads: tuple[ReviewThread, ...] = ()
    failures: tuple[str, ...] = ()
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class Snippet:
    """Where to look: a line range (1-based, inclusive) of a file at the workspace's commit."""

    path: str
    start_line: int
    end_line: int
    symbol: str
    score: float


@dataclass(frozen=True, slots=True)
class FileEdit:
    """One file before and after. `before` None: created. `after` None: deleted. Bytes are exact."""

    path: str
    before: bytes | None
    after: bytes | None
    mode: str = "100644"


@dataclass(frozen=True, slots=True)
class Spending:
    """What the model cost. `cost_usd` counts priced calls alone; `unpriced_calls` says how many had no known price."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    unpriced_calls: int = 0
    turns: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """What commands in a sandbox may use, together. Sizes in bytes; `kept_output` is how many characters of a command's
    output are kept, its beginning and its end; a command that writes more than `output_bytes` is ended.
    """

    memory_bytes: int = 2 << 30
    processes: int = 512
    disk_bytes: int = 2 << 30
    files: int = 300_000
    file_bytes: int = 512 << 20
    output_bytes: int = 16 << 20
    kept_output: int = 32_768


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command in a sandbox ended: `exited`, or which limit ended it, in the words of `CheckRun.ended`."""

    ended: str
    exit_code: int | None
    seconds: float
    output: str


@dataclass(frozen=True, slots=True)
class CheckRun:
    """One command of the repository's own, run in the sandbox. `ended`: `exited`, or which limit ended it
    (`timed_out`, `memory`, `processes`, `disk`, `output`, `killed`). `output` is for the model and for nobody's disk.
    `failed_before` says that it fails without the change too; None where that was not looked at.
    """

    command: str
    ended: str
    exit_code: int | None
    seconds: float
    output: str
    failed_before: bool | None = None

    @property
    def passed(self) -> bool:
        return self.ended == "exited" and self.exit_code == 0


@dataclass(frozen=True, slots=True)
class ChecksReport:
    """What plain code knows about the repository's own checks. Where none was run, or not all were, `not_run` says why in a
    sentence part that follows "because"."""

    runs: tuple[CheckRun, ...] = ()
    not_run: str | None = None

    @property
    def passed(self) -> bool:
        """True only when something was run and all of it passed."""
        return bool(self.runs) and all(run.passed for run in self.runs)

    @property
    def broken(self) -> tuple[CheckRun, ...]:
        """What failed and is not known to have failed before the change."""
        return tuple(run for run in self.runs if not run.passed and not run.failed_before)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said in one review thread, by the id of the comment that began it."""

    comment_id: int
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What the model would do: files with what changes in each, steps, risks; its own words."""

    summary: str
    files: tuple[tuple[str, str], ...]
    steps: tuple[str, ...]
    risks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Patch:
    """The model's proposal: edits and its own words about them. Nothing has been checked yet.

    `answer` is set, and `edits` empty, when the model ends with a question or a finding instead of a change; `plan`
    when a plan was asked for. `replies` are its words for the review threads that it was shown. `asks`: the answer is a
    question, without whose answer it cannot go on.
    """

    edits: tuple[FileEdit, ...]
    title: str
    summary: str
    checked_how: str
    looked_at: tuple[str, ...]
    spending: Spending
    answer: str | None = None
    plan: Plan | None = None
    replies: tuple[Reply, ...] = ()
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A patch that passed every guard, ready for the publisher. `concerns` are what a second look found and nobody mended;
    `looked_again` says that it gave a verdict on this very change."""

    edits: tuple[FileEdit, ...]
    title: str
    summary: str
    checked_how: str
    looked_at: tuple[str, ...]
    added_lines: int
    removed_lines: int
    spending: Spending
    checks: ChecksReport | None = None
    concerns: tuple[str, ...] = ()
    replies: tuple[Reply, ...] = ()
    looked_again: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What the publisher did on GitHub."""

    pull_request: PullRequest
    branch: str
    commit_sha: str
    verified: bool
    created: bool  # False: an open pull request was revised


# --- the conversation with a model -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model sees it; `parameters` is a JSON Schema object with additionalProperties false."""

    name: str
    description: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is None when what the model sent is not a JSON object; `raw` then holds it for the error text."""

    id: str
    name: str
    arguments: Mapping[str, object] | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class UserTurn:
    text: str


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """`opaque` is what the provider needs to have back unchanged (thinking blocks, reasoning items); `maker`, the
    `provider:name` whose it is: no other model is sent it."""

    text: str
    calls: tuple[ToolCall, ...]
    opaque: object = None
    maker: str = ""


@dataclass(frozen=True, slots=True)
class ToolTurn:
    results: tuple[ToolResult, ...]


Turn = UserTurn | AssistantTurn | ToolTurn


class Stop(StrEnum):
    END = "end"
    TOOLS = "tools"
    LENGTH = "length"
    REFUSAL = "refusal"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `input_tokens` counts all of the prompt; the two cache figures are parts of it."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """`attempted` is told of each attempt before it is sent to the provider; what it raises keeps it back."""

    system: str
    turns: Sequence[Turn]
    tools: Sequence[ToolSpec]
    max_output_tokens: int
    attempted: Callable[[], Awaitable[None]] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """`usage` and `cost_usd` are this answer's alone; `also_spent` are answers that were paid for and not taken: the
    refusals of models that stood before this one in a chain. Who counts money counts `paid_for`.
    """

    turn: AssistantTurn
    stop: Stop
    usage: Usage
    model: str
    cost_usd: Decimal | None  # None: no price known for this model
    also_spent: tuple[ModelAnswer, ...] = ()

    @property
    def paid_for(self) -> tuple[ModelAnswer, ...]:
        """All answers that this one cost, oldest first, itself last."""
        return (*self.also_spent, self)


# --- the action log --------------------------------------------------------------------------------------------------


class Action(StrEnum):
    """What is written down, one entry each."""

    WEBHOOK_ACCEPTED = "webhook.accepted"
    WEBHOOK_REFUSED = "webhook.refused"
    WEBHOOK_REDELIVERY_ASKED = "webhook.redelivery_asked"
    WEBHOOK_SENT = "webhook.sent"
    INSTALLATION_CHANGED = "installation.changed"
    RUN_ASKED = "run.asked"
    RUN_STOP_ASKED = "run.stop_asked"
    RUN_STARTED = "run.started"
    RUN_ENDED = "run.ended"
    PERMISSION_CHECKED = "permission.checked"
    TOKEN_MINTED = "token.minted"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    CODE_FETCHED = "code.fetched"
    INDEX_UPDATED = "index.updated"
    INDEX_SEARCHED = "index.searched"
    INDEX_FORGOTTEN = "index.forgotten"
    MODEL_ASKED = "model.asked"
    MODEL_CALLED = "model.called"
    MODEL_FAILED = "model.failed"
    PATCH_REFUSED = "patch.refused"
    PATCH_CHECKED = "patch.checked"
    CHECKS_RUN = "checks.run"
    LOOKED_AGAIN = "second_look.taken"
    CI_READ = "ci.read"
    REF_CREATED = "ref.created"
    REF_UPDATED = "ref.updated"
    REF_DELETED = "ref.deleted"
    COMMIT_CREATED = "commit.created"
    PULL_REQUEST_OPENED = "pull_request.opened"
    PULL_REQUEST_UPDATED = "pull_request.updated"
    GITHUB_READ = "github.read"
    GITHUB_WRITE = "github.write"
    REACTION_ADDED = "reaction.added"
    COMMENT_CREATED = "comment.created"
    COMMENT_UPDATED = "comment.updated"
    SETTING_CHANGED = "setting.changed"
    KEY_ROTATED = "key.rotated"
    DATA_LOOKED = "data.looked"
    DATA_EXPORTED = "data.exported"
    ERASURE_BEGUN = "erasure.begun"
    ERASURE_REFUSED = "erasure.refused"
    DATA_DELETED = "data.deleted"
    RETENTION_APPLIED = "retention.applied"
    SERVICE_PAUSED = "service.paused"
    SERVICE_RESUMED = "service.resumed"
    WORKERS_DEDICATED = "workers.dedicated"
    WORKERS_SHARED = "workers.shared"
    SERVICE_BACKED_UP = "service.backed_up"
    SERVICE_RESTORED = "service.restored"


Facts = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class EntryCount:
    """How often an action stands in a log within a time, and when first and last."""

    action: str
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One link of an installation's chain. `sealed` is the encrypted details; `details_hash` their salted hash."""

    installation_id: int
    seq: int
    at: datetime
    actor: str
    action: str
    run_id: UUID | None
    sealed: bytes
    details_hash: str
    previous_hash: str
    hash: str
