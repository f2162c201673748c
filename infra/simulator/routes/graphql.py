"""The part of GitHub's GraphQL that REST has no counterpart for: drafts, review threads, the pull requests that close an issue.

What is not served is refused with GitHub's own errors, never answered with less than was asked.

https://docs.github.com/graphql/reference
"""

from __future__ import annotations

import base64
import binascii
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from starlette.responses import Response

from infra.simulator import graphql_schema as schema
from infra.simulator import pullwork
from infra.simulator.answers import ApiError, requires_authentication
from infra.simulator.call import Call, endpoint
from infra.simulator.graphql_document import (
    DocumentError,
    EnumValue,
    Field,
    Operation,
    Value,
    Variable,
    VariableDefinition,
    parse,
)
from infra.simulator.graphql_schema import SCALAR, Json, RequestError
from infra.simulator.routes import reviews
from infra.simulator.routes.issues import check_not_locked
from infra.simulator.routes.pulls import set_draft
from infra.simulator.shapes_people import pull_of, web, when
from infra.simulator.state import Issue, PullRequest, Repo, Review, ReviewComment, ReviewThread, User, stamp

_MOST = (
    100  # https://docs.github.com/graphql/overview/rate-limits-and-node-limits-for-the-graphql-api#node-limit
)


class _FieldError(Exception):
    """One field could not be answered: it is null, and the error says why."""

    def __init__(self, message: str, kind: str, extensions: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message, self.kind, self.extensions = message, kind, extensions


# --- the request -----------------------------------------------------------------------------------------------------


@endpoint("POST", "/graphql")
async def graphql(call: Call) -> Response:
    """GraphQL's refusals are answered with 200 and `errors`; only credentials and broken JSON are HTTP's business."""
    if call.caller.kind == "anonymous":
        raise requires_authentication()
    if call.caller.kind == "app":
        raise ApiError(403, "Resource not accessible by integration")
    body = await call.body()
    text = body.get("query")
    if not isinstance(text, str):
        return call.answer(
            {"errors": [{"message": "A query attribute must be specified and must be a string."}]}
        )
    try:
        operation = _chosen(parse(text), body.get("operationName"))
        schema.check(operation)
        variables = _variables(operation, body.get("variables") or {})
        return call.answer(await _Execution(call, variables).run(operation))
    except DocumentError as error:
        place = {"line": error.line, "column": error.column}
        return call.answer({"errors": [{"message": error.message, "locations": [place]}]})
    except RequestError as error:
        return call.answer({"errors": [error.error]})


def _chosen(operations: tuple[Operation, ...], name: Any) -> Operation:
    if name is None and len(operations) == 1:
        return operations[0]
    found = [one for one in operations if one.name == name and name is not None]
    if len(found) != 1:
        said = "An operation name is required" if name is None else f'No operation named "{name}"'
        raise RequestError({"message": said})
    return found[0]


def _variables(operation: Operation, sent: Any) -> Mapping[str, Any]:
    if not isinstance(sent, dict):
        raise RequestError({"message": "Variables must be an object"})
    found: Json = {}
    for one in operation.variables:
        value = sent.get(one.name)
        if one.required and value is None:
            raise _unfit(one, value, "Expected value to not be null")
        if value is not None and not schema.fits(one.type, value):
            raise _unfit(one, value, f"Could not coerce value {value!r} to {one.type.rstrip('!')}")
        found[one.name] = sent.get(one.name, one.default)
    return found


def _unfit(one: VariableDefinition, value: Any, why: str) -> RequestError:
    message = f"Variable ${one.name} of type {one.type} was provided invalid value"
    problems = [{"path": [], "explanation": why}]
    return RequestError({"message": message, "extensions": {"value": value, "problems": problems}})


# --- what the fields are of ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Subject:
    """An issue or a pull request of a repository."""

    repo: Repo
    issue: Issue

    @property
    def pull(self) -> PullRequest:
        return pull_of(self.issue)

    @property
    def type_name(self) -> str:
        return "Issue" if self.issue.pull is None else "PullRequest"


@dataclass(frozen=True, slots=True)
class _Thread:
    on: _Subject
    thread: ReviewThread

    @property
    def first(self) -> ReviewComment:
        return self.on.pull.review_comments[self.thread.comment_ids[0]]


@dataclass(frozen=True, slots=True)
class _Said:
    on: _Subject
    made: ReviewComment


@dataclass(frozen=True, slots=True)
class _Reviewed:
    on: _Subject
    review: Review


@dataclass(frozen=True, slots=True)
class _Connection:
    """One page of `whole`, which begins at `start` and ends before `end`."""

    whole: Sequence[Any]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Edge:
    node: Any
    at: int


def _type_of(value: Any, target: str) -> str:
    """The type of a value where a field promises `target`, which may be an interface."""
    if target not in schema.CONCRETE:
        return target
    match value:
        case _Subject():
            return value.type_name
        case _Thread():
            return "PullRequestReviewThread"
        case _Said():
            return "PullRequestReviewComment"
        case Repo():
            return "Repository"
        case _:
            return str(value.type)


class _Execution:
    """One operation, field by field."""

    def __init__(self, call: Call, variables: Mapping[str, Any]) -> None:
        self.call = call
        self.world = call.world
        self._variables = variables
        self._errors: list[Json] = []
        self._readable: dict[tuple[int, str], bool] = {}

    async def run(self, operation: Operation) -> Json:
        root = {"query": "Query", "mutation": "Mutation"}[operation.kind]
        data = await self._object(root, None, operation.selections, [])
        return {"data": data, **({"errors": self._errors} if self._errors else {})}

    async def _object(
        self, type_name: str, value: Any, fields: tuple[Field, ...], path: list[str | int]
    ) -> Json:
        answer: Json = {}
        for one in schema.matching(type_name, fields):
            here = [*path, one.key]
            try:
                answer[one.key] = await self._field(type_name, value, one, here)
            except _FieldError as error:
                answer[one.key] = None
                self._failed(one, error, here)
        return answer

    async def _field(self, type_name: str, value: Any, one: Field, path: list[str | int]) -> Any:
        if one.name == "__typename":
            return type_name
        arguments = {name: self._value(one, sent) for name, sent in one.arguments.items()}
        found = _FIELDS[type_name][one.name](self, value, arguments)
        if inspect.isawaitable(found):
            found = await found
        target = schema.TYPES[type_name][one.name]
        if target == SCALAR or found is None:
            return found
        if isinstance(found, list):
            kind = schema.named(target)
            return [
                await self._object(_type_of(each, kind), each, one.selections, [*path, at])
                for at, each in enumerate(found)
            ]
        return await self._object(_type_of(found, target), found, one.selections, path)

    def _failed(self, one: Field, error: _FieldError, path: list[str | int]) -> None:
        said: Json = {"type": error.kind, "path": path}
        if error.extensions is not None:
            said["extensions"] = dict(error.extensions)
        said["locations"] = [{"line": one.line, "column": one.column}]
        said["message"] = error.message
        self._errors.append(said)

    def _value(self, one: Field, value: Value) -> Any:
        if isinstance(value, Variable):
            return self._variables[value.name]
        if isinstance(value, EnumValue):
            return value.name
        if isinstance(value, list):
            return [self._value(one, item) for item in value]
        if isinstance(value, dict):
            return {name: self._value(one, item) for name, item in value.items()}
        return value

    # what the caller may see

    def reads(self, repo: Repo, permission: str) -> bool:
        """Asked once of each repository, so that the request's record says once what was needed."""
        key = (repo.id, permission)
        if key not in self._readable:
            try:
                self.call.require(repo, permission, "read")
                self._readable[key] = True
            except ApiError:
                self._readable[key] = False
        return self._readable[key]

    def node(self, wanted: str) -> Any:
        """What has this global id, as far as the caller may see it. Raises NOT_FOUND."""
        found = next((each for repo in self._visible() if (each := self._in(repo, wanted)) is not None), None)
        found = found or next((who for who in self.world.users.values() if who.node_id == wanted), None)
        if found is None:
            raise _unknown(wanted)
        return found

    def _visible(self) -> list[Repo]:
        return [repo for repo in self.world.repositories.values() if self.call.caller.sees(repo)]

    def _in(self, repo: Repo, wanted: str) -> Any:
        if repo.node_id == wanted:
            return repo
        for issue in repo.issues.values():
            on = _Subject(repo, issue)
            if not self.reads(repo, "issues" if issue.pull is None else "pull_requests"):
                continue
            if issue.node_id == wanted:
                return on
            if issue.pull is not None and (found := self._on_lines(on, wanted)) is not None:
                return found
        return None

    def _on_lines(self, on: _Subject, wanted: str) -> _Thread | _Said | None:
        thread = next((each for each in self.threads(on) if each.thread.node_id == wanted), None)
        if thread is not None:
            return thread
        made = (each for each in on.pull.review_comments.values() if each.node_id == wanted)
        found = next((each for each in made if reviews.published(self.call, on.pull, each)), None)
        return None if found is None else _Said(on, found)

    def repository(self, sent: Mapping[str, Any]) -> Repo:
        full_name = f"{sent['owner']}/{sent['name']}"
        repo = self.world.repository(full_name)
        if repo is None and sent.get("followRenames", True):
            repo = self.world.renamed(full_name)
        if repo is None or not self.call.caller.sees(repo):
            raise _FieldError(f"Could not resolve to a Repository with the name '{full_name}'.", "NOT_FOUND")
        return repo

    def numbered(self, repo: Repo, number: int, kind: str) -> _Subject:
        permission = {"Issue": "issues", "PullRequest": "pull_requests"}[kind]
        if self.call.by_app and not self.reads(repo, permission):
            raise _FieldError("Resource not accessible by integration", "FORBIDDEN", {"saml_failure": False})
        issue = repo.issues.get(number)
        if issue is None or _Subject(repo, issue).type_name != kind:
            article = "an Issue" if kind == "Issue" else "a PullRequest"
            message = f"Could not resolve to {article} with the number of {number}."
            raise _FieldError(message, "NOT_FOUND")
        return _Subject(repo, issue)

    def threads(self, on: _Subject) -> list[_Thread]:
        """Those with a comment that the caller may see."""
        found = [_Thread(on, each) for each in on.pull.threads.values() if each.comment_ids]
        return [each for each in found if reviews.published(self.call, on.pull, each.first)]

    def closing(self, on: _Subject, *, closed_too: bool) -> list[_Subject]:
        """The pull requests, of any repository that the caller may see, whose text says that they close this issue.

        https://docs.github.com/issues/tracking-your-work-with-issues/linking-a-pull-request-to-an-issue
        """
        wanted = (on.repo.full_name.lower(), on.issue.number)
        found = [
            _Subject(repo, issue)
            for repo in self._visible()
            if self.reads(repo, "pull_requests")
            for issue in repo.issues.values()
            if issue.pull is not None
            and issue.pull.base_ref == repo.default_branch
            and (closed_too or issue.state == "open")
            and wanted in pullwork.named_to_close(repo.full_name, issue.body or "")
        ]
        return sorted(found, key=lambda each: each.issue.created_at)

    def page(self, name: str, whole: Sequence[Any], arguments: Mapping[str, Any]) -> _Connection:
        """https://docs.github.com/graphql/guides/using-pagination-in-the-graphql-api"""
        first, last = arguments.get("first"), arguments.get("last")
        if first is None and last is None:
            message = (
                f"You must provide a `first` or `last` value to properly paginate the `{name}` connection."
            )
            raise _FieldError(message, "MISSING_PAGINATION_BOUNDARIES")
        for word, count in (("first", first), ("last", last)):
            if count is not None and count > _MOST:
                message = f"Requesting {count} records on the `{name}` connection exceeds the `{word}` limit of {_MOST} records."
                raise _FieldError(message, "EXCESSIVE_PAGINATION")
            if count is not None and count < 1:
                message = f"`{word}` on the `{name}` connection cannot be less than one."
                raise _FieldError(message, "INVALID_PAGINATION_BOUNDARIES")
        start, end = 0, len(whole)
        if arguments.get("after") is not None:
            start = min(_position(arguments["after"], "after"), end)
        if arguments.get("before") is not None:
            end = max(start, min(_position(arguments["before"], "before") - 1, end))
        if first is not None:
            end = min(end, start + first)
        if last is not None:
            start = max(start, end - last)
        return _Connection(whole, start, end)

    # mutations

    async def draft(self, name: str, sent: Mapping[str, Any]) -> Json:
        on = self.node(sent["pullRequestId"])
        if not isinstance(on, _Subject) or on.issue.pull is None:
            raise _unknown(sent["pullRequestId"])
        self._may(name, on, {"pull_requests": "write"})
        if on.issue.state == "closed":
            raise _FieldError("Pull request is closed", "UNPROCESSABLE")
        draft = name == "convertPullRequestToDraft"
        await set_draft(self.world, on.repo, on.issue, self.call.actor, draft)
        return {"clientMutationId": sent.get("clientMutationId"), "pullRequest": on}

    def resolve(self, name: str, sent: Mapping[str, Any]) -> Json:
        """An App needs `contents: write` beside `pull_requests: write`: https://github.com/orgs/community/discussions/44650

        People may who opened the pull request or have write access:
        https://docs.github.com/pull-requests/collaborating-with-pull-requests/reviewing-changes-in-pull-requests/commenting-on-a-pull-request#resolving-conversations
        """
        found = self._thread(sent["threadId"])
        self._may(name, found.on, {"pull_requests": "write", "contents": "write"})
        resolved = name == "resolveReviewThread"
        reviews.set_resolved(self.call, found.on.repo, found.on.issue, found.thread, resolved=resolved)
        return {"clientMutationId": sent.get("clientMutationId"), "thread": found}

    def reply(self, name: str, sent: Mapping[str, Any]) -> Json:
        found = self._thread(sent["pullRequestReviewThreadId"])
        on, text = found.on, sent["body"]
        self._may(name, on, {"pull_requests": "write"}, role="read")
        if not text.strip():
            raise _FieldError("Body can't be blank", "UNPROCESSABLE")
        try:
            check_not_locked(self.call, on.repo, on.issue)
            made = reviews.add_reply(self.call, on.repo, on.issue, found.first, text)
        except ApiError as error:
            kind = "FORBIDDEN" if error.status == 403 else "UNPROCESSABLE"
            raise _FieldError(error.message, kind) from error
        return {"clientMutationId": sent.get("clientMutationId"), "comment": _Said(on, made)}

    def _thread(self, wanted: str) -> _Thread:
        found = self.node(wanted)
        if not isinstance(found, _Thread):
            raise _unknown(wanted)
        return found

    def may_write(self, on: _Subject) -> bool:
        """Whether the caller opened the pull request or has write access."""
        try:
            self._may("", on, {"pull_requests": "write"})
        except _FieldError:
            return False
        return True

    def _may(self, name: str, on: _Subject, needed: Mapping[str, str], role: str = "write") -> None:
        call = self.call
        role = "read" if on.issue.user_id == call.actor.id else role
        try:
            if call.by_app:
                for permission, level in needed.items():
                    call.require(on.repo, permission, level)
            else:
                call.require(on.repo, "pull_requests", "write", role=role)
        except ApiError as error:
            if not call.by_app and not on.repo.archived:
                operation = name[:1].upper() + name[1:]
                message = f"{call.actor.login} does not have the correct permissions to execute `{operation}`"
                raise _FieldError(message, "FORBIDDEN") from error
            raise _FieldError(error.message, "FORBIDDEN", {"saml_failure": False}) from error


def _unknown(wanted: str) -> _FieldError:
    return _FieldError(f"Could not resolve to a node with the global id of '{wanted}'.", "NOT_FOUND")


def _cursor(after: int) -> str:
    return base64.b64encode(f"cursor:v2:{after}".encode()).decode()


def _position(cursor: str, word: str) -> int:
    """How many items come up to and with the one that a cursor names."""
    try:
        prefix, _, number = base64.b64decode(cursor, validate=True).decode().rpartition(":")
        if prefix == "cursor:v2" and number.isdigit():
            return int(number)
    except (binascii.Error, UnicodeDecodeError):
        pass
    raise _FieldError(
        f"`{cursor}` does not appear to be a valid cursor for `{word}`.", "INVALID_CURSOR_ARGUMENTS"
    )


# --- the fields ------------------------------------------------------------------------------------------------------

_Resolver = Callable[[_Execution, Any, Mapping[str, Any]], Any]


def _plain(read: Callable[[Any], Any]) -> _Resolver:
    """A field that needs nothing but the value that it is of."""
    return lambda _run, value, _arguments: read(value)


def _all(**fields: Callable[[Any], Any]) -> dict[str, _Resolver]:
    return {name: _plain(read) for name, read in fields.items()}


async def _mergeable(_run: _Execution, on: _Subject, _arguments: Mapping[str, Any]) -> str:
    clean = on.issue.state == "open" and await pullwork.merges_cleanly(on.repo, on.pull)
    return "MERGEABLE" if clean else "CONFLICTING"


def _login(who: User) -> str:
    """GraphQL names a bot without what REST puts behind its name."""
    return who.login.removesuffix("[bot]") if who.type == "Bot" else who.login


_ACCOUNT: Mapping[str, _Resolver] = _all(
    id=lambda who: who.node_id, databaseId=lambda who: who.id, login=_login
) | {"url": lambda run, who, _: f"{run.world.base_url}/{_login(who)}"}

_TEXT: Mapping[str, _Resolver] = _all(
    id=lambda on: on.issue.node_id,
    number=lambda on: on.issue.number,
    title=lambda on: on.issue.title,
    body=lambda on: on.issue.body or "",
    closed=lambda on: on.issue.state == "closed",
    locked=lambda on: on.issue.locked,
    createdAt=lambda on: stamp(on.issue.created_at),
    updatedAt=lambda on: stamp(on.issue.updated_at),
    closedAt=lambda on: when(on.issue.closed_at),
    repository=lambda on: on.repo,
) | {"author": lambda run, on, _: run.world.user(on.issue.user_id)}
"""What issues and pull requests have in common."""

_ISSUE: Mapping[str, _Resolver] = {
    **_TEXT,
    **_all(
        databaseId=lambda on: on.issue.id,
        fullDatabaseId=lambda on: str(on.issue.id),
        state=lambda on: on.issue.state.upper(),
        stateReason=lambda on: on.issue.state_reason.upper() if on.issue.state_reason else None,
    ),
    "url": lambda run, on, _: f"{web(run.world, on.repo)}/issues/{on.issue.number}",
    "closedByPullRequestsReferences": lambda run, on, sent: run.page(
        "closedByPullRequestsReferences",
        run.closing(on, closed_too=bool(sent.get("includeClosedPrs"))),
        sent,
    ),
}

_PULL: Mapping[str, _Resolver] = {
    **_TEXT,
    **_all(
        databaseId=lambda on: on.pull.id,
        fullDatabaseId=lambda on: str(on.pull.id),
        isDraft=lambda on: on.pull.draft,
        state=lambda on: "MERGED" if on.pull.merged else on.issue.state.upper(),
        merged=lambda on: on.pull.merged,
        headRefName=lambda on: on.pull.head_ref,
        headRefOid=lambda on: on.pull.head_sha,
        baseRefName=lambda on: on.pull.base_ref,
        baseRefOid=lambda on: on.pull.base_sha,
        isCrossRepository=lambda on: on.pull.head_repository_id != on.repo.id,
        mergedAt=lambda on: when(on.pull.merged_at),
    ),
    "url": lambda run, on, _: f"{web(run.world, on.repo)}/pull/{on.issue.number}",
    "mergeable": _mergeable,
    "reviewThreads": lambda run, on, sent: run.page("reviewThreads", run.threads(on), sent),
}


def _outdated(made: ReviewComment) -> bool:
    return made.line is None and made.subject_type == "line"


def _said_in(run: _Execution, found: _Thread, sent: Mapping[str, Any]) -> _Connection:
    pull = found.on.pull
    made = [pull.review_comments[number] for number in found.thread.comment_ids]
    shown = [_Said(found.on, each) for each in made if reviews.published(run.call, pull, each)]
    return run.page("comments", shown, sent)


_THREAD: Mapping[str, _Resolver] = {
    **_all(
        id=lambda found: found.thread.node_id,
        isResolved=lambda found: found.thread.resolved,
        isOutdated=lambda found: _outdated(found.first),
        path=lambda found: found.first.path,
        line=lambda found: found.first.line,
        originalLine=lambda found: found.first.original_line,
        startLine=lambda found: found.first.start_line,
        originalStartLine=lambda found: found.first.original_start_line,
        diffSide=lambda found: found.first.side,
        startDiffSide=lambda found: found.first.start_side,
        subjectType=lambda found: found.first.subject_type.upper(),
        repository=lambda found: found.on.repo,
        pullRequest=lambda found: found.on,
    ),
    "viewerCanReply": lambda run, found, _: not found.on.issue.locked or run.may_write(found.on),
    "viewerCanResolve": lambda run, found, _: not found.thread.resolved and run.may_write(found.on),
    "viewerCanUnresolve": lambda run, found, _: found.thread.resolved and run.may_write(found.on),
    "resolvedBy": lambda run, found, _: run.world.users.get(found.thread.resolved_by_id),
    "comments": _said_in,
}


def _answered(said: _Said) -> _Said | None:
    parent = said.on.pull.review_comments.get(said.made.in_reply_to_id or 0)
    return None if parent is None else _Said(said.on, parent)


def _review_of(said: _Said) -> _Reviewed | None:
    review = said.on.pull.reviews.get(said.made.review_id or 0)
    return None if review is None else _Reviewed(said.on, review)


_SAID: Mapping[str, _Resolver] = {
    **_all(
        id=lambda said: said.made.node_id,
        databaseId=lambda said: said.made.id,
        fullDatabaseId=lambda said: str(said.made.id),
        body=lambda said: said.made.body,
        path=lambda said: said.made.path,
        line=lambda said: said.made.line,
        originalLine=lambda said: said.made.original_line,
        startLine=lambda said: said.made.start_line,
        outdated=lambda said: _outdated(said.made),
        diffHunk=lambda said: said.made.diff_hunk,
        subjectType=lambda said: said.made.subject_type.upper(),
        createdAt=lambda said: stamp(said.made.created_at),
        updatedAt=lambda said: stamp(said.made.updated_at),
        replyTo=_answered,
        pullRequestReview=_review_of,
        pullRequest=lambda said: said.on,
    ),
    "author": lambda run, said, _: run.world.user(said.made.user_id),
    "url": lambda run, said, _: (
        f"{web(run.world, said.on.repo)}/pull/{said.on.issue.number}#discussion_r{said.made.id}"
    ),
}

_REVIEW: Mapping[str, _Resolver] = {
    **_all(
        id=lambda one: one.review.node_id,
        databaseId=lambda one: one.review.id,
        fullDatabaseId=lambda one: str(one.review.id),
        state=lambda one: one.review.state,
        body=lambda one: one.review.body,
        submittedAt=lambda one: when(one.review.submitted_at),
    ),
    "author": lambda run, one, _: run.world.user(one.review.user_id),
    "url": lambda run, one, _: (
        f"{web(run.world, one.on.repo)}/pull/{one.on.issue.number}#pullrequestreview-{one.review.id}"
    ),
}

_CONNECTION: Mapping[str, _Resolver] = _all(
    nodes=lambda page: list(page.whole[page.start : page.end]),
    edges=lambda page: [
        _Edge(each, at) for at, each in enumerate(page.whole[page.start : page.end], start=page.start + 1)
    ],
    pageInfo=lambda page: page,
    totalCount=lambda page: len(page.whole),
)

_FIELDS: Mapping[str, Mapping[str, _Resolver]] = {
    "Query": {
        "viewer": lambda run, _, _sent: run.call.actor,
        "repository": lambda run, _, sent: run.repository(sent),
        "node": lambda run, _, sent: run.node(sent["id"]),
    },
    "Mutation": {
        "markPullRequestReadyForReview": lambda run, _, sent: run.draft(
            "markPullRequestReadyForReview", sent["input"]
        ),
        "convertPullRequestToDraft": lambda run, _, sent: run.draft(
            "convertPullRequestToDraft", sent["input"]
        ),
        "resolveReviewThread": lambda run, _, sent: run.resolve("resolveReviewThread", sent["input"]),
        "unresolveReviewThread": lambda run, _, sent: run.resolve("unresolveReviewThread", sent["input"]),
        "addPullRequestReviewThreadReply": lambda run, _, sent: run.reply(
            "addPullRequestReviewThreadReply", sent["input"]
        ),
    },
    "User": _ACCOUNT,
    "Bot": _ACCOUNT,
    "Organization": _ACCOUNT,
    "Repository": {
        **_all(
            id=lambda repo: repo.node_id,
            databaseId=lambda repo: repo.id,
            name=lambda repo: repo.name,
            nameWithOwner=lambda repo: repo.full_name,
            isPrivate=lambda repo: repo.private,
        ),
        "url": lambda run, repo, _: web(run.world, repo),
        "issue": lambda run, repo, sent: run.numbered(repo, sent["number"], "Issue"),
        "pullRequest": lambda run, repo, sent: run.numbered(repo, sent["number"], "PullRequest"),
    },
    "Issue": _ISSUE,
    "PullRequest": _PULL,
    "PullRequestReviewThread": _THREAD,
    "PullRequestReviewComment": _SAID,
    "PullRequestReview": _REVIEW,
    "PageInfo": _all(
        hasNextPage=lambda page: page.end < len(page.whole),
        hasPreviousPage=lambda page: page.start > 0,
        startCursor=lambda page: _cursor(page.start + 1) if page.start < page.end else None,
        endCursor=lambda page: _cursor(page.end) if page.start < page.end else None,
    ),
    **{name: _CONNECTION for name in schema.TYPES if name.endswith("Connection")},
    **{
        name: _all(cursor=lambda edge: _cursor(edge.at), node=lambda edge: edge.node)
        for name in schema.TYPES
        if name.endswith("Edge")
    },
    **{
        name: {field: _plain(itemgetter(field)) for field in fields}
        for name, fields in schema.TYPES.items()
        if name.endswith("Payload")
    },
}

endpoints = [graphql]
