"""What people do and see on GitHub: each look is a request to its API, never one at our own tables."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

from tests.line.stage import Stage


async def get(stage: Stage, route: str) -> Any:
    params = None if "?" in route else {"per_page": 100}
    answer = await stage.client().get(f"/repos/{stage.repository}{route}", params=params)
    assert answer.is_success, answer.text
    return answer.json()


async def act(stage: Stage, method: str, route: str, /, *, user: str = "wim", **body: Any) -> Any:
    answer = await stage.client(user).request(method, f"/repos/{stage.repository}{route}", json=body or None)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


async def until(seen: Callable[[], Awaitable[Any]], *, within: float = 120.0) -> Any:
    """What is seen once it is there."""
    deadline = asyncio.get_running_loop().time() + within
    while not (found := await seen()):
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass on GitHub"
        await asyncio.sleep(0.05)
    return found


async def comment_of_ours(stage: Stage, number: int, *words: str) -> dict[str, Any]:
    """The comment of ours on an issue or a pull request that holds all of these words, once it stands there."""

    async def look() -> dict[str, Any] | None:
        for one in await stage.comments(number):
            if one["user"]["login"] == "magicode[bot]" and all(word in one["body"] for word in words):
                return one
        return None

    return dict(await until(look))


async def tip(stage: Stage, branch: str) -> str:
    return str((await get(stage, f"/git/ref/heads/{branch}"))["object"]["sha"])


async def commit(stage: Stage, sha: str) -> dict[str, Any]:
    return dict(await get(stage, f"/git/commits/{sha}"))


async def tree(stage: Stage, ref: str) -> str:
    """The hash of everything that the commit holds, byte for byte."""
    return str((await commit(stage, await tip(stage, ref)))["tree"]["sha"])


async def commits(stage: Stage, pull: int) -> list[str]:
    """The first lines of a pull request's commits, oldest first."""
    listed = await get(stage, f"/pulls/{pull}/commits")
    return [one["commit"]["message"].split("\n", 1)[0] for one in listed]


async def text(stage: Stage, path: str, ref: str) -> str | None:
    """A file's text, None where there is no such file."""
    answer = await stage.client().get(f"/repos/{stage.repository}/contents/{path}", params={"ref": ref})
    if answer.status_code == 404:
        return None
    assert answer.is_success, answer.text
    return base64.b64decode(answer.json()["content"]).decode()


async def push(stage: Stage, branch: str, path: str, content: str, *, user: str = "wim") -> str:
    """A person's commit of one file; its sha."""
    there = await stage.client().get(f"/repos/{stage.repository}/contents/{path}", params={"ref": branch})
    known = {"sha": there.json()["sha"]} if there.is_success else {}
    encoded = base64.b64encode(content.encode()).decode()
    made = await act(
        stage, "PUT", f"/contents/{path}", user=user, message="By hand", content=encoded, branch=branch, **known
    )  # fmt: skip
    return str(made["commit"]["sha"])


async def their_pull_request(stage: Stage, path: str = "THEIRS.md") -> int:
    """A person's, from a branch of their own."""
    await act(stage, "POST", "/git/refs", ref="refs/heads/theirs", sha=await tip(stage, "main"))
    await push(stage, "theirs", path, "Theirs.\n")
    return int((await act(stage, "POST", "/pulls", title="Theirs", head="theirs", base="main"))["number"])
