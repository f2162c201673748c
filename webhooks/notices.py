"""What a delivery can tell besides a command: facts about installations, pull requests, checks and branches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from webhooks.command import Actor, Command


@dataclass(frozen=True, slots=True)
class InstallationChanged:
    """`action`: created, deleted, suspend, unsuspend or new_permissions_accepted. `account_type`: User or Organization.

    `repository_ids` are those the payload names; with `all_repositories` the list may be incomplete.
    """

    action: str
    installation_id: int
    account_id: int
    account_login: str
    suspended: bool
    all_repositories: bool
    repository_ids: tuple[int, ...]
    sender: Actor | None
    account_type: str = "Organization"


@dataclass(frozen=True, slots=True)
class RepositoriesChanged:
    """Repositories were put into or taken out of an installation (`action`: added or removed)."""

    action: str
    installation_id: int
    account_id: int
    account_login: str
    added: tuple[int, ...]
    removed: tuple[int, ...]
    sender: Actor | None
    account_type: str = "Organization"


@dataclass(frozen=True, slots=True)
class PullRequestChanged:
    """A pull request was opened, edited, pushed to, closed, reopened, or changed its draft state.

    `head_repository_id` is None when the fork that it came from is gone.
    """

    action: str
    installation_id: int
    repository_id: int
    number: int
    state: str
    merged: bool
    draft: bool
    head_ref: str
    head_sha: str
    head_repository_id: int | None
    base_ref: str
    sender: Actor


@dataclass(frozen=True, slots=True)
class ChecksCompleted:
    """All check runs of one app on a head have ended. `head_branch` is None for a fork's head."""

    installation_id: int
    repository_id: int
    check_suite_id: int
    head_sha: str
    head_branch: str | None
    conclusion: str | None


@dataclass(frozen=True, slots=True)
class Pushed:
    """A ref moved from `before` to `after`; forty zeros stand for a ref that was not there, or is no more."""

    installation_id: int
    repository_id: int
    default_branch: str
    ref: str
    before: str
    after: str
    created: bool
    deleted: bool
    forced: bool
    sender: Actor | None


@dataclass(frozen=True, slots=True)
class PlanChanged:
    """An account bought, changed or cancelled its plan on GitHub's Marketplace.

    `action`: purchased, cancelled, changed, pending_change or pending_change_cancelled. Only `cancelled` says that the plan
    has ended. The payload names the account and no installation: one account has one installation, or none.
    `effective_date` has a time zone.
    """

    action: str
    account_id: int
    account_login: str
    effective_date: datetime
    sender: Actor


@dataclass(frozen=True, slots=True)
class Ping:
    """GitHub asks whether anybody is there."""

    hook_id: int


Notice = (
    InstallationChanged
    | RepositoriesChanged
    | PullRequestChanged
    | ChecksCompleted
    | Pushed
    | PlanChanged
    | Ping
)


@dataclass(frozen=True, slots=True)
class Ignored:
    """A genuine delivery that asks for nothing; `reason` is a short, stable code without content."""

    reason: str


Outcome = Command | Notice | Ignored


@dataclass(frozen=True, slots=True)
class Received:
    """One verified delivery, read. `guid` and `event` come from headers that GitHub does not sign."""

    guid: str
    event: str
    action: str | None
    installation_id: int | None
    repository_id: int | None
    sender: Actor | None
    outcome: Outcome
