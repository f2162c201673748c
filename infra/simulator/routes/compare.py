"""Two commits compared: what each has that the other has not, and where they parted.

https://docs.github.com/rest/commits/commits#compare-two-commits
"""

from __future__ import annotations

from starlette.responses import Response

from infra.simulator import shapes_git
from infra.simulator.answers import ApiError, not_found
from infra.simulator.call import Call, endpoint
from infra.simulator.routes.gitdata import filled
from infra.simulator.routes.pulls import network_member
from infra.simulator.routes.repositories import known
from infra.simulator.shapes_people import api, diff_entry, web
from infra.simulator.state import Repo

_COMMITS_AT_MOST = 250
_FILES_AT_MOST = 300

_STATUS = {
    (True, True): "diverged",
    (True, False): "ahead",
    (False, True): "behind",
    (False, False): "identical",
}
"""By whether the head has commits of its own, and the base."""


@endpoint("GET", "/repos/{owner}/{repo}/compare/{basehead}")
async def compare(call: Call) -> Response:
    """`BASE...HEAD`, each a branch, a tag or a sha, or `OWNER:BRANCH` of a repository of the same network."""
    repo = await filled(call.repo("contents"))
    base_name, dots, head_name = call.text("basehead").partition("...")
    base, head = await _side(call, repo, base_name), await _side(call, repo, head_name)
    if not dots or base is None or head is None:
        raise not_found()
    start = await repo.git.merge_base(base, head)
    if start is None:
        raise ApiError(404, f"No common ancestor between {base_name} and {head_name}.")
    if "diff" in call.request.headers.get("accept", ""):
        return Response(await repo.git.diff(start, head), media_type="application/vnd.github.diff")
    ahead = list(reversed(await repo.git.commits(head, f"^{base}")))
    behind = await repo.git.commits(base, f"^{head}")
    part, headers = call.cut(ahead, _COMMITS_AT_MOST)
    files = await repo.git.changes(start, head) if call.query("page", "1") == "1" else []
    world, names = call.world, f"{base_name}...{head_name}"
    page = f"{web(world, repo)}/compare"
    return call.answer(
        {
            "url": f"{api(world, repo)}/compare/{names}",
            "html_url": f"{page}/{names}",
            "permalink_url": f"{page}/{repo.owner}:{base[:7]}...{repo.owner}:{head[:7]}",
            "diff_url": f"{page}/{names}.diff",
            "patch_url": f"{page}/{names}.patch",
            "base_commit": shapes_git.commit(world, repo, await known(repo, base)),
            "merge_base_commit": shapes_git.commit(world, repo, await known(repo, start)),
            "status": _STATUS[bool(ahead), bool(behind)],
            "ahead_by": len(ahead),
            "behind_by": len(behind),
            "total_commits": len(ahead),
            "commits": [shapes_git.commit(world, repo, await known(repo, sha)) for sha in part],
            "files": [diff_entry(world, repo, file, head) for file in files[:_FILES_AT_MOST]],
        },
        headers=headers,
    )


async def _side(call: Call, repo: Repo, name: str) -> str | None:
    """The commit that a side names, fetched where it is a fork's."""
    owner, colon, branch = name.partition(":")
    if not colon:
        return await repo.git.resolve(name)
    source = network_member(call.world, repo, owner)
    if source is None or not call.caller.sees(source):
        return None
    sha = await source.git.branch(branch)
    if sha is not None and source.id != repo.id:
        await repo.git.run("fetch", "-q", "--no-tags", "--", str(source.git.directory), sha)
    return sha


endpoints = [compare]
