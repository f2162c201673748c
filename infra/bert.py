"""Sentence models of BERT's shape (MiniLM): the mean over a text's tokens, scaled to length one, in plain torch.

It loads without the libraries that a model of any shape needs, in about a quarter of their time, and keeps one core
busy for each thread. `is_bert` says of a folder whether this can read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

_SLOTS = 1536  # tokens of one batch, padding included: measured, the rate is level from 1,000 to 4,000
_STEP = 16  # lengths are rounded up to it: the kernels keep something for each shape that they meet, which adds up
_SLOTS_ON_GPU = 1 << 16
_MODULES = ["Transformer", "Pooling", "Normalize"]


class _Linear(NamedTuple):
    weight: Tensor
    bias: Tensor


class _Layer(NamedTuple):
    """`attend` holds the queries', keys' and values' weights in one."""

    attend: _Linear
    attended: _Linear
    attended_norm: _Linear
    widen: _Linear
    narrow: _Linear
    norm: _Linear


class SentenceBert:
    """Implements `infra.encoder.Model`. May be used by several threads at once."""

    def __init__(self, folder: Path, *, threads: int, dtype: torch.dtype | None = None) -> None:
        """`threads` batches are computed at a time, each by one thread: two threads that share a batch wait for each
        other at every step, which on a busy machine is most of their time. Torch's own threads are set to one, for
        the whole process.

        Raises OSError and ValueError.
        """
        self.device, fastest = _fastest()
        self.dtype = dtype or fastest
        torch.set_num_threads(1)
        config = _read(folder / "config.json")
        self._heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._read_weights(folder, int(config["num_hidden_layers"]))
        self.dimension = int(self._words.shape[1])
        self.max_tokens = _max_tokens(folder, int(self._places.shape[0]))
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(self.max_tokens)
        self._tokenizer.no_padding()
        self._slots = _SLOTS if self.device == "cpu" else _SLOTS_ON_GPU
        self._pool = ThreadPoolExecutor(threads if self.device == "cpu" else 1, thread_name_prefix="encoder")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """A unit vector for each text; batches hold texts of like length, so that little is computed for padding."""
        tokens = [found.ids for found in self._tokenizer.encode_batch_fast(list(texts))]
        rows = list(self._batches([len(ids) for ids in tokens]))
        out = np.empty((len(tokens), self.dimension), dtype=np.float32)
        batches = [[tokens[row] for row in batch] for batch in rows]
        vectors = map(self._vectors, batches) if len(batches) == 1 else self._pool.map(self._vectors, batches)
        for batch, found in zip(rows, vectors, strict=True):
            out[batch] = found
        return out

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Rows from the longest text to the shortest, in groups of at most `_slots` tokens with the padding."""
        order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
        while order:
            several = max(1, self._slots // max(1, lengths[order[0]]))
            yield order[:several]
            order = order[several:]

    @torch.inference_mode()
    def _vectors(self, batch: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        longest = min(-(-max(1, *map(len, batch)) // _STEP) * _STEP, len(self._places))
        ids = torch.tensor([[*one, *[0] * (longest - len(one))] for one in batch], device=self.device)
        real = torch.tensor([len(one) for one in batch], device=self.device)[:, None] > torch.arange(
            longest, device=self.device
        )
        states = self._forward(ids, real).float()
        mean = (states * real[:, :, None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        return np.asarray(functional.normalize(mean, dim=1).cpu().numpy(), dtype=np.float32)

    def _forward(self, ids: Tensor, real: Tensor) -> Tensor:
        """The last layer's state of each token. `real` says which tokens are no padding."""
        rows, length = ids.shape
        x = self._normed(functional.embedding(ids, self._words) + self._places[:length], self._norm)
        # One number for each key: a mask of pairs, or of booleans, makes attention take twice as long.
        mask = torch.zeros(real.shape, dtype=x.dtype, device=x.device).masked_fill_(~real, float("-inf"))
        for layer in self._layers:
            heads = functional.linear(x, *layer.attend).view(rows, length, 3, self._heads, -1)
            query, key, value = heads.permute(2, 0, 3, 1, 4).unbind()
            attended = functional.scaled_dot_product_attention(
                query, key, value, attn_mask=mask[:, None, None]
            )
            joined = attended.transpose(1, 2).reshape(rows, length, -1)
            x = self._normed(functional.linear(joined, *layer.attended) + x, layer.attended_norm)
            wide = functional.gelu(functional.linear(x, *layer.widen))
            x = self._normed(functional.linear(wide, *layer.narrow) + x, layer.norm)
        return x

    def _normed(self, x: Tensor, norm: _Linear) -> Tensor:
        return functional.layer_norm(x, (self.dimension,), norm.weight, norm.bias, self._epsilon)

    def _read_weights(self, folder: Path, layers: int) -> None:
        """The names are those of transformers' BertModel."""
        try:
            stored = load_file(folder / "model.safetensors")
        except SafetensorError as error:
            raise ValueError("The model's weights cannot be read.") from error

        def one(name: str) -> Tensor:
            if name not in stored:
                raise ValueError(f"The model has no {name}.")
            return stored[name].to(self.device, self.dtype)

        def pair(name: str) -> _Linear:
            return _Linear(one(f"{name}.weight"), one(f"{name}.bias"))

        def layer(at: str) -> _Layer:
            parts = [pair(f"{at}.attention.self.{name}") for name in ("query", "key", "value")]
            return _Layer(
                _Linear(torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])),
                pair(f"{at}.attention.output.dense"),
                pair(f"{at}.attention.output.LayerNorm"),
                pair(f"{at}.intermediate.dense"),
                pair(f"{at}.output.dense"),
                pair(f"{at}.output.LayerNorm"),
            )

        self._words = one("embeddings.word_embeddings.weight")
        kind = one("embeddings.token_type_embeddings.weight")[0]
        self._places = one("embeddings.position_embeddings.weight") + kind
        self._norm = pair("embeddings.LayerNorm")
        self._layers = [layer(f"encoder.layer.{number}") for number in range(layers)]


def _fastest() -> tuple[str, torch.dtype]:
    """bfloat16 only where a unit for its matrices exists: with the vector instructions alone (avx512_bf16) it was
    measured slower than float32."""
    if torch.cuda.is_available():
        return "cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return "cpu", torch.bfloat16 if torch.cpu.get_capabilities().get("amx_bf16") else torch.float32


def is_bert(folder: Path) -> bool:
    """Whether `folder` is of sentence-transformers' layout and holds a BERT encoder, averaged over its tokens and
    scaled to length one, that is given no prompt."""
    config, pooling = _read(folder / "config.json"), _read(folder / "1_Pooling" / "config.json")
    modules = [str(module["type"]).rsplit(".", 1)[-1] for module in _read(folder / "modules.json") or ()]
    modes = [mode for mode, on in pooling.items() if mode.startswith("pooling_mode_") and on is True]
    return (
        (folder / "model.safetensors").is_file()
        and (folder / "tokenizer.json").is_file()
        and modules == _MODULES
        and (modes == ["pooling_mode_mean_tokens"] or pooling.get("pooling_mode") == "mean")
        and (config.get("model_type"), config.get("hidden_act")) == ("bert", "gelu")
        and config.get("position_embedding_type", "absolute") == "absolute"
        and not _read(folder / "config_sentence_transformers.json").get("default_prompt_name")
    )


def _read(file: Path) -> Any:
    return json.loads(file.read_bytes()) if file.is_file() else {}


def _max_tokens(folder: Path, places: int) -> int:
    limits = (
        _read(folder / "sentence_bert_config.json").get("max_seq_length"),
        _read(folder / "tokenizer_config.json").get("model_max_length"),
    )
    return min(int(next(filter(None, limits), places)), places)
