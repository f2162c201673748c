"""Refs and loose objects, read from a repository's files, are what git itself says they are."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from infra.simulator import git as git_module
from infra.simulator import loose
from infra.simulator.git import Git, Person, bring_in
from infra.simulator.serve import Running

AUTHOR = Person("Ada", "ada@example.com", datetime(2026, 1, 1, tzinfo=UTC))
REFS = (
    "refs/heads/main",
    "refs/heads/a/b",
    "refs/tags/v1.0",
    "refs/heads/gone",
    "refs/heads/a",
    "refs/heads/main/x",
)


@pytest.fixture(params=["loose", "packed"])
async def repository(request: pytest.FixtureRequest, tmp_path: Path, sample: Path) -> Git:
    """A branch in a folder, an annotated tag, a symbolic ref, a branch that was deleted; all of it packed or nothing."""
    git, _ = await bring_in(sample, tmp_path / "bare", AUTHOR)
    await git.run("branch", "a/b", "main")
    await git.run("branch", "gone", "main")
    await git.run("symbolic-ref", "refs/heads/other", "refs/heads/main")
    told = {"GIT_COMMITTER_NAME": "Ada", "GIT_COMMITTER_EMAIL": "ada@example.com"}
    await git.run("tag", "-a", "-m", "One", "v1.0", "main", extra=told)
    if request.param == "packed":
        await git.run("pack-refs", "--all")
        await git.run("repack", "-a", "-d", "-q")
        await git.run("prune-packed", "-q")
    await git.run("branch", "-D", "gone")
    return git


def said(git: Git, *arguments: str) -> str | None:
    asked = ["git", f"--git-dir={git.directory}", *arguments]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, env=git_module.environment())
    return done.stdout.strip() if done.returncode == 0 else None


async def test_each_ref_is_what_git_says_it_is(repository: Git) -> None:
    for name in (*REFS, "refs/heads/other"):
        assert await repository.ref(name) == said(repository, "show-ref", "--verify", "--hash", "--", name), (
            name
        )
    assert not await repository.is_empty()


async def test_each_name_of_a_commit_is_resolved_as_git_does(repository: Git) -> None:
    sha = await repository.branch("main")
    assert sha is not None
    for name in (
        "main",
        "a/b",
        "v1.0",
        "other",
        "gone",
        "refs/heads/main",
        sha,
        sha[:8],
        "HEAD",
        "0" * 40,
        "a",
    ):
        told = None if name == "a" else said(repository, "rev-parse", "--verify", "-q", name + "^{commit}")
        assert await repository.resolve(name) == told, name


async def test_each_object_is_what_git_says_it_is(repository: Git) -> None:
    listed = said(repository, "cat-file", "--batch-all-objects", "--batch-check") or ""
    rows = [line.split() for line in listed.splitlines()]
    assert {kind for _, kind, _ in rows} == {"blob", "tree", "commit", "tag"}
    for sha, kind, size in rows:
        assert await repository.kind(sha) == kind
        content = await repository.read(sha, kind)
        assert content is not None
        assert len(content) == int(size)
        assert await repository.read(sha, "tag" if kind == "blob" else "blob") is None
    assert await repository.kind("0" * 40) is None


async def test_a_repository_without_a_ref_is_empty(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    git, _ = await bring_in(tmp_path / "nothing", tmp_path / "bare", AUTHOR)
    assert await git.is_empty()
    (git.directory / "refs" / "heads" / "main.lock").touch()
    assert await git.is_empty(), "somebody is about to write one"


@pytest.mark.parametrize(
    "name",
    ["refs/heads/..", "refs/heads/../../config", "refs/heads/x.lock", "HEAD", "refs//x", "refs/heads/\n"],
)
def test_a_name_that_could_lead_elsewhere_is_left_to_git(name: str) -> None:
    assert not loose.is_plain(name)


async def test_what_differs_is_found_again_and_never_for_a_branch_that_moved(repository: Git) -> None:
    first = await repository.branch("main")
    assert first is not None
    tree = await repository.write_tree(first, [("new.txt", "100644", await repository.write("blob", b"new"))])
    sha = await repository.write_commit(
        tree=tree, parents=[first], author=AUTHOR, committer=AUTHOR, message="New"
    )
    before = await repository.commits("main")
    assert [one.path for one in await repository.changes(first, sha)] == ["new.txt"]
    assert await repository.changes(first, sha) == await repository.changes(first, sha)
    assert await repository.update_ref("refs/heads/main", sha, first)
    assert await repository.commits("main") == [sha, *before]
    assert await repository.commits(sha, f"^{first}") == [sha]
    assert await repository.merge_base(first, sha) == first


async def test_differences_that_take_too_long_are_a_500_and_a_push_of_them_is_told(
    sim: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git_module, "_DIFF_SECONDS", 0.0)
    client: httpx.AsyncClient = sim.client()
    head = (await client.get("/repos/octo/sample/branches/main")).json()["commit"]["sha"]
    answer = await client.get(f"/repos/octo/sample/commits/{head}")
    assert answer.status_code == 500
    assert re.search("taking too long", answer.json()["message"])
    assert (await client.get(f"/repos/octo/sample/git/commits/{head}")).is_success
    made = await client.put("/repos/octo/sample/contents/n", json={"message": "m", "content": "YQ=="})
    assert made.status_code == 201
    await sim.world.settled()
    assert [one.event for one in sim.world.deliveries].count("push") == 1
