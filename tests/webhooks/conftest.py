"""GitHub's own example payloads, signed as GitHub signs."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from webhooks.notices import Received
from webhooks.receive import receive
from webhooks.signature import Secrets

SECRET = "a secret of this test"
GUID = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
_EXAMPLES = Path(__file__).parents[2] / ".cache/octokit/webhooks-examples/api.github.com/index.json"

Payload = dict[str, Any]


@pytest.fixture(scope="session")
def examples() -> list[tuple[str, Payload]]:
    """Event name and payload of each example in npm's @octokit/webhooks-examples."""
    kinds = json.loads(_EXAMPLES.read_text(encoding="utf-8"))
    return [(kind["name"], example) for kind in kinds for example in kind["examples"]]


@pytest.fixture
def example(examples: list[tuple[str, Payload]]) -> Callable[..., Payload]:
    """A copy of the first example of an event (and action), as an installed App would get it."""

    def find(event: str, action: str | None = None) -> Payload:
        found = next(
            payload for name, payload in examples if name == event and payload.get("action") == action
        )
        made = copy.deepcopy(found)
        made.setdefault("installation", {"id": 4242, "node_id": "MDIzOkludGVncmF0aW9u"})
        return made

    return find


def signed(body: bytes, event: str, secret: str = SECRET) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": GUID,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "292430182",
        "X-Hub-Signature": "sha1=" + hmac.new(secret.encode(), body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }


@pytest.fixture
def sign() -> Callable[..., dict[str, str]]:
    return signed


@pytest.fixture
def secrets() -> Secrets:
    return Secrets(SECRET)


@pytest.fixture
def deliver(secrets: Secrets) -> Callable[..., Received]:
    """Sign a payload and receive it as the App `magicode`, id 77."""

    def post(event: str, payload: Payload) -> Received:
        body = json.dumps(payload).encode()
        return receive(signed(body, event), body, secrets=secrets, slug="magicode", app_id=77)

    return post
