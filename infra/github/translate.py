"""GitHub's refusals, and its client library's exceptions, as the app's own errors.

The errors raised here carry GitHub's own sentence as their message, never a URL, a header, a body or a token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

from githubkit.exception import GitHubException, GraphQLFailed, RateLimitExceeded, RequestError, RequestFailed
from pydantic import ValidationError

from app.errors import (
    AlreadyExistsError,
    DefectError,
    DeniedError,
    GoneError,
    InvalidError,
    LimitedError,
    MagicodeError,
    MissingError,
    TransientError,
)

SHORTEST_WAIT: Final = timedelta(seconds=1)
LONGEST_WAIT: Final = timedelta(hours=2)
"""An hour's requests come back within the hour: what says more is not believed."""

_LIMITED: Final = ("secondary rate", "rate limit exceeded", "abuse detection")
"""What GitHub says of its limits where no header does.
https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#rate-limit-errors"""

_TIMED_OUT: Final = "something went wrong while executing your query"
"""What GraphQL says of its own mistakes and timeouts, with the status of success and without a type.
https://docs.github.com/en/graphql/overview/rate-limits-and-node-limits-for-the-graphql-api#timeouts"""

_Reasons = Sequence[tuple[str, str]]

_DENIED: Final[_Reasons] = (
    ("archived", "archived"),
    ("suspended", "installation_suspended"),
    ("locked", "locked"),
    ("disabled", "disabled"),
    ("not accessible by integration", "permission_not_granted"),
)
_GONE: Final[_Reasons] = (("issues has been disabled", "no_issues"), ("issues are disabled", "no_issues"))
_INVALID: Final[_Reasons] = (
    ("not a fast forward", "not_fast_forward"),
    # git's own words when two writers meet at one ref: https://git-scm.com/docs/git-update-ref
    ("but expected", "ref_race"),
    ("cannot lock ref", "ref_race"),
    ("reference update failed", "ref_race"),
    ("merge conflict", "merge_conflict"),
    ("no commits between", "no_commits"),
    ("draft pull requests are not supported", "drafts_unsupported"),
    ("rule violation", "branch_rules"),
    ("protected branch", "branch_protected"),
    ("secret", "push_protection"),
    ("spammed", "content_limit"),
)
_ABSENT: Final[_Reasons] = (
    ("repository is empty", "repository_empty"),
    ("reference does not exist", "missing"),
    ("no commit found", "missing"),
    ("object does not exist", "missing"),
    ("sha does not exist", "missing"),
    ("is not a valid blob", "missing"),
    ("badobjectstate", "missing"),
    ("does not exist or is not accessible", "repository_missing"),
)


def translated(error: GitHubException | ValidationError) -> MagicodeError:
    """The app's error for anything that githubkit raises.

    The answer's own form (pydantic's ValidationError) is told without pydantic's text, which would quote it.
    """
    match error:
        case ValidationError():
            found: MagicodeError = unreadable()
        case RateLimitExceeded():  # a query's, which comes with the status of success
            found = limited(wait_told(error.response.headers))
        case RequestFailed():
            found = _from_answer(error)
        case RequestError(exc=MagicodeError() as ours):
            found = ours
        case RequestError():
            found = TransientError("GitHub could not be reached.", reason="network")
        case GraphQLFailed():
            found = _from_graphql(error)
        case _:
            found = DefectError("The GitHub client could not make this request.", reason="github_client")
    return found


def unreadable() -> TransientError:
    """An answer that has not the documented form: cut off, another's page, or changed. What it would have told is looked up anew."""
    return TransientError(
        "GitHub's answer did not have the documented form.", reason="github_answer_unreadable"
    )


def limited(retry_after: timedelta | None) -> LimitedError:
    """None: GitHub names no time."""
    return LimitedError("GitHub's rate limit was reached.", reason="rate_limited", retry_after=retry_after)


def wait_told(headers: Mapping[str, str]) -> timedelta | None:
    """How long the headers of a refusal for a limit say to wait, None where they do not. Times are held against the server's
    own clock, which ours may not agree with.

    https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#exceeding-the-rate-limit
    """
    told = headers.get("retry-after", "").strip()
    if told.isascii() and told.isdecimal() and len(told) < 10:
        return _within(timedelta(seconds=int(told)))
    now = date_told(headers.get("date", "")) or datetime.now(UTC)
    at = date_told(told)
    if at is None and headers.get("x-ratelimit-remaining", "").strip() == "0":
        reset = headers.get("x-ratelimit-reset", "").strip()
        if reset.isascii() and reset.isdecimal() and len(reset) < 12:
            at = datetime.fromtimestamp(int(reset), UTC)
    return None if at is None else _within(at - now)


def _within(wait: timedelta) -> timedelta:
    return min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)


def date_told(told: str) -> datetime | None:
    """A date as HTTP writes it: https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7"""
    try:
        at = parsedate_to_datetime(told)
    except (ValueError, TypeError):
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _limit(status: int, headers: Mapping[str, str], lowered: str) -> LimitedError | None:
    if status not in (403, 429):
        return None
    wait = wait_told(headers)
    if wait is None and status == 403 and not any(words in lowered for words in _LIMITED):
        return None
    return limited(wait)


def _from_answer(error: RequestFailed) -> MagicodeError:
    status = error.response.status_code
    said, codes = _said(error)
    lowered = said.lower()
    if limit := _limit(status, error.response.headers, lowered):
        return limit
    if status >= 500:
        return TransientError("GitHub answered with an error of its own.", reason="github_unavailable")
    if status in (409, 422):
        return _unprocessed(status, said, codes)
    match status:
        case 401:
            # Also of a token that is so new that not all of GitHub's machines know it yet.
            found: MagicodeError = TransientError(
                "GitHub did not accept the App's credentials.", reason="token_refused"
            )
        case 403:
            found = DeniedError(said, reason=_reason(lowered, _DENIED) or "denied")
        case 404:
            found = MissingError(said, reason="missing")
        case 410:
            found = GoneError(said, reason=_reason(lowered, _GONE) or "gone")
        case 451:
            found = DeniedError(said, reason="unavailable_for_legal_reasons")
        case _:
            found = InvalidError(said, reason=f"status_{status}")
    return found


def _unprocessed(status: int, said: str, codes: Sequence[str]) -> MagicodeError:
    lowered = said.lower()
    if reason := _reason(lowered, _ABSENT):
        return MissingError(said, reason=reason)
    if "head:invalid" in codes:  # a pull request's branch that is not there (yet)
        return MissingError(said, reason="missing")
    if "already exists" in lowered or "already_exists" in codes:
        return AlreadyExistsError(said)
    if "not granted to this installation" in lowered:
        return DeniedError(said, reason="permission_not_granted")
    reason = _reason(lowered, _INVALID)
    if status == 409 and reason is None:
        # "The repository is empty or unavailable", or somebody else is at the same thing at this moment: it passes.
        # https://docs.github.com/en/rest/git?apiVersion=2022-11-28
        return TransientError(said, reason="conflict")
    return InvalidError(said, reason=reason or "invalid")


def _from_graphql(error: GraphQLFailed) -> MagicodeError:
    """https://docs.github.com/en/graphql/guides/forming-calls-with-graphql"""
    errors = error.response.errors or []
    said = "; ".join(one.message for one in errors) or "GitHub refused this."
    kinds = {one.type for one in errors}
    if kinds & {"RATE_LIMIT", "RATE_LIMITED"} or any(words in said.lower() for words in _LIMITED):
        return limited(None)
    if "NOT_FOUND" in kinds:
        return MissingError(said, reason="missing")
    if "FORBIDDEN" in kinds:
        return DeniedError(said, reason=_reason(said.lower(), _DENIED) or "denied")
    if "SERVICE_UNAVAILABLE" in kinds or _TIMED_OUT in said.lower():
        return TransientError(said, reason="github_unavailable")
    return InvalidError(said, reason="invalid")


def _said(error: RequestFailed) -> tuple[str, Sequence[str]]:
    """GitHub's message and its errors' messages in one line, and its errors' codes.

    https://docs.github.com/en/rest/using-the-rest-api/troubleshooting-the-rest-api#validation-failed
    """
    try:
        body: Any = error.response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return f"GitHub answered {error.response.status_code}.", ()
    listed = body.get("errors")
    errors = listed if isinstance(listed, list) else [listed] if isinstance(listed, str) else []
    texts = [str(body.get("message") or "")]
    texts += [one if isinstance(one, str) else str(one.get("message") or "") for one in errors if one]
    named = [one for one in errors if isinstance(one, dict)]
    codes = [str(one.get("code") or "") for one in named]
    codes += [f"{one.get('field')}:{one.get('code')}" for one in named]
    return " ".join(filter(None, texts)) or f"GitHub answered {error.response.status_code}.", codes


def _reason(lowered: str, reasons: _Reasons) -> str | None:
    return next((reason for text, reason in reasons if text in lowered), None)
