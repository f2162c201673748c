"""Whole deliveries, made of GitHub's own payloads."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks import notices
from webhooks.command import Actor, Ask, Command, Verb
from webhooks.errors import (
    BadBodyError,
    BadSignatureError,
    TakesLongError,
    TooLargeError,
    WebhookError,
    WrongContentTypeError,
)
from webhooks.notices import Ignored, Received
from webhooks.receive import LARGEST_BODY, receive
from webhooks.signature import Secrets

Payload = dict[str, Any]
Deliver = Callable[..., Received]
Example = Callable[..., Payload]
Sign = Callable[..., dict[str, str]]


# --- everything GitHub sends -----------------------------------------------------------------------------------------


def test_every_example_of_every_event_is_read(examples: list[tuple[str, Payload]], deliver: Deliver) -> None:
    assert len(examples) > 300
    assert len({name for name, _ in examples}) > 50
    for event, payload in examples:
        for installation in ({}, {"installation": {"id": 4242}}):
            received = deliver(event, {**installation, **payload})
            assert received.event == event
            assert received.action == payload.get("action")
            if payload.get("repository"):
                assert received.repository_id == payload["repository"]["id"]


OURS = {
    "installation": notices.InstallationChanged,
    "installation_repositories": notices.RepositoriesChanged,
    "check_suite": notices.ChecksCompleted,
    "pull_request": notices.PullRequestChanged,
    "push": notices.Pushed,
    "marketplace_purchase": notices.PlanChanged,
    "ping": notices.Ping,
}


def test_examples_of_our_events_are_notices_or_say_why_not(
    examples: list[tuple[str, Payload]], deliver: Deliver
) -> None:
    seen = set()
    for event, payload in examples:
        outcome = deliver(event, {"installation": {"id": 4242}, **payload}).outcome
        if event in OURS and not isinstance(outcome, Ignored):
            assert isinstance(outcome, OURS[event])
            seen.add(event)
        else:
            assert isinstance(outcome, Ignored)
            if event in OURS:
                assert outcome.reason == "action_not_used"
    assert seen == set(OURS)


def test_the_events_that_are_read_are_those_that_github_is_asked_for_or_sends_unasked(
    examples: list[tuple[str, Payload]], deliver: Deliver
) -> None:
    read = {
        event
        for event, payload in examples
        if deliver(event, {"installation": {"id": 4242}, **payload}).outcome != Ignored("event_not_used")
    }
    manifest = yaml.safe_load((Path(__file__).parents[2] / "app-manifest.yml").read_text(encoding="utf-8"))
    unasked = {"installation", "installation_repositories", "ping", "marketplace_purchase"}
    assert read == set(manifest["default_events"]) | unasked


def test_events_that_are_not_used_are_ignored_with_a_reason(deliver: Deliver, example: Example) -> None:
    assert deliver("star", example("star", "created")).outcome == Ignored("event_not_used")
    assert deliver("an_event_of_next_year", {"action": "begun"}).outcome == Ignored("event_not_used")


@pytest.mark.parametrize(
    "event",
    [
        "issue_comment",
        "issues",
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "installation",
        "marketplace_purchase",
    ],
)
def test_an_action_of_next_year_is_ignored(event: str, deliver: Deliver) -> None:
    assert deliver(event, {"action": "teleported", "installation": {"id": 1}}).outcome == Ignored(
        "action_not_used"
    )


def test_a_repositorys_own_webhook_is_ignored(deliver: Deliver, example: Example) -> None:
    payload = example("issue_comment", "created")
    payload["comment"]["body"] = "@magicode fix this"
    del payload["installation"]
    assert deliver("issue_comment", payload).outcome == Ignored("no_installation")


# --- commands --------------------------------------------------------------------------------------------------------


@pytest.fixture
def spoken(example: Example) -> Payload:
    payload = example("issue_comment", "created")
    payload["comment"]["body"] = "@magicode fix this up to $3"
    return payload


def test_a_comment_on_an_issue_becomes_a_command(spoken: Payload, deliver: Deliver) -> None:
    received = deliver("issue_comment", spoken)
    assert received.guid == "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    assert received.installation_id == 4242
    assert received.outcome == Command(
        ask=Ask(Verb.FIX, "this", received.outcome.ask.cost_limit_usd),
        occasion="comment:492700400",
        installation_id=4242,
        repository_id=186853002,
        repository_full_name="Codertocat/Hello-World",
        number=1,
        is_pull_request=False,
        actor=Actor(21031067, "Codertocat"),
        comment_id=492700400,
        texts=(
            ("issue.title", "Spelling error in the README file"),
            ("issue.body", "It looks like you accidently spelled 'commit' with two 't's."),
            ("comment.body", "@magicode fix this up to $3"),
        ),
    )


def test_a_comment_on_a_pull_request_revises_it(spoken: Payload, deliver: Deliver) -> None:
    spoken["issue"]["pull_request"] = {"url": "https://api.github.com/repos/Codertocat/Hello-World/pulls/1"}
    spoken["issue"]["body"] = None
    spoken["comment"]["body"] = "@magicode use fewer words"
    command = deliver("issue_comment", spoken).outcome
    assert (command.ask.verb, command.is_pull_request) == (Verb.REVISE, True)
    assert ("issue.body", "") in command.texts


def test_a_review_comment_revises(example: Example, deliver: Deliver) -> None:
    payload = example("pull_request_review_comment", "created")
    payload["comment"]["body"] = "@magicode rename it"
    command = deliver("pull_request_review_comment", payload).outcome
    assert command.ask == Ask(Verb.REVISE, "rename it")
    assert command.occasion == f"review-comment:{payload['comment']['id']}"
    assert command.comment_id == payload["comment"]["id"]
    assert command.number == payload["pull_request"]["number"]
    assert command.is_pull_request


def test_a_review_revises(example: Example, deliver: Deliver) -> None:
    payload = example("pull_request_review", "submitted")
    payload["review"]["body"] = "Nearly there.\n\n@magicode rename it"
    command = deliver("pull_request_review", payload).outcome
    assert command.ask == Ask(Verb.REVISE, "rename it")
    assert command.occasion == f"review:{payload['review']['id']}"


def test_the_label_asks_for_a_fix(example: Example, deliver: Deliver) -> None:
    payload = example("issues", "labeled")
    assert deliver("issues", payload).outcome == Ignored("label_of_another_kind")
    payload["label"]["name"] = "MagiCode"
    command = deliver("issues", payload).outcome
    assert command.ask == Ask(Verb.FIX)
    assert command.occasion == f"labeled:{payload['issue']['updated_at']}"
    assert command.comment_id is None
    assert [name for name, _ in command.texts] == ["issue.title", "issue.body"]


def test_assigning_the_app_asks_for_a_fix(example: Example, deliver: Deliver) -> None:
    payload = example("issues", "assigned")
    assert deliver("issues", payload).outcome == Ignored("assigned_to_another")
    payload["assignee"] = {"id": 99, "login": "magicode[bot]", "type": "Bot"}
    command = deliver("issues", payload).outcome
    assert command.ask == Ask(Verb.FIX)
    assert command.occasion == f"assigned:{payload['issue']['updated_at']}"
    assert command.actor.login == payload["sender"]["login"]
    payload["assignee"]["login"] = "magicode"
    assert deliver("issues", payload).outcome == Ignored("assigned_to_another")


# --- who is not listened to ------------------------------------------------------------------------------------------


def _by(payload: Payload, **changes: object) -> Payload:
    for account in (payload["sender"], payload["comment"]["user"]):
        account.update(changes)
    return payload


def test_bots_are_not_listened_to(spoken: Payload, deliver: Deliver) -> None:
    assert deliver("issue_comment", _by(spoken, type="Bot")).outcome == Ignored("bot")
    assert deliver("issue_comment", _by(spoken, type="User", login="dependabot[bot]")).outcome == Ignored(
        "bot"
    )


def test_the_app_does_not_listen_to_itself(spoken: Payload, example: Example, deliver: Deliver) -> None:
    assert deliver("issue_comment", _by(spoken, login="MagiCode[bot]", type="Bot")).outcome == Ignored(
        "ourselves"
    )
    labelled = example("issues", "labeled")
    labelled["label"]["name"] = "magicode"
    labelled["sender"].update(login="magicode[bot]", type="Bot")
    assert deliver("issues", labelled).outcome == Ignored("ourselves")
    labelled["sender"].update(login="other[bot]", type="Bot")
    assert deliver("issues", labelled).outcome == Ignored("bot")


def test_what_the_app_wrote_on_a_persons_behalf_is_not_listened_to(spoken: Payload, deliver: Deliver) -> None:
    spoken["comment"]["performed_via_github_app"] = {"id": 77, "slug": "renamed"}
    assert deliver("issue_comment", spoken).outcome == Ignored("ourselves")
    spoken["comment"]["performed_via_github_app"] = {"id": 78, "slug": "magicode"}
    assert deliver("issue_comment", spoken).outcome == Ignored("ourselves")
    spoken["comment"]["performed_via_github_app"] = {"id": 78, "slug": "a-mail-gateway"}
    assert isinstance(deliver("issue_comment", spoken).outcome, Command)


def test_a_comment_whose_author_is_gone_is_nobodys(spoken: Payload, deliver: Deliver) -> None:
    spoken["comment"]["user"] = None
    assert deliver("issue_comment", spoken).outcome == Ignored("author_gone")


def test_a_deleted_comment_is_ignored(spoken: Payload, deliver: Deliver) -> None:
    spoken["action"] = "deleted"
    assert deliver("issue_comment", spoken).outcome == Ignored("action_not_used")


def test_a_comment_without_a_command_is_ignored(spoken: Payload, deliver: Deliver) -> None:
    spoken["comment"]["body"] = "> @magicode fix this\n\nnot yet"
    assert deliver("issue_comment", spoken).outcome == Ignored("no_command")


# --- edits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "verb"),
    [
        ("it is broken", "it is broken @magicode fix", Verb.FIX),
        ("`@magicode fix`", "@magicode fix", Verb.FIX),
        ("@magicode fix", "@magicode explain", Verb.EXPLAIN),
        ("@magicode fxi", "@magicode fix", Verb.FIX),
        ("@magicode", "@magicode fix", Verb.FIX),
    ],
)
def test_an_edit_that_adds_a_command_counts(
    before: str, after: str, verb: Verb, spoken: Payload, deliver: Deliver
) -> None:
    created = deliver("issue_comment", spoken).outcome
    spoken.update(action="edited", changes={"body": {"from": before}})
    spoken["comment"]["body"] = after
    command = deliver("issue_comment", spoken).outcome
    assert command.ask.verb is verb
    assert command.occasion == created.occasion


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("@magicode fix", "@magicode fix this"),
        ("@magicode fix it", "Spelling. @magicode fix it"),
        ("@magicode fxi", "@magicode fxii"),
        ("@magicode make it blue", "@magicode fix it"),
    ],
)
def test_an_edit_that_adds_no_command_does_not_count(
    before: str, after: str, spoken: Payload, deliver: Deliver
) -> None:
    spoken.update(action="edited", changes={"body": {"from": before}})
    spoken["comment"]["body"] = after
    assert deliver("issue_comment", spoken).outcome == Ignored("edit_adds_no_command")


def test_an_edit_of_something_else_does_not_count(spoken: Payload, deliver: Deliver) -> None:
    for changes in ({}, {"body": {}}, {"performed_via": {"from": None}}):
        spoken.update(action="edited", changes=changes)
        assert deliver("issue_comment", spoken).outcome == Ignored("edit_of_something_else")


def test_an_edit_by_somebody_else_is_nobodys_command(spoken: Payload, deliver: Deliver) -> None:
    spoken.update(action="edited", changes={"body": {"from": "it is broken"}})
    spoken["sender"].update(id=666, login="meddler")
    assert deliver("issue_comment", spoken).outcome == Ignored("edited_by_another")


# --- notices ---------------------------------------------------------------------------------------------------------


def test_an_installation_names_its_account_and_repositories(example: Example, deliver: Deliver) -> None:
    payload = example("installation", "created")
    notice = deliver("installation", payload).outcome
    assert notice == notices.InstallationChanged(
        action="created",
        installation_id=957387,
        account_id=21031067,
        account_login="Codertocat",
        suspended=False,
        all_repositories=False,
        repository_ids=tuple(repository["id"] for repository in payload["repositories"]),
        sender=Actor(21031067, "Codertocat"),
        account_type="User",
    )
    assert notice.repository_ids
    assert deliver("installation", example("installation", "suspend")).outcome.suspended
    assert not deliver("installation", example("installation", "unsuspend")).outcome.suspended


def test_repositories_come_and_go(example: Example, deliver: Deliver) -> None:
    added = deliver("installation_repositories", example("installation_repositories", "added")).outcome
    removed = deliver("installation_repositories", example("installation_repositories", "removed")).outcome
    assert (added.added, added.removed) == ((186853007,), ())
    assert removed.removed
    assert not removed.added
    assert {added.account_type, removed.account_type} == {"User"}


@pytest.mark.parametrize("action", ["purchased", "cancelled", "changed"])
def test_a_plan_that_changes_names_its_account(action: str, example: Example, deliver: Deliver) -> None:
    payload = example("marketplace_purchase", action)
    del payload["installation"]
    received = deliver("marketplace_purchase", payload)
    account = payload["marketplace_purchase"]["account"]
    assert received.installation_id is None
    assert received.outcome == notices.PlanChanged(
        action=action,
        account_id=account["id"],
        account_login=account["login"],
        effective_date=datetime(2017, 10, 25, tzinfo=UTC),
        sender=Actor(3877742, "username"),
    )


@pytest.mark.parametrize("action", ["pending_change", "pending_change_cancelled"])
def test_a_plan_that_will_change_is_told_as_such(action: str, example: Example, deliver: Deliver) -> None:
    payload = {**example("marketplace_purchase", "changed"), "action": action, "effective_date": "2026-12-01"}
    told = deliver("marketplace_purchase", payload).outcome
    assert (told.action, told.effective_date) == (action, datetime(2026, 12, 1, tzinfo=UTC))


def test_a_plan_without_a_date_or_an_account_is_refused(example: Example, deliver: Deliver) -> None:
    for field, value in (("effective_date", "soon"), ("effective_date", None), ("marketplace_purchase", {})):
        with pytest.raises(BadBodyError):
            deliver("marketplace_purchase", {**example("marketplace_purchase", "cancelled"), field: value})


def test_a_merged_pull_request_is_told(example: Example, deliver: Deliver) -> None:
    payload = example("pull_request", "closed")
    payload["pull_request"].update(merged=True, state="closed")
    payload["pull_request"]["head"]["repo"] = None
    notice = deliver("pull_request", payload).outcome
    assert (notice.merged, notice.state, notice.head_repository_id) == (True, "closed", None)
    assert notice.number == payload["pull_request"]["number"]
    assert notice.head_ref == payload["pull_request"]["head"]["ref"]
    assert notice.head_sha == payload["pull_request"]["head"]["sha"]


def test_completed_checks_are_told(example: Example, deliver: Deliver) -> None:
    payload = example("check_suite", "completed")
    notice = deliver("check_suite", payload).outcome
    suite = payload["check_suite"]
    assert notice == notices.ChecksCompleted(
        4242,
        payload["repository"]["id"],
        suite["id"],
        suite["head_sha"],
        suite["head_branch"],
        suite["conclusion"],
    )


def test_a_push_is_told(example: Example, deliver: Deliver) -> None:
    payload = example("push")
    notice = deliver("push", payload).outcome
    assert (notice.ref, notice.before, notice.after) == (payload["ref"], payload["before"], payload["after"])
    assert notice.sender == Actor(21031067, "Codertocat")


def test_a_ping_is_answered_without_an_installation(example: Example, deliver: Deliver) -> None:
    payload = example("ping")
    del payload["installation"]
    assert deliver("ping", payload).outcome == notices.Ping(payload["hook_id"])


# --- what is not accepted --------------------------------------------------------------------------------------------


def refusal(headers: dict[str, str], body: bytes, secrets: Secrets) -> WebhookError:
    with pytest.raises(WebhookError) as refused:
        receive(headers, body, secrets=secrets, slug="magicode", app_id=77)
    return refused.value


def test_too_large_is_said_before_anything_else(secrets: Secrets) -> None:
    error = refusal({}, bytes(LARGEST_BODY + 1), secrets)
    assert (type(error), error.status) == (TooLargeError, 413)


@pytest.mark.parametrize("change", ["missing", "sha1 only", "other secret", "truncated body", "changed body"])
def test_a_delivery_that_github_did_not_sign_is_refused(
    change: str, spoken: Payload, secrets: Secrets, sign: Sign
) -> None:
    body = json.dumps(spoken).encode()
    headers = sign(body, "issue_comment")
    if change in ("missing", "sha1 only"):
        del headers["X-Hub-Signature-256"]
    if change == "missing":
        del headers["X-Hub-Signature"]
    if change == "other secret":
        headers = sign(body, "issue_comment", "another secret")
    if change == "truncated body":
        body = body[:-1]
    if change == "changed body":
        body = body.replace(b"Codertocat", b"Codertodog", 1)
    error = refusal(headers, body, secrets)
    assert (type(error), error.status) == (BadSignatureError, 401)


BODIES = [
    (b"", "not_json"),
    (b"{", "not_json"),
    (b"payload=%7B%7D", "not_json"),
    (b"\xef\xbb\xbf{}", "not_json"),
    (b'{"a": NaN}', "not_json"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not_json"),
    (b"\xff\xfe", "not_utf8"),
    (b'"\xed\xa0\x80"', "not_utf8"),
    (b"[]", "not_an_object"),
    (b"null", "not_an_object"),
    (b'"text"', "not_an_object"),
    (b'{"action": "created", "action": "deleted"}', "duplicate_key"),
    (b'{"a": {"b": 1, "b": 1}}', "duplicate_key"),
    (b'{"a":' * 200 + b"1" + b"}" * 200, "too_deep"),
    (b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", "too_deep"),
    (b'{"a":' * 1_000_000, "too_deep"),
    (b'{"installation": 5}', "fields"),
    (b'{"installation": {"id": "5"}}', "fields"),
    (b'{"installation": {"id": true}}', "fields"),
    (b'{"installation": {"id": -1}}', "fields"),
    (b'{"installation": {"id": 1e3}}', "fields"),
    (b'{"installation": {"id": 9223372036854775808}}', "fields"),
    (b'{"action": 5}', "fields"),
    (b'{"action": "created", "installation": {"id": 5}}', "fields"),
    (b'{"action": "\\ud800"}', "not_unicode"),
    (b'{"a": {"\\uDC00": 1}}', "not_unicode"),
]


@pytest.mark.parametrize(
    ("body", "reason"), BODIES, ids=[f"{i}-{reason}" for i, (_, reason) in enumerate(BODIES)]
)
def test_a_body_that_github_would_not_send_is_refused(
    body: bytes, reason: str, secrets: Secrets, sign: Sign
) -> None:
    error = refusal(sign(body, "issue_comment"), body, secrets)
    assert isinstance(error, BadBodyError)
    assert (error.status, error.reason) == (400, reason)


@pytest.mark.parametrize(
    "path",
    [
        "comment.id",
        "comment.body",
        "issue.number",
        "issue.title",
        "repository.id",
        "sender.id",
        "sender.login",
    ],
)
def test_a_missing_field_is_named_and_nothing_of_the_text_is_shown(
    path: str, spoken: Payload, secrets: Secrets, sign: Sign
) -> None:
    parent, name = path.split(".")
    del spoken[parent][name]
    spoken["issue"]["user"] = {"id": 1, "login": ["hush-hush"]}
    body = json.dumps(spoken).encode()
    error = refusal(sign(body, "issue_comment"), body, secrets)
    assert error.status == 400
    assert path in error.message
    assert "hush" not in error.message
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_only_json_is_taken(spoken: Payload, secrets: Secrets, sign: Sign) -> None:
    body = json.dumps(spoken).encode()
    for kind in ("application/x-www-form-urlencoded", "text/json", ""):
        error = refusal({**sign(body, "issue_comment"), "Content-Type": kind}, body, secrets)
        assert (type(error), error.status) == (WrongContentTypeError, 415)
    headers = {**sign(body, "issue_comment"), "Content-Type": "application/JSON; charset=utf-8"}
    assert receive(headers, body, secrets=secrets, slug="magicode").event == "issue_comment"


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("X-GitHub-Event", ["", "Issues", "issue comment", "../x", "a" * 65, "push\n"]),
        ("X-GitHub-Delivery", ["", "a b", "x" * 65, "é", "a\n"]),
    ],
)
def test_headers_that_github_would_not_send_are_refused(
    header: str, values: list[str], spoken: Payload, secrets: Secrets, sign: Sign
) -> None:
    body = json.dumps(spoken).encode()
    headers = sign(body, "issue_comment")
    for value in values:
        assert refusal({**headers, header: value}, body, secrets).status == 400
    del headers[header]
    assert refusal(headers, body, secrets).status == 400


def test_headers_are_found_in_any_case(spoken: Payload, secrets: Secrets, sign: Sign) -> None:
    body = json.dumps(spoken).encode()
    for case in (str.lower, str.upper, str.title):
        headers = {case(name): value for name, value in sign(body, "issue_comment").items()}
        assert isinstance(receive(headers, body, secrets=secrets, slug="magicode").outcome, Command)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_payload_with_any_field_exchanged_is_read_or_refused(data: st.DataObject) -> None:
    payload: Payload = {
        "action": "created",
        "installation": {"id": 5},
        "repository": {"id": 6, "full_name": "o/r"},
        "sender": {"id": 7, "login": "ada", "type": "User"},
        "issue": {
            "number": 1,
            "title": "t",
            "body": "b",
            "updated_at": "2026-01-01T00:00:00Z",
            "pull_request": {},
        },
        "comment": {"id": 8, "body": "@magicode fix", "user": {"id": 7, "login": "ada", "type": "User"}},
        "changes": {"body": {"from": "x"}},
    }
    at: Any = payload
    for _ in range(3):
        name = data.draw(st.sampled_from(sorted(at)))
        if not isinstance(at[name], dict) or not at[name] or data.draw(st.booleans()):
            break
        at = at[name]
    at[name] = data.draw(_VALUES)
    body = json.dumps(payload).encode()
    secrets = Secrets("s")
    headers = {
        "content-type": "application/json",
        "x-github-delivery": "1",
        "x-github-event": "issue_comment",
        "x-hub-signature-256": secrets.sign(body),
    }
    try:
        outcome: object = receive(headers, body, secrets=secrets, slug="magicode").outcome
    except BadBodyError as error:
        outcome = error
    assert isinstance(outcome, Command | Ignored | BadBodyError)


def test_a_text_that_takes_long_to_read_is_left_to_whoever_has_the_time(
    spoken: Payload, sign: Sign, secrets: Secrets
) -> None:
    def read(text: str) -> object:
        spoken["comment"]["body"] = text
        body = json.dumps(spoken).encode()
        headers = sign(body, "issue_comment")
        return receive(headers, body, secrets=secrets, slug="magicode", longest=30).outcome

    assert isinstance(read("@magicode fix this, it is late"), Command)
    with pytest.raises(TakesLongError):
        read("@Magicode fix this, it is late!")
    assert read("Nobody is meant by this. " * 100) == Ignored("no_command")
    with pytest.raises(BadSignatureError):
        receive({}, b"@magicode " * 9, secrets=secrets, slug="magicode", longest=30)


def test_what_we_ourselves_do_to_a_pull_request_is_no_news(example: Example, deliver: Deliver) -> None:
    payload = {"installation": {"id": 4242}, **example("pull_request", "opened")}
    assert isinstance(deliver("pull_request", payload).outcome, notices.PullRequestChanged)
    payload["sender"] = payload["sender"] | {"login": "magicode[bot]", "type": "Bot"}
    assert deliver("pull_request", payload).outcome == Ignored("ourselves")
