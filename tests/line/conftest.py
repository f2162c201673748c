"""The stage that whole requests are played on, with real parts but for the embedding model where it does not matter."""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import infra.simulator
from infra.encoder import BundledEncoder
from infra.models.playbook import Playbook, load
from tests.line.stage import Stage, staged

SIMULATOR = Path(infra.simulator.__file__).parent
Stages = Callable[..., Awaitable[Stage]]


class Words:
    """An Encoder whose vectors are bags of hashed words: where the model's quality is not what is tested."""

    name = "words"
    dimension = 64
    max_tokens = 256

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        out = np.full((len(texts), self.dimension), 0.01, dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                out[row, zlib.crc32(word.encode()) % self.dimension] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def bundled() -> BundledEncoder:
    """The model that is shipped. One thread: other tests run beside, and two that wait for each other are slower."""
    return BundledEncoder(threads=1)


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
async def raise_stage(tmp_path: Path, database: Any) -> AsyncIterator[Stages]:
    """`await raise_stage({"octo/sample": folder}, playbook)` gives a running service; it ends with the test.

    `encoder=` puts the bundled model (the fixture `bundled`) in the place of the bag of words.
    """
    async with AsyncExitStack() as stack:

        async def up(repositories: Mapping[str, Path], playbook: Playbook, **how: Any) -> Stage:
            return await stack.enter_async_context(
                staged(
                    tmp_path / "stage",
                    repositories,
                    playbook,
                    database_url=database.service_url,
                    **{"encoder": Words(), **how},
                )
            )

        yield up


@pytest.fixture
async def stage(raise_stage: Stages, sample: Path, sample_playbook: Playbook) -> Stage:
    """The sample repository, the sample's playbook."""
    return await raise_stage({"octo/fairshare": sample}, sample_playbook)
