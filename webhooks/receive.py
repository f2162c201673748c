"""One delivery in, one Received out: size, signature, JSON, admission on what the payload itself says.

It asks nobody anything: whether the asker may ask, and in which state the issue is now, is the worker's to find out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TypeVar

from pydantic import ValidationError

from webhooks import comment, events, notices
from webhooks.command import Actor, Ask, Command, Verb
from webhooks.errors import (
    AnotherAppError,
    BadBodyError,
    BadSignatureError,
    TakesLongError,
    TooLargeError,
    WrongContentTypeError,
)
from webhooks.notices import Ignored, Outcome, Received
from webhooks.signature import HEADER, Secrets

LARGEST_BODY = 25 * 1024 * 1024
"""Bytes. GitHub delivers nothing larger: https://docs.github.com/en/webhooks/webhook-events-and-payloads#payload-cap"""

LABEL = "magicode"
BRANCH_PREFIX = "magicode/"
"""What the branches that we push to begin with."""

_DEEPEST = 100  # levels; GitHub's own payloads have fewer than twenty
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_GUID = re.compile(r"[0-9A-Za-z-]{1,64}", re.ASCII)
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)

_READ = frozenset(
    {
        HEADER,
        "content-encoding",
        "content-type",
        "x-github-delivery",
        "x-github-event",
        "x-github-hook-installation-target-id",
        "x-github-hook-installation-target-type",
    }
)
"""Headers, in lower case."""

_E = TypeVar("_E", bound=events.Envelope)


@dataclass(frozen=True, slots=True)
class _Us:
    """Who the App is, to tell its own doings from other people's."""

    slug: str
    app_id: int | None
    longest: int | None

    @property
    def login(self) -> str:
        return f"{self.slug}[bot]".lower()


def receive(
    headers: Mapping[str, str],
    body: bytes,
    *,
    secrets: Secrets,
    slug: str,
    app_id: int | None = None,
    longest: int | None = None,
) -> Received:
    """Read one delivery. Headers are found whatever their case; `slug` is the App's name in its mention and login.

    Raises TooLargeError (413), BadSignatureError (401), AnotherAppError (403), WrongContentTypeError (415) and BadBodyError
    (400), in this order; none of them holds a word of the body. Raises TakesLongError for a text with a mention that has more than
    `longest` characters: a hostile one takes up to 20 microseconds for each.
    """
    if len(body) > LARGEST_BODY:
        raise TooLargeError(reason="too_large")
    named, twice = _read_once(headers)
    if HEADER in twice:
        raise BadSignatureError(reason="signature_malformed")
    secrets.verify(body, named.get(HEADER))
    _require_ours(named, app_id)
    guid, event = _names(named, twice)
    payload = _parse(body)
    envelope = _model(events.Envelope, payload)
    outcome = _outcome(event, payload, envelope, _Us(slug, app_id, longest))
    return Received(
        guid=guid,
        event=event,
        action=envelope.action,
        installation_id=envelope.installation.id if envelope.installation else None,
        repository_id=envelope.repository.id if envelope.repository else None,
        sender=_actor_or_none(envelope.sender),
        outcome=outcome,
    )


# --- bytes -----------------------------------------------------------------------------------------------------------


def _read_once(headers: Mapping[str, str]) -> tuple[dict[str, str], frozenset[str]]:
    """The headers that are read, and those of them that stand there twice: of two, a proxy may have looked at the other."""
    named: dict[str, str] = {}
    twice: set[str] = set()
    for name, value in headers.items():
        if (lower := name.lower()) in _READ:
            twice |= {lower} & named.keys()
            named[lower] = value
    return named, frozenset(twice)


def _require_ours(headers: Mapping[str, str], app_id: int | None) -> None:
    """Raises AnotherAppError. GitHub does not sign headers: this finds a secret that two Apps share, not a forger.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers
    """
    of_an_app = headers.get("x-github-hook-installation-target-type", "") == "integration"
    target = headers.get("x-github-hook-installation-target-id")
    if of_an_app and app_id is not None and target is not None and target != str(app_id):
        raise AnotherAppError(reason="another_app")


def _names(headers: Mapping[str, str], twice: frozenset[str]) -> tuple[str, str]:
    """The delivery's GUID and its event.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#delivery-headers
    """
    if twice:
        raise BadBodyError("A header stands there twice.", reason="header_twice")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise WrongContentTypeError(reason="content_encoding")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise WrongContentTypeError(reason="content_type")
    guid, event = headers.get("x-github-delivery", ""), headers.get("x-github-event", "")
    if not _GUID.fullmatch(guid):
        raise BadBodyError("The X-GitHub-Delivery header is missing or no GUID.", reason="guid")
    if not _EVENT.fullmatch(event):
        raise BadBodyError("The X-GitHub-Event header is missing or no event's name.", reason="event")
    return guid, event


def _parse(body: bytes) -> dict[str, object]:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise BadBodyError("The body is not UTF-8.", reason="not_utf8") from None
    try:
        payload = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise BadBodyError("The body is nested too deeply.", reason="too_deep") from None
    except ValueError:
        raise BadBodyError("The body is not JSON.", reason="not_json") from None
    if not isinstance(payload, dict):
        raise BadBodyError("The body is not a JSON object.", reason="not_an_object")
    if _deeper_than(payload, _DEEPEST):
        raise BadBodyError("The body is nested too deeply.", reason="too_deep")
    if _ESCAPED_SURROGATE.search(text):
        try:
            json.dumps(payload, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise BadBodyError("The body holds half a character.", reason="not_unicode") from None
    return payload


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise BadBodyError("An object in the body has the same key twice.", reason="duplicate_key")
    return made


def _constant(_name: str) -> object:
    raise BadBodyError("The body holds a number that JSON does not have.", reason="not_json")


def _deeper_than(payload: object, levels: int) -> bool:
    layer = [payload]
    for _ in range(levels):
        layer = [child for parent in layer for child in _children(parent)]
        if not layer:
            return False
    return True


def _children(parent: object) -> list[object]:
    """Only containers are children: a scalar adds no level."""
    values: list[object] = []
    if isinstance(parent, dict):
        values = list(parent.values())
    elif isinstance(parent, list):
        values = parent
    return [value for value in values if isinstance(value, dict | list)]


def _model(model: type[_E], payload: Mapping[str, object]) -> _E:
    try:
        return model.model_validate(payload)
    except ValidationError as error:
        # The location says which field; the input, which may be anybody's text, stays out of the message.
        places = ", ".join(
            sorted(
                {".".join(str(part) for part in each["loc"]) for each in error.errors(include_input=False)}
            )
        )
        raise BadBodyError(f"Not as GitHub sends it: {places}.", reason="fields") from None


# --- what it means ---------------------------------------------------------------------------------------------------


def _outcome(event: str, payload: Mapping[str, object], envelope: events.Envelope, us: _Us) -> Outcome:
    if event == "ping":
        return notices.Ping(_model(events.PingEvent, payload).hook_id)
    read = _READERS.get(event)
    if read is None and event != "marketplace_purchase":
        return Ignored("event_not_used")
    actions = _ACTIONS.get(event)
    if actions is not None and envelope.action not in actions:
        return Ignored("action_not_used")
    if read is None:
        return _marketplace_purchase(payload)
    if envelope.installation is None:
        # A repository's own webhook, not the App's: nothing could be done about it.
        return Ignored("no_installation")
    return read(payload, envelope.installation.id, us)


def _issue_comment(payload: Mapping[str, object], installation_id: int, us: _Us) -> Outcome:
    event = _model(events.IssueCommentEvent, payload)
    on_pull_request = event.issue.pull_request is not None
    words = _Words(
        "comment",
        event.comment.id,
        event.comment.body,
        event.comment.user,
        event.comment.performed_via_github_app,
    )
    subject = _Subject(event.issue.number, event.issue.title, event.issue.body, on_pull_request)
    return _spoken(event, event.changes, words, subject, installation_id=installation_id, us=us)


def _review_comment(payload: Mapping[str, object], installation_id: int, us: _Us) -> Outcome:
    event = _model(events.ReviewCommentEvent, payload)
    words = _Words(
        "review-comment",
        event.comment.id,
        event.comment.body,
        event.comment.user,
        event.comment.performed_via_github_app,
        group=_review_group(event.comment.pull_request_review_id),
    )
    return _spoken(
        event, event.changes, words, _reviewed(event.pull_request), installation_id=installation_id, us=us
    )


def _review(payload: Mapping[str, object], installation_id: int, us: _Us) -> Outcome:
    event = _model(events.ReviewEvent, payload)
    review = event.review
    words = _Words(
        "review",
        review.id,
        review.body or "",
        review.user,
        review.performed_via_github_app,
        group=_review_group(review.id),
        asks_by_itself=_asks_us_for_changes(event),
    )
    return _spoken(
        event, event.changes, words, _reviewed(event.pull_request), installation_id=installation_id, us=us
    )


def _asks_us_for_changes(event: events.ReviewEvent) -> bool:
    """A review that requests changes on a branch of ours is meant for us; a fork's branch of that name is not ours.

    https://docs.github.com/en/webhooks/webhook-events-and-payloads#pull_request_review
    """
    head = event.pull_request.head
    ours = (
        head.ref.startswith(BRANCH_PREFIX) and head.repo is not None and head.repo.id == event.repository.id
    )
    return ours and event.action == "submitted" and event.review.state.lower() == "changes_requested"


def _review_group(review_id: int | None) -> str:
    return "" if review_id is None else f"review:{review_id}"


@dataclass(frozen=True, slots=True)
class _Words:
    """Something that a person wrote: a comment, a review's body, a comment inside a review.

    `asks_by_itself`: it is a request to revise although nobody is mentioned in it.
    """

    kind: str
    id: int
    body: str
    author: events.Account | None
    app: events.App | None
    group: str = ""
    asks_by_itself: bool = False


@dataclass(frozen=True, slots=True)
class _Subject:
    """What it was written on."""

    number: int
    title: str
    body: str | None
    is_pull_request: bool


def _reviewed(pull_request: events.PullRequestText) -> _Subject:
    return _Subject(pull_request.number, pull_request.title, pull_request.body, is_pull_request=True)


def _spoken(
    event: events.RepositoryEvent,
    changes: events.Changes | None,
    words: _Words,
    subject: _Subject,
    *,
    installation_id: int,
    us: _Us,
) -> Outcome:
    refusal = _not_admitted(event.sender, words, us, edited=event.action == "edited")
    if refusal:
        return Ignored(refusal)
    ask = _asked(words, words.body, subject, us)
    if ask is None:
        return Ignored("no_command")
    if event.action == "edited":
        before = changes.body.from_ if changes and changes.body else None
        if before is None:
            return Ignored("edit_of_something_else")
        earlier = _asked(words, before, subject, us)
        if earlier is not None and earlier.verb is ask.verb:
            # Repository, number, comment and verb are the meaning: this request has been made already.
            return Ignored("edit_adds_no_command")
    return _command(
        event,
        ask,
        occasion=f"{words.kind}:{words.id}",
        words=words,
        subject=subject,
        installation_id=installation_id,
    )


def _asked(words: _Words, body: str, subject: _Subject, us: _Us) -> Ask | None:
    """What `body` asks for, as these words or as what stood in their place before an edit."""
    plain = Verb.REVISE if subject.is_pull_request else Verb.FIX
    if us.longest is not None and len(body) > us.longest and comment.mentions(body, slug=us.slug):
        raise TakesLongError
    ask: Ask | None
    if words.asks_by_itself:
        whole = Ask(plain, " ".join(body.split()))
        ask = comment.read(body, slug=us.slug, plain=plain, aside=whole) or whole
    else:
        ask = comment.read(body, slug=us.slug, plain=plain)
    if ask is not None and words.group and ask.verb is Verb.FIX:
        # What came with one review is one request, so all of it has to have one verb.
        return replace(ask, verb=Verb.REVISE)
    return ask


def _command(
    event: events.RepositoryEvent,
    ask: Ask,
    *,
    occasion: str,
    words: _Words | None,
    subject: _Subject,
    installation_id: int,
) -> Command:
    texts = [("issue.title", subject.title), ("issue.body", subject.body or "")]
    if words is not None:
        texts.append(("comment.body", words.body))
    return Command(
        ask=ask,
        occasion=occasion,
        installation_id=installation_id,
        repository_id=event.repository.id,
        repository_full_name=event.repository.full_name,
        number=subject.number,
        is_pull_request=subject.is_pull_request,
        actor=_actor(event.sender),
        comment_id=words.id if words else None,
        texts=tuple(texts),
        group=words.group if words else "",
    )


def _not_admitted(sender: events.Account, words: _Words, us: _Us, *, edited: bool) -> str | None:
    """Why these words are not listened to, if they are not."""
    if words.author is None:
        return "author_gone"
    if us.login in (sender.login.lower(), words.author.login.lower()):
        return "ourselves"
    if words.app is not None and (words.app.id == us.app_id or words.app.slug == us.slug):
        return "ourselves"
    if _is_bot(sender) or _is_bot(words.author):
        return "bot"
    if sender.id != words.author.id:
        # A maintainer may edit what somebody else wrote; the command would then be nobody's own.
        return "edited_by_another" if edited else "sender_is_not_author"
    return None


def _issues(payload: Mapping[str, object], installation_id: int, us: _Us) -> Outcome:
    event = _model(events.IssuesEvent, payload)
    if event.sender.login.lower() == us.login:
        return Ignored("ourselves")
    if _is_bot(event.sender):
        return Ignored("bot")
    if event.action == "labeled":
        if event.label is None or event.label.name.strip().lower() != LABEL:
            return Ignored("label_of_another_kind")
    elif event.assignee is None or event.assignee.login.lower() != us.login:
        return Ignored("assigned_to_another")
    subject = _Subject(
        event.issue.number, event.issue.title, event.issue.body, event.issue.pull_request is not None
    )
    occasion = f"{event.action}:{event.issue.updated_at}"
    return _command(
        event, Ask(Verb.FIX), occasion=occasion, words=None, subject=subject, installation_id=installation_id
    )


def _installation(payload: Mapping[str, object], installation_id: int, _us: _Us) -> Outcome:
    event = _model(events.InstallationEvent, payload)
    account = event.installation.account
    return notices.InstallationChanged(
        action=event.action,
        installation_id=installation_id,
        account_id=account.id,
        account_login=account.login,
        suspended=event.installation.suspended_at is not None,
        all_repositories=event.installation.repository_selection == "all",
        repository_ids=tuple(repository.id for repository in event.repositories or ()),
        sender=_actor_or_none(event.sender),
        account_type=account.type,
    )


def _installation_repositories(payload: Mapping[str, object], installation_id: int, _us: _Us) -> Outcome:
    event = _model(events.InstallationRepositoriesEvent, payload)
    account = event.installation.account
    return notices.RepositoriesChanged(
        action=event.action,
        installation_id=installation_id,
        account_id=account.id,
        account_login=account.login,
        added=tuple(repository.id for repository in event.repositories_added),
        removed=tuple(repository.id for repository in event.repositories_removed),
        sender=_actor_or_none(event.sender),
        account_type=account.type,
    )


def _marketplace_purchase(payload: Mapping[str, object]) -> Outcome:
    event = _model(events.MarketplacePurchaseEvent, payload)
    account, at = event.marketplace_purchase.account, event.effective_date
    return notices.PlanChanged(
        action=event.action,
        account_id=account.id,
        account_login=account.login,
        effective_date=at if at.tzinfo else at.replace(tzinfo=UTC),
        sender=_actor(event.sender),
    )


def _pull_request(payload: Mapping[str, object], installation_id: int, us: _Us) -> Outcome:
    event = _model(events.PullRequestEvent, payload)
    if event.sender.login.lower() == us.login:
        return Ignored("ourselves")
    pull = event.pull_request
    return notices.PullRequestChanged(
        action=event.action,
        installation_id=installation_id,
        repository_id=event.repository.id,
        number=pull.number,
        state=pull.state,
        merged=pull.merged,
        draft=pull.draft,
        head_ref=pull.head.ref,
        head_sha=pull.head.sha,
        head_repository_id=pull.head.repo.id if pull.head.repo else None,
        base_ref=pull.base.ref,
        sender=_actor(event.sender),
    )


def _check_suite(payload: Mapping[str, object], installation_id: int, _us: _Us) -> Outcome:
    event = _model(events.CheckSuiteEvent, payload)
    suite = event.check_suite
    return notices.ChecksCompleted(
        installation_id=installation_id,
        repository_id=event.repository.id,
        check_suite_id=suite.id,
        head_sha=suite.head_sha,
        head_branch=suite.head_branch,
        conclusion=suite.conclusion,
    )


def _push(payload: Mapping[str, object], installation_id: int, _us: _Us) -> Outcome:
    event = _model(events.PushEvent, payload)
    return notices.Pushed(
        installation_id=installation_id,
        repository_id=event.repository.id,
        default_branch=event.repository.default_branch,
        ref=event.ref,
        before=event.before,
        after=event.after,
        created=event.created,
        deleted=event.deleted,
        forced=event.forced,
        sender=_actor_or_none(event.sender),
    )


def _is_bot(account: events.Account) -> bool:
    return account.type.lower() == "bot" or account.login.lower().endswith("[bot]")


def _actor(account: events.Account) -> Actor:
    return Actor(account.id, account.login, _is_bot(account))


def _actor_or_none(account: events.Account | None) -> Actor | None:
    return _actor(account) if account else None


_READERS: Mapping[str, Callable[[Mapping[str, object], int, _Us], Outcome]] = {
    "issue_comment": _issue_comment,
    "pull_request_review_comment": _review_comment,
    "pull_request_review": _review,
    "issues": _issues,
    "installation": _installation,
    "installation_repositories": _installation_repositories,
    "pull_request": _pull_request,
    "check_suite": _check_suite,
    "push": _push,
}
"""The events in use. `ping` and `marketplace_purchase` are apart: they name no installation."""

_ACTIONS: Mapping[str, frozenset[str]] = {
    "issue_comment": frozenset({"created", "edited"}),
    "pull_request_review_comment": frozenset({"created", "edited"}),
    "pull_request_review": frozenset({"submitted", "edited"}),
    "issues": frozenset({"labeled", "assigned"}),
    "installation": frozenset({"created", "deleted", "suspend", "unsuspend", "new_permissions_accepted"}),
    "installation_repositories": frozenset({"added", "removed"}),
    "pull_request": frozenset(
        {"opened", "edited", "closed", "reopened", "synchronize", "ready_for_review", "converted_to_draft"}
    ),
    "check_suite": frozenset({"completed"}),
    "marketplace_purchase": frozenset(
        {"purchased", "cancelled", "changed", "pending_change", "pending_change_cancelled"}
    ),
}
"""The actions in use; GitHub adds new ones to existing events without notice, and those are ignored."""
