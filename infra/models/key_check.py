"""Whether a provider takes a key: its list of models is asked for, which costs nothing and sends nothing of anybody's.

https://platform.claude.com/docs/en/api/models-list https://developers.openai.com/api/reference/resources/models
"""

from __future__ import annotations

from datetime import UTC, datetime

import anthropic
import httpx2
import openai

from app.errors import TransientError
from app.nouns import OwnKey
from infra.models.anthropic import BASE_URL as ANTHROPIC_URL
from infra.models.guarded import Guard
from infra.models.openai import BASE_URL as OPENAI_URL
from infra.models.retry import network_error, status_error
from infra.models.wire import without_headers_of_the_environment

TIMEOUT = httpx2.Timeout(10.0)


class ModelsKeyCheck:
    """Implements app.ports.KeyCheck. One try: somebody waits for the answer, and an unchecked key can be kept too."""

    def __init__(self, guard: Guard | None = None, base_urls: dict[str, str] | None = None) -> None:
        """`base_urls` take the place of the providers' own addresses, for a simulated provider."""
        self._guard = guard or Guard()
        self._base_urls = base_urls or {}

    async def __call__(self, key: OwnKey) -> None:
        url = key.base_url or self._base_urls.get(key.provider)
        client = None
        if key.base_url is not None:
            try:
                await self._guard.require(key.base_url)
            except OSError:
                raise TransientError(
                    "The address of the provider was not found.", reason="model_unreachable"
                ) from None
            client = self._guard.client(TIMEOUT)
        if key.provider == "anthropic":
            await _anthropic(key.key, url, client)
        else:
            await _openai(key.key, url, client)


async def _anthropic(key: str, url: str | None, client: httpx2.AsyncClient | None) -> None:
    async with anthropic.AsyncAnthropic(
        api_key=key,
        base_url=url or ANTHROPIC_URL,
        http_client=client,
        max_retries=0,
        timeout=TIMEOUT,
        open_telemetry=False,
    ) as asked:
        without_headers_of_the_environment(asked)
        try:
            await asked.models.list(limit=1)
        except anthropic.APIStatusError as error:
            raise status_error(
                error.status_code, error.response.headers, secret=key, now=datetime.now(UTC)
            ) from None
        except (anthropic.APIError, httpx2.HTTPError, ValueError) as error:
            raise network_error(error) from None


async def _openai(key: str, url: str | None, client: httpx2.AsyncClient | None) -> None:
    async with openai.AsyncOpenAI(
        api_key=key, base_url=url or OPENAI_URL, http_client=client, max_retries=0, timeout=TIMEOUT
    ) as asked:
        asked.organization, asked.project = None, None
        without_headers_of_the_environment(asked)
        try:
            await asked.models.list()
        except openai.APIStatusError as error:
            code = error.code if isinstance(error.code, str) else ""
            raise status_error(
                error.status_code, error.response.headers, code=code, secret=key, now=datetime.now(UTC)
            ) from None
        except (openai.APIError, httpx2.HTTPError, ValueError) as error:
            raise network_error(error) from None
