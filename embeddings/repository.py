"""One repository's index: bring it up to a tree, search it, forget it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from embeddings import forget, index, outline, search
from embeddings.collection import NoPoints, Points, Shelf, Tree
from embeddings.embed import Encoder
from embeddings.forget import Forgotten
from embeddings.history import History
from embeddings.index import IndexReport, Tell, untold
from embeddings.languages import Structure, definitions
from embeddings.protect import Protection
from embeddings.rank import WEIGHTS, Weights
from embeddings.search import Asked, Found


class RepositoryIndex:
    """Everything that this room offers about one repository of one installation. Makes no call when it is made."""

    def __init__(
        self,
        points: Points,
        encoder: Encoder,
        key: bytes,
        installation_id: int,
        repository_id: int,
        *,
        structure: Structure = definitions,
    ) -> None:
        """`key` is the installation's data key, 32 bytes or more. `structure` finds what programs define: strangers' ones
        belong into a process apart. Raises ValueError for a shorter key."""
        self._shelf = Shelf(points, encoder, Protection(key, installation_id), repository_id, structure)
        self._asked = Asked()

    def without_store(self) -> RepositoryIndex:
        """The same repository where the store cannot be used: places are found by names and words alone."""
        bare = copy(self)
        bare._shelf = replace(self._shelf, points=NoPoints())
        return bare

    async def exists(self) -> bool:
        """Whether anything is stored of the repository. Raises the store's own errors."""
        return bool(await self._shelf.points.names(self._shelf.repository))

    async def update(
        self,
        tree: Tree,
        *,
        prune: bool = False,
        within_seconds: float | None = None,
        question: str = "",
        progress: Tell = untold,
    ) -> IndexReport:
        """Index what is new in `tree`. `prune` removes what is not in it: pass True for the default branch only.
        After `within_seconds` the rest is left for the next update; what holds the question's words comes first.

        Raises embeddings.embed.EncoderError and the store's own errors.
        """
        return await index.update(
            self._shelf,
            tree,
            prune=prune,
            within_seconds=within_seconds,
            question=question,
            progress=progress,
        )

    async def search(
        self,
        tree: Tree,
        question: str,
        limit: int,
        *,
        history: History | None = None,
        weights: Weights = WEIGHTS,
    ) -> list[Found]:
        """At most `limit` places in `tree`, best first. `history` are the commits that led to the tree, where at hand.
        Raises as `update` does."""
        return await search.search(
            self._shelf, tree, question, limit, history=history, weights=weights, asked=self._asked
        )

    async def outline(self, tree: Tree, ranked_paths: Sequence[str], characters: int) -> str:
        """As `embeddings.outline.outline`."""
        return await outline.outline(tree, ranked_paths, characters, self._shelf.structure)

    async def forget(self) -> Forgotten:
        """Remove all that is stored of the repository and prove it. Raises embeddings.forget.NotForgottenError."""
        return await forget.forget_repository(self._shelf)
