"""Files of a branch, read and written one at a time.

https://docs.github.com/rest/repos/contents
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from infra.simulator import refs, shapes_git
from infra.simulator.answers import ApiError, conflict, not_found, unprocessable
from infra.simulator.call import Body, Call, endpoint
from infra.simulator.git import Entry, GitError
from infra.simulator.routes.gitdata import from_base64, lines_of_base64, write_commit
from infra.simulator.shapes_people import api, web
from infra.simulator.state import ZERO_SHA, Repo

_INLINE_UP_TO = 1024 * 1024
_SERVED_UP_TO = 100 * 1024 * 1024
_LISTED_AT_MOST = 1000


@endpoint("GET", "/repos/{owner}/{repo}/contents")
async def read_root(call: Call) -> Response:
    return await _read(call, "")


@endpoint("GET", "/repos/{owner}/{repo}/contents/")
async def read_root_too(call: Call) -> Response:
    return await _read(call, "")


@endpoint("GET", "/repos/{owner}/{repo}/contents/{path}")
async def read(call: Call) -> Response:
    return await _read(call, call.text("path").strip("/"))


async def _read(call: Call, path: str) -> Response:
    repo = call.repo("contents")
    wanted = call.query("ref") or repo.default_branch
    if await repo.git.is_empty():
        raise ApiError(404, "This repository is empty.")
    sha = await repo.git.resolve(wanted.removeprefix("refs/heads/"))
    if sha is None:
        raise ApiError(404, f"No commit found for the ref {wanted}")
    found = await repo.git.entry(sha, path) if path else None
    if path and found is None:
        raise not_found()
    if found is None or found.type == "tree":
        rows = await repo.git.entries(found.sha if found else sha)
        return call.answer([_row(call, repo, row, folder=path, ref=wanted) for row in rows[:_LISTED_AT_MOST]])
    shape = _row(call, repo, found, folder="", ref=wanted, whole=path)
    if found.type == "commit":
        return call.answer({**shape, "type": "submodule", "submodule_git_url": None})
    content = await repo.git.read(found.sha, "blob") or b""
    if "raw" in call.request.headers.get("accept", ""):
        return Response(content, media_type="application/vnd.github.raw")
    if found.mode == "120000":
        return call.answer({**shape, "type": "symlink", "target": content.decode("utf-8", "replace")})
    if len(content) > _SERVED_UP_TO:
        raise ApiError(
            403,
            "This API returns blobs up to 100 MB in size. The requested blob is too large to fetch via the API, but you can always clone the repository via Git to access this file.",
        )
    inline = len(content) <= _INLINE_UP_TO
    told = {"content": lines_of_base64(content) if inline else "", "encoding": "base64" if inline else "none"}
    return call.answer({**shape, **told})


def _row(
    call: Call, repo: Repo, row: Entry, *, folder: str, ref: str, whole: str | None = None
) -> dict[str, Any]:
    path = whole or (f"{folder}/{row.path}" if folder else row.path)
    kind = {"tree": "dir", "commit": "submodule"}.get(row.type, "symlink" if row.mode == "120000" else "file")
    named = quote(path.encode("utf-8", "surrogateescape"))
    url = f"{api(call.world, repo)}/contents/{named}?ref={quote(ref)}"
    page = f"{web(call.world, repo)}/{'tree' if kind == 'dir' else 'blob'}/{quote(ref)}/{named}"
    git_url = f"{api(call.world, repo)}/git/{'trees' if kind == 'dir' else 'blobs'}/{row.sha}"
    return {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": row.sha,
        "size": row.size or 0,
        "url": url,
        "html_url": page,
        "git_url": git_url,
        "download_url": f"{web(call.world, repo)}/raw/{quote(ref)}/{named}"
        if kind in ("file", "symlink")
        else None,
        "type": kind,
        "_links": {"self": url, "git": git_url, "html": page},
    }


@endpoint("PUT", "/repos/{owner}/{repo}/contents/{path}")
async def write(call: Call) -> Response:
    repo, path, body = call.repo("contents", "write"), _path(call), await call.body()
    message, content = body.string("message"), from_base64(body.string("content"))
    refs.require_workflows(call.caller, path)
    branch, before = await _branch(repo, body.string_or("branch", None), may_be_empty=True)
    standing = await repo.git.entry(before, path) if before != ZERO_SHA else None
    if standing is not None and standing.type == "tree":
        raise unprocessable(f"{path} is a directory")
    given = body.string_or("sha", None)
    if standing is not None and given is None:
        raise unprocessable('Invalid request.\n\n"sha" wasn\'t supplied.')
    if given is not None and (standing is None or standing.sha != given):
        raise conflict(f"{path} does not match {given}")
    blob = await repo.git.write("blob", content)
    mode = standing.mode if standing is not None else "100644"
    rows = [(path, mode, blob)]
    commit = await _commit(call, repo, body, message=message, branch=branch, before=before, rows=rows)
    row = Entry(mode, "blob", blob, len(content), path)
    shape = {"content": _row(call, repo, row, folder="", ref=branch, whole=path), "commit": commit}
    return call.answer(shape, 200 if standing is not None else 201)


@endpoint("DELETE", "/repos/{owner}/{repo}/contents/{path}")
async def delete(call: Call) -> Response:
    repo, path, body = call.repo("contents", "write"), _path(call), await call.body()
    fields = {**dict(call.request.query_params), **body.fields}
    body = Body(fields)
    message, given = body.string("message"), body.string("sha")
    refs.require_workflows(call.caller, path)
    branch, before = await _branch(repo, body.string_or("branch", None), may_be_empty=False)
    standing = await repo.git.entry(before, path)
    if standing is None or standing.type != "blob":
        raise not_found()
    if standing.sha != given:
        raise conflict(f"{path} does not match {given}")
    rows = [(path, "0", None)]
    commit = await _commit(call, repo, body, message=message, branch=branch, before=before, rows=rows)
    return call.answer({"content": None, "commit": commit})


def _path(call: Call) -> str:
    path = call.text("path").strip("/")
    if "\0" in path or any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/")):
        raise unprocessable("path contains a malformed path component")
    return path


async def _branch(repo: Repo, named: str | None, *, may_be_empty: bool) -> tuple[str, str]:
    """The branch to write to and where it stands; all zeros for the first commit of an empty repository."""
    branch = (named or repo.default_branch).removeprefix("refs/heads/")
    before = await repo.git.branch(branch)
    if before is None and not (may_be_empty and await repo.git.is_empty()):
        raise ApiError(404, f"Branch {branch} not found")
    return branch, before or ZERO_SHA


async def _commit(
    call: Call,
    repo: Repo,
    body: Body,
    *,
    message: str,
    branch: str,
    before: str,
    rows: list[tuple[str, str, str | None]] | list[tuple[str, str, str]] | list[tuple[str, str, None]],
) -> dict[str, Any]:
    born = before == ZERO_SHA
    try:
        tree = await repo.git.write_tree(None if born else await repo.git.tree_of(before), list(rows))
    except GitError as error:
        raise unprocessable("path could not be written") from error
    parents = [] if born else [before]
    sha = await write_commit(call, repo, body, message=message, tree=tree, parents=parents)
    await refs.move(
        call.world, repo, call.caller, f"refs/heads/{branch}", sha, before=before, refusal_status=409
    )
    made = await repo.git.commit(sha)
    assert made is not None
    return shapes_git.git_commit(call.world, repo, made)


endpoints = [read_root, read_root_too, read, write, delete]
