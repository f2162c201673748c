"""GitHub's ways of saying no, each with the status, message and body that GitHub gives it.

https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DOCS = "https://docs.github.com/rest"


class ApiError(Exception):
    """An answer other than success. `errors` is a list of objects or of strings, as GitHub mixes them."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        errors: Sequence[Mapping[str, Any] | str] | None = None,
        docs: str = DOCS,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors
        self.docs = docs
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})

    def body(self) -> dict[str, Any]:
        out: dict[str, Any] = {"message": self.message}
        if self.errors is not None:
            out["errors"] = list(self.errors)
        return {**out, **self.extra, "documentation_url": self.docs, "status": str(self.status)}


def not_found() -> ApiError:
    return ApiError(404, "Not Found")


def not_accessible() -> ApiError:
    """An App that lacks the permission."""
    return ApiError(403, "Resource not accessible by integration")


def forbidden(message: str) -> ApiError:
    return ApiError(403, message)


def bad_credentials() -> ApiError:
    return ApiError(401, "Bad credentials")


def requires_authentication() -> ApiError:
    return ApiError(401, "Requires authentication")


def bad_request(message: str) -> ApiError:
    return ApiError(400, message)


def gone(message: str) -> ApiError:
    return ApiError(410, message)


def conflict(message: str) -> ApiError:
    return ApiError(409, message)


def unprocessable(message: str) -> ApiError:
    """422 with a message of its own, such as "Reference already exists"."""
    return ApiError(422, message)


def diff_too_long() -> ApiError:
    """500, for differences that cannot be listed in the time that a request has.

    Not documented; seen on comparisons, and taken to be the same for a commit:
    https://github.com/github-changelog-generator/github-changelog-generator/issues/920
    """
    return ApiError(500, "Server Error: Sorry, this diff is taking too long to generate.")


def validation_failed(*errors: Mapping[str, Any] | str) -> ApiError:
    """422 "Validation Failed"; each error an object such as `{"resource", "field", "code"}`, or a string."""
    return ApiError(422, "Validation Failed", errors=errors)


def invalid_field(resource: str, field: str, code: str = "invalid", message: str | None = None) -> ApiError:
    """`code`: missing, missing_field, invalid, already_exists, unprocessable, custom (with a message)."""
    error: dict[str, Any] = {"resource": resource, "code": code, "field": field}
    if message is not None:
        error["message"] = message
    return validation_failed(error)


class Redirect(Exception):  # noqa: N818  # an answer, not an error
    """The repository has moved. 301 for reads, 307 for the rest.

    https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects
    """

    def __init__(self, location: str, status: int = 301) -> None:
        super().__init__(location)
        self.location = location
        self.status = status
