"""What a person does to the App's installation: adds a repository to it, takes one out.

https://docs.github.com/rest/apps/installations
"""

from __future__ import annotations

from starlette.responses import Response

from infra.simulator import payloads
from infra.simulator.answers import not_accessible, not_found
from infra.simulator.call import Call, endpoint
from infra.simulator.state import Installation, Repo


def _both(call: Call) -> tuple[Installation, Repo]:
    """For administrators of the repository; to everybody else neither exists."""
    if call.caller.kind == "installation":
        raise not_accessible()
    one = call.world.installations.get(call.number("installation_id"))
    repo = call.world.repositories.get(call.number("repository_id"))
    if one is None or repo is None or repo.owner_id != one.account_id or repo.role(call.actor) != "admin":
        raise not_found()
    return one, repo


@endpoint("PUT", "/user/installations/{installation_id}/repositories/{repository_id}")
async def add_repository(call: Call) -> Response:
    one, repo = _both(call)
    if repo.id not in one.repository_ids:
        one.repository_ids.add(repo.id)
        payload = payloads.installation_repositories(call.world, one, call.actor, added=[repo])
        call.world.emit("installation_repositories", "added", None, payload, installation=one)
    return call.nothing()


@endpoint("DELETE", "/user/installations/{installation_id}/repositories/{repository_id}")
async def remove_repository(call: Call) -> Response:
    one, repo = _both(call)
    if repo.id in one.repository_ids:
        one.repository_ids.remove(repo.id)
        payload = payloads.installation_repositories(call.world, one, call.actor, removed=[repo])
        call.world.emit("installation_repositories", "removed", None, payload, installation=one)
    return call.nothing()


endpoints = [add_repository, remove_repository]
