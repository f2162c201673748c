"""Starting the simulator: its document, what it refuses to take in, what it leaves alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import httpx
import jwt
import pytest

from infra.simulator.serve import Running, SimulatorOptions, running, start

SAMPLE = "/repos/octo/sample"


async def test_the_document_is_enough_to_act_as_the_app_and_as_three_people(sim: Running) -> None:
    told = sim.document()
    now = int(sim.world.now().timestamp())
    token = jwt.encode(
        {"iat": now - 5, "exp": now + 60, "iss": told["app"]["client_id"]},
        told["app"]["private_key"],
        "RS256",
    )
    async with httpx.AsyncClient(base_url=told["base_url"], trust_env=False) as client:
        answer = await client.get("/app", headers={"Authorization": f"Bearer {token}"})
        assert answer.json()["id"] == told["app"]["id"]
        roles = {}
        for name, user in told["users"].items():
            mine = await client.get(SAMPLE, headers={"Authorization": f"token {user['token']}"})
            roles[name] = [flag for flag, held in mine.json()["permissions"].items() if held]
    assert roles == {
        "admin": ["admin", "maintain", "push", "triage", "pull"],
        "write": ["push", "triage", "pull"],
        "read": ["pull"],
    }
    assert [one["full_name"] for one in told["repositories"]] == ["octo/sample", "octo/second"]
    assert told["installation_id"] in sim.world.installations


@pytest.mark.parametrize("name", ["sample", "a/b/c", "/x", "x/"])
async def test_a_repository_needs_an_owner_and_a_name(tmp_path: Path, sample: Path, name: str) -> None:
    with pytest.raises(ValueError, match="OWNER/NAME"):
        await start(SimulatorOptions(data=tmp_path / "data", repos=[(name, sample)]))


async def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await start(SimulatorOptions(data=tmp_path / "data", repos=[("o/r", tmp_path / "none")]))


async def test_a_port_that_is_taken_is_said(sim: Running, tmp_path: Path) -> None:
    port = int(sim.base_url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        await start(SimulatorOptions(data=tmp_path / "other", port=port))


async def test_a_folder_inside_a_repository_is_taken_alone(
    tmp_path: Path, sample: Path, git: Callable[..., str]
) -> None:
    git(sample, "init", "-q")
    async with running(tmp_path / "data", {"octo/sample": sample / "src"}) as served:
        tree = (await served.client().get(f"{SAMPLE}/git/trees/main")).json()["tree"]
        assert "code.py" in [row["path"] for row in tree]


async def test_a_bare_repository_and_a_detached_head_are_taken(
    tmp_path: Path, sample: Path, git: Callable[..., str]
) -> None:
    git(sample, "init", "-q", "-b", "trunk")
    git(sample, "add", ".")
    git(sample, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "First")
    git(sample, "checkout", "-q", "--detach")
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(sample), str(bare))
    async with running(tmp_path / "data", {"octo/sample": sample, "octo/bare": bare}) as served:
        for name in ("sample", "bare"):
            assert (await served.client().get(f"/repos/octo/{name}")).json()["default_branch"] == "trunk"


async def test_hooks_and_attributes_of_the_source_run_nothing_and_change_nothing(
    tmp_path: Path, sample: Path, git: Callable[..., str]
) -> None:
    git(sample, "init", "-q", "-b", "main")
    git(sample, "add", "-f", ".")
    git(sample, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "First")
    marker = tmp_path / "ran"
    for name in ("post-checkout", "reference-transaction", "post-receive", "update"):
        hook = sample / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {marker}\n")
        hook.chmod(0o755)
    async with running(tmp_path / "data", {"octo/sample": sample}) as served:
        body = {"message": "m", "content": "YQ0KYg=="}
        assert (await served.client().put(f"{SAMPLE}/contents/new.txt", json=body)).status_code == 201
        assert (await served.client().get(f"{SAMPLE}/contents/new.txt")).json()["content"] == "YQ0KYg==\n"
    assert not marker.exists()


async def test_names_that_are_no_text_survive_a_change_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    names = [b"\xff\xfe", b"new\nline", b'"quoted"', b"back\\slash", b"tab\there", "e\u0301".encode()]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(name)
    async with running(tmp_path / "data", {"octo/sample": folder}) as served:
        client = await served.installation_client()
        body = {"message": "m", "content": "YQ=="}
        assert (await client.put(f"{SAMPLE}/contents/new.txt", json=body)).status_code == 201
        listed = (await client.get(f"{SAMPLE}/git/trees/main?recursive=1")).json()["tree"]
        assert len(listed) == len(names) + 1
        repo = served.world.repository("octo/sample")
        assert repo is not None
        raw = await repo.git.run("ls-tree", "-z", "--name-only", "main")
        assert set(raw.split(b"\0")[:-1]) == {*names, b"new.txt"}


async def test_a_disabled_repository_is_blocked(sim: Running) -> None:
    repo = sim.world.repository("octo/second")
    assert repo is not None
    repo.disabled = True
    answer = await sim.client().get("/repos/octo/second")
    assert (answer.status_code, answer.json()["message"]) == (403, "Repository access blocked")
