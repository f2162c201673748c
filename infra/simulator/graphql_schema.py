"""The part of GitHub's GraphQL schema that the simulator serves, and the refusal of whatever is not in it.

Types, fields and arguments have GitHub's names: https://docs.github.com/graphql/reference
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.simulator.graphql_document import EnumValue, Field, Operation, Value, Variable

Json = dict[str, Any]

SCALAR = ""


class RequestError(Exception):
    """The whole request is refused: there is no `data`."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.error = error


def _scalars(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, SCALAR)


def _connection(kind: str) -> dict[str, Mapping[str, str]]:
    """https://docs.github.com/graphql/guides/using-pagination-in-the-graphql-api"""
    return {
        f"{kind}Connection": {
            "nodes": f"[{kind}]",
            "edges": f"[{kind}Edge]",
            "pageInfo": "PageInfo",
            "totalCount": SCALAR,
        },
        f"{kind}Edge": {"cursor": SCALAR, "node": kind},
    }


def _payload(**more: str) -> dict[str, str]:
    return {"clientMutationId": SCALAR, **more}


_ACCOUNT = _scalars("id", "databaseId", "login", "url")

TYPES: Mapping[str, Mapping[str, str]] = {
    "Query": {"node": "Node", "repository": "Repository", "viewer": "User"},
    "Mutation": {
        "markPullRequestReadyForReview": "MarkPullRequestReadyForReviewPayload",
        "convertPullRequestToDraft": "ConvertPullRequestToDraftPayload",
        "resolveReviewThread": "ResolveReviewThreadPayload",
        "unresolveReviewThread": "UnresolveReviewThreadPayload",
        "addPullRequestReviewThreadReply": "AddPullRequestReviewThreadReplyPayload",
    },
    "MarkPullRequestReadyForReviewPayload": _payload(pullRequest="PullRequest"),
    "ConvertPullRequestToDraftPayload": _payload(pullRequest="PullRequest"),
    "ResolveReviewThreadPayload": _payload(thread="PullRequestReviewThread"),
    "UnresolveReviewThreadPayload": _payload(thread="PullRequestReviewThread"),
    "AddPullRequestReviewThreadReplyPayload": _payload(comment="PullRequestReviewComment"),
    "Node": _scalars("id"),
    "Actor": _scalars("login", "url"),
    "User": _ACCOUNT,
    "Bot": _ACCOUNT,
    "Organization": _ACCOUNT,
    "Mannequin": _ACCOUNT,
    "PageInfo": _scalars("hasNextPage", "hasPreviousPage", "startCursor", "endCursor"),
    "Repository": _scalars("id", "databaseId", "name", "nameWithOwner", "isPrivate", "url")
    | {"issue": "Issue", "pullRequest": "PullRequest"},
    "Issue": _scalars(
        "id",
        "databaseId",
        "fullDatabaseId",
        "number",
        "title",
        "body",
        "state",
        "stateReason",
        "closed",
        "locked",
        "url",
        "createdAt",
        "updatedAt",
        "closedAt",
    )
    | {
        "author": "Actor",
        "repository": "Repository",
        "closedByPullRequestsReferences": "PullRequestConnection",
    },
    "PullRequest": _scalars(
        "id",
        "databaseId",
        "fullDatabaseId",
        "number",
        "title",
        "body",
        "isDraft",
        "state",
        "merged",
        "closed",
        "locked",
        "url",
        "headRefName",
        "headRefOid",
        "baseRefName",
        "baseRefOid",
        "mergeable",
        "isCrossRepository",
        "createdAt",
        "updatedAt",
        "closedAt",
        "mergedAt",
    )
    | {
        "author": "Actor",
        "repository": "Repository",
        "reviewThreads": "PullRequestReviewThreadConnection",
    },
    "PullRequestReviewThread": _scalars(
        "id",
        "isResolved",
        "isOutdated",
        "path",
        "line",
        "originalLine",
        "startLine",
        "originalStartLine",
        "diffSide",
        "startDiffSide",
        "subjectType",
        "viewerCanReply",
        "viewerCanResolve",
        "viewerCanUnresolve",
    )
    | {
        "resolvedBy": "User",
        "repository": "Repository",
        "pullRequest": "PullRequest",
        "comments": "PullRequestReviewCommentConnection",
    },
    "PullRequestReviewComment": _scalars(
        "id",
        "databaseId",
        "fullDatabaseId",
        "body",
        "path",
        "line",
        "originalLine",
        "startLine",
        "outdated",
        "diffHunk",
        "subjectType",
        "url",
        "createdAt",
        "updatedAt",
    )
    | {
        "author": "Actor",
        "replyTo": "PullRequestReviewComment",
        "pullRequestReview": "PullRequestReview",
        "pullRequest": "PullRequest",
    },
    "PullRequestReview": _scalars("id", "databaseId", "fullDatabaseId", "state", "body", "url", "submittedAt")
    | {"author": "Actor"},
    **_connection("PullRequest"),
    **_connection("PullRequestReviewThread"),
    **_connection("PullRequestReviewComment"),
}
"""Each type's fields and what they are: a scalar (or enum), a type, or `[a list of one]`."""

_PAGE = {"first": "Int", "after": "String", "last": "Int", "before": "String"}

ARGUMENTS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("Query", "node"): {"id": "ID!"},
    ("Query", "repository"): {"owner": "String!", "name": "String!", "followRenames": "Boolean"},
    ("Repository", "issue"): {"number": "Int!"},
    ("Repository", "pullRequest"): {"number": "Int!"},
    ("Issue", "closedByPullRequestsReferences"): {**_PAGE, "includeClosedPrs": "Boolean"},
    ("PullRequest", "reviewThreads"): _PAGE,
    ("PullRequestReviewThread", "comments"): _PAGE,
    **{("Mutation", name): {"input": f"{name[0].upper()}{name[1:]}Input!"} for name in TYPES["Mutation"]},
}

INPUTS: Mapping[str, Mapping[str, str]] = {
    "MarkPullRequestReadyForReviewInput": {"pullRequestId": "ID!", "clientMutationId": "String"},
    "ConvertPullRequestToDraftInput": {"pullRequestId": "ID!", "clientMutationId": "String"},
    "ResolveReviewThreadInput": {"threadId": "ID!", "clientMutationId": "String"},
    "UnresolveReviewThreadInput": {"threadId": "ID!", "clientMutationId": "String"},
    "AddPullRequestReviewThreadReplyInput": {
        "pullRequestReviewThreadId": "ID!",
        "body": "String!",
        "clientMutationId": "String",
    },
}

CONCRETE: Mapping[str, tuple[str, ...]] = {
    "Node": (
        "Issue",
        "PullRequest",
        "PullRequestReviewComment",
        "PullRequestReviewThread",
        "Repository",
        "User",
    ),
    "Actor": ("User", "Bot", "Organization", "Mannequin"),
}
"""Which types an interface stands for."""


def named(target: str) -> str:
    """A field's type without the list around it."""
    return target.strip("[]")


def matching(type_name: str, fields: tuple[Field, ...]) -> list[Field]:
    """The fields that count for a value of this type."""
    interfaces = [name for name, kinds in CONCRETE.items() if type_name in kinds]
    return [one for one in fields if one.on is None or one.on == type_name or one.on in interfaces]


def check(operation: Operation) -> None:
    """Raises RequestError for whatever GitHub's schema refuses before it does anything.

    https://spec.graphql.org/October2021/#sec-Validation
    """
    checker = _Checker(operation)
    root = {"query": "Query", "mutation": "Mutation"}[operation.kind]
    checker.fields(root, operation.selections, [checker.name])
    unused = next((one for one in operation.variables if one.name not in checker.used), None)
    if unused is not None:
        message = f"Variable ${unused.name} is declared by {checker.name} but not used"
        raise RequestError(
            {"path": [checker.name], "extensions": {"code": "variableNotUsed"}, "message": message}
        )


def fits(kind: str, value: Any) -> bool:
    """Whether a value of JSON is one of this type: https://spec.graphql.org/October2021/#sec-Input-Values"""
    if value is None:
        return not kind.endswith("!")
    kind = kind.rstrip("!")
    if kind in INPUTS:
        return (
            isinstance(value, dict)
            and not set(value) - set(INPUTS[kind])
            and all(fits(needed, value.get(name)) for name, needed in INPUTS[kind].items())
        )
    if kind == "Int":
        return isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31
    if kind == "Boolean":
        return isinstance(value, bool)
    return isinstance(value, str) or (kind == "ID" and isinstance(value, int) and not isinstance(value, bool))


class _Checker:
    """One operation's static checks, field by field; `used` gathers the variables that it names."""

    def __init__(self, operation: Operation) -> None:
        self.name = f"{operation.kind} {operation.name}".removesuffix(" None")
        self.used: set[str] = set()
        self._declared = {one.name: one for one in operation.variables}

    def fields(self, type_name: str, fields: tuple[Field, ...], path: list[str]) -> None:
        for one in fields:
            owner = one.on or type_name
            if one.on is not None and one.on != type_name and one.on not in CONCRETE.get(type_name, ()):
                message = f"Fragment on {one.on} can't be spread inside {type_name}"
                raise RequestError(said(one, message, path, "cannotSpreadFragment"))
            here = [*path, one.key]
            if one.name == "__typename":
                continue
            target = TYPES[owner].get(one.name)
            if target is None:
                message = f"Field '{one.name}' doesn't exist on type '{owner}'"
                more = {"typeName": owner, "fieldName": one.name}
                raise RequestError(said(one, message, here, "undefinedField", more))
            self._arguments(owner, one, here)
            self._selections(target, one, here)

    def _selections(self, target: str, one: Field, here: list[str]) -> None:
        if target == SCALAR:
            if one.selections:
                message = f"Selections can't be made on scalars (field '{one.name}' returns a scalar but has selections)"
                raise RequestError(said(one, message, here, "selectionMismatch"))
            return
        if not one.selections:
            message = f"Field must have selections (field '{one.name}' returns {named(target)} but has no selections. Did you mean '{one.name} {{ ... }}'?)"
            raise RequestError(said(one, message, here, "selectionMismatch"))
        self.fields(named(target), one.selections, here)

    def _arguments(self, owner: str, one: Field, path: list[str]) -> None:
        known = ARGUMENTS.get((owner, one.name), {})
        for name, value in one.arguments.items():
            if name not in known:
                message = f"Field '{one.name}' doesn't accept argument '{name}'"
                raise RequestError(said(one, message, [*path, name], "argumentNotAccepted"))
            if not self._literal_fits(one, name, known[name], value, path):
                message = f"Argument '{name}' on Field '{one.name}' has an invalid value. Expected type '{known[name]}'."
                raise RequestError(said(one, message, [*path, name], "argumentLiteralsIncompatible"))
        missing = [name for name, kind in known.items() if kind.endswith("!") and name not in one.arguments]
        if missing:
            message = f"Field '{one.name}' is missing required arguments: {', '.join(missing)}"
            raise RequestError(said(one, message, path, "missingRequiredArguments"))

    def _literal_fits(self, one: Field, name: str, kind: str, value: Value, path: list[str]) -> bool:
        if isinstance(value, Variable):
            self._variable(one, name, kind, value, path)
            return True
        if isinstance(value, dict):
            inner = INPUTS.get(kind.rstrip("!"), {})
            return not set(value) - set(inner) and all(
                self._literal_fits(one, each, needed, value.get(each), path) for each, needed in inner.items()
            )
        return not isinstance(value, EnumValue) and fits(kind, value)

    def _variable(self, one: Field, name: str, kind: str, value: Variable, path: list[str]) -> None:
        declared = self._declared.get(value.name)
        self.used.add(value.name)
        if declared is None:
            message = f"Variable ${value.name} is used by {self.name} but not declared"
            raise RequestError(said(one, message, path, "variableNotDefined"))
        filled = declared.type if not declared.has_default else declared.type.rstrip("!") + "!"
        if filled not in (kind, f"{kind}!"):
            message = (
                f"Type mismatch on variable ${value.name} and argument {name} ({declared.type} / {kind})"
            )
            raise RequestError(said(one, message, path, "variableMismatch"))


def said(one: Field, message: str, path: list[str], code: str, more: Mapping[str, Any] | None = None) -> Json:
    return {
        "path": path,
        "extensions": {"code": code, **(more or {})},
        "locations": [{"line": one.line, "column": one.column}],
        "message": message,
    }
