"""Fine-tunes a small BERT on pairs (what is asked, the code concerned): contrastive, with negatives of the same repository.

The same seed, data and number of threads give the same weights, interrupted or not. `--deadline` gives that up to be done in
time: the learning rate then falls with the clock where that is ahead of the steps.

    python -m embeddings.training.train --pairs DIR --base DIR --out DIR --steps N

On a CPU, glibc should keep the memory that a step frees, since asking for it again costs a good part of the next one:
`MALLOC_ARENA_MAX=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from embeddings.training import pairs as mined
from embeddings.training.bert import WORDS, Shape, means, shape_of, weights_of

if TYPE_CHECKING:
    import torch

CHECKPOINT = "checkpoint.pt"
TUNED = "tuned.safetensors"
_BESIDE = 400
"""Text length at which attention costs about half of what the rest does."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What decides the weights. `smoothing`: the average's share of the old at each step; 0: the last weights as they are."""

    steps: int
    batch: int = 64
    peak: float = 2e-4
    warm_up: float = 0.06
    temperature: float = 0.03
    both_ways: float = 0.0
    query_tokens: int = 192
    code_tokens: int = 208
    micro_tokens: int = 2048
    smoothing: float = 0.0
    seed: int = 0
    threads: int = 1


class OtherRunError(Exception):
    """The checkpoint belongs to other settings or other pairs. Give another output folder, or take it away."""


def rate(progress: float, settings: Settings) -> float:
    """The learning rate at a share of the run: up in a line, down in half a cosine."""
    if progress < settings.warm_up:
        return settings.peak * progress / settings.warm_up
    fallen = min((progress - settings.warm_up) / (1 - settings.warm_up), 1.0)
    return settings.peak * 0.5 * (1 + math.cos(math.pi * fallen))


def micro_batches(lengths: Sequence[int], budget: int, workers: int) -> list[list[list[int]]]:
    """For each worker its micro-batches: texts of like length, at most `budget` tokens with padding; the same work for all."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    cut: list[list[int]] = []
    for index in order:
        if not cut or (len(cut[-1]) + 1) * lengths[cut[-1][0]] > budget:
            cut.append([])
        cut[-1].append(index)
    shares: list[list[list[int]]] = [[] for _ in range(workers)]
    loads = [0.0] * workers
    for micro in cut:
        longest = lengths[micro[0]]
        worker = loads.index(min(loads))
        shares[worker].append(micro)
        loads[worker] += len(micro) * longest * (1 + longest / _BESIDE)
    return shares


def contrast(
    queries: torch.Tensor, candidates: torch.Tensor, never: torch.Tensor, settings: Settings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss and how many queries have their own positive first. Rows of both are of length one; the first candidates are
    the positives in the order of the queries; `never` marks what is no negative."""
    import torch  # noqa: PLC0415
    import torch.nn.functional as F  # noqa: N812, PLC0415

    scores = (queries @ candidates.T / settings.temperature).masked_fill(never, -1e4)
    own = torch.arange(len(queries), device=queries.device)
    loss = F.cross_entropy(scores, own)
    if settings.both_ways:
        square = scores[:, : len(queries)]
        loss = loss + settings.both_ways * F.cross_entropy(square.T, own)
    return loss, (scores.argmax(dim=1) == own).sum()


class Trainer:
    """Weights in float32, arithmetic in bfloat16 on copies; each worker thread takes whole micro-batches, which keeps two
    cores busy where splitting each operation does not."""

    def __init__(self, base: Path, settings: Settings, device: str = "cpu", *, half: bool = True) -> None:
        import torch  # noqa: PLC0415

        self._torch = torch
        self.settings = settings
        self.shape: Shape = shape_of(base)
        self._device = torch.device(device)
        self._half = torch.bfloat16 if half else torch.float32
        weights = weights_of(base)
        self._words = weights.pop(WORDS)
        self._names = list(weights)
        self._sizes = [weights[name].numel() for name in self._names]
        self._shapes = [weights[name].shape for name in self._names]
        self.master = torch.cat([weights[name].reshape(-1) for name in self._names]).to(self._device)
        self.averaged = self.master.clone()
        self.master.grad = torch.zeros_like(self.master)
        self._adam = torch.optim.AdamW([self.master], lr=0.0, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)
        self._copy = self.master.to(self._half)
        self._leaves = [part.requires_grad_() for part in self._views(self._copy)]
        self._weights = dict(zip(self._names, self._leaves, strict=True))
        self._weights[WORDS] = self._words.to(self._device, self._half)
        workers = settings.threads if self._device.type == "cpu" else 1
        self._gradients = [torch.zeros_like(self.master) for _ in range(workers)]
        self._pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        self.step = 0
        self.progress = 0.0

    def _views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        parts = self._torch.split_with_sizes(flat.detach(), self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def close(self) -> None:
        self._pool.shutdown()

    def learn(self, data: mined.Pairs, chosen: Sequence[mined.Pair], progress: float) -> tuple[float, float]:
        """One step; the loss, and the share of queries whose own positive came first."""
        torch = self._torch
        texts = [pair.positive for pair in chosen]
        seen = set(texts)
        for pair in chosen:
            if pair.negative not in seen:
                seen.add(pair.negative)
                texts.append(pair.negative)
        ids = [data.texts.cut(pair.query, self.settings.query_tokens) for pair in chosen]
        ids += [data.texts.cut(text, self.settings.code_tokens) for text in texts]
        shares = micro_batches([len(each) for each in ids], self.settings.micro_tokens, len(self._gradients))
        forward = list(self._pool.map(lambda share: [self._vectors(ids, micro) for micro in share], shares))
        vectors = torch.empty(len(ids), self.shape.hidden, device=self._device)
        for share, outputs in zip(shares, forward, strict=True):
            for micro, output in zip(share, outputs, strict=True):
                vectors[micro] = output.detach()
        vectors.requires_grad_()
        never = torch.from_numpy(mined.forbidden(data, chosen, texts)).to(self._device)
        loss, first = contrast(vectors[: len(chosen)], vectors[len(chosen) :], never, self.settings)
        (slopes,) = torch.autograd.grad(loss, [vectors])
        list(self._pool.map(self._backward, range(len(shares)), shares, forward, itertools.repeat(slopes)))
        self._update(progress)
        return float(loss.detach()), float(first) / len(chosen)

    def _vectors(self, ids: Sequence[NDArray[np.int32]], micro: Sequence[int]) -> torch.Tensor:
        torch = self._torch
        lengths = [len(ids[index]) for index in micro]
        block = torch.zeros(len(micro), max(lengths), dtype=torch.int64)
        for row, index in enumerate(micro):
            block[row, : lengths[row]] = torch.from_numpy(ids[index].astype(np.int64))
        alike = min(lengths) == max(lengths)
        real = None if alike else torch.tensor(lengths, device=self._device)
        return means(self._weights, self.shape, block.to(self._device), real)

    def _backward(
        self,
        worker: int,
        share: Sequence[Sequence[int]],
        outputs: list[torch.Tensor],
        slopes: torch.Tensor,
    ) -> None:
        total = self._gradients[worker].zero_()
        parts = self._torch.split_with_sizes(total, self._sizes)
        for micro in reversed(share):
            output = outputs.pop()
            found = self._torch.autograd.grad([output], self._leaves, [slopes[list(micro)]])
            del output
            for part, gradient in zip(parts, found, strict=True):
                part.add_(gradient.reshape(-1))

    def _update(self, progress: float) -> None:
        torch = self._torch
        slope = self.master.grad
        assert slope is not None
        slope.copy_(self._gradients[0])
        for other in self._gradients[1:]:
            slope.add_(other)
        torch.nn.utils.clip_grad_norm_([self.master], 1.0)
        self._adam.param_groups[0]["lr"] = rate(progress, self.settings)
        self._adam.step()
        self.step += 1
        self.progress = progress
        with torch.no_grad():
            self._copy.copy_(self.master)
            keep = min(self.settings.smoothing, self.step / (self.step + 10))
            self.averaged.lerp_(self.master, 1 - keep)

    def weights(self) -> dict[str, torch.Tensor]:
        """The smoothed weights by name, in float32, as sentence-transformers reads them."""
        parts = zip(self._names, self._views(self.averaged), strict=True)
        named = {name: part.cpu().clone() for name, part in parts}
        return named | {WORDS: self._words.clone()}

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "progress": self.progress,
            "master": self.master.detach(),
            "averaged": self.averaged,
            "adam": self._adam.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        torch = self._torch
        self.step = int(state["step"])
        self.progress = float(state["progress"])
        with torch.no_grad():
            self.master.copy_(state["master"])
            self.averaged.copy_(state["averaged"])
            self._copy.copy_(self.master)
        self._adam.load_state_dict(state["adam"])


def fingerprint(data: Sequence[mined.Pairs], settings: Settings) -> str:
    """Of all that decides the weights but the base."""
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for each in data:
        digest.update(each.repository.encode())
        digest.update(each.texts.ids.tobytes())
        digest.update(np.array([(p.query, p.positive, p.negative) for p in each.pairs]).tobytes())
    return digest.hexdigest()


@dataclass(slots=True)
class _Pace:
    """Progress on a stream: loss, rate and time left, over the steps since the last line."""

    out: TextIO
    clock: Callable[[], float]
    every: int = 10
    losses: float = 0.0
    firsts: float = 0.0
    pairs: int = 0
    count: int = 0
    since: float = 0.0

    def tell(self, step: int, steps: float, loss: float, first: float, pairs: int) -> None:
        self.losses += loss
        self.firsts += first
        self.pairs += pairs
        self.count += 1
        if self.count < self.every:
            return
        took = max(self.clock() - self.since, 1e-9)
        left = (steps - step) * took / self.count
        line = (
            f"step {step}/{steps:.0f}  loss {self.losses / self.count:.3f}  first {self.firsts / self.count:.3f}  "
            f"{self.pairs / took:.1f} pairs/s  {left / 60:.1f} min left"
        )
        print(line, file=self.out, flush=True)
        self.losses = self.firsts = 0.0
        self.pairs = self.count = 0
        self.since = self.clock()


def run(
    trainer: Trainer,
    data: Sequence[mined.Pairs],
    out: Path,
    *,
    save_every: float = 300.0,
    deadline: float | None = None,
    stop_after: int | None = None,
    clock: Callable[[], float] = time.monotonic,
    log: TextIO = sys.stderr,
) -> None:
    """Trains to the end, going on from a checkpoint in `out` where there is one; `tuned.safetensors` beside it holds the
    weights of the last checkpoint.

    `save_every` and `deadline` are seconds; `stop_after` leaves off after that many steps, checkpointed. Raises OtherRunError.
    """
    settings = trainer.settings
    mark = fingerprint(data, settings)
    out.mkdir(parents=True, exist_ok=True)
    _resume(trainer, out, mark)
    start = saved = clock()
    pace = _Pace(log, clock, since=start)
    order = itertools.islice(mined.batches(data, settings.batch, settings.seed), trainer.step, None)
    before = trainer.progress
    for source, chosen in order:
        progress = trainer.step / settings.steps
        if deadline is not None:
            progress = max(progress, before + (clock() - start) / deadline)
        if progress >= 1:
            break
        if stop_after is not None and trainer.step >= stop_after:
            _save(trainer, out, mark)
            return
        loss, first = trainer.learn(source, chosen, progress)
        pace.tell(trainer.step, trainer.step / max(progress, 1e-9), loss, first, len(chosen))
        if clock() - saved > save_every:
            _save(trainer, out, mark)
            saved = clock()
    _save(trainer, out, mark)
    print(f"done after {trainer.step} steps", file=log, flush=True)


def _save(trainer: Trainer, out: Path, mark: str) -> None:
    import torch  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    partial = out / (CHECKPOINT + ".partial")
    torch.save({"mark": mark, **trainer.state()}, partial)
    partial.replace(out / CHECKPOINT)
    save_file(trainer.weights(), out / TUNED)


def _resume(trainer: Trainer, out: Path, mark: str) -> None:
    import torch  # noqa: PLC0415

    kept = out / CHECKPOINT
    if not kept.exists():
        return
    state = torch.load(kept, map_location="cpu", weights_only=True)
    if state["mark"] != mark:
        raise OtherRunError(out)
    trainer.restore(state)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--pairs", type=Path, required=True, help="folder of *.jsonl(.gz), one per repository"
    )
    parser.add_argument("--base", type=Path, required=True, help="model to start from")
    parser.add_argument("--out", type=Path, required=True, help="checkpoint and tuned weights")
    parser.add_argument("--cache", type=Path, help="keeps token numbers between runs")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peak", type=float, default=2e-4)
    parser.add_argument("--temperature", type=float, default=0.03)
    parser.add_argument("--both-ways", type=float, default=0.0)
    parser.add_argument("--smoothing", type=float, default=0.0)
    parser.add_argument("--query-tokens", type=int, default=192)
    parser.add_argument("--code-tokens", type=int, default=208)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--deadline", type=float, help="minutes after which the learning rate has come down")
    parser.add_argument("--restart", action="store_true", help="forget the checkpoint")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    import torch  # noqa: PLC0415
    from tokenizers import Tokenizer  # noqa: PLC0415

    told = _arguments(arguments)
    settings = Settings(
        steps=told.steps, batch=told.batch, peak=told.peak, temperature=told.temperature,
        both_ways=told.both_ways, smoothing=told.smoothing, query_tokens=told.query_tokens,
        code_tokens=told.code_tokens, seed=told.seed, threads=told.threads,
    )  # fmt: skip
    if told.restart:
        shutil.rmtree(told.out, ignore_errors=True)
    data = mined.read(told.pairs, Tokenizer.from_file(str(told.base / "tokenizer.json")), told.cache)
    count = sum(len(each.pairs) for each in data)
    whole = mined.batches_in_a_pass(data, settings.batch)
    print(f"{count} pairs of {len(data)} repositories, {whole} steps a pass; {settings}", file=sys.stderr)
    trainer = Trainer(told.base, settings, "cuda" if torch.cuda.is_available() else "cpu")
    try:
        run(trainer, data, told.out, deadline=told.deadline * 60 if told.deadline else None)
    finally:
        trainer.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
