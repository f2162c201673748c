"""Git's own objects over REST: refs, blobs, trees, commits, tags' refs.

https://docs.github.com/rest/git
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from infra.simulator import refs, shapes_git
from infra.simulator.answers import conflict, forbidden, invalid_field, not_found, unprocessable
from infra.simulator.call import Body, Call, endpoint
from infra.simulator.git import GitError, Person, commit_payload
from infra.simulator.shapes_people import api
from infra.simulator.signing import sign
from infra.simulator.state import ZERO_SHA, Repo, User

_SHA = re.compile(r"[0-9a-f]{40}\Z")
_MODES = {"100644": "blob", "100755": "blob", "120000": "blob", "040000": "tree", "160000": "commit"}
_LARGEST_BLOB = 100 * 1024 * 1024
_LISTED_AT_MOST = 100_000
GITHUB = ("GitHub", "noreply@github.com")


async def filled(repo: Repo) -> Repo:
    """409 for a repository without a commit."""
    if await repo.git.is_empty():
        raise conflict("Git Repository is empty.")
    return repo


# --- refs ------------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/git/ref/{ref}")
async def get_ref(call: Call) -> Response:
    repo = await filled(call.repo("contents"))
    name = "refs/" + call.text("ref")
    sha = await repo.git.ref(name)
    if sha is None:
        raise not_found()
    return call.answer(await _shaped(call, repo, name, sha))


@endpoint("GET", "/repos/{owner}/{repo}/git/matching-refs/{ref}")
async def matching_refs(call: Call) -> Response:
    repo = await filled(call.repo("contents"))
    found = await repo.git.refs("refs/" + call.text("ref"))
    return call.page(found, lambda row: shapes_git.git_ref(call.world, repo, *row))


@endpoint("POST", "/repos/{owner}/{repo}/git/refs")
async def create_ref(call: Call) -> Response:
    repo = call.repo("contents", "write")
    body = await call.body()
    name, sha = body.string("ref"), body.string("sha")
    await filled(repo)
    if not name.startswith("refs/") or name.count("/") < 2:
        raise unprocessable("Reference name must start with 'refs/' and contain at least three parts.")
    if not await repo.git.valid_ref(name) or name.startswith(("refs/pull/", "refs/heads/refs/")):
        raise unprocessable(f"{name} is not a valid ref name.")
    if not _SHA.match(sha):
        raise unprocessable("The sha parameter must be exactly 40 characters and contain only [0-9a-f].")
    kind = await repo.git.kind(sha)
    if kind is None or (name.startswith("refs/heads/") and kind != "commit"):
        raise unprocessable("Object does not exist")
    if await repo.git.ref(name) is not None:
        raise unprocessable("Reference already exists")
    if await _in_the_way(repo, name):
        raise unprocessable(f"Reference name conflicts with an existing ref: {name}")
    await refs.move(call.world, repo, call.caller, name, sha, before=ZERO_SHA)
    shape = await _shaped(call, repo, name, sha)
    return call.answer(shape, 201, {"Location": shape["url"]})


@endpoint("PATCH", "/repos/{owner}/{repo}/git/refs/{ref}")
async def update_ref(call: Call) -> Response:
    repo = call.repo("contents", "write")
    body = await call.body()
    sha, force = body.string("sha"), body.boolean_or("force", False)
    await filled(repo)
    name = "refs/" + call.text("ref")
    if await repo.git.ref(name) is None:
        raise unprocessable("Reference does not exist")
    if not _SHA.match(sha):
        raise unprocessable("The sha parameter must be exactly 40 characters and contain only [0-9a-f].")
    if await repo.git.kind(sha) != "commit":
        raise unprocessable("Object does not exist")
    while not await _forward(call, repo, name, sha, force=force):
        pass
    return call.answer(await _shaped(call, repo, name, sha))


async def _forward(call: Call, repo: Repo, name: str, sha: str, *, force: bool) -> bool:
    """False when somebody else moved the ref in between, so that it has to be judged afresh."""
    before = await repo.git.ref(name)
    if before is None:
        raise unprocessable("Reference does not exist")
    if before == sha:
        return True
    if not force and not await repo.git.is_ancestor(before, sha):
        raise unprocessable("Update is not a fast forward")
    try:
        await refs.move(call.world, repo, call.caller, name, sha, before=before)
    except refs.MovedError:
        return False
    return True


@endpoint("DELETE", "/repos/{owner}/{repo}/git/refs/{ref}")
async def delete_ref(call: Call) -> Response:
    repo = await filled(call.repo("contents", "write"))
    name = "refs/" + call.text("ref")
    before = await repo.git.ref(name)
    if before is None:
        raise unprocessable("Reference does not exist")
    if name == f"refs/heads/{repo.default_branch}":
        raise unprocessable("Cannot delete the default branch")
    await refs.move(call.world, repo, call.caller, name, ZERO_SHA, before=before)
    return call.nothing()


async def _shaped(call: Call, repo: Repo, name: str, sha: str) -> dict[str, Any]:
    kind = await repo.git.kind(sha) or "commit"
    return shapes_git.git_ref(call.world, repo, name, sha, kind)


async def _in_the_way(repo: Repo, name: str) -> bool:
    """Git cannot have both `a` and `a/b`."""
    rows = await repo.git.refs()
    return any(other.startswith(name + "/") or name.startswith(other + "/") for other, _, _ in rows)


# --- blobs -----------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/git/blobs/{file_sha}")
async def get_blob(call: Call) -> Response:
    repo = await filled(call.repo("contents"))
    sha = call.text("file_sha")
    if not _SHA.match(sha):
        raise unprocessable("The sha parameter must be exactly 40 characters and contain only [0-9a-f].")
    content = await repo.git.read(sha, "blob")
    if content is None:
        raise not_found()
    if len(content) > _LARGEST_BLOB:
        raise forbidden(
            "This API returns blobs up to 100 MB in size. The requested blob is too large to fetch via the API."
        )
    if "raw" in call.request.headers.get("accept", ""):
        return Response(content, media_type="application/vnd.github.raw")
    return call.answer(
        {
            "sha": sha,
            "node_id": f"B_{sha[:20]}",
            "size": len(content),
            "url": f"{api(call.world, repo)}/git/blobs/{sha}",
            "content": lines_of_base64(content),
            "encoding": "base64",
        }
    )


@endpoint("POST", "/repos/{owner}/{repo}/git/blobs")
async def create_blob(call: Call) -> Response:
    repo = call.repo("contents", "write")
    body = await call.body()
    content, encoding = body.string("content"), body.string_or("encoding", "utf-8")
    await filled(repo)
    if encoding not in ("utf-8", "base64"):
        raise unprocessable(
            f'Invalid request.\n\nFor \'properties/encoding\', {encoding} is not a member of ["utf-8", "base64"].'
        )
    raw = from_base64(content) if encoding == "base64" else content.encode("utf-8", "surrogatepass")
    sha = await repo.git.write("blob", raw)
    url = f"{api(call.world, repo)}/git/blobs/{sha}"
    return call.answer({"sha": sha, "url": url}, 201, {"Location": url})


def lines_of_base64(content: bytes) -> str:
    """Sixty letters a line, each line ended, as GitHub sends contents."""
    letters = base64.b64encode(content).decode()
    return "".join(letters[at : at + 60] + "\n" for at in range(0, len(letters), 60))


def from_base64(content: str) -> bytes:
    """Raises 422 for what is none. Line breaks are allowed."""
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise unprocessable("content is not valid Base64") from error


# --- trees -----------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/git/trees/{tree_sha}")
async def get_tree(call: Call) -> Response:
    repo = await filled(call.repo("contents"))
    wanted = call.text("tree_sha")
    sha = await _tree_sha(repo, wanted)
    if sha is None:
        raise not_found()
    limit = min(call.world.truncate_trees_over, _LISTED_AT_MOST)
    recursive = "recursive" in call.request.query_params
    rows = await repo.git.entries(sha, recursive=recursive, limit=limit + 1)
    return call.answer(shapes_git.tree(call.world, repo, sha, rows[:limit], truncated=len(rows) > limit))


async def _tree_sha(repo: Repo, wanted: str) -> str | None:
    """Of a tree's or commit's sha, or of a branch or tag."""
    if _SHA.match(wanted) and await repo.git.kind(wanted) == "tree":
        return wanted
    commit = await repo.git.resolve(wanted)
    return await repo.git.tree_of(commit) if commit else None


@endpoint("POST", "/repos/{owner}/{repo}/git/trees")
async def create_tree(call: Call) -> Response:
    repo = call.repo("contents", "write")
    body = await call.body()
    items = body.list_or("tree", None)
    base = body.string_or("base_tree", None)
    await filled(repo)
    if items is None:
        raise unprocessable('Invalid request.\n\n"tree" wasn\'t supplied.')
    if not items:
        raise unprocessable("Invalid tree info")
    base_sha = None
    if base is not None:
        base_sha = await _tree_sha(repo, base) if _SHA.match(base) else None
        if base_sha is None:
            raise not_found()
    rows = [
        await _row(call, repo, base_sha, Body(item) if isinstance(item, dict) else None) for item in items
    ]
    _refuse_clashes(rows)
    try:
        sha = await repo.git.write_tree(base_sha, rows)
    except GitError as error:
        raise unprocessable("GitRPC::BadObjectState") from error
    entries = await repo.git.entries(sha)
    shape = shapes_git.tree(call.world, repo, sha, entries, truncated=False)
    return call.answer(shape, 201, {"Location": shape["url"]})


async def _row(call: Call, repo: Repo, base: str | None, item: Body | None) -> tuple[str, str, str | None]:
    """One checked row of a new tree: path, mode, sha (None removes)."""
    if item is None:
        raise unprocessable("Invalid tree info")
    path = item.string("path")
    _refuse_path(path)
    refs.require_workflows(call.caller, path)
    if "sha" in item and item.get("sha") is None and "content" not in item:
        if base is None or await repo.git.entry(base, path) is None:
            raise unprocessable("GitRPC::BadObjectState")
        return path, "0", None
    mode = item.string_or("mode", "100644")
    if mode not in _MODES:
        raise unprocessable("tree.mode Must supply a valid tree.mode")
    if "content" in item and item.get("sha") is not None:
        raise unprocessable("Must supply either tree.sha or tree.content")
    if "content" in item:
        return (
            path,
            mode,
            await repo.git.write("blob", item.string("content").encode("utf-8", "surrogatepass")),
        )
    sha = item.string_or("sha", "")
    if not _SHA.match(sha):
        raise unprocessable("Must supply a valid tree.sha")
    if mode != "160000" and await repo.git.kind(sha) != _MODES[mode]:
        raise unprocessable(f"tree.sha {sha} is not a valid {_MODES[mode]}")
    return path, mode, sha


def _refuse_path(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/"):
        raise unprocessable("tree.path cannot start with a slash")
    if "\0" in path or any(part in ("", ".", "..") or part.lower() == ".git" for part in parts):
        raise unprocessable("tree.path contains a malformed path component")


def _refuse_clashes(rows: Sequence[tuple[str, str, str | None]]) -> None:
    """The same path twice, or a path below a file of the same request."""
    written = [path for path, _, sha in rows if sha is not None]
    files = {path for path, mode, sha in rows if sha is not None and mode != "040000"}
    below = any(
        "/".join(path.split("/")[:n]) in files for path in written for n in range(1, path.count("/") + 1)
    )
    if len(set(written)) != len(written) or below:
        raise unprocessable("GitRPC::BadObjectState")


# --- commits ---------------------------------------------------------------------------------------------------------


@endpoint("GET", "/repos/{owner}/{repo}/git/commits/{commit_sha}")
async def get_commit(call: Call) -> Response:
    repo = await filled(call.repo("contents"))
    sha = call.text("commit_sha")
    found = await repo.git.commit(sha) if _SHA.match(sha) else None
    if found is None:
        raise not_found()
    return call.answer(shapes_git.git_commit(call.world, repo, found))


@endpoint("POST", "/repos/{owner}/{repo}/git/commits")
async def create_commit(call: Call) -> Response:
    """Signed by GitHub for an App that sends no author, committer or signature.

    https://docs.github.com/authentication/managing-commit-signature-verification/about-commit-signature-verification#signature-verification-for-bots
    """
    repo = call.repo("contents", "write")
    body = await call.body()
    message, tree, parents = body.string("message"), body.string("tree"), body.strings_or("parents", [])
    await filled(repo)
    if not _SHA.match(tree) or await repo.git.kind(tree) != "tree":
        raise unprocessable("Tree SHA does not exist")
    for parent in parents:
        if not _SHA.match(parent):
            raise unprocessable("The sha parameter must be exactly 40 characters and contain only [0-9a-f].")
        if await repo.git.kind(parent) != "commit":
            raise unprocessable("Parent SHA does not exist or is not a commit object")
    sha = await write_commit(call, repo, body, message=message, tree=tree, parents=parents)
    made = await repo.git.commit(sha)
    assert made is not None
    shape = shapes_git.git_commit(call.world, repo, made)
    return call.answer(shape, 201, {"Location": shape["url"]})


async def write_commit(
    call: Call, repo: Repo, body: Body, *, message: str, tree: str, parents: Sequence[str], web: bool = False
) -> str:
    """A commit by the caller, or by the `author` and `committer` that the body names. `web`: GitHub commits it."""
    now = call.world.now().replace(microsecond=0)
    default = person(call.actor, now)
    author = _named(body, "author", now)
    committer = _named(body, "committer", now)
    signature = body.string_or("signature", None)
    by_github = author is None and committer is None and signature is None and (call.by_app or web)
    author = author or default
    committer = Person(*GITHUB, now) if by_github else committer or author
    if by_github:
        signature = sign(call.world, commit_payload(tree, parents, author, committer, message))
    return await repo.git.write_commit(
        tree=tree, parents=parents, author=author, committer=committer, message=message, signature=signature
    )


def person(user: User, now: datetime) -> Person:
    return Person(user.name or user.login, user.email, now)


def _named(body: Body, field: str, now: datetime) -> Person | None:
    given = body.object_or(field, None)
    if given is None:
        return None
    sent = Body(given)
    name, email = sent.string("name"), sent.string("email")
    date = now
    if "date" in sent:
        try:
            date = datetime.fromisoformat(sent.string("date"))
        except ValueError as error:
            raise unprocessable(f"Invalid request.\n\n{given['date']} is not a valid date-time.") from error
    if not name.strip("<>\n ") or any(letter in name + email for letter in "<>\n\0"):
        raise invalid_field("Commit", field)
    return Person(name, email, date if date.tzinfo else date.replace(tzinfo=UTC))


endpoints = [
    get_ref,
    matching_refs,
    create_ref,
    update_ref,
    delete_ref,
    get_blob,
    create_blob,
    get_tree,
    create_tree,
    get_commit,
    create_commit,
]
