"""Who sends the webhook endpoint what GitHub would not: nothing of it is taken for a delivery.

One service with nobody at work takes all of it, so that whatever it wrote down still stands there: its rows are counted
from behind, as the database's superuser, before and after.
"""

from __future__ import annotations

import ast
import asyncio
import copy
import gzip
import hashlib
import hmac
import inspect
import itertools
import json
import shutil
import string
import threading
import uuid
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import app.main
import webhooks.signature
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from tests.claims import case, claim
from tests.lengths import Lengths
from tests.line.conftest import SIMULATOR, Words
from tests.line.conversations import notes
from tests.line.stage import Stage, staged
from webhooks.receive import LARGEST_BODY, Received

pytestmark = pytest.mark.asyncio(loop_scope="module")

GROUP = "Webhook"
OLD_SECRET = "the secret of last month"
EXAMPLES = Path(__file__).parents[2] / ".cache/octokit/webhooks-examples/api.github.com/index.json"
COUNTED = (
    "magicode.deliveries",
    "magicode.runs",
    "magicode.entries",
    "magicode.installations",
    "magicode_jobs.procrastinate_jobs",
)
NOTHING = dict.fromkeys(COUNTED, 0)


@dataclass
class Door:
    """The endpoint, a genuine delivery to change, and what the service wrote down."""

    stage: Stage
    superuser: str
    genuine: dict[str, Any]
    client: httpx.AsyncClient
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(9_000_001))

    @property
    def url(self) -> str:
        return f"{self.stage.url}/webhooks/github"

    @property
    def secret(self) -> str:
        return self.stage.github.world.app.webhook_secret

    def payload(self, **comment: Any) -> dict[str, Any]:
        """A comment that nobody has sent yet, by somebody who may ask: accepted, were it sent as it is."""
        made = copy.deepcopy(self.genuine)
        made["comment"] |= {"id": next(self.numbers), **comment}
        return made

    def body(self, **comment: Any) -> bytes:
        return json.dumps(self.payload(**comment)).encode()

    def signed(self, body: bytes, secret: str | None = None, **headers: str | None) -> dict[str, str]:
        """As GitHub signs; `x_github_event=` and the like change a header, None leaves one out."""
        key = (self.secret if secret is None else secret).encode()
        told: dict[str, str | None] = {
            "Content-Type": "application/json",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-GitHub-Event": "issue_comment",
            "X-GitHub-Hook-Installation-Target-ID": str(self.stage.github.world.app.id),
            "X-GitHub-Hook-Installation-Target-Type": "integration",
            "X-Hub-Signature": "sha1=" + hmac.new(key, body, hashlib.sha1).hexdigest(),
            "X-Hub-Signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
        }
        known = {name.lower().replace("-", "_"): name for name in told}
        told |= {known.get(name, name.replace("_", "-")): value for name, value in headers.items()}
        return {name: value for name, value in told.items() if value is not None}

    async def post(
        self, body: bytes, headers: Mapping[str, str] | list[tuple[str, str]] | None = None
    ) -> httpx.Response:
        return await self.client.post(
            self.url, content=body, headers=self.signed(body) if headers is None else headers
        )

    async def raw(self, *pieces: bytes, within: float = 60.0, pause: float = 0.0) -> bytes:
        """What is answered to these bytes as they are, until the service closes the connection."""
        at = urlsplit(self.stage.url)
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)
            return await asyncio.wait_for(reader.read(), within)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def rows(self) -> dict[str, int]:
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            return {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[index]
                for table in COUNTED
            }

    def askers(self) -> set[tuple[int, str]]:
        with psycopg.connect(self.superuser, autocommit=True) as connection:
            return {
                (int(row[0]), str(row[1]))
                for row in connection.execute("SELECT asker_id, asker_login FROM magicode.runs")
            }


def since(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, int]:
    return {table: after[table] - before[table] for table in after}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def door(tmp_path_factory: pytest.TempPathFactory, postgres: EmbeddedPostgres) -> AsyncIterator[Door]:
    folder = tmp_path_factory.mktemp("door")
    source = folder / "fairshare"
    shutil.copytree(SIMULATOR / "sample", source, ignore=shutil.ignore_patterns("__pycache__"))
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE door TEMPLATE template STRATEGY FILE_COPY")
    async with (
        staged(
            folder / "stage",
            {"octo/fairshare": source},
            notes(),
            database_url=postgres.url(SERVICE_ROLE, "door"),
            encoder=Words(),
            working=False,
            environ={"MAGICODE_WEBHOOK_SECRET_PREVIOUS": OLD_SECRET},
        ) as stage,
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        yield Door(stage, postgres.url(SUPERUSER, "door"), await _genuine(stage), client)
    with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE door WITH (FORCE)")


async def _genuine(stage: Stage) -> dict[str, Any]:
    """What GitHub would have sent about wim's comment, had it known where to."""
    world = stage.github.world
    number = await stage.open_issue("Something is wrong", "Please mend it.")
    await stage.settled()
    url, world.app_url = world.app_url, None
    await stage.comment(number, "@magicode fix this")
    await stage.settled()
    world.app_url = url
    return dict(json.loads(world.deliveries[-1].body))


# --- the control: what is refused below is accepted when it is genuine -----------------------------------------------


@claim(GROUP, "A genuine delivery, as the control of all that follows", "202; one run, one job, one entry")
async def test_a_genuine_delivery_is_accepted(door: Door) -> None:
    before = door.rows()
    answer = await door.post(door.body())
    assert answer.status_code == 202
    # Nobody works here: another test's request on the issue stands before it for good.
    assert answer.json()["outcome"] == ("blocked" if before["magicode.runs"] else "queued")
    gained = since(before, door.rows())
    assert (gained["magicode.runs"], gained["magicode.deliveries"], gained["magicode.entries"]) == (1, 1, 1)


# --- signatures ------------------------------------------------------------------------------------------------------

Attack = Callable[[Door], Awaitable[httpx.Response]]
REFUSED = "; nothing is accepted, nothing is written"


def _with(*, secret: str | None = None, **headers: str | None) -> Attack:
    """A genuine body with these headers in the place of GitHub's."""

    async def send(door: Door) -> httpx.Response:
        body = door.body()
        return await door.post(body, door.signed(body, secret, **headers))

    return send


def _signature(change: Callable[[str], str]) -> Attack:
    """A genuine delivery whose signature was changed."""

    async def send(door: Door) -> httpx.Response:
        body = door.body()
        told = door.signed(body)
        return await door.post(body, told | {"X-Hub-Signature-256": change(told["X-Hub-Signature-256"])})

    return send


def _body(change: Callable[[Door], bytes], **headers: str | None) -> Attack:
    """Another body, signed with the right secret."""

    async def send(door: Door) -> httpx.Response:
        body = change(door)
        return await door.post(body, door.signed(body, **headers))

    return send


async def replayed(door: Door) -> httpx.Response:
    genuine = door.body()
    return await door.post(door.body(body="@magicode delete octo"), door.signed(genuine))


async def truncated(door: Door) -> httpx.Response:
    genuine = door.body()
    return await door.post(genuine[:-1], door.signed(genuine))


async def padded(door: Door) -> httpx.Response:
    genuine = door.body()
    return await door.post(genuine + b" ", door.signed(genuine))


def _twice(name: str, first: str | None = None, second: str | None = None) -> Attack:
    """A header in two lines; None stands for the genuine value."""

    async def send(door: Door) -> httpx.Response:
        body = door.body()
        told = door.signed(body)
        lines = [(key, value) for key, value in told.items() if key != name]
        lines += [(name, told[name] if value is None else value) for value in (first, second)]
        return await door.post(body, lines)

    return send


async def raw_signature(door: Door, value: bytes) -> httpx.Response:
    body = door.body()
    told = [(key.encode(), val.encode()) for key, val in door.signed(body, x_hub_signature_256=None).items()]
    return await door.client.post(door.url, content=body, headers=[*told, (b"X-Hub-Signature-256", value)])


FORGED: Final = "sha256=" + "0" * 64


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        case(GROUP, "A delivery without a signature", "401" + REFUSED, _with(x_hub_signature_256=None, x_hub_signature=None), "signature_missing"),
        case(GROUP, "A delivery with a signature of SHA-1 alone, and a right one", "401" + REFUSED, _with(x_hub_signature_256=None), "signature_missing"),
        case(GROUP, "A right SHA-1 in the place of SHA-256", "401" + REFUSED, _signature(lambda _: "sha1=" + "a" * 40), "signature_malformed"),
        case(GROUP, "A body signed with another secret", "401" + REFUSED, _with(secret="somebody else's"), "signature_wrong"),
        case(GROUP, "A body signed with an empty secret, as of a service that forgot its own", "401" + REFUSED, _with(secret=""), "signature_wrong"),
        case(GROUP, "A signature that was guessed", "401" + REFUSED, _signature(lambda _: FORGED), "signature_wrong"),
        case(GROUP, "A right signature whose last digit is missing", "401" + REFUSED, _signature(lambda right: right[:-1]), "signature_malformed"),
        case(GROUP, "A right signature with something behind it", "401" + REFUSED, _signature(lambda right: right + "0"), "signature_malformed"),
        case(GROUP, "A right signature in capital letters, which GitHub never sends", "401" + REFUSED, _signature(lambda right: "sha256=" + right[7:].upper()), "signature_wrong"),
        case(GROUP, "Two signatures in one header, the right one behind a comma", "401" + REFUSED, _signature(lambda right: f"{FORGED},{right}"), "signature_malformed"),
        case(GROUP, "Two signature headers, the right one last", "401" + REFUSED, _twice("X-Hub-Signature-256", FORGED, None), "signature_malformed"),
        case(GROUP, "Two signature headers, the right one first", "401" + REFUSED, _twice("X-Hub-Signature-256", None, FORGED), "signature_malformed"),
        case(GROUP, "A signature in letters that are no ASCII", "401" + REFUSED, lambda door: raw_signature(door, ("sha256=" + "é" * 64).encode("latin-1")), "signature_wrong"),
        case(GROUP, "A signature of digits of another script", "401" + REFUSED, lambda door: raw_signature(door, ("sha256=" + "٣" * 32).encode()), "signature_wrong"),
        case(GROUP, "A genuine delivery's signature on a body that was exchanged", "401" + REFUSED, replayed, "signature_wrong"),
        case(GROUP, "A genuine delivery whose last byte was cut off", "401" + REFUSED, truncated, "signature_wrong"),
        case(GROUP, "A genuine delivery with a space behind it", "401" + REFUSED, padded, "signature_wrong"),
    ],
)  # fmt: skip
async def test_what_github_did_not_sign_is_not_taken(door: Door, attack: Attack, reason: str) -> None:
    before = door.rows()
    answer = await attack(door)
    assert (answer.status_code, answer.json()["reason"]) == (401, reason)
    assert since(before, door.rows()) == NOTHING


@claim(
    GROUP,
    "White space around a right signature, and inside it",
    "Around it is no part of a header's value: accepted once; inside it: 401",
)
async def test_white_space_around_a_header_is_no_part_of_it(door: Door) -> None:
    before, body = door.rows(), door.body()
    told = door.signed(body)
    right = told.pop("X-Hub-Signature-256")
    lines = [f"{name}: {value}" for name, value in told.items()] + [f"Content-Length: {len(body)}"]
    for value, status in ((f" \t {right} \t", 202), (f"{right[:20]} {right[20:]}", 401)):
        answer = await door.raw(_head(*lines, f"X-Hub-Signature-256:{value}", "Connection: close") + body)
        assert _status(answer) == status
    assert since(before, door.rows())["magicode.runs"] == 1


@claim(
    GROUP,
    "The secret of before, while it is being rotated; and any other one",
    "The two that are set are taken, a third is not: 401",
)
async def test_the_secret_of_before_counts_for_as_long_as_it_is_set(door: Door) -> None:
    before = door.rows()
    assert (await _with(secret=OLD_SECRET)(door)).status_code == 202
    assert (await _with(secret=OLD_SECRET + " ")(door)).status_code == 401
    assert (await _with(secret="the secret of the month before")(door)).status_code == 401
    assert since(before, door.rows())["magicode.runs"] == 1


@claim(
    GROUP,
    "The time that a wrong signature takes",
    "Signatures are compared by hmac.compare_digest alone, and with each secret (looked up in the code)",
)
async def test_signatures_are_compared_in_constant_time() -> None:
    source = inspect.getsource(webhooks.signature)
    verify = next(
        one
        for one in ast.walk(ast.parse(source))
        if isinstance(one, ast.FunctionDef) and one.name == "verify"
    )
    calls = [ast.unparse(one.func) for one in ast.walk(verify) if isinstance(one, ast.Call)]
    assert "hmac.compare_digest" in calls
    compared = [ast.unparse(one) for one in ast.walk(verify) if isinstance(one, ast.Compare)]
    assert all("digest" not in one and "key" not in one for one in compared), compared
    loop = next(one for one in ast.walk(verify) if isinstance(one, ast.ListComp))
    assert "compare_digest" in ast.unparse(loop.elt), "no secret is left out once one fits"


# --- headers ---------------------------------------------------------------------------------------------------------


def _form(door: Door) -> bytes:
    return b"payload=" + json.dumps(door.payload()).encode()


@pytest.mark.parametrize(
    ("attack", "status", "reason"),
    [
        case(GROUP, "Form-encoded payload=, rightly signed", "415" + REFUSED, _body(_form, content_type="application/x-www-form-urlencoded"), 415, "content_type"),
        case(GROUP, "JSON that says it is text/plain, as any other site's form can send it", "415" + REFUSED, _with(content_type="text/plain"), 415, "content_type"),
        case(GROUP, "A delivery without a content type", "415" + REFUSED, _with(content_type=None), 415, "content_type"),
        case(GROUP, "A multipart body that says it holds JSON", "415" + REFUSED, _with(content_type="multipart/form-data; boundary=application/json"), 415, "content_type"),
        case(GROUP, "Two content types", "400" + REFUSED, _twice("Content-Type", None, "text/plain"), 400, "header_twice"),
        case(GROUP, "No GUID", "400" + REFUSED, _with(x_github_delivery=None), 400, "guid"),
        case(GROUP, "An empty GUID", "400" + REFUSED, _with(x_github_delivery=""), 400, "guid"),
        case(GROUP, "A GUID of ten thousand characters", "400" + REFUSED, _with(x_github_delivery="a" * 10_000), 400, "guid"),
        case(GROUP, "SQL in the place of the GUID", "400" + REFUSED, _with(x_github_delivery="x'; DELETE FROM magicode.runs; --"), 400, "guid"),
        case(GROUP, "Two GUIDs", "400" + REFUSED, _twice("X-GitHub-Delivery", None, "another"), 400, "header_twice"),
        case(GROUP, "No event", "400" + REFUSED, _with(x_github_event=None), 400, "event"),
        case(GROUP, "A path in the place of the event", "400" + REFUSED, _with(x_github_event="../../issues"), 400, "event"),
        case(GROUP, "Two events", "400" + REFUSED, _twice("X-GitHub-Event", None, "push"), 400, "header_twice"),
        case(GROUP, "Another App's webhook under our secret, which names its own App as the target", "403" + REFUSED, _with(x_github_hook_installation_target_id="1"), 403, "another_app"),
        case(GROUP, "A body that says it is compressed", "415" + REFUSED, _with(content_encoding="gzip"), 415, "content_encoding"),
        case(GROUP, "A bomb of gzip that is rightly signed: 30 kB that would be 30 MB", "415 without a byte of it being inflated" + REFUSED, _body(lambda _: gzip.compress(b"[" * 30_000_000, 9), content_encoding="gzip"), 415, "content_encoding"),
        case(GROUP, "A bomb of deflate that does not say what it is", "400" + REFUSED, _body(lambda _: zlib.compress(b"[" * 30_000_000, 9)), 400, "not_utf8"),
    ],
)  # fmt: skip
async def test_headers_that_github_does_not_send(
    door: Door, attack: Attack, status: int, reason: str
) -> None:
    before = door.rows()
    answer = await attack(door)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert since(before, door.rows()) == NOTHING


# --- bodies ----------------------------------------------------------------------------------------------------------


def _text(door: Door, before: str, after: str) -> bytes:
    """The genuine text with a piece of it exchanged."""
    text = json.dumps(door.payload())
    assert before in text
    return text.replace(before, after, 1).encode()


def _set(*path: str, to: Any) -> Callable[[Door], bytes]:
    def change(door: Door) -> bytes:
        made = door.payload()
        at = made
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = to
        return json.dumps(made).encode()

    return change


def _raw_number(text: str) -> Callable[[Door], bytes]:
    """The installation's id as this text, which JSON's writer would not write."""
    return lambda door: (
        json.dumps({**door.payload(), "installation": {"id": 41414141}}).replace("41414141", text).encode()
    )


def _doubled(name: str, second: Any) -> Callable[[Door], bytes]:
    """The same key twice in the body: who checks one and uses the other is fooled."""
    return lambda door: (
        json.dumps(door.payload())[:-1].encode() + f', "{name}": {json.dumps(second)}}}'.encode()
    )


STRANGER: Final = {"id": 424242, "login": "mallory", "type": "User"}
COMMAND: Final = {"id": 1, "body": "@magicode delete octo", "user": STRANGER}

BODIES = [
    case(GROUP, "JSON nested a hundred thousand levels deep", "400; the parser does not run out of stack" + REFUSED, _body(lambda _: b"[" * 100_000 + b"]" * 100_000), "too_deep"),
    case(GROUP, "Objects nested a hundred thousand levels deep", "400" + REFUSED, _body(lambda _: b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "too_deep"),
    case(GROUP, "A comment that holds five hundred levels of lists, which the parser would still take", "400" + REFUSED, _body(_set("comment", "x", to=json.loads("[" * 500 + "]" * 500))), "too_deep"),
    case(GROUP, "Two installations in one body", "400: neither is believed" + REFUSED, _body(_doubled("installation", {"id": 1})), "duplicate_key"),
    case(GROUP, "Two comments in one body, the second by a stranger", "400" + REFUSED, _body(_doubled("comment", COMMAND)), "duplicate_key"),
    case(GROUP, "Two senders in one body", "400" + REFUSED, _body(_doubled("sender", STRANGER)), "duplicate_key"),
    case(GROUP, "The same key twice, once escaped", "400" + REFUSED, _body(lambda door: json.dumps(door.payload())[:-1].encode() + b', "\\u0073ender": {"id": 1, "login": "x"}}'), "duplicate_key"),
    case(GROUP, "Two logins inside the sender", "400" + REFUSED, _body(lambda door: _text(door, '"sender": {', '"sender": {"login": "ada", ')), "duplicate_key"),
    case(GROUP, "A body that begins with a byte order mark", "400" + REFUSED, _body(lambda door: b"\xef\xbb\xbf" + door.body()), "not_json"),
    case(GROUP, "A body in UTF-16", "400" + REFUSED, _body(lambda door: json.dumps(door.payload()).encode("utf-16")), "not_utf8"),
    case(GROUP, "A body in UTF-16 without a mark, which is UTF-8 too, of letters and NULs", "400" + REFUSED, _body(lambda door: json.dumps(door.payload()).encode("utf-16-le")), "not_json"),
    case(GROUP, "A body that is no UTF-8", "400" + REFUSED, _body(lambda door: _text(door, '"@magicode fix this"', '"@magicode fix this \u00ff"').replace(b"\xc3\xbf", b"\xff")), "not_utf8"),
    case(GROUP, "Overlong UTF-8 that would spell a quotation mark", "400" + REFUSED, _body(lambda door: door.body()[:-1] + b',"x":"\xc0\xa2"}'), "not_utf8"),
    case(GROUP, "A raw NUL between the fields", "400" + REFUSED, _body(lambda door: door.body().replace(b", ", b",\x00", 1)), "not_json"),
    case(GROUP, "Half a character in the comment", "400" + REFUSED, _body(lambda door: _text(door, "@magicode fix this", "@magicode fix \\ud83d this")), "not_unicode"),
    case(GROUP, "An escaped NUL in the sender's login, which PostgreSQL refuses to keep", "400" + REFUSED, _body(_set("sender", "login", to="wim\0")), "fields"),
    case(GROUP, "An escaped NUL in the action", "400" + REFUSED, _body(_set("action", to="created\0")), "fields"),
    case(GROUP, "An action of a megabyte", "400" + REFUSED, _body(_set("action", to="created" * 150_000)), "fields"),
    case(GROUP, "A repository's name that is markup and a NUL", "400" + REFUSED, _body(_set("repository", "full_name", to="octo/<b>\0")), "fields"),
    case(GROUP, "NaN in the place of an id", "400" + REFUSED, _body(_raw_number("NaN")), "not_json"),
    case(GROUP, "Infinity in the place of an id", "400" + REFUSED, _body(_raw_number("Infinity")), "not_json"),
    case(GROUP, "1e999 in the place of an id", "400" + REFUSED, _body(_raw_number("1e999")), "fields"),
    case(GROUP, "A whole number written as a float", "400" + REFUSED, _body(_raw_number("100002.0")), "fields"),
    case(GROUP, "An id of 2**63, one more than PostgreSQL's", "400" + REFUSED, _body(_raw_number(str(2**63))), "fields"),
    case(GROUP, "An id of five thousand digits", "400" + REFUSED, _body(_raw_number("9" * 5_000)), "not_json"),
    case(GROUP, "An id below zero", "400" + REFUSED, _body(_raw_number("-1")), "fields"),
    case(GROUP, "Zero as an id, under which the service keeps what is nobody's", "400" + REFUSED, _body(_raw_number("0")), "fields"),
    case(GROUP, "true in the place of an id", "400" + REFUSED, _body(_raw_number("true")), "fields"),
    case(GROUP, "An id as a text", "400" + REFUSED, _body(_raw_number('"100002"')), "fields"),
    case(GROUP, "A list where an installation is expected", "400" + REFUSED, _body(_set("installation", to=[{"id": 1}])), "fields"),
    case(GROUP, "A comment's id of 2**63", "400" + REFUSED, _body(_set("comment", "id", to=2**63)), "fields"),
    case(GROUP, "An issue's number of 2**63", "400" + REFUSED, _body(_set("issue", "number", to=2**63)), "fields"),
    case(GROUP, "A list in the place of the body", "400" + REFUSED, _body(lambda door: json.dumps([door.payload()]).encode()), "not_an_object"),
    case(GROUP, "An empty body", "400" + REFUSED, _body(lambda _: b""), "not_json"),
    case(GROUP, "Two documents in one body", "400" + REFUSED, _body(lambda door: door.body() + door.body()), "not_json"),
    case(GROUP, "A comment behind the JSON", "400" + REFUSED, _body(lambda door: door.body() + b"/* */"), "not_json"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "reason"), BODIES)
async def test_bodies_that_github_does_not_send(door: Door, attack: Attack, reason: str) -> None:
    """All of them are rightly signed: whoever holds the secret still breaks nothing."""
    before = door.rows()
    answer = await attack(door)
    assert (answer.status_code, answer.json()["reason"]) == (400, reason)
    assert since(before, door.rows()) == NOTHING


@claim(
    GROUP,
    "NULs, lone marks of direction and half-width letters in titles and comments, which people do write",
    "202: read like any other text, and none of it is kept",
)
async def test_odd_characters_in_what_people_write_break_nothing(door: Door) -> None:
    before = door.rows()
    made = door.payload(body="@magicode fix this \0 \u202e \ufeff \U000e0041")
    made["issue"]["title"] = "\0\u0000 '; DROP TABLE magicode.runs; --"
    answer = await door.post(json.dumps(made).encode())
    assert answer.status_code == 202
    assert since(before, door.rows())["magicode.runs"] == 1


# --- another installation's ------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "A delivery of an installation that is not ours, rightly signed",
    "An answer that says so; no run, no delivery: one entry in the log of what is nobody's",
)
async def test_an_installation_that_is_not_ours(door: Door) -> None:
    before = door.rows()
    answer = await _body(_set("installation", "id", to=2**62))(door)
    assert answer.json() == {
        "outcome": "unknown_installation",
        "reason": "unknown_installation",
        "run": None,
    }
    gained = since(before, door.rows())
    assert gained == NOTHING | {"magicode.entries": 1}


@claim(
    GROUP,
    "A repository's own webhook under our secret, which names no installation",
    "202 that says so; nothing is written",
)
async def test_no_installation(door: Door) -> None:
    before = door.rows()
    made = door.payload()
    del made["installation"]
    answer = await door.post(json.dumps(made).encode())
    assert (answer.status_code, answer.json()["outcome"]) == (202, "ignored")
    assert since(before, door.rows()) == NOTHING


@claim(
    GROUP,
    "The same signed body again under thirty forged GUIDs, at once",
    "One run: what was asked is known by the signed body, not by a header",
)
async def test_forged_guids_make_no_second_run(door: Door) -> None:
    before, body = door.rows(), door.body()
    answers = await asyncio.gather(*(door.post(body) for _ in range(30)))
    assert {one.status_code for one in answers} <= {202, 503}, (
        "taken, or to be asked for again on a busy machine"
    )
    assert len({one.json()["run"] for one in answers if one.status_code == 202}) == 1
    while (now := door.rows()) != await _a_moment_later(door):
        pass  # what was answered with 503 may still be written down
    assert since(before, now)["magicode.runs"] == 1


async def _a_moment_later(door: Door) -> dict[str, int]:
    await asyncio.sleep(0.5)
    return door.rows()


# --- size and patience -----------------------------------------------------------------------------------------------


def _head(*lines: str, path: str = "/webhooks/github", method: str = "POST") -> bytes:
    return ("\r\n".join((f"{method} {path} HTTP/1.1", "Host: magicode", *lines)) + "\r\n\r\n").encode(
        "latin-1"
    )


def _status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


@claim(
    GROUP,
    "A comment of 40,000 brackets, which take the better part of a second to read, and five others behind it",
    "The five are answered first, and it then; each is accepted once",
)
async def test_a_comment_that_takes_long_to_read_keeps_nobody_waiting(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = door.rows()
    answered: list[str] = []
    read, others_answered = app.main.receive, threading.Event()

    def slowly(*given: Any, longest: int | None = None, **named: Any) -> Received:
        found = read(*given, longest=longest, **named)
        if longest is None:
            others_answered.wait(30)  # as on a machine where it takes that long
        return found

    monkeypatch.setattr(app.main, "receive", slowly)

    async def sent(name: str, text: str) -> None:
        answer = await door.post(door.body(body=text))
        assert answer.json()["outcome"] in {"queued", "blocked"}, answer.text
        answered.append(name)

    hostile = asyncio.create_task(sent("hostile", "![[" * 13_000 + "\n\n@magicode fix this"))
    await asyncio.sleep(0.02)
    await asyncio.gather(*(sent("other", f"@magicode explain {number}") for number in range(5)))
    others_answered.set()
    await hostile
    assert answered == ["other"] * 5 + ["hostile"]
    assert since(before, door.rows())["magicode.runs"] == 6


@claim(GROUP, "A delivery that says it is of 25 MB and a byte", "413 before a byte of it is read")
async def test_a_declared_length_beyond_the_largest(door: Door) -> None:
    before = door.rows()
    answer = await door.raw(_head(f"Content-Length: {LARGEST_BODY + 1}", "Content-Type: application/json"))
    assert _status(answer) == 413
    assert since(before, door.rows()) == NOTHING


@claim(GROUP, "A delivery in pieces of no said length that never ends", "413 once 25 MB are there")
async def test_an_undeclared_length_beyond_the_largest(door: Door) -> None:
    before = door.rows()
    piece = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    answer = await door.raw(
        _head("Transfer-Encoding: chunked", "Content-Type: application/json"), *[piece] * 40
    )
    assert _status(answer) in (413, 0), "refused, or the connection is closed in the middle"
    assert since(before, door.rows()) == NOTHING
    assert (await door.post(door.body())).status_code == 202, "and the service goes on"


@claim(
    GROUP,
    "A length of letters, of minus one, of a plus sign, and two different lengths",
    "400 each" + REFUSED,
)
async def test_lengths_that_are_none(door: Door) -> None:
    before = door.rows()
    for lines in (
        ["Content-Length: abc"],
        ["Content-Length: -1"],
        ["Content-Length: +5"],
        ["Content-Length: 5", "Content-Length: 6"],
        ["Content-Length: 0x10"],
    ):
        assert _status(await door.raw(_head(*lines) + b"hello")) == 400, lines
    assert since(before, door.rows()) == NOTHING


@claim(
    GROUP,
    "Two requests smuggled in one: a length and chunks at once, a genuine delivery behind the end",
    "400, and the connection is closed: the second is never read as a request",
)
async def test_a_length_and_chunks_at_once(door: Door) -> None:
    before, body = door.rows(), door.body()
    lines = [f"{name}: {value}" for name, value in door.signed(body).items()]
    hidden = _head(*lines, f"Content-Length: {len(body)}") + body
    for first in (
        _head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        _head("Content-Length: 4", "Transfer-Encoding: chunked", path="/signin", method="GET") + b"0\r\n\r\n",
        _head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n",
        _head("Transfer-Encoding : chunked") + b"0\r\n\r\n",
    ):
        answer = await door.raw(first + hidden, within=30)
        assert _status(answer) == 400, answer[:200]
        assert answer.count(b"HTTP/1.1 ") == 1, "the hidden one was answered"
    assert since(before, door.rows()) == NOTHING


@claim(
    GROUP,
    "A header line that is folded, one with a line feed alone, and a thousand headers",
    "Refused: nothing is written, and the service goes on",
)
async def test_heads_that_are_none(door: Door) -> None:
    before = door.rows()
    for head in (
        b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
        b"POST /webhooks/github HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"POST  /webhooks/github HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        _head(*(f"X-{number}: {'a' * 100}" for number in range(1_000)), "Content-Length: 0"),
    ):
        answer = await door.raw(head + b"\r\n", within=30)
        assert _status(answer) in (400, 401, 431), answer[:100]
    assert since(before, door.rows()) == NOTHING
    assert (await door.post(door.body())).status_code == 202


@claim(
    GROUP,
    "A connection that says nothing, headers that never end, and a body that comes a byte at a time, as slow-loris does",
    "Each is closed once its time is over; nothing is written, and a genuine delivery still gets in",
)
async def test_requests_that_never_end(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.web.patience.REQUEST_WITHIN_SECONDS", 0.5)
    before = door.rows()
    head = _head("Content-Length: 100000", "Content-Type: application/json")
    answers = await asyncio.gather(
        door.raw(),
        door.raw(b"POST /webhooks/github HTTP/1.1\r\n", *[b"X-Slow: a\r\n"] * 12, pause=0.1),
        door.raw(head, *[b"a"] * 12, pause=0.1),
        door.raw(_head("Transfer-Encoding: chunked"), *[b"1\r\na\r\n"] * 12, pause=0.1),
        *(door.raw(head) for _ in range(50)),
    )
    assert all(_status(one) in (0, 400) for one in answers), "closed without being taken"
    assert since(before, door.rows()) == NOTHING
    assert (await door.post(door.body())).status_code == 202


@claim(
    GROUP,
    "Bodies that begin, all at once, and keep the service's memory while nobody has signed anything yet",
    "503 beyond a fixed number of bytes for all of them together; what was refused is asked for again, and others get in afterwards",
)
async def test_bodies_that_only_take_room(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.main.MOST_HELD", 200_000)
    before = door.rows()
    head = _head("Content-Length: 100000", "Content-Type: application/json", "Connection: close")
    at = urlsplit(door.stage.url)
    held = []
    for _ in range(2):
        reader, writer = await asyncio.open_connection(at.hostname, at.port)
        writer.write(head + b"a" * 95_000)
        await writer.drain()
        held.append((reader, writer))
    async with asyncio.timeout(60):
        while _status(await door.raw(head + b"a" * 100_000)) != 503:
            await asyncio.sleep(0.05)  # until both are there
    for reader, writer in held:
        writer.write(b"a" * 5_000)
        assert _status(await asyncio.wait_for(reader.read(), 60)) == 401
        writer.close()
    assert since(before, door.rows()) == NOTHING
    assert (await door.post(door.body())).status_code == 202


# --- methods and paths -----------------------------------------------------------------------------------------------


@claim(
    GROUP,
    "A genuine delivery by another method, or to an address that resembles the endpoint's",
    "404 or 405, and no redirection" + REFUSED,
)
async def test_other_methods_and_addresses(door: Door) -> None:
    before = door.rows()
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        body = door.body()
        answer = await door.client.request(method, door.url, content=body, headers=door.signed(body))
        assert answer.status_code == 405, method
    at = door.stage.url
    for path in (
        "//webhooks/github",
        "/webhooks/github/",
        "/webhooks//github",
        "/webhooks/github%2f",
        "/webhooks/github%2f..",
        "/webhooks/github%00",
        "/Webhooks/GitHub",
        "/webhooks/github;a=b",
        "/webhooks/gitlab",
        "/api/../webhooks/./x",
    ):
        body = door.body()
        lines = [f"{name}: {value}" for name, value in door.signed(body).items()]
        answer = await door.raw(
            _head(*lines, f"Content-Length: {len(body)}", "Connection: close", path=path) + body
        )
        assert _status(answer) == 404, (at, path, answer[:200])
    assert since(before, door.rows()) == NOTHING


# --- any field, of any kind ------------------------------------------------------------------------------------------

ODD: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**300]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=40),
    st.sampled_from(["\0", "a\0b", "\ud7ff\ue000", "@magicode fix this", "'; --", "9" * 400, "2026-13-45T99:99:99Z", "x" * 5_000]),
    st.lists(st.none(), max_size=3),
    st.dictionaries(st.text(alphabet=string.ascii_lowercase, max_size=5), st.integers(), max_size=3),
)  # fmt: skip
GONE: Final = object()
READ: Final = frozenset(
    {
        "issue_comment",
        "issues",
        "pull_request",
        "pull_request_review",
        "pull_request_review_comment",
        "check_suite",
        "push",
        "installation_repositories",
        "ping",
        "marketplace_purchase",
    }
)
"""The events whose payloads are read; `installation` itself would take the installation away under the other tests."""


def _paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in inside:
        yield (*at, name)
        yield from _paths(child, (*at, name))


def _exchange(payload: Any, path: tuple[Any, ...], to: Any) -> None:
    at = payload
    for part in path[:-1]:
        at = at[part]
    if to is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = to


@claim(
    GROUP,
    "GitHub's own example payloads with any field exchanged for anything or left out, rightly signed",
    "Read or refused, never an error of ours, never a run",
)
@pytest.mark.timeout(1200)
async def test_any_field_of_any_kind(
    door: Door, lengths: Lengths, record_property: Callable[[str, object], None]
) -> None:
    kinds = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    known = [(kind["name"], one) for kind in kinds for one in kind["examples"] if kind["name"] in READ]
    shallow = [[path for path in _paths(one) if len(path) <= 3] for _, one in known]
    loop, before = asyncio.get_running_loop(), door.rows()
    sent = 0

    @settings(
        max_examples=lengths.choose(suite=120, prove=10_000),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.integers(0, len(known) - 1),
        st.lists(st.tuples(st.integers(0, 10_000), st.one_of(st.just(GONE), ODD)), min_size=1, max_size=3),
    )
    def attacked(number: int, exchanged: list[tuple[int, Any]]) -> None:
        nonlocal sent
        event, example = known[number]
        made = copy.deepcopy(example)
        made["installation"] = {**made.get("installation", {}), "id": door.stage.installation}
        for place, to in exchanged:
            paths = shallow[number]
            try:
                _exchange(made, paths[place % len(paths)], to)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier exchange took it away
        body = json.dumps(made).encode()
        posted = door.post(body, door.signed(body, x_github_event=event))
        answer = asyncio.run_coroutine_threadsafe(posted, loop).result(60)
        sent += 1
        assert answer.status_code in (202, 400), (event, exchanged, answer.text)

    await asyncio.to_thread(attacked)
    record_property("payloads", sent)
    assert since(before, door.rows())["magicode.runs"] == 0


@claim(
    GROUP,
    "A genuine request with any field exchanged for anything or left out, rightly signed",
    "Never an error of ours, and never a run in the name of anybody else",
)
@pytest.mark.timeout(1200)
async def test_any_field_of_a_request(
    door: Door, lengths: Lengths, record_property: Callable[[str, object], None]
) -> None:
    paths = [path for path in _paths(door.genuine) if len(path) <= 3]
    loop, known = asyncio.get_running_loop(), door.askers()
    sent = 0

    @settings(
        max_examples=lengths.choose(suite=120, prove=10_000),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, len(paths) - 1), st.one_of(st.just(GONE), ODD))
    def attacked(number: int, to: Any) -> None:
        nonlocal sent
        made = door.payload()
        _exchange(made, paths[number], to)
        body = json.dumps(made).encode()
        answer = asyncio.run_coroutine_threadsafe(door.post(body), loop).result(60)
        sent += 1
        refused = answer.status_code == 400 or answer.json()["outcome"] == "unknown_installation"
        assert refused or answer.status_code == 202, (paths[number], to, answer.text)

    await asyncio.to_thread(attacked)
    record_property("payloads", sent)
    wim = door.stage.github.account("wim").id
    assert {one for one, _ in door.askers() - known} <= {wim}
