"""GitHub's models as the app's nouns."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from githubkit_schemas.v2026_03_10 import models
from pydantic import BaseModel, ValidationError

from app.nouns import Account, Comment, Commit, Comparison, Issue, PullRequest, Repository
from infra.github.translate import translated

GHOST: Final = Account(id=10137, login="ghost", type="User")
"""Who GitHub names where an account was deleted: https://github.com/ghost"""


def account(user: object) -> Account:
    return Account(user.id, user.login, user.type) if isinstance(user, models.SimpleUser) else GHOST


def repository(found: models.InstallationRepositoriesGetResponse200PropRepositoriesItems) -> Repository:
    owner, _, name = found.full_name.partition("/")
    return Repository(
        id=found.id,
        owner=owner,
        name=name,
        default_branch=found.default_branch,
        private=found.private,
        archived=found.archived,
        disabled=found.disabled,
        has_issues=found.has_issues,
        size_kb=found.size,
        html_url=found.html_url,
    )


def issue(found: models.Issue) -> Issue:
    labels = (label if isinstance(label, str) else (label.name or "") for label in found.labels)
    return Issue(
        id=found.id,
        number=found.number,
        title=found.title,
        body=found.body or "",
        state=found.state,
        locked=found.locked,
        author=account(found.user),
        is_pull_request=bool(found.pull_request),
        labels=tuple(str(label) for label in labels if label),
        assignees=tuple(one.login for one in found.assignees or ()),
        html_url=found.html_url,
        updated_at=found.updated_at,
    )


def comment(found: models.IssueComment) -> Comment:
    return Comment(
        id=found.id,
        body=found.body or "",
        author=account(found.user),
        html_url=found.html_url,
        created_at=found.created_at,
        updated_at=found.updated_at,
    )


class _Account(BaseModel):
    id: int
    login: str
    type: str


class _Held(BaseModel):
    permission: str
    user: _Account | None


def person(found: object) -> Account:
    """Who somebody is, and no more of what GitHub tells about people. Raises TransientError for what is nobody."""
    try:
        read = _Account.model_validate(found)
    except ValidationError as error:
        raise translated(error) from None
    return Account(read.id, read.login, read.type)


def permission_of(found: object) -> tuple[str, Account | None]:
    """A permission in a repository, and who holds it. Raises TransientError for what is none."""
    try:
        read = _Held.model_validate(found)
    except ValidationError as error:
        raise translated(error) from None
    holder = read.user
    return read.permission, Account(holder.id, holder.login, holder.type) if holder else None


class _OnCode(BaseModel):
    """A comment on a line, as GitHub really sends it: its description forbids the nulls of one that is outdated.

    https://github.com/github/rest-api-description/issues/5568
    """

    id: int
    body: str
    user: _Account | None
    html_url: str
    created_at: datetime
    updated_at: datetime
    path: str
    line: int | None = None
    pull_request_review_id: int | None = None
    in_reply_to_id: int | None = None


def comment_on_code(found: object) -> Comment:
    """Raises TransientError for what is no comment on a line."""
    try:
        read = _OnCode.model_validate(found)
    except ValidationError as error:
        raise translated(error) from None
    return Comment(
        id=read.id,
        body=read.body,
        author=Account(read.user.id, read.user.login, read.user.type) if read.user else GHOST,
        html_url=read.html_url,
        created_at=read.created_at,
        updated_at=read.updated_at,
        path=read.path,
        line=read.line,
        review_id=read.pull_request_review_id,
        reply_to=read.in_reply_to_id,
    )


def review(found: models.PullRequestReview) -> Comment:
    """A review has one time, its submission; one that is not submitted has none and is nobody's to see yet."""
    at = (
        found.submitted_at
        if isinstance(found.submitted_at, datetime)
        else datetime.fromtimestamp(0).astimezone()
    )
    return Comment(
        id=found.id,
        body=found.body,
        author=account(found.user),
        html_url=found.html_url,
        created_at=at,
        updated_at=at,
    )


class _Repo(BaseModel):
    id: int


class _End(BaseModel):
    ref: str
    sha: str
    repo: _Repo | None = None


class _Pull(BaseModel):
    """What is read of a pull request, and no more of it: githubkit's models refuse one with a label unless the label says
    who archived it, and says null (`archived_by`)."""

    number: int
    node_id: str
    title: str
    body: str | None = None
    state: str
    draft: bool | None = None
    merged_at: datetime | None = None
    head: _End
    base: _End
    html_url: str


def pull_request(found: object) -> PullRequest:
    """Raises TransientError for what is no pull request. https://docs.github.com/rest/pulls/pulls#get-a-pull-request"""
    try:
        read = _Pull.model_validate(found)
    except ValidationError as error:
        raise translated(error) from None
    return PullRequest(
        number=read.number,
        node_id=read.node_id,
        title=read.title,
        body=read.body or "",
        state=read.state,
        draft=bool(read.draft),
        merged=read.merged_at is not None,
        head_ref=read.head.ref,
        head_sha=read.head.sha,
        head_repository_id=read.head.repo.id if read.head.repo else None,
        base_ref=read.base.ref,
        base_sha=read.base.sha,
        html_url=read.html_url,
    )


def commit(found: models.Commit) -> Commit:
    verification = found.commit.verification
    return Commit(
        sha=found.sha,
        tree_sha=found.commit.tree.sha,
        parents=tuple(parent.sha for parent in found.parents),
        message=found.commit.message,
        author_login=found.author.login if isinstance(found.author, models.SimpleUser) else None,
        verified=verification.verified if isinstance(verification, models.Verification) else False,
        committer_login=found.committer.login if isinstance(found.committer, models.SimpleUser) else None,
    )


def comparison(found: models.CommitComparison) -> Comparison:
    return Comparison(found.ahead_by, found.behind_by, found.merge_base_commit.sha)


def git_commit(found: models.GitCommit) -> Commit:
    return Commit(
        sha=found.sha,
        tree_sha=found.tree.sha,
        parents=tuple(parent.sha for parent in found.parents),
        message=found.message,
        author_login=None,
        verified=found.verification.verified,
    )
