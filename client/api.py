"""The calls that the service's API has, and what they give. Written by `client.generate`; to change it, change the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from client.connection import Connection


class _Given(BaseModel):
    """What a later version of the service gives besides is left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Session(_Given):
    """`form_key` is what a script of this browser shows in the header X-Form-Key where it changes something."""

    login: str
    form_key: str
    ends_at: datetime


class Installation(_Given):
    id: int
    account: str
    account_type: str
    suspended: bool
    paused_at: datetime | None
    """Since when the App is uninstalled or its plan over."""


class Summary(_Given):
    """`held` counts rows by table, vectors and stored exports."""

    id: int
    account: str
    account_type: str
    suspended: bool
    paused_at: datetime | None
    """Since when the App is uninstalled or its plan over."""
    held: dict[str, int]
    log_since: datetime | None
    log_head: str


class Run(_Given):
    """A request and what became of it; `about` is the issue that the pull request `number` was opened for, or `number` itself."""

    id: UUID
    repository_id: int
    number: int
    about: int
    verb: str
    asked_by: str
    state: str
    """`queued`, `running`, or one of six ends."""
    reason: str | None
    stop_asked: bool
    pull_request: int | None
    attempts: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: str
    cost_limit_usd: str | None
    asked_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class RunsPage(_Given):
    """`next` is the `beyond` of the page that follows, None at the end."""

    runs: list[Run]
    next: UUID | None


class Station(_Given):
    """`seconds` is how long this is behind the station before."""

    name: str
    standing: str
    """`done`, `at work`, `to come` or `not needed`."""
    at: datetime | None
    seconds: float | None


class Figures(_Given):
    """What was counted over all tries; None for what was not come to."""

    turns: int
    unanswered: int
    """Questions to the model that brought nothing (yet)."""
    tools: int
    models: list[str]
    files: int | None
    added: int | None
    removed: int | None
    checks: int | None
    passed: int | None
    problems: int | None
    """What a second look at the change remarked."""


class Journey(_Given):
    id: UUID
    repository_id: int
    number: int
    about: int
    verb: str
    asked_by: str
    state: str
    """`queued`, `running`, or one of six ends."""
    reason: str | None
    stop_asked: bool
    pull_request: int | None
    attempts: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: str
    cost_limit_usd: str | None
    asked_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    stations: list[Station]
    figures: Figures


class Sum(_Given):
    """Of some runs together; `cost_usd` is exact."""

    runs: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: str


class Day(_Given):
    runs: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: str
    day: date


class RepositorySum(_Given):
    runs: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    cost_usd: str
    repository_id: int


class Budget(_Given):
    """`alert` is the highest of 80, 90 and 100 that `percent` reaches."""

    setting: str
    limit_usd: str
    spent_usd: str
    percent: int
    alert: int | None


class Usage(_Given):
    """Of the last `days` days of UTC, today among them. `outcomes` counts runs by what became of them: `merged`, `open` and `closed`
    pull requests, and the other ends. Of the `opened` pull requests half came within `half_seconds`, nine of ten within `most_seconds`."""

    days: int
    since: date
    total: Sum
    by_day: list[Day]
    by_repository: list[RepositorySum]
    outcomes: dict[str, int]
    opened: int
    half_seconds: float
    most_seconds: float
    budgets: list[Budget]


class Setting(_Given):
    name: str
    value: str
    means: str
    example: str


class Destination(_Given):
    provider: str
    model: str
    host: str
    region: str
    own_key: bool
    allowed: bool


class Settings(_Given):
    settings: list[Setting]
    destinations: list[Destination]
    """Where code may go now."""
    receipts_fingerprint: str


class Changed(_Given):
    name: str
    old: str
    new: str


class Key(_Given):
    """What may be seen of a key."""

    provider: str
    last_four: str
    base_url: str | None
    created_by: str
    created_at: datetime
    checked_at: datetime | None
    why_unchecked: str = ""


class Member(_Given):
    """Somebody with a role of their own; `login` is what they were called when it was given."""

    id: int
    """GitHub's id of the account."""
    login: str
    role: str
    given_by: str
    given_at: datetime


class RoleChanged(_Given):
    login: str
    old: str
    new: str


class Token(_Given):
    id: UUID
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime


class MadeToken(_Given):
    id: UUID
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime
    token: str
    """Shown this once."""


Scope = Literal["runs", "log", "export", "settings", "delete"]
"""What a token of the API may do. Each may read what the installation's summary says."""

RunEvent = Literal["run.accepted", "run.started", "run.ended"]
"""What hooks are told of a run. It ends more than once where a redelivery takes it up again after a failure of ours."""


class Hook(_Given):
    """What may be seen of a webhook. `last_status` is what it answered at `last_at`, None for nothing."""

    id: UUID
    host: str
    events: list[RunEvent]
    created_by: str
    created_at: datetime
    last_at: datetime | None
    last_status: int | None


class MadeHook(_Given):
    id: UUID
    host: str
    events: list[RunEvent]
    created_by: str
    created_at: datetime
    last_at: datetime | None
    last_status: int | None
    secret: str
    """What it is signed with. Shown this once."""


class Sent(_Given):
    """Whether it was taken (any status of 2xx), and what was answered; `why` says in a word why there was no answer."""

    taken: bool
    status: int | None
    why: str


class Entry(_Given):
    """One link of the chain; `details` is None where they cannot be opened any more."""

    installation_id: int
    seq: int
    at: str
    actor: str
    action: str
    run_id: str | None
    details: dict[str, Any] | None
    details_hash: str
    previous_hash: str
    hash: str


class LogPage(_Given):
    """`next` is the `after` of the page that follows, None at the end."""

    entries: list[Entry]
    next: int | None
    head: str


Format = Literal["json", "jsonl", "csv", "text"]
"""JSON: one document. JSON lines: an entry a line. CSV: for a spreadsheet. Text: for reading; it cannot be verified."""


class Finding(_Given):
    kind: str
    position: int
    seq: int
    message: str


class Report(_Given):
    """The chain, recomputed."""

    ok: bool
    entries: int
    head: str | None
    closed: int
    """Entries whose details cannot be opened any more."""
    pruned_to: int
    """The last entry that retention removed, as a later one attests."""
    quoted_heads: int
    findings: list[Finding]
    more_findings: int


class Export(_Given):
    """`state` is `asked`, `made`, `failed` or `expired`; it can be downloaded from `made_at` until `expires_at`."""

    id: UUID
    state: str
    asked_by: str
    asked_at: datetime
    made_at: datetime | None
    expires_at: datetime | None
    size: int | None
    sha256: str | None
    percent: int
    """How much of it is written."""


class Erasure(_Given):
    """`step` says how far it is; `receipt` is the signed document once there is one."""

    id: UUID
    installation_id: int
    asked_at: datetime
    step: str
    done: bool
    receipt_url: str
    receipt: dict[str, Any] | None = None


class Client:
    """Each call raises ProblemError where the service says no, UnavailableError where it does not answer, and UnreadableError where
    something else answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def get_session(self) -> Session:
        """Who is signed in, and the form key."""
        return await self._connection.ask(Session, "GET", "/api/session")

    async def list_installations(self, *, account: str = "") -> list[Installation]:
        """Those on the signed-in person's own account; with `account` the one on that account, if they administer it."""
        return await self._connection.ask(
            list[Installation], "GET", "/api/installations", query={"account": account}
        )

    async def get_installation(self, tenant: int) -> Summary:
        """What is held. Any token of the installation may read this."""
        return await self._connection.ask(Summary, "GET", f"/api/installations/{tenant}")

    async def list_runs(
        self,
        tenant: int,
        *,
        repository: str = "",
        state: str = "",
        verb: str = "",
        beyond: UUID | None = None,
        limit: int = 50,
    ) -> RunsPage:
        """Newest first. Scope `runs`; with `repository`, also the session of somebody who may read it."""
        return await self._connection.ask(
            RunsPage,
            "GET",
            f"/api/installations/{tenant}/runs",
            query={"repository": repository, "state": state, "verb": verb, "beyond": beyond, "limit": limit},
        )

    async def get_run(self, tenant: int, run_id: UUID) -> Journey:
        """Scope `runs`, or the session of somebody who may read its repository."""
        return await self._connection.ask(Journey, "GET", f"/api/installations/{tenant}/runs/{run_id}")

    async def stop_run(self, tenant: int, run_id: UUID) -> Run:
        """Told once, however often it is asked for. For the session of somebody who may write to its repository."""
        return await self._connection.ask(Run, "POST", f"/api/installations/{tenant}/runs/{run_id}/stop")

    async def retry_run(self, tenant: int, run_id: UUID) -> Run:
        """The new run; the same one, however often it is asked for. For the session of somebody who may write there."""
        return await self._connection.ask(Run, "POST", f"/api/installations/{tenant}/runs/{run_id}/retry")

    async def get_usage(self, tenant: int, *, days: int = 30) -> Usage:
        """What was used, by day and repository, and the budgets. Scope `runs`."""
        return await self._connection.ask(
            Usage, "GET", f"/api/installations/{tenant}/usage", query={"days": days}
        )

    async def get_settings(self, tenant: int) -> Settings:
        """What was chosen, and where code may go. Scope `settings`."""
        return await self._connection.ask(Settings, "GET", f"/api/installations/{tenant}/settings")

    async def change_setting(self, tenant: int, name: str, *, value: str) -> Changed:
        """One setting, the legal hold among them. Scope `settings`."""
        return await self._connection.ask(
            Changed,
            "PUT",
            f"/api/installations/{tenant}/settings/{quote(name, safe='')}",
            body={"value": value},
        )

    async def list_provider_keys(self, tenant: int) -> list[Key]:
        """The installation's own keys of model providers, as far as they may be seen. Scope `settings`."""
        return await self._connection.ask(list[Key], "GET", f"/api/installations/{tenant}/provider-keys")

    async def put_provider_key(
        self, tenant: int, provider: str, *, key: str, base_url: str | None = None
    ) -> Key:
        """Checked with the provider and kept, in the place of the last one. Scope `settings`."""
        return await self._connection.ask(
            Key,
            "PUT",
            f"/api/installations/{tenant}/provider-keys/{quote(provider, safe='')}",
            body={"key": key, "base_url": base_url},
        )

    async def remove_provider_key(self, tenant: int, provider: str) -> None:
        """Also where there is none. Runs that use it stop before they ask again. Scope `settings`."""
        await self._connection.send(
            "DELETE", f"/api/installations/{tenant}/provider-keys/{quote(provider, safe='')}"
        )

    async def list_members(self, tenant: int) -> list[Member]:
        """Those who have a role of their own; of everybody else GitHub decides. Scope `settings`."""
        return await self._connection.ask(list[Member], "GET", f"/api/installations/{tenant}/members")

    async def give_role(self, tenant: int, login: str, *, role: str) -> RoleChanged:
        """The role of whoever has this login now, kept by their account's id. For a session alone: a token appoints nobody."""
        return await self._connection.ask(
            RoleChanged,
            "PUT",
            f"/api/installations/{tenant}/members/{quote(login, safe='')}",
            body={"role": role},
        )

    async def take_role(self, tenant: int, login: str) -> RoleChanged:
        """GitHub decides again: of whoever has this login now, else of who had it when the role was given. For a session alone."""
        return await self._connection.ask(
            RoleChanged, "DELETE", f"/api/installations/{tenant}/members/{quote(login, safe='')}"
        )

    async def list_tokens(self, tenant: int) -> list[Token]:
        """For a session alone."""
        return await self._connection.ask(list[Token], "GET", f"/api/installations/{tenant}/tokens")

    async def make_token(self, tenant: int, *, scopes: tuple[Scope, ...] = (), days: int = 30) -> MadeToken:
        """For a session alone: a token makes no tokens."""
        return await self._connection.ask(
            MadeToken, "POST", f"/api/installations/{tenant}/tokens", body={"scopes": scopes, "days": days}
        )

    async def remove_token(self, tenant: int, token_id: UUID) -> None:
        """Also where there is none. For a session alone."""
        await self._connection.send("DELETE", f"/api/installations/{tenant}/tokens/{token_id}")

    async def list_hooks(self, tenant: int) -> list[Hook]:
        """Oldest first; of an address its host alone. Scope `settings`."""
        return await self._connection.ask(list[Hook], "GET", f"/api/installations/{tenant}/hooks")

    async def make_hook(
        self,
        tenant: int,
        *,
        url: str,
        events: tuple[RunEvent, ...] = ("run.accepted", "run.started", "run.ended"),
    ) -> MadeHook:
        """At most five. Nothing is sent to it yet. Scope `settings`."""
        return await self._connection.ask(
            MadeHook, "POST", f"/api/installations/{tenant}/hooks", body={"url": url, "events": events}
        )

    async def remove_hook(self, tenant: int, hook_id: UUID) -> None:
        """Also where there is none. What it was not told yet it is not told any more. Scope `settings`."""
        await self._connection.send("DELETE", f"/api/installations/{tenant}/hooks/{hook_id}")

    async def ping_hook(self, tenant: int, hook_id: UUID) -> Sent:
        """Sends an event `ping` once, and waits ten seconds at most for what it answers. Scope `settings`."""
        return await self._connection.ask(Sent, "POST", f"/api/installations/{tenant}/hooks/{hook_id}/ping")

    async def list_actions(
        self,
        tenant: int,
        *,
        after: int = 0,
        limit: int = 100,
        since: str | None = None,
        until: str | None = None,
        repository: str | None = None,
        run: str | None = None,
        kind: str | None = None,
        actor: str | None = None,
    ) -> LogPage:
        """Oldest first, without salts: what is to be verified is downloaded. Scope `log`; with `run`, also the session of
        somebody who may write to that run's repository."""
        return await self._connection.ask(
            LogPage,
            "GET",
            f"/api/installations/{tenant}/actions",
            query={
                "after": after,
                "limit": limit,
                "since": since,
                "until": until,
                "repository": repository,
                "run": run,
                "kind": kind,
                "actor": actor,
            },
        )

    def download_actions(
        self,
        tenant: int,
        *,
        format: Format = "jsonl",
        since: str | None = None,
        until: str | None = None,
        repository: str | None = None,
        run: str | None = None,
        kind: str | None = None,
        actor: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """All of it, or the part that is asked for. Each download is an entry in the log. Scope `log`."""
        return self._connection.stream(
            f"/api/installations/{tenant}/actions/download",
            query={
                "format": format,
                "since": since,
                "until": until,
                "repository": repository,
                "run": run,
                "kind": kind,
                "actor": actor,
            },
        )

    async def verify_actions(self, tenant: int, *, heads: tuple[str, ...] = ()) -> Report:
        """Recomputes the chain on the server; it takes a while for a long one. Scope `log`."""
        return await self._connection.ask(
            Report, "POST", f"/api/installations/{tenant}/actions/verify", body={"heads": heads}
        )

    async def list_exports(self, tenant: int) -> list[Export]:
        """Newest first. Scope `export`."""
        return await self._connection.ask(list[Export], "GET", f"/api/installations/{tenant}/exports")

    async def ask_for_export(self, tenant: int) -> Export:
        """Asks for one; while one is being made, that one is given. Scope `export`."""
        return await self._connection.ask(Export, "POST", f"/api/installations/{tenant}/exports")

    async def get_export(self, tenant: int, export_id: UUID) -> Export:
        """Scope `export`."""
        return await self._connection.ask(Export, "GET", f"/api/installations/{tenant}/exports/{export_id}")

    def download_export(
        self, tenant: int, export_id: UUID
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Each download is an entry in the log. Scope `export`."""
        return self._connection.stream(f"/api/installations/{tenant}/exports/{export_id}/download")

    async def delete_all(self, tenant: int, *, account: str) -> Erasure:
        """Destroys all that is held, confirmed by the account's login. `receipt_url` needs no token. Scope `delete`."""
        return await self._connection.ask(
            Erasure, "POST", f"/api/installations/{tenant}/deletion", body={"account": account}
        )

    async def get_receipt(self, tenant: int, erasure_id: UUID) -> Erasure:
        """How far a deletion is, and in the end its receipt. Whoever has the address may see it."""
        return await self._connection.ask(Erasure, "GET", f"/api/receipts/{tenant}/{erasure_id}")
