"""Whether our own web process answers at the address that people and GitHub come to."""

from __future__ import annotations

import httpx

SECONDS = 10.0


async def why_not_alive(url: str) -> str | None:
    """None where `url`/healthz says that it is alive; else what came instead, in a sentence part."""
    try:
        async with httpx.AsyncClient(timeout=SECONDS, trust_env=False) as client:
            answer = await client.get(f"{url}/healthz")
    except httpx.HTTPError as error:
        return f"it did not answer ({type(error).__name__})"
    if answer.status_code != 200:
        return f"it answered {answer.status_code}"
    try:
        alive = answer.json() == {"status": "alive"}
    except ValueError:
        alive = False
    return None if alive else "something else answered there"
