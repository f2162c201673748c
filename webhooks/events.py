"""The parts of GitHub's payloads that are read, strictly typed; whatever else a payload holds is dropped.

https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[int, Field(gt=0, lt=2**63)]
Sha = Annotated[str, Field(pattern=r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\z")]
Name = Annotated[str, Field(max_length=255, pattern=r"\A[^\x00-\x1f\x7f]*\z")]
"""A word of GitHub's own or of an account: short, on one line, and without the NUL that PostgreSQL does not store."""
Login = Annotated[Name, Field(min_length=1)]
Timestamp = Annotated[Name, Field(min_length=1, max_length=64)]
Ref = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"\A[^\x00-\x1f\x7f]*\z")]


class Payload(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Account(Payload):
    id: Id
    login: Login
    type: Name = "User"


class App(Payload):
    id: Id
    slug: str | None = None


class InstallationRef(Payload):
    id: Id


class Repository(Payload):
    id: Id
    full_name: Annotated[str, Field(min_length=3, max_length=512, pattern=r"\A[^\x00-\x1f\x7f]*\z")]


class Envelope(Payload):
    """What every event may carry beside its own subject."""

    action: Name | None = None
    installation: InstallationRef | None = None
    repository: Repository | None = None
    sender: Account | None = None


class Label(Payload):
    name: str


class PullRequestMark(Payload):
    """Present on an issue that is a pull request; only its presence counts."""


class Issue(Payload):
    number: Id
    title: str
    body: str | None = None
    user: Account | None = None
    pull_request: PullRequestMark | None = None
    updated_at: Timestamp


class Comment(Payload):
    id: Id
    body: str
    user: Account | None
    performed_via_github_app: App | None = None


class ReviewComment(Comment):
    pull_request_review_id: Id | None = None


class Review(Payload):
    id: Id
    body: str | None
    user: Account | None
    state: Name
    performed_via_github_app: App | None = None


class PullRequestText(Payload):
    """A pull request as a review event shows it."""

    number: Id
    title: str
    body: str | None = None


class HeadRepository(Payload):
    id: Id


class Head(Payload):
    ref: Ref
    sha: Sha
    repo: HeadRepository | None = None


class ReviewedPullRequest(PullRequestText):
    head: Head


class Base(Payload):
    ref: Ref


class PullRequest(Payload):
    number: Id
    state: Name
    draft: bool = False
    merged: bool = False
    head: Head
    base: Base


class ChangedText(Payload):
    from_: Annotated[str | None, Field(alias="from")] = None


class Changes(Payload):
    body: ChangedText | None = None


class RepositoryEvent(Envelope):
    """An event about something inside a repository, set off by somebody."""

    action: Name
    repository: Repository
    sender: Account


class IssueCommentEvent(RepositoryEvent):
    issue: Issue
    comment: Comment
    changes: Changes | None = None


class ReviewCommentEvent(RepositoryEvent):
    pull_request: PullRequestText
    comment: ReviewComment
    changes: Changes | None = None


class ReviewEvent(RepositoryEvent):
    pull_request: ReviewedPullRequest
    review: Review
    changes: Changes | None = None


class IssuesEvent(RepositoryEvent):
    issue: Issue
    label: Label | None = None
    assignee: Account | None = None


class PullRequestEvent(RepositoryEvent):
    pull_request: PullRequest


class CheckSuite(Payload):
    id: Id
    head_sha: Sha
    head_branch: Ref | None
    conclusion: Name | None


class CheckSuiteEvent(RepositoryEvent):
    check_suite: CheckSuite


class PushedRepository(Repository):
    default_branch: Ref


class PushEvent(Envelope):
    repository: PushedRepository
    ref: Ref
    before: Sha
    after: Sha
    created: bool
    deleted: bool
    forced: bool


class RepositoryRef(Payload):
    id: Id


class Installation(InstallationRef):
    account: Account
    repository_selection: Name
    suspended_at: Name | None = None


class InstallationEvent(Envelope):
    action: Name
    installation: Installation
    repositories: list[RepositoryRef] | None = None


class InstallationRepositoriesEvent(Envelope):
    action: Name
    installation: Installation
    repositories_added: list[RepositoryRef]
    repositories_removed: list[RepositoryRef]


class Purchase(Payload):
    account: Account


class MarketplacePurchaseEvent(Envelope):
    """https://docs.github.com/en/apps/github-marketplace/using-the-github-marketplace-api-in-your-app/webhook-events-for-the-github-marketplace-api"""

    action: Name
    effective_date: Annotated[datetime, Field(strict=False)]
    marketplace_purchase: Purchase
    sender: Account


class PingEvent(Envelope):
    hook_id: Id
