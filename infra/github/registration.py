"""What comes of registering the App from a manifest: its keys, which GitHub hands to whoever brings the code, once.

https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

from __future__ import annotations

from typing import Any

import httpx
from githubkit import UnauthAuthStrategy

from app.nouns import Registered
from infra.github.calls import Calls, json_of
from infra.github.client import Pooled, client
from infra.github.pace import Spaced
from infra.github.reader import API_VERSION
from infra.github.translate import unreadable


async def converted(code: str, *, api_url: str) -> Registered:
    """Asks once: the code is spent by an answer that gets lost. Raises MissingError for a code that is unknown, spent or older
    than an hour, TransientError where GitHub cannot be reached or does not answer as documented."""
    transport = Pooled(httpx.AsyncHTTPTransport())
    try:
        github = client(UnauthAuthStrategy(), api_url=api_url, transport=transport)
        calls = Calls(pace=Spaced(0), read_attempts=1)
        answer = await calls.read_response(github.rest(API_VERSION).apps.async_create_from_manifest, code)
    finally:
        await transport.close()
    return _registered(json_of(answer))


def _registered(said: Any) -> Registered:
    texts = ("slug", "html_url", "client_id", "client_secret", "pem")
    if not isinstance(said, dict) or not isinstance(said.get("id"), int):
        raise unreadable()
    secret = said.get("webhook_secret")
    if not all(isinstance(said.get(name), str) for name in texts) or not isinstance(secret, str | None):
        raise unreadable()
    return Registered(
        id=said["id"],
        slug=said["slug"],
        url=said["html_url"],
        client_id=said["client_id"],
        client_secret=said["client_secret"],
        private_key=said["pem"],
        webhook_secret=secret,
    )
