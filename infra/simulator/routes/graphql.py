"""The little of GitHub's GraphQL that REST has no counterpart for: drafts made ready and back, and a pull request's node.

What is not served is refused with GitHub's own errors, never answered with less than was asked.

https://docs.github.com/graphql/reference/mutations#markpullrequestreadyforreview
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response

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
    parse,
)
from infra.simulator.routes.pulls import set_draft
from infra.simulator.shapes_people import pull_of, web, when
from infra.simulator.state import Issue, Repo, User, stamp

Json = dict[str, Any]


class _FieldError(Exception):
    """One field could not be answered: it is null, and the error says why."""

    def __init__(self, message: str, kind: str, extensions: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message, self.kind, self.extensions = message, kind, extensions


class _RequestError(Exception):
    """The whole request is refused: there is no `data`."""

    def __init__(self, error: Json) -> None:
        super().__init__(error["message"])
        self.error = error


# --- the schema ------------------------------------------------------------------------------------------------------

_SCALAR = ""
_TYPES: Mapping[str, Mapping[str, str]] = {
    "Query": {"node": "Node", "repository": "Repository", "viewer": "User"},
    "Mutation": {
        "markPullRequestReadyForReview": "MarkPullRequestReadyForReviewPayload",
        "convertPullRequestToDraft": "ConvertPullRequestToDraftPayload",
    },
    "MarkPullRequestReadyForReviewPayload": {"clientMutationId": _SCALAR, "pullRequest": "PullRequest"},
    "ConvertPullRequestToDraftPayload": {"clientMutationId": _SCALAR, "pullRequest": "PullRequest"},
    "Node": {"id": _SCALAR},
    "Actor": {"login": _SCALAR, "url": _SCALAR},
    "User": {"id": _SCALAR, "databaseId": _SCALAR, "login": _SCALAR, "url": _SCALAR},
    "Repository": {
        "id": _SCALAR,
        "databaseId": _SCALAR,
        "name": _SCALAR,
        "nameWithOwner": _SCALAR,
        "isPrivate": _SCALAR,
        "url": _SCALAR,
        "pullRequest": "PullRequest",
    },
    "PullRequest": dict.fromkeys(
        [
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
            "createdAt",
            "updatedAt",
            "closedAt",
            "mergedAt",
        ],
        _SCALAR,
    )
    | {"author": "Actor", "repository": "Repository"},
}
_ARGUMENTS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("Query", "node"): {"id": "ID!"},
    ("Query", "repository"): {"owner": "String!", "name": "String!", "followRenames": "Boolean"},
    ("Repository", "pullRequest"): {"number": "Int!"},
    ("Mutation", "markPullRequestReadyForReview"): {"input": "MarkPullRequestReadyForReviewInput!"},
    ("Mutation", "convertPullRequestToDraft"): {"input": "ConvertPullRequestToDraftInput!"},
}
_CONCRETE: Mapping[str, tuple[str, ...]] = {
    "Node": ("PullRequest", "Repository", "User"),
    "Actor": ("User", "Bot"),
}


def _check(type_name: str, fields: tuple[Field, ...], path: list[str]) -> None:
    """Raises _RequestError for a field, argument or selection that GitHub's schema would refuse."""
    for one in fields:
        owner = one.on or type_name
        if one.on is not None and one.on != type_name and one.on not in _CONCRETE.get(type_name, ()):
            raise _RequestError(
                _said(
                    one,
                    f"Fragment on {one.on} can't be spread inside {type_name}",
                    path,
                    "cannotSpreadFragment",
                )
            )
        here = [*path, one.key]
        if one.name == "__typename":
            continue
        target = _TYPES.get(owner, {}).get(one.name)
        if target is None:
            message = f"Field '{one.name}' doesn't exist on type '{owner}'"
            more = {"typeName": owner, "fieldName": one.name}
            raise _RequestError(_said(one, message, here, "undefinedField", more))
        _check_arguments(owner, one, here)
        if target == _SCALAR and one.selections:
            message = f"Selections can't be made on scalars (field '{one.name}' returns a scalar but has selections)"
            raise _RequestError(_said(one, message, here, "selectionMismatch"))
        if target != _SCALAR:
            if not one.selections:
                message = f"Field must have selections (field '{one.name}' returns {target} but has no selections. Did you mean '{one.name} {{ ... }}'?)"
                raise _RequestError(_said(one, message, here, "selectionMismatch"))
            _check(target, one.selections, here)


def _check_arguments(owner: str, one: Field, path: list[str]) -> None:
    known = _ARGUMENTS.get((owner, one.name), {})
    for name in one.arguments:
        if name not in known:
            message = f"Field '{one.name}' doesn't accept argument '{name}'"
            raise _RequestError(_said(one, message, [*path, name], "argumentNotAccepted"))
    missing = [name for name, kind in known.items() if kind.endswith("!") and name not in one.arguments]
    if missing:
        message = f"Field '{one.name}' is missing required arguments: {', '.join(missing)}"
        raise _RequestError(_said(one, message, path, "missingRequiredArguments"))


def _said(
    one: Field, message: str, path: list[str], code: str, more: Mapping[str, Any] | None = None
) -> Json:
    return {
        "path": path,
        "extensions": {"code": code, **(more or {})},
        "locations": [{"line": one.line, "column": one.column}],
        "message": message,
    }


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
        variables = _variables(operation, body.get("variables") or {})
        root = {"query": "Query", "mutation": "Mutation"}[operation.kind]
        _check(root, operation.selections, [f"{operation.kind} {operation.name}".removesuffix(" None")])
        return call.answer(await _Execution(call, variables).run(operation))
    except DocumentError as error:
        place = {"line": error.line, "column": error.column}
        return call.answer({"errors": [{"message": error.message, "locations": [place]}]})
    except _RequestError as error:
        return call.answer({"errors": [error.error]})


def _chosen(operations: tuple[Operation, ...], name: Any) -> Operation:
    if name is None and len(operations) == 1:
        return operations[0]
    found = [one for one in operations if one.name == name and name is not None]
    if len(found) != 1:
        said = "An operation name is required" if name is None else f'No operation named "{name}"'
        raise _RequestError({"message": said})
    return found[0]


def _variables(operation: Operation, sent: Any) -> Mapping[str, Any]:
    if not isinstance(sent, dict):
        raise _RequestError({"message": "Variables must be an object"})
    found: Json = {}
    for one in operation.variables:
        if one.required and sent.get(one.name) is None:
            message = f"Variable ${one.name} of type {one.type} was provided invalid value"
            problems = [{"path": [], "explanation": "Expected value to not be null"}]
            raise _RequestError({"message": message, "extensions": {"value": None, "problems": problems}})
        found[one.name] = sent.get(one.name, one.default)
    return found


class _Execution:
    """One operation, field by field."""

    def __init__(self, call: Call, variables: Mapping[str, Any]) -> None:
        self._call = call
        self._variables = variables
        self._errors: list[Json] = []

    async def run(self, operation: Operation) -> Json:
        data: Json = {}
        for one in operation.selections:
            try:
                data[one.key] = await self._root(operation.kind, one)
            except _FieldError as error:
                data[one.key] = None
                self._failed(one, error, [one.key])
        return {"data": data, **({"errors": self._errors} if self._errors else {})}

    def _failed(self, one: Field, error: _FieldError, path: list[str]) -> None:
        said: Json = {"type": error.kind, "path": path}
        if error.extensions is not None:
            said["extensions"] = dict(error.extensions)
        said["locations"] = [{"line": one.line, "column": one.column}]
        said["message"] = error.message
        self._errors.append(said)

    async def _root(self, kind: str, one: Field) -> Any:
        if one.name == "__typename":
            return kind.capitalize()
        arguments = {name: self._value(one, value) for name, value in one.arguments.items()}
        if kind == "mutation":
            return await self._draft(one, arguments["input"])
        if one.name == "viewer":
            return self._user(one, self._call.actor)
        if one.name == "repository":
            return await self._repository_named(one, arguments)
        return await self._node(one, arguments["id"])

    def _value(self, one: Field, value: Value) -> Any:
        if isinstance(value, Variable):
            if value.name not in self._variables:
                message = f"Variable ${value.name} is used by {one.name} but not declared"
                raise _RequestError(_said(one, message, [one.key], "variableNotDefined"))
            return self._variables[value.name]
        if isinstance(value, EnumValue):
            return value.name
        if isinstance(value, list):
            return [self._value(one, item) for item in value]
        if isinstance(value, dict):
            return {name: self._value(one, item) for name, item in value.items()}
        return value

    # mutations

    async def _draft(self, one: Field, sent: Any) -> Json:
        repo, issue = self._sent_pull(one, sent)
        self._may_write(one, repo, issue)
        if issue.state == "closed":
            raise _FieldError("Pull request is closed", "UNPROCESSABLE")
        draft = one.name == "convertPullRequestToDraft"
        await set_draft(self._call.world, repo, issue, self._call.actor, draft)
        answer: Json = {}
        for field in one.selections:
            if field.name == "pullRequest":
                answer[field.key] = await self._pull(field, repo, issue)
            elif field.name == "clientMutationId":
                answer[field.key] = sent.get("clientMutationId")
            else:
                answer[field.key] = _TYPES["Mutation"][one.name]
        return answer

    def _sent_pull(self, one: Field, sent: Any) -> tuple[Repo, Issue]:
        known = {"pullRequestId", "clientMutationId"}
        kind = one.name[0].upper() + one.name[1:] + "Input"
        if not isinstance(sent, dict) or not isinstance(sent.get("pullRequestId"), str) or set(sent) - known:
            message = f"Argument 'input' on Field '{one.name}' has an invalid value. Expected type '{kind}!'."
            raise _RequestError(_said(one, message, [one.key], "argumentLiteralsIncompatible"))
        wanted = sent["pullRequestId"]
        found = self._find(wanted)
        if not (isinstance(found, tuple)):
            raise _unknown(wanted)
        return found

    def _may_write(self, one: Field, repo: Repo, issue: Issue) -> None:
        call = self._call
        try:
            author = issue.user_id == call.actor.id
            call.require(repo, "pull_requests", "write", role="read" if author else "write")
        except ApiError as error:
            if not call.by_app:
                operation = one.name[0].upper() + one.name[1:]
                message = f"{call.actor.login} does not have the correct permissions to execute `{operation}`"
                raise _FieldError(message, "FORBIDDEN") from error
            raise _FieldError(error.message, "FORBIDDEN", {"saml_failure": False}) from error

    # nodes

    def _find(self, wanted: str) -> tuple[Repo, Issue] | Repo | User | None:
        for repo in self._call.world.repositories.values():
            if not self._readable(repo):
                continue
            if repo.node_id == wanted:
                return repo
            for issue in repo.issues.values():
                if issue.pull and issue.node_id == wanted and self._reads_pulls(repo):
                    return repo, issue
        return next((who for who in self._call.world.users.values() if who.node_id == wanted), None)

    def _readable(self, repo: Repo) -> bool:
        return self._call.caller.sees(repo)

    def _reads_pulls(self, repo: Repo) -> bool:
        try:
            self._call.require(repo, "pull_requests", "read")
        except ApiError:
            return False
        return True

    async def _node(self, one: Field, wanted: Any) -> Any:
        found = self._find(str(wanted))
        if found is None:
            raise _unknown(str(wanted))
        if isinstance(found, tuple):
            return await self._pull(one, *found)
        if isinstance(found, Repo):
            return await self._repository(one, found)
        return self._user(one, found)

    async def _repository_named(self, one: Field, arguments: Mapping[str, Any]) -> Json:
        full_name = f"{arguments['owner']}/{arguments['name']}"
        repo = self._call.world.repository(full_name)
        if repo is None or not self._readable(repo):
            raise _FieldError(f"Could not resolve to a Repository with the name '{full_name}'.", "NOT_FOUND")
        return await self._repository(one, repo)

    async def _repository(self, one: Field, repo: Repo) -> Json:
        values: Json = {
            "__typename": "Repository",
            "id": repo.node_id,
            "databaseId": repo.id,
            "name": repo.name,
            "nameWithOwner": repo.full_name,
            "isPrivate": repo.private,
            "url": web(self._call.world, repo),
        }
        answer: Json = {}
        for field in _on("Repository", one.selections):
            if field.name == "pullRequest":
                answer[field.key] = await self._numbered(one, field, repo)
            else:
                answer[field.key] = values[field.name]
        return answer

    async def _numbered(self, parent: Field, field: Field, repo: Repo) -> Json | None:
        number = self._value(field, field.arguments["number"])
        issue = repo.issues.get(number) if isinstance(number, int) else None
        if issue is None or issue.pull is None or not self._reads_pulls(repo):
            message = f"Could not resolve to a PullRequest with the number of {number}."
            self._failed(field, _FieldError(message, "NOT_FOUND"), [parent.key, field.key])
            return None
        return await self._pull(field, repo, issue)

    async def _pull(self, one: Field, repo: Repo, issue: Issue) -> Json:
        values = self._pull_values(repo, issue)
        answer: Json = {}
        for field in _on("PullRequest", one.selections):
            if field.name == "author":
                answer[field.key] = self._user(field, self._call.world.user(issue.user_id))
            elif field.name == "repository":
                answer[field.key] = await self._repository(field, repo)
            elif field.name == "mergeable":
                clean = issue.state == "open" and await pullwork.merges_cleanly(repo, pull_of(issue))
                answer[field.key] = "MERGEABLE" if clean else "CONFLICTING"
            else:
                answer[field.key] = values[field.name]()
        return answer

    def _pull_values(self, repo: Repo, issue: Issue) -> dict[str, Callable[[], Any]]:
        pull = pull_of(issue)
        return {
            "__typename": lambda: "PullRequest",
            "id": lambda: pull.node_id,
            "databaseId": lambda: pull.id,
            "fullDatabaseId": lambda: str(pull.id),
            "number": lambda: issue.number,
            "title": lambda: issue.title,
            "body": lambda: issue.body or "",
            "isDraft": lambda: pull.draft,
            "state": lambda: "MERGED" if pull.merged else issue.state.upper(),
            "merged": lambda: pull.merged,
            "closed": lambda: issue.state == "closed",
            "locked": lambda: issue.locked,
            "url": lambda: f"{web(self._call.world, repo)}/pull/{issue.number}",
            "headRefName": lambda: pull.head_ref,
            "headRefOid": lambda: pull.head_sha,
            "baseRefName": lambda: pull.base_ref,
            "baseRefOid": lambda: pull.base_sha,
            "createdAt": lambda: stamp(issue.created_at),
            "updatedAt": lambda: stamp(issue.updated_at),
            "closedAt": lambda: when(issue.closed_at),
            "mergedAt": lambda: when(pull.merged_at),
        }

    def _user(self, one: Field, who: User) -> Json:
        kind = "Bot" if who.type == "Bot" else "User"
        login = who.login.removesuffix("[bot]") if kind == "Bot" else who.login
        values: Json = {
            "__typename": kind,
            "id": who.node_id,
            "databaseId": who.id,
            "login": login,
            "url": f"{self._call.world.base_url}/{login}",
        }
        return {field.key: values[field.name] for field in _on(kind, one.selections)}


def _on(type_name: str, fields: tuple[Field, ...]) -> list[Field]:
    """The fields that count for a value of this type."""
    return [one for one in fields if one.on in (None, type_name, "Node", "Actor")]


def _unknown(wanted: str) -> _FieldError:
    return _FieldError(f"Could not resolve to a node with the global id of '{wanted}'.", "NOT_FOUND")


endpoints = [graphql]
