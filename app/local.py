"""Index and search a folder of this machine, with no service running and nothing of the folder sent anywhere.

As in the service only vectors and encrypted places are kept, in the data folder, under a key of that folder's own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from app.nouns import Snippet
from app.settings import Settings
from embeddings.apart import FUNCTION, apart
from embeddings.embed import Encoder
from embeddings.index import IndexReport, Tell
from embeddings.repository import RepositoryIndex
from embeddings.shipped import SHIPPED
from infra.apart import Apart
from infra.blas import in_one_thread
from infra.encoder import BundledEncoder
from infra.folder import FolderHistory, FolderTree
from infra.qdrant import QdrantPoints
from infra.secrets import FileMasterKey

NOBODY = 0
"""The installation and the repository of what belongs to none."""


async def index(
    read: Settings, folder: Path, progress: Tell, *, encoder: Encoder | None = None
) -> IndexReport:
    """Bring the folder's index up to what it holds now; only what is new is embedded.

    Raises infra.folder.NotAFolderError, infra.qdrant.FolderInUseError while another process does the same, and
    infra.encoder.ModelMissingError.
    """
    async with _opened(read, folder, encoder) as (places, tree):
        report = await places.update(tree, prune=True, progress=progress)
        return replace(report, left_out=dict(Counter(report.left_out) + Counter(tree.left_out)))


async def search(
    read: Settings,
    folder: Path,
    question: str,
    limit: int,
    progress: Tell,
    *,
    encoder: Encoder | None = None,
) -> list[Snippet]:
    """At most `limit` places that the question is about, best first, in the folder as it is now. Raises as `index`."""
    async with _opened(read, folder, encoder) as (places, tree):
        await places.update(tree, prune=True, question=question, progress=progress)
        found = await places.search(tree, question, limit, history=FolderHistory(tree.root))
    return [Snippet(one.path, one.start_line, one.end_line, one.symbol, one.score) for one in found]


@asynccontextmanager
async def folder_index(
    read: Settings, root: Path, encoder: Encoder | None = None
) -> AsyncIterator[RepositoryIndex]:
    """The index of the folder `root`, under its own key. Raises infra.qdrant.FolderInUseError when it is first used."""
    in_one_thread()
    key = _key(FileMasterKey(read.data_dir / "local.key"), root)
    points = QdrantPoints(path=read.data_dir / "local" / hashlib.sha256(b"name" + key).hexdigest()[:32])
    encoder = encoder or BundledEncoder(read.embedding_model, shipped=SHIPPED)
    parser = Apart(FUNCTION)
    try:
        yield RepositoryIndex(points, encoder, key, NOBODY, NOBODY, structure=apart(parser))
    finally:
        parser.close()
        await points.close()


@asynccontextmanager
async def _opened(
    read: Settings, folder: Path, encoder: Encoder | None
) -> AsyncIterator[tuple[RepositoryIndex, FolderTree]]:
    tree = await asyncio.to_thread(FolderTree, folder, without=[read.data_dir])
    async with folder_index(read, tree.root, encoder) as places:
        yield places, tree


def _key(master: FileMasterKey, root: Path) -> bytes:
    """The folder's own key: what only this machine's key makes of the folder's path, so that none needs to be stored. It is no
    master key of the service's, whose rotation would make every folder's index a stranger's."""
    path = str(root).encode("utf-8", "surrogateescape")
    return hashlib.sha256(master.wrap(hashlib.sha256(b"magicode/local" + path).digest())).digest()
