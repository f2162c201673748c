"""What the simulated GitHub remembers: accounts, the App, repositories, conversations, deliveries, its clock.

Everything but git objects lives in memory and is forgotten when the simulator stops. Nothing here checks a
permission or shapes an answer.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.simulator.ci import Workflow
    from infra.simulator.git import Git

ZERO_SHA = "0" * 40

ROLES = ("none", "read", "triage", "write", "maintain", "admin")
"""GitHub's repository roles, weakest first."""

APP_PERMISSIONS: Mapping[str, str] = {
    "actions": "read",
    "checks": "read",
    "contents": "write",
    "issues": "write",
    "metadata": "read",
    "pull_requests": "write",
    "statuses": "read",
}
APP_EVENTS: tuple[str, ...] = (
    "check_run",
    "check_suite",
    "issue_comment",
    "issues",
    "pull_request",
    "pull_request_review",
    "pull_request_review_comment",
    "pull_request_review_thread",
    "push",
    "repository",
    "status",
)
UNASKED_EVENTS = frozenset(
    {"installation", "installation_repositories", "installation_target", "ping", "github_app_authorization"}
)
"""Events that every App gets, whatever it subscribes to: https://docs.github.com/webhooks/webhook-events-and-payloads"""


def stamp(moment: datetime) -> str:
    """GitHub's format of a time: `2026-11-20T23:00:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(prefix: str, number: int) -> str:
    """A global id in the present format: a type's prefix and opaque letters, such as `I_kwDOAA9CQQ`.

    https://docs.github.com/graphql/guides/migrating-graphql-global-node-ids
    """
    letters = base64.urlsafe_b64encode(b"\x93\x00\xce" + number.to_bytes(6, "big")).decode().rstrip("=")
    return f"{prefix}_{letters}"


# --- accounts --------------------------------------------------------------------------------------------------------


@dataclass
class User:
    """An account: a person, the App's bot, or an organization (`type`: "User", "Bot", "Organization").

    `owner_ids` are an organization's owners.
    """

    id: int
    login: str
    type: str = "User"
    name: str | None = None
    site_admin: bool = False
    owner_ids: set[int] = field(default_factory=set)

    @property
    def node_id(self) -> str:
        return node_id({"User": "U", "Bot": "BOT", "Organization": "O"}[self.type], self.id)

    @property
    def email(self) -> str:
        """https://docs.github.com/account-and-profile/reference/email-addresses-reference"""
        return f"{self.id}+{self.login}@users.noreply.github.com"


@dataclass
class App:
    id: int
    slug: str
    name: str
    client_id: str
    private_key_pem: str
    webhook_secret: str
    owner_id: int
    bot_id: int
    hook_id: int
    created_at: datetime
    client_secret: str = ""
    callback_urls: list[str] = field(default_factory=list)
    setup_url: str = ""
    public: bool = True  # False: only its owner's account can have it
    permissions: dict[str, str] = field(default_factory=lambda: dict(APP_PERMISSIONS))
    events: list[str] = field(default_factory=lambda: list(APP_EVENTS))

    @property
    def node_id(self) -> str:
        return node_id("A", self.id)


@dataclass
class Installation:
    id: int
    account_id: int
    repository_ids: set[int]
    permissions: dict[str, str]
    events: list[str]
    created_at: datetime
    updated_at: datetime
    selection: str = "selected"  # "all", "selected"
    suspended_at: datetime | None = None
    suspended_by_id: int | None = None

    @property
    def node_id(self) -> str:
        return node_id("MDIzOkludGVncmF0aW9u", self.id)


@dataclass
class Token:
    """A user's own token (no installation, never expires), one that a user gave the App (`refresh`), or an installation's,
    possibly narrowed."""

    value: str
    user_id: int | None = None
    refresh: str | None = None  # the refresh token that came with it
    installation_id: int | None = None
    repository_ids: frozenset[int] | None = None  # None: all of the installation
    permissions: dict[str, str] = field(default_factory=dict)
    expires_at: datetime | None = None


@dataclass
class SignInCode:
    """What the browser brings back from a sign-in, good for one exchange."""

    user_id: int
    redirect_uri: str
    challenge: str | None
    expires_at: datetime


@dataclass
class Registered:
    """What the browser brings back from a registration, good for one exchange."""

    code: str
    expires_at: datetime


# --- conversations ---------------------------------------------------------------------------------------------------


@dataclass
class Reaction:
    id: int
    user_id: int
    content: str  # "+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes"
    created_at: datetime

    @property
    def node_id(self) -> str:
        return node_id("REA", self.id)


@dataclass
class Label:
    id: int
    name: str
    color: str = "ededed"
    description: str | None = None
    default: bool = False

    @property
    def node_id(self) -> str:
        return node_id("LA", self.id)


@dataclass
class Comment:
    """A comment on an issue or on a pull request's conversation."""

    id: int
    issue_number: int
    user_id: int
    body: str
    created_at: datetime
    updated_at: datetime
    by_app: bool = False
    reactions: list[Reaction] = field(default_factory=list)

    @property
    def node_id(self) -> str:
        return node_id("IC", self.id)


@dataclass
class ReviewComment:
    """A comment on a line of a pull request's diff."""

    id: int
    pull_number: int
    review_id: int | None
    user_id: int
    body: str
    path: str
    commit_id: str
    original_commit_id: str
    diff_hunk: str
    created_at: datetime
    updated_at: datetime
    line: int | None = None
    original_line: int | None = None
    start_line: int | None = None
    original_start_line: int | None = None
    side: str = "RIGHT"
    start_side: str | None = None
    position: int | None = None
    original_position: int | None = None
    subject_type: str = "line"
    in_reply_to_id: int | None = None
    thread_id: int | None = None
    reactions: list[Reaction] = field(default_factory=list)

    @property
    def node_id(self) -> str:
        return node_id("PRRC", self.id)


@dataclass
class ReviewThread:
    id: int
    pull_number: int
    comment_ids: list[int]
    resolved: bool = False
    resolved_by_id: int | None = None

    @property
    def node_id(self) -> str:
        return node_id("PRRT", self.id)


@dataclass
class Review:
    id: int
    pull_number: int
    user_id: int
    body: str
    state: str  # "PENDING", "COMMENTED", "APPROVED", "CHANGES_REQUESTED", "DISMISSED"
    commit_id: str
    submitted_at: datetime | None
    created_at: datetime

    @property
    def node_id(self) -> str:
        return node_id("PRR", self.id)


@dataclass
class PullRequest:
    """What a pull request has beyond its issue, which has the same number."""

    id: int
    number: int
    head_repository_id: int | None  # None when the fork is gone
    head_ref: str  # without refs/heads/
    head_sha: str
    base_ref: str
    base_sha: str
    draft: bool = False
    merged_at: datetime | None = None
    merged_by_id: int | None = None
    merge_commit_sha: str | None = None
    maintainer_can_modify: bool = False
    merging: bool = False  # its merge commit is on the way to the base
    requested_reviewer_ids: list[int] = field(default_factory=list)
    reviews: dict[int, Review] = field(default_factory=dict)
    review_comments: dict[int, ReviewComment] = field(default_factory=dict)
    threads: dict[int, ReviewThread] = field(default_factory=dict)

    @property
    def node_id(self) -> str:
        return node_id("PR", self.id)

    @property
    def merged(self) -> bool:
        return self.merged_at is not None


@dataclass
class Issue:
    """An issue, or the issue side of a pull request."""

    id: int
    number: int
    title: str
    body: str | None
    user_id: int
    created_at: datetime
    updated_at: datetime
    state: str = "open"
    state_reason: str | None = None
    locked: bool = False
    active_lock_reason: str | None = None
    closed_at: datetime | None = None
    closed_by_id: int | None = None
    by_app: bool = False
    labels: list[str] = field(default_factory=list)
    assignee_ids: list[int] = field(default_factory=list)
    comments: dict[int, Comment] = field(default_factory=dict)
    reactions: list[Reaction] = field(default_factory=list)
    pull: PullRequest | None = None

    @property
    def node_id(self) -> str:
        return self.pull.node_id if self.pull else node_id("I", self.id)


@dataclass
class CheckSuite:
    id: int
    head_sha: str
    head_branch: str | None
    app_slug: str
    created_at: datetime
    updated_at: datetime
    status: str = "queued"
    conclusion: str | None = None

    @property
    def node_id(self) -> str:
        return node_id("CS", self.id)


@dataclass
class CheckRun:
    id: int
    suite_id: int
    name: str
    head_sha: str
    status: str  # "queued", "in_progress", "completed"
    conclusion: str | None
    started_at: datetime
    completed_at: datetime | None
    app_slug: str
    external_id: str = ""
    details_url: str | None = None
    title: str | None = None
    summary: str | None = None
    text: str | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)

    @property
    def node_id(self) -> str:
        return node_id("CR", self.id)


@dataclass
class Step:
    """A step of a job; one whose runner was lost stays `in_progress` for ever."""

    number: int
    name: str
    status: str = "queued"  # "queued", "in_progress", "completed"
    conclusion: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass
class Job:
    """A job of GitHub Actions. Its name, status and conclusion are those of the check run with the same id.

    `log_state`: "kept"; "expired" (the retention time is over), "deleted" (its file is gone and GitHub has not noticed).
    """

    id: int
    run_id: int
    attempt: int
    created_at: datetime
    steps: list[Step]
    log: bytes = b""
    log_state: str = "kept"
    runner: str | None = None

    @property
    def node_id(self) -> str:
        return node_id("CR", self.id)


@dataclass
class WorkflowRun:
    """A run of GitHub Actions: one check suite, in one or more attempts."""

    id: int
    suite_id: int
    workflow_id: int
    name: str
    path: str
    event: str  # "push", "pull_request"
    number: int
    head_sha: str
    head_branch: str
    actor_id: int
    triggering_actor_id: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime
    attempt: int = 1
    status: str = "queued"
    conclusion: str | None = None

    @property
    def node_id(self) -> str:
        return node_id("WFR", self.id)


@dataclass
class Status:
    id: int
    sha: str
    state: str  # "error", "failure", "pending", "success"
    context: str
    creator_id: int
    created_at: datetime
    updated_at: datetime
    description: str | None = None
    target_url: str | None = None

    @property
    def node_id(self) -> str:
        return node_id("SC", self.id)


# --- repositories ----------------------------------------------------------------------------------------------------


@dataclass
class Ruleset:
    """A repository ruleset; `rules` and `conditions` are kept as sent once they have been checked."""

    id: int
    name: str
    target: str  # "branch", "tag", "push"
    enforcement: str  # "disabled", "active", "evaluate"
    conditions: dict[str, Any]
    rules: list[dict[str, Any]]
    bypass_actors: list[dict[str, Any]]
    created_at: datetime
    updated_at: datetime

    @property
    def node_id(self) -> str:
        return node_id("RRS", self.id)


@dataclass
class Protection:
    """Classic protection of one branch. https://docs.github.com/rest/branches/branch-protection"""

    required_status_checks: dict[str, Any] | None = (
        None  # {"strict": bool, "checks": [{"context", "app_id"}]}
    )
    enforce_admins: bool = False
    required_pull_request_reviews: dict[str, Any] | None = None
    restrictions: dict[str, list[str]] | None = None  # {"users": [...], "teams": [...], "apps": [...]}
    required_linear_history: bool = False
    allow_force_pushes: bool = False
    allow_deletions: bool = False
    block_creations: bool = False
    required_conversation_resolution: bool = False
    required_signatures: bool = False
    lock_branch: bool = False
    allow_fork_syncing: bool = False


@dataclass
class Repo:
    id: int
    owner: str
    owner_id: int
    name: str
    git: Git
    default_branch: str
    created_at: datetime
    updated_at: datetime
    pushed_at: datetime
    description: str | None = None
    private: bool = True
    archived: bool = False
    disabled: bool = False
    has_issues: bool = True
    fork: bool = False
    parent_id: int | None = None
    size: int = 0  # KiB
    collaborators: dict[str, str] = field(default_factory=dict)  # lower-cased login -> role
    owners: set[int] = field(default_factory=set)  # the organization's, shared with its account
    former_names: set[str] = field(default_factory=set)  # lower-cased full names it was renamed from
    protections: dict[str, Protection] = field(default_factory=dict)
    rulesets: dict[int, Ruleset] = field(default_factory=dict)
    issues: dict[int, Issue] = field(default_factory=dict)
    transferred: dict[int, tuple[int, int]] = field(default_factory=dict)  # number -> repository id, number
    labels: dict[str, Label] = field(default_factory=dict)  # lower-cased name -> label
    check_suites: dict[int, CheckSuite] = field(default_factory=dict)
    check_runs: dict[int, CheckRun] = field(default_factory=dict)
    workflow_runs: dict[int, WorkflowRun] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    statuses: list[Status] = field(default_factory=list)
    last_number: int = 0
    allow_merge_commit: bool = True
    allow_squash_merge: bool = True
    allow_rebase_merge: bool = True
    delete_branch_on_merge: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # held while a ref is judged and moved

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def node_id(self) -> str:
        return node_id("R", self.id)

    def next_number(self) -> int:
        """Issues and pull requests share one sequence."""
        self.last_number += 1
        return self.last_number

    def role(self, user: User) -> str:
        """The user's role here: "none" (which on a public repository still reads), "read" … "admin"."""
        if user.id == self.owner_id or user.id in self.owners:
            return "admin"
        return self.collaborators.get(user.login.lower(), "none")


# --- the wire --------------------------------------------------------------------------------------------------------


@dataclass
class Delivery:
    """One attempt to deliver a webhook. A redelivery is another attempt with the same `guid`."""

    id: int
    guid: str
    event: str
    action: str | None
    installation_id: int | None
    repository_id: int | None
    body: bytes
    delivered_at: datetime
    redelivery: bool = False
    url: str = ""
    status: str = "pending"
    status_code: int = 0
    duration: float = 0.0
    request_headers: dict[str, str] = field(default_factory=dict)
    response_headers: dict[str, str] = field(default_factory=dict)
    response_body: str = ""


@dataclass
class Limits:
    """https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"""

    user_per_hour: int = 5000
    installation_per_hour: int = 5000
    anonymous_per_hour: int = 60
    concurrent: int = 100
    points_per_minute: int = 900
    content_per_minute: int = 80
    content_per_hour: int = 500
    retry_after_seconds: int = 60


@dataclass
class RequestRecord:
    """What `GET /_simulator/requests` tells of one API request."""

    id: str
    method: str
    path: str
    query: str
    at: datetime
    caller: str = "anonymous"  # "anonymous", "user", "app", "installation", "client"
    login: str | None = None
    installation_id: int | None = None
    route: str | None = None  # GitHub's own template, such as /repos/{owner}/{repo}/issues/{issue_number}
    permissions: list[str] = field(default_factory=list)  # those that were asked for, "contents:write"
    status: int | None = None  # None: the connection was dropped
    fault: str | None = None


@dataclass
class LogRequest:
    """What the host of Actions' logs was asked, headers in lower case, and what it answered."""

    path: str
    headers: dict[str, str]
    status: int


RefListener = Callable[["World", Repo, str, str, str, User], Awaitable[None]]
"""Called after a ref has moved: (world, repo, full ref, before sha, after sha, pusher)."""

EventListener = Callable[[str, str | None, Repo | None, Mapping[str, Any]], None]
"""Told of everything that happens: (event, action, repo, payload without action), whether or not the App hears of it."""


@dataclass
class World:
    data: Path
    app: App
    users: dict[int, User]
    signing_key_pem: str  # GitHub's own key for the commits that it signs
    base_url: str = ""
    app_url: str | None = None
    installations: dict[int, Installation] = field(default_factory=dict)
    repositories: dict[int, Repo] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    sign_in_codes: dict[str, SignInCode] = field(default_factory=dict)
    registered: Registered | None = None
    authorizations: set[int] = field(default_factory=set)  # the people who let the App sign them in
    deliveries: list[Delivery] = field(default_factory=list)
    requests: list[RequestRecord] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
    clock_offset: timedelta = timedelta(0)
    truncate_trees_over: int = 100_000
    archive_tickets: dict[str, tuple[int, str]] = field(default_factory=dict)  # token -> repository id, sha
    ref_listeners: list[RefListener] = field(default_factory=list)
    event_listeners: list[EventListener] = field(default_factory=list)
    workflows: dict[int, Workflow] = field(default_factory=dict)
    logs_url: str = ""  # the host of Actions' logs, another than base_url's
    log_tickets: dict[str, tuple[int, int, datetime]] = field(
        default_factory=dict
    )  # repository id, job id, end
    log_requests: list[LogRequest] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1_000_001))
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)
    _failures: list[Exception] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.clock_offset

    def next_id(self) -> int:
        """Unique over all kinds of things."""
        return next(self._ids)

    # finding things

    def user(self, user_id: int) -> User:
        return self.users[user_id]

    def user_by_login(self, login: str) -> User | None:
        return next((u for u in self.users.values() if u.login.lower() == login.lower()), None)

    def add_user(self, login: str, kind: str = "User") -> User:
        user = User(self.next_id(), login, kind)
        self.users[user.id] = user
        return user

    @property
    def bot(self) -> User:
        """The account under which the App acts: `<slug>[bot]`."""
        return self.users[self.app.bot_id]

    def repository(self, full_name: str) -> Repo | None:
        """By its present name; see `renamed` for a former one."""
        wanted = full_name.lower()
        return next((r for r in self.repositories.values() if r.full_name.lower() == wanted), None)

    def renamed(self, full_name: str) -> Repo | None:
        return next((r for r in self.repositories.values() if full_name.lower() in r.former_names), None)

    def installation_of(self, repo: Repo) -> Installation | None:
        return next((i for i in self.installations.values() if repo.id in i.repository_ids), None)

    # telling the App

    def emit(
        self,
        event: str,
        action: str | None,
        repo: Repo | None,
        payload: Mapping[str, Any],
        *,
        installation: Installation | None = None,
    ) -> Delivery | None:
        """Sends a webhook to the App, in the background, if it is installed there, not suspended, and subscribed.

        `payload` is the event's body without `action` and `installation`, which are added here. Returns the
        delivery, or None when nothing is sent. A plan of the Marketplace is told whether the App is installed or not.
        """
        from infra.simulator.deliveries import queue  # noqa: PLC0415  # deliveries know the state, not the reverse

        for listener in self.event_listeners:
            listener(event, action, repo, payload)
        if event == "marketplace_purchase":
            return queue(self, event, action, repo=None, payload=payload, installation=None)
        found = installation or (self.installation_of(repo) if repo else None)
        if found is None or (
            event not in UNASKED_EVENTS and (found.suspended_at or event not in found.events)
        ):
            return None
        return queue(self, event, action, repo=repo, payload=payload, installation=found)

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        failed = None if task.cancelled() else task.exception()
        if isinstance(failed, Exception):
            self._failures.append(failed)

    async def settled(self) -> None:
        """Waits until no webhook and no run of CI is under way. Raises what one of them failed with, once."""
        while self._under_way:
            await asyncio.gather(*list(self._under_way), return_exceptions=True)
        if self._failures:
            failed = self._failures[0]
            self._failures.clear()
            raise failed
