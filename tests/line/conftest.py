"""The stage that whole requests are played on, with the bundled embedding model loaded once."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

import infra.simulator
from infra.encoder import BundledEncoder
from infra.models.playbook import Playbook, load
from tests.line.stage import Stage, staged

SIMULATOR = Path(infra.simulator.__file__).parent
Stages = Callable[..., Awaitable[Stage]]


@pytest.fixture(scope="session")
def encoder() -> BundledEncoder:
    return BundledEncoder(
        threads=1
    )  # other tests run beside: two threads that wait for each other are slower than one


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A copy of the sample repository, to be changed before it is served."""
    target = tmp_path / "fairshare"
    shutil.copytree(SIMULATOR / "sample", target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


@pytest.fixture
def sample_playbook() -> Playbook:
    return load(SIMULATOR / "sample.playbook.yml")


@pytest.fixture
async def raise_stage(tmp_path: Path, database: Any, encoder: BundledEncoder) -> AsyncIterator[Stages]:
    """`await raise_stage({"octo/sample": folder}, playbook)` gives a running service; it ends with the test."""
    async with AsyncExitStack() as stack:

        async def up(repositories: Mapping[str, Path], playbook: Playbook, **how: Any) -> Stage:
            return await stack.enter_async_context(
                staged(
                    tmp_path / "stage",
                    repositories,
                    playbook,
                    database_url=database.service_url,
                    encoder=encoder,
                    **how,
                )
            )

        yield up


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path, sample_playbook: Playbook) -> Stage:
    """The sample repository, the sample's playbook."""
    return await raise_stage({"octo/fairshare": sample}, sample_playbook)
