"""BERT's encoder as plain functions over named weights: the same numbers as transformers', with nothing in between that costs a training step.

Weights carry the names of the safetensors file that sentence-transformers reads. Attention is written out: the fused kernel
is slower in the backward pass at a head size of 32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WORDS = "embeddings.word_embeddings.weight"
"""Frozen in training: few words occur often enough in the pairs to be moved with sense."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the arithmetic needs to know of `config.json`."""

    layers: int
    heads: int
    hidden: int
    epsilon: float


def shape_of(folder: Path) -> Shape:
    """Raises OSError, KeyError and ValueError for a folder that holds no BERT."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise ValueError(f"{folder}: not a BERT with gelu")
    return Shape(
        layers=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        hidden=config["hidden_size"],
        epsilon=config["layer_norm_eps"],
    )


def weights_of(place: Path) -> dict[str, torch.Tensor]:
    """The encoder's weights in float32, without the pooler and the position counter, which nothing reads.

    `place`: a model's folder, or the safetensors file itself.
    """
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file  # noqa: PLC0415

    named = load_file(place / "model.safetensors" if place.is_dir() else place)
    return {
        name: weight.to(torch.float32)
        for name, weight in sorted(named.items())
        if not name.startswith("pooler.") and not name.endswith("position_ids")
    }


def means(
    weights: Mapping[str, torch.Tensor], shape: Shape, ids: torch.Tensor, lengths: torch.Tensor | None
) -> torch.Tensor:
    """One float32 vector of length one per row of `ids` (texts, tokens): the mean over its tokens.

    `lengths`: how many tokens of each row count; None: all of them, which spares the mask.
    """
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: N812, PLC0415

    count, width = ids.shape
    prefix = "embeddings."
    state = (
        F.embedding(ids, weights[WORDS])
        + weights[prefix + "position_embeddings.weight"][:width]
        + weights[prefix + "token_type_embeddings.weight"][0]
    )
    state = _normalised(weights, prefix + "LayerNorm", shape, state)
    here = None
    bias = None
    if lengths is not None:
        here = torch.arange(width, device=ids.device)[None, :] < lengths[:, None]
        bias = torch.zeros(count, 1, 1, width, dtype=state.dtype, device=ids.device)
        bias.masked_fill_(~here[:, None, None, :], -30000.0)
    for layer in range(shape.layers):
        state = _layer(weights, f"encoder.layer.{layer}.", shape, state, bias)
    if here is None:
        mean = state.float().mean(dim=1)
    else:
        mean = (state.float() * here[:, :, None]).sum(dim=1) / here.sum(dim=1, keepdim=True)
    return F.normalize(mean, dim=-1)


def _layer(
    weights: Mapping[str, torch.Tensor],
    prefix: str,
    shape: Shape,
    state: torch.Tensor,
    bias: torch.Tensor | None,
) -> torch.Tensor:
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: N812, PLC0415

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return F.linear(value, weights[f"{prefix}{name}.weight"], weights[f"{prefix}{name}.bias"])

    count, width, hidden = state.shape
    size = hidden // shape.heads

    def split(value: torch.Tensor) -> torch.Tensor:
        return value.view(count, width, shape.heads, size).transpose(1, 2)

    query = split(linear("attention.self.query", state) * size**-0.5)
    key = split(linear("attention.self.key", state))
    scores = torch.matmul(query, key.transpose(-1, -2))
    if bias is not None:
        scores = scores.add_(bias)
    context = torch.matmul(torch.softmax(scores, -1), split(linear("attention.self.value", state)))
    context = linear("attention.output.dense", context.transpose(1, 2).reshape(count, width, hidden))
    state = _normalised(weights, prefix + "attention.output.LayerNorm", shape, state + context)
    inner = F.gelu(linear("intermediate.dense", state))
    return _normalised(weights, prefix + "output.LayerNorm", shape, state + linear("output.dense", inner))


def _normalised(
    weights: Mapping[str, torch.Tensor], name: str, shape: Shape, value: torch.Tensor
) -> torch.Tensor:
    import torch.nn.functional as F  # noqa: N812, PLC0415

    return F.layer_norm(
        value, (shape.hidden,), weights[name + ".weight"], weights[name + ".bias"], shape.epsilon
    )
