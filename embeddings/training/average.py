"""Mixes tuned weights with those they came from, and writes a model folder that sentence-transformers loads.

A share of the original keeps the general language that the pairs do not teach. Which share: `evaluate` tells.

    python -m embeddings.training.average --base DIR --tuned FILE --factor 0.7 --out DIR
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from embeddings.training.bert import weights_of

if TYPE_CHECKING:
    import torch

_WEIGHTS = "model.safetensors"
_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "modules.json",
           "sentence_bert_config.json", "1_Pooling/config.json")  # fmt: skip


def average(
    base: Mapping[str, torch.Tensor], tuned: Mapping[str, torch.Tensor], factor: float
) -> dict[str, torch.Tensor]:
    """`factor` tuned and the rest base, weight by weight. Raises ValueError when they are not of the same model."""
    if base.keys() != tuned.keys() or any(base[name].shape != tuned[name].shape for name in base):
        raise ValueError("the weights are not of the same model")
    return {name: base[name] * (1 - factor) + tuned[name] * factor for name in sorted(base)}


def write(base: Path, weights: Mapping[str, torch.Tensor], out: Path) -> None:
    """A folder with `weights` in half precision and what else of `base` a model needs. Raises OSError, and ValueError for a
    weight that half precision cannot hold."""
    import torch  # noqa: PLC0415
    from safetensors.torch import load_file, save_file  # noqa: PLC0415

    # Nothing reads the pooler, but transformers warns where it is missing.
    rest = {name: weight for name, weight in load_file(base / _WEIGHTS).items() if name.startswith("pooler.")}
    halves = {name: weight.to(torch.float16).contiguous() for name, weight in {**rest, **weights}.items()}
    if not all(bool(torch.isfinite(half).all()) for half in halves.values()):
        raise ValueError("a weight is too large for half precision")
    out.mkdir(parents=True, exist_ok=True)
    for name in _BESIDE:
        if (base / name).exists():
            (out / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(base / name, out / name)
    config = json.loads((base / "config.json").read_text("utf-8"))
    # Read back in single precision: half is for the disk, few CPUs calculate in it.
    config["torch_dtype"] = config["dtype"] = "float32"
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    save_file(halves, out / _WEIGHTS, metadata={"format": "pt"})
    (out / _WEIGHTS).chmod(0o644)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--base", type=Path, required=True, help="model folder that training started from")
    parser.add_argument("--tuned", type=Path, required=True, help="training's tuned.safetensors")
    parser.add_argument("--factor", type=float, required=True, help="share of the tuned weights, 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args(arguments)
    write(told.base, average(weights_of(told.base), weights_of(told.tuned), told.factor), told.out)
    print(f"wrote {told.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
