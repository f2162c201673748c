"""Git over REST: what it reads, what it writes byte for byte, and what it refuses."""

from __future__ import annotations

import asyncio
import base64
import io
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.simulator.serve import Running, running

SAMPLE = "/repos/octo/sample"
Json = dict[str, Any]


async def head(client: httpx.AsyncClient, branch: str = "main") -> Json:
    """A branch's sha and tree."""
    answer = await client.get(f"{SAMPLE}/branches/{branch}")
    commit = answer.json()["commit"]
    return {"sha": commit["sha"], "tree": commit["commit"]["tree"]["sha"]}


async def commit(
    client: httpx.AsyncClient, base: Json, files: dict[str, str | None], **more: Any
) -> httpx.Response:
    rows = [
        {"path": p, "mode": "100644", "type": "blob", **({"sha": None} if c is None else {"content": c})}
        for p, c in files.items()
    ]
    tree = await client.post(f"{SAMPLE}/git/trees", json={"base_tree": base["tree"], "tree": rows})
    assert tree.status_code == 201, tree.text
    body = {"message": "Change", "tree": tree.json()["sha"], "parents": [base["sha"]], **more}
    return await client.post(f"{SAMPLE}/git/commits", json=body)


async def branch(client: httpx.AsyncClient, name: str, sha: str) -> httpx.Response:
    return await client.post(f"{SAMPLE}/git/refs", json={"ref": f"refs/heads/{name}", "sha": sha})


def refused(answer: httpx.Response, status: int, message: str) -> None:
    assert (answer.status_code, answer.json()["message"]) == (status, message)
    assert answer.json()["status"] == str(status)
    assert "documentation_url" in answer.json()


# --- what was taken in -----------------------------------------------------------------------------------------------


async def test_a_plain_folder_becomes_one_commit_with_its_bytes_and_modes(sim: Running, sample: Path) -> None:
    client = sim.client()
    tree = (await client.get(f"{SAMPLE}/git/trees/main?recursive=1")).json()
    modes = {row["path"]: row["mode"] for row in tree["tree"] if row["type"] == "blob"}
    assert modes["run.sh"] == "100755"
    assert modes["link"] == "120000"
    assert "src/bytes.bin" in modes
    for row in tree["tree"]:
        if row["mode"] in ("100644", "100755"):
            blob = (await client.get(f"{SAMPLE}/git/blobs/{row['sha']}")).json()
            assert base64.b64decode(blob["content"]) == (sample / row["path"]).read_bytes()


async def test_a_git_repository_keeps_its_history_and_its_default_branch(
    tmp_path: Path, sample: Path, git: Any
) -> None:
    git(sample, "init", "-q", "-b", "trunk")
    git(sample, "add", "-f", ".")
    git(sample, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "First")
    sha = git(sample, "rev-parse", "HEAD")
    async with running(tmp_path / "data", {"octo/sample": sample}) as served:
        answer = (await served.client().get(SAMPLE)).json()
        assert answer["default_branch"] == "trunk"
        assert (await served.client().get(f"{SAMPLE}/branches/trunk")).json()["commit"]["sha"] == sha


async def test_an_empty_repository_answers_409_on_git_data_and_404_on_its_branch(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    async with running(tmp_path / "data", {"octo/sample": tmp_path / "empty"}) as served:
        client = served.client()
        for path in ("/git/ref/heads/main", "/git/trees/main", "/commits"):
            refused(await client.get(SAMPLE + path), 409, "Git Repository is empty.")
        refused(await client.get(f"{SAMPLE}/branches/main"), 404, "Branch not found")
        refused(
            await client.post(f"{SAMPLE}/git/blobs", json={"content": "x"}), 409, "Git Repository is empty."
        )
        first = await client.put(f"{SAMPLE}/contents/a.txt", json={"message": "First", "content": "YQ=="})
        assert first.status_code == 201
        assert (await client.get(f"{SAMPLE}/branches/main")).status_code == 200


async def test_a_tarball_is_a_redirect_to_a_stream_of_exactly_the_commit(sim: Running, sample: Path) -> None:
    client = await sim.installation_client({"contents": "read"})
    sha = (await head(client))["sha"]
    answer = await client.get(f"{SAMPLE}/tarball/{sha}")
    assert answer.status_code == 302
    followed = await client.get(answer.headers["location"])
    assert followed.headers["content-type"] == "application/x-gzip"
    with tarfile.open(fileobj=io.BytesIO(followed.content)) as archive:
        prefix = f"octo-sample-{sha[:7]}"
        assert archive.getnames()[0] == prefix
        member = archive.extractfile(f"{prefix}/src/bytes.bin")
        assert member is not None
        assert member.read() == bytes(range(256))
    async with httpx.AsyncClient() as stranger:
        answer = await stranger.get(answer.headers["location"].partition("?")[0])
    assert answer.status_code == 404


async def test_a_long_recursive_tree_is_truncated_and_says_so(sim: Running) -> None:
    client = sim.client()
    await client.post("/_simulator/settings", json={"truncate_trees_over": 3})
    answer = (await client.get(f"{SAMPLE}/git/trees/main?recursive=1")).json()
    assert answer["truncated"]
    assert len(answer["tree"]) == 3


# --- refs ------------------------------------------------------------------------------------------------------------


async def test_a_ref_is_created_once(sim: Running) -> None:
    client = await sim.installation_client()
    sha = (await head(client))["sha"]
    assert (await branch(client, "magicode/issue-1", sha)).status_code == 201
    refused(await branch(client, "magicode/issue-1", sha), 422, "Reference already exists")
    got = (await client.get(f"{SAMPLE}/git/ref/heads/magicode/issue-1")).json()
    assert got["object"]["sha"] == sha


@pytest.mark.parametrize(
    ("ref", "sha", "message"),
    [
        ("heads/x", "HEAD", "Reference name must start with 'refs/' and contain at least three parts."),
        ("refs/heads/x", "0" * 39 + "1", "Object does not exist"),
        ("refs/heads/x", "abc", "The sha parameter must be exactly 40 characters and contain only [0-9a-f]."),
        ("refs/heads/a..b", "HEAD", "refs/heads/a..b is not a valid ref name."),
        ("refs/heads/x.lock", "HEAD", "refs/heads/x.lock is not a valid ref name."),
        ("refs/heads/x", "TREE", "Object does not exist"),
    ],
)
async def test_a_ref_that_cannot_be_is_refused(sim: Running, ref: str, sha: str, message: str) -> None:
    client = await sim.installation_client()
    at = await head(client)
    sent = {"HEAD": at["sha"], "TREE": at["tree"]}.get(sha, sha)
    refused(await client.post(f"{SAMPLE}/git/refs", json={"ref": ref, "sha": sent}), 422, message)


async def test_a_ref_moves_forward_only_unless_forced(sim: Running) -> None:
    client = await sim.installation_client()
    base = await head(client)
    one = (await commit(client, base, {"a.txt": "1"})).json()["sha"]
    other = (await commit(client, base, {"a.txt": "2"})).json()["sha"]
    await branch(client, "work", one)
    path = f"{SAMPLE}/git/refs/heads/work"
    refused(await client.patch(path, json={"sha": other}), 422, "Update is not a fast forward")
    refused(await client.patch(path, json={"sha": "0" * 40}), 422, "Object does not exist")
    assert (await client.patch(path, json={"sha": other, "force": True})).status_code == 200
    missing = await client.patch(f"{SAMPLE}/git/refs/heads/none", json={"sha": one})
    refused(missing, 422, "Reference does not exist")


async def test_a_ref_is_deleted_but_never_the_default_branch(sim: Running) -> None:
    client = await sim.installation_client()
    await branch(client, "gone", (await head(client))["sha"])
    assert (await client.delete(f"{SAMPLE}/git/refs/heads/gone")).status_code == 204
    refused(await client.delete(f"{SAMPLE}/git/refs/heads/gone"), 422, "Reference does not exist")
    assert (await client.delete(f"{SAMPLE}/git/refs/heads/main")).status_code == 422
    assert (await client.get(f"{SAMPLE}/git/ref/heads/gone")).status_code == 404


async def test_matching_refs_are_found_by_the_letters_they_begin_with(sim: Running) -> None:
    client = await sim.installation_client()
    sha = (await head(client))["sha"]
    for name in ("magicode/issue-1", "magicode/issue-12", "other"):
        await branch(client, name, sha)
    found = (await client.get(f"{SAMPLE}/git/matching-refs/heads/magicode/issue-1")).json()
    assert [row["ref"] for row in found] == ["refs/heads/magicode/issue-1", "refs/heads/magicode/issue-12"]


# --- trees and commits -----------------------------------------------------------------------------------------------


async def test_a_new_tree_changes_what_it_names_and_nothing_else(sim: Running) -> None:
    client = await sim.installation_client()
    base = await head(client)
    made = (
        await commit(client, base, {"src/code.py": "new", "new/deep/file": "x", "README.md": None})
    ).json()
    before = (await client.get(f"{SAMPLE}/git/trees/{base['tree']}?recursive=1")).json()["tree"]
    after = (await client.get(f"{SAMPLE}/git/trees/{made['tree']['sha']}?recursive=1")).json()["tree"]
    was = {(r["path"], r["mode"], r["sha"]) for r in before if r["type"] == "blob"}
    now = {(r["path"], r["mode"], r["sha"]) for r in after if r["type"] == "blob"}
    assert {path for path, _, _ in was - now} == {"src/code.py", "README.md"}
    assert {path for path, _, _ in now - was} == {"src/code.py", "new/deep/file"}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ({"path": "../x", "mode": "100644", "content": "x"}, 422),
        ({"path": ".git/config", "mode": "100644", "content": "x"}, 422),
        ({"path": "a//b", "mode": "100644", "content": "x"}, 422),
        ({"path": "/a", "mode": "100644", "content": "x"}, 422),
        ({"path": "a", "mode": "100600", "content": "x"}, 422),
        ({"path": "a", "mode": "100644", "sha": "1" * 40}, 422),
        ({"path": "not-there", "mode": "100644", "sha": None}, 422),
        ({"path": "a", "mode": "100644", "sha": "1" * 40, "content": "x"}, 422),
        ({"mode": "100644", "content": "x"}, 422),
        ({"path": "lib", "mode": "160000", "type": "commit", "sha": "1" * 40}, 201),
    ],
)
async def test_a_row_that_git_cannot_have_is_refused(sim: Running, row: Json, status: int) -> None:
    client = await sim.installation_client()
    base = await head(client)
    answer = await client.post(f"{SAMPLE}/git/trees", json={"base_tree": base["tree"], "tree": [row]})
    assert answer.status_code == status, answer.text


async def test_a_base_tree_that_is_not_there_is_404(sim: Running) -> None:
    client = await sim.installation_client()
    row = {"path": "a", "mode": "100644", "content": "x"}
    refused(
        await client.post(f"{SAMPLE}/git/trees", json={"base_tree": "2" * 40, "tree": [row]}),
        404,
        "Not Found",
    )


async def test_github_signs_an_apps_commit_only_when_no_author_is_sent(sim: Running) -> None:
    client = await sim.installation_client()
    base = await head(client)
    plain = (await commit(client, base, {"a": "1"})).json()
    assert (plain["verification"]["verified"], plain["verification"]["reason"]) == (True, "valid")
    assert plain["author"]["name"] == "magicode[bot]"
    assert plain["committer"]["email"] == "noreply@github.com"
    named = (await commit(client, base, {"a": "1"}, author={"name": "N", "email": "n@example.org"})).json()
    assert (named["verification"]["verified"], named["verification"]["reason"]) == (False, "unsigned")
    by_user = (await commit(sim.client("wim"), base, {"a": "1"})).json()
    assert not by_user["verification"]["verified"]
    read_back = (await client.get(f"{SAMPLE}/git/commits/{plain['sha']}")).json()
    assert read_back["verification"] == plain["verification"]


async def test_a_commit_needs_a_tree_and_parents_that_exist(sim: Running) -> None:
    client = await sim.installation_client()
    base = await head(client)
    path = f"{SAMPLE}/git/commits"
    refused(await client.post(path, json={"message": "m", "tree": "3" * 40}), 422, "Tree SHA does not exist")
    body = {"message": "m", "tree": base["tree"], "parents": [base["tree"]]}
    refused(await client.post(path, json=body), 422, "Parent SHA does not exist or is not a commit object")


async def test_blobs_take_both_encodings_and_refuse_broken_base64(sim: Running) -> None:
    client = await sim.installation_client()
    raw = bytes(range(256))
    sent = {"content": base64.b64encode(raw).decode(), "encoding": "base64"}
    sha = (await client.post(f"{SAMPLE}/git/blobs", json=sent)).json()["sha"]
    back = await client.get(
        f"{SAMPLE}/git/blobs/{sha}", headers={"Accept": "application/vnd.github.raw+json"}
    )
    assert back.content == raw
    broken = await client.post(f"{SAMPLE}/git/blobs", json={"content": "*", "encoding": "base64"})
    assert broken.status_code == 422


# --- contents, commits, compare --------------------------------------------------------------------------------------


async def test_contents_are_written_only_over_the_blob_one_has_seen(sim: Running) -> None:
    client = sim.client("wim")
    path = f"{SAMPLE}/contents/README.md"
    seen = (await client.get(path)).json()
    body = {"message": "Edit", "content": base64.b64encode(b"new").decode()}
    refused(await client.put(path, json=body), 422, 'Invalid request.\n\n"sha" wasn\'t supplied.')
    refused(
        await client.put(path, json={**body, "sha": "4" * 40}), 409, "README.md does not match " + "4" * 40
    )
    written = await client.put(path, json={**body, "sha": seen["sha"]})
    assert written.status_code == 200
    assert base64.b64decode((await client.get(path)).json()["content"]) == b"new"
    gone = await client.request(
        "DELETE", path, json={"message": "Rm", "sha": written.json()["content"]["sha"]}
    )
    assert gone.status_code == 200
    assert (await client.get(path)).status_code == 404


async def test_contents_tell_files_folders_and_links_apart(sim: Running) -> None:
    client = sim.client("rita")
    rows = {row["name"]: row["type"] for row in (await client.get(f"{SAMPLE}/contents/")).json()}
    assert rows["src"] == "dir"
    assert rows["link"] == "symlink"
    link = (await client.get(f"{SAMPLE}/contents/link")).json()
    assert (link["type"], link["target"]) == ("symlink", "src/code.py")
    assert (await client.get(f"{SAMPLE}/contents/src/\u00fcn\u00efcode \u65e5\u672c.txt")).status_code == 200


async def test_commits_are_found_by_sha_branch_and_path(sim: Running) -> None:
    client = sim.client("wim")
    await client.put(f"{SAMPLE}/contents/n.txt", json={"message": "Second", "content": "YQ=="})
    listed = (await client.get(f"{SAMPLE}/commits?per_page=1")).json()
    assert [one["commit"]["message"] for one in listed] == ["Second"]
    one = (await client.get(f"{SAMPLE}/commits/{listed[0]['sha'][:7]}")).json()
    assert one["sha"] == listed[0]["sha"]
    assert [file["filename"] for file in one["files"]] == ["n.txt"]
    by_path = (await client.get(f"{SAMPLE}/commits?path=README.md")).json()
    assert [each["commit"]["message"] for each in by_path] == ["Initial commit"]
    missing = await client.get(f"{SAMPLE}/commits/nothing-here")
    refused(missing, 422, "No commit found for SHA: nothing-here")


async def test_compare_counts_both_sides(sim: Running) -> None:
    client = await sim.installation_client()
    base = await head(client)
    one = (await commit(client, base, {"a.txt": "1\n"})).json()["sha"]
    await branch(client, "work", one)
    await sim.client().put(f"{SAMPLE}/contents/b.txt", json={"message": "On main", "content": "YQ=="})
    told = (await client.get(f"{SAMPLE}/compare/main...work")).json()
    assert (told["status"], told["ahead_by"], told["behind_by"]) == ("diverged", 1, 1)
    assert told["merge_base_commit"]["sha"] == base["sha"]
    assert [file["filename"] for file in told["files"]] == ["a.txt"]


async def test_two_writers_of_one_branch_cannot_both_win(sim: Running) -> None:
    client = await sim.installation_client()
    base = await head(client)
    await branch(client, "work", base["sha"])
    shas = [(await commit(client, base, {"a": str(n)})).json()["sha"] for n in range(4)]
    path = f"{SAMPLE}/git/refs/heads/work"
    answers = await asyncio.gather(*(client.patch(path, json={"sha": sha}) for sha in shas))
    assert sorted(answer.status_code for answer in answers) == [200, 422, 422, 422]
