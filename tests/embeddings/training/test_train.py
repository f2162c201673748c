"""A tiny BERT on synthetic pairs: it learns, it learns the same again, and it goes on where it was broken off."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from embeddings.training import average, evaluate, pairs, train
from embeddings.training.bert import means, shape_of, weights_of

WORDS = [f"w{number}" for number in range(60)]
HEX = "0123456789abcdef"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """So small a model only waits for a second one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with weights drawn at random, as small as a BERT gets."""
    folder = tmp_path_factory.mktemp("base")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate([*special, *WORDS])}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(special) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        layer_norm_eps=1e-12,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def row(repo: str, sha: str, query: str, positive: str, negative: str, related: list[str]) -> dict[str, Any]:
    return {
        "repo": repo, "sha": sha, "lang": "py", "path": positive.split(" ", 1)[0], "query": query,
        "positive": positive, "negative": negative, "positives_of_commit": related,
    }  # fmt: skip


def write(folder: Path, repo: str, count: int, seed: int) -> None:
    """Pairs whose query and passage share their words, in another order."""
    random = Random(seed)
    rows = []
    for number in range(count):
        said = random.sample(WORDS, 4)
        other = random.sample([word for word in WORDS if word not in said], 6)
        shuffled = random.sample(said, 4)
        rows.append(
            row(
                repo, f"{number:040d}", " ".join(said),
                f"src/{number}.py f{number}\n{' '.join(shuffled)} {random.choice(WORDS)}",
                f"src/other{number}.py g{number}\n{' '.join(other)}", [],
            )
        )  # fmt: skip
    text = "".join(json.dumps(each) + "\n" for each in rows)
    (folder / f"{repo.replace('/', '+')}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


@pytest.fixture(scope="module")
def data(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[pairs.Pairs]:
    folder = tmp_path_factory.mktemp("pairs")
    write(folder, "a/one", 48, 1)
    write(folder, "a/two", 40, 2)
    return pairs.read(folder, tokenizer(base), None)


def tokenizer(base: Path) -> Tokenizer:
    return Tokenizer.from_file(str(base / "tokenizer.json"))


def settings(**others: Any) -> train.Settings:
    return train.Settings(
        **{"steps": 12, "batch": 16, "peak": 3e-3, "threads": 2, "micro_tokens": 64, **others}
    )


def trained(
    base: Path, data: list[pairs.Pairs], out: Path, told: train.Settings, **others: Any
) -> tuple[dict[str, torch.Tensor], str]:
    log = io.StringIO()
    trainer = train.Trainer(base, told)
    try:
        train.run(trainer, data, out, log=log, **others)
    finally:
        trainer.close()
    return load_file(out / train.TUNED), log.getvalue()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# --- the arithmetic --------------------------------------------------------------------------------------------------


def test_the_vectors_are_those_that_transformers_makes(base: Path) -> None:
    model = BertModel.from_pretrained(base, local_files_only=True).eval()
    ids = torch.tensor([[2, 9, 10, 11, 3], [2, 40, 3, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[:, :, None]
        expected = torch.nn.functional.normalize(states.sum(1) / mask.sum(1, keepdim=True), dim=-1)
        found = means(weights_of(base), shape_of(base), ids, mask.sum(1))
    assert torch.allclose(found, expected, atol=1e-5)


def test_padding_changes_no_vector(base: Path) -> None:
    weights, shape = weights_of(base), shape_of(base)
    short = torch.tensor([[2, 9, 10, 3]])
    long = torch.tensor([[2, 9, 10, 3, 0, 0, 0]])
    alone = means(weights, shape, short, None)
    assert torch.allclose(alone, means(weights, shape, long, torch.tensor([4])), atol=1e-5)


def test_a_folder_of_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ValueError, match="not a BERT"):
        shape_of(tmp_path)


def test_the_gradient_in_pieces_is_the_gradient_of_the_whole(base: Path, data: list[pairs.Pairs]) -> None:
    chosen = data[0].pairs[:16]
    pieces = train.Trainer(base, settings(micro_tokens=32, threads=3), half=False)
    whole = train.Trainer(base, settings(micro_tokens=100_000, threads=1), half=False)
    for trainer in (pieces, whole):
        trainer.learn(data[0], chosen, 0.5)
        trainer.close()
    assert pieces.master.grad is not None
    assert whole.master.grad is not None
    assert float(whole.master.grad.norm()) > 0
    assert torch.allclose(pieces.master.grad, whole.master.grad, atol=1e-5)


# --- training --------------------------------------------------------------------------------------------------------


def test_the_loss_falls(base: Path, data: list[pairs.Pairs]) -> None:
    trainer = train.Trainer(base, settings(steps=60))
    order = pairs.batches(data, 16, 0)
    losses = [trainer.learn(*next(order), step / 60)[0] for step in range(60)]
    trainer.close()
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    base: Path, data: list[pairs.Pairs], tmp_path: Path
) -> None:
    first, _ = trained(base, data, tmp_path / "a", settings())
    again, _ = trained(base, data, tmp_path / "b", settings())
    other, _ = trained(base, data, tmp_path / "c", settings(seed=1))
    assert same(first, again)
    assert not same(first, other)


def test_a_run_that_was_broken_off_ends_with_the_weights_of_one_that_was_not(
    base: Path, data: list[pairs.Pairs], tmp_path: Path
) -> None:
    told = settings(smoothing=0.9)
    whole, _ = trained(base, data, tmp_path / "whole", told)
    part, _ = trained(base, data, tmp_path / "part", told, stop_after=5)
    rest, log = trained(base, data, tmp_path / "part", told)
    assert not same(whole, part)
    assert same(whole, rest)
    assert "done after 12 steps" in log


def test_a_checkpoint_of_other_settings_is_not_gone_on_with(
    base: Path, data: list[pairs.Pairs], tmp_path: Path
) -> None:
    trained(base, data, tmp_path, settings(), stop_after=2)
    with pytest.raises(train.OtherRunError):
        trained(base, data, tmp_path, settings(temperature=0.1))


def test_a_checkpoint_of_other_pairs_is_not_gone_on_with(
    base: Path, data: list[pairs.Pairs], tmp_path: Path
) -> None:
    trained(base, data, tmp_path, settings(), stop_after=2)
    with pytest.raises(train.OtherRunError):
        trained(base, data[:1], tmp_path, settings())


def test_word_embeddings_stay_as_they_were(base: Path, data: list[pairs.Pairs], tmp_path: Path) -> None:
    tuned, _ = trained(base, data, tmp_path, settings(steps=3))
    name = "embeddings.word_embeddings.weight"
    moved = [each for each, weight in weights_of(base).items() if not torch.equal(weight, tuned[each])]
    assert torch.equal(tuned[name], weights_of(base)[name])
    assert "encoder.layer.0.attention.self.query.weight" in moved


def test_at_the_deadline_the_learning_rate_has_come_down(
    base: Path, data: list[pairs.Pairs], tmp_path: Path
) -> None:
    ticks = iter(range(1000))
    trainer = train.Trainer(base, settings(steps=1000))
    train.run(trainer, data, tmp_path, deadline=20, clock=lambda: float(next(ticks)), log=io.StringIO())
    trainer.close()
    assert 3 < trainer.step < 20
    assert trainer.progress > 0.8


def test_progress_tells_the_rate_and_the_time_left(
    base: Path, data: list[pairs.Pairs], tmp_path: Path
) -> None:
    _, log = trained(base, data, tmp_path, settings(steps=10))
    assert "step 10/" in log
    assert "pairs/s" in log
    assert "min left" in log


def test_the_learning_rate_rises_in_a_line_and_falls_to_nothing() -> None:
    told = settings(peak=1.0, warm_up=0.1)
    assert train.rate(0.05, told) == pytest.approx(0.5)
    assert train.rate(0.1, told) == pytest.approx(1.0)
    assert train.rate(0.55, told) == pytest.approx(0.5)
    assert train.rate(1.0, told) == pytest.approx(0.0)


def test_micro_batches_hold_each_text_once_and_keep_to_the_budget() -> None:
    lengths = [Random(3).randint(3, 90) for _ in range(200)]
    shares = train.micro_batches(lengths, 256, 3)
    every = [index for share in shares for micro in share for index in micro]
    assert sorted(every) == list(range(200))
    assert all(len(m) * max(lengths[i] for i in m) <= 256 for share in shares for m in share)
    loads = [sum(len(m) * max(lengths[i] for i in m) for m in share) for share in shares]
    assert max(loads) < 1.2 * min(loads)


# --- what counts as a negative ---------------------------------------------------------------------------------------


def test_what_the_same_commit_changed_is_no_negative(base: Path, tmp_path: Path) -> None:
    first, second, third = "a.py f\nw1 w2", "b.py g\nw3 w4", "c.py h\nw5 w6"
    older, fourth = "a.py f\nw1 w9", "d.py k\nw7"
    digest = next(mark for mark in pairs._marks(third) if set(mark) <= set(HEX))
    rows = [
        row("a/b", "1", "w1", first, fourth, [digest]),
        row("a/b", "1", "w3", second, third, []),
        row("a/b", "2", "w5", third, older, []),
    ]
    (tmp_path / "a+b.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    (data,) = pairs.read(tmp_path, tokenizer(base), None)
    candidates = [pair.positive for pair in data.pairs] + [data.pairs[0].negative, data.pairs[2].negative]
    never = pairs.forbidden(data, data.pairs, candidates)
    #            first  second third  fourth older version of first
    expected = [[False, True, True, False, True], [True, False, True, False, True], [False] * 5]
    assert never.tolist() == expected


def test_a_pair_that_is_there_twice_is_not_its_own_negative(base: Path, tmp_path: Path) -> None:
    twice = [row("a/b", sha, "w1", "a.py f\nw1 w2", "b.py g\nw3", []) for sha in "12"]
    (tmp_path / "a+b.jsonl").write_text("".join(json.dumps(each) + "\n" for each in twice))
    (data,) = pairs.read(tmp_path, tokenizer(base), None)
    never = pairs.forbidden(data, data.pairs, [pair.positive for pair in data.pairs])
    assert never.tolist() == [[False, True], [True, False]]


def test_a_masked_candidate_has_no_part_in_the_loss() -> None:
    queries, candidates = torch.eye(2), torch.eye(2)[[0, 1, 0]]
    free = torch.zeros(2, 3, dtype=torch.bool)
    masked = free.clone()
    masked[0, 2] = True
    with_twin, _ = train.contrast(queries, candidates, free, settings())
    without, first = train.contrast(queries, candidates, masked, settings())
    assert float(with_twin) == pytest.approx(np.log(2) / 2, abs=1e-3)
    assert float(without) == pytest.approx(0, abs=1e-3)
    assert int(first) == 2


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_a_batch_is_of_one_repository_and_a_pass_meets_each_pair_once(data: list[pairs.Pairs]) -> None:
    count = pairs.batches_in_a_pass(data, 16)
    order = pairs.batches(data, 16, 0)
    met = [(each.repository, pair) for each, chosen in (next(order) for _ in range(count)) for pair in chosen]
    assert count == 3 + 3
    assert len(set(met)) == len(met) == 48 + 40
    assert all(pair in each.pairs for each, chosen in [next(order)] for pair in chosen)


def test_too_few_pairs_for_half_a_batch_are_told(data: list[pairs.Pairs]) -> None:
    with pytest.raises(ValueError, match="half a batch"):
        next(pairs.batches(data, 1000, 0))


def test_a_text_that_is_cut_keeps_its_last_token(data: list[pairs.Pairs]) -> None:
    texts = data[0].texts
    whole = texts.cut(0, 100)
    assert texts.cut(0, 4).tolist() == [*whole[:3].tolist(), whole[-1]]


def test_token_numbers_kept_between_runs_are_the_same(base: Path, tmp_path: Path) -> None:
    write(tmp_path, "a/one", 20, 1)
    fresh = pairs.read(tmp_path, tokenizer(base), tmp_path / "cache")
    kept = pairs.read(tmp_path, tokenizer(base), tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert np.array_equal(fresh[0].texts.ids, kept[0].texts.ids)
    assert fresh[0].pairs == kept[0].pairs


# --- averaging and measuring -----------------------------------------------------------------------------------------


def test_the_ends_of_averaging_are_the_base_and_the_tuned(base: Path) -> None:
    left = weights_of(base)
    right = {name: weight + 1 for name, weight in left.items()}
    assert same(average.average(left, right, 0.0), left)
    assert same(average.average(left, right, 1.0), right)
    half = average.average(left, right, 0.5)
    assert all(torch.allclose(half[name], left[name] + 0.5) for name in left)


def test_weights_of_another_model_are_not_averaged(base: Path) -> None:
    left = weights_of(base)
    with pytest.raises(ValueError, match="same model"):
        average.average(left, {name: weight[:1] for name, weight in left.items()}, 0.5)


def test_what_is_written_is_half_precision_and_makes_the_same_vectors(base: Path, tmp_path: Path) -> None:
    average.write(base, weights_of(base), tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    model = BertModel.from_pretrained(tmp_path, local_files_only=True, add_pooling_layer=False)
    assert model.dtype == torch.float32
    ids = torch.tensor([[2, 9, 10, 11, 3]])
    before = means(weights_of(base), shape_of(base), ids, None)
    after = means(weights_of(tmp_path), shape_of(tmp_path), ids, None)
    assert float((before * after).sum()) > 0.99999


def test_a_weight_too_large_for_half_precision_is_refused(base: Path, tmp_path: Path) -> None:
    weights = weights_of(base)
    name = next(iter(weights))
    with pytest.raises(ValueError, match="too large"):
        average.write(base, weights | {name: weights[name] + 1e6}, tmp_path / "out")


def test_the_rank_counts_what_is_nearer_and_leaves_out_what_belongs_to_the_commit(
    base: Path, tmp_path: Path
) -> None:
    rows = [
        row("a/b", "1", "w1", "a.py f\nw1", "c.py h\nw3", []),
        row("a/b", "1", "w1", "b.py g\nw2", "d.py k\nw4", []),
    ]
    (tmp_path / "a+b.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    (chosen,) = evaluate.sample(pairs.read(tmp_path, tokenizer(base), None), 9, 9, 0)
    marks = [min(chosen.data.paths[text] for text in [number]) for number in chosen.pool]
    near = {"a.py": 0.5, "b.py": 0.9, "c.py": 0.7, "d.py": 0.1}
    passages = np.array([[near[path]] for path in marks], dtype=np.float32)
    queries = np.ones((2, 1), dtype=np.float32)
    found = dict(zip([chosen.data.paths[pair.positive] for pair in chosen.asked],
                     evaluate.ranks(chosen, queries, passages), strict=True))  # fmt: skip
    assert found == {"a.py": (2, 2), "b.py": (1, 1)}


def test_figures_are_means_over_repositories() -> None:
    told = evaluate.figures([[(1, 1), (2, 1)], [(10, 6)]])
    assert told.queries == 3
    assert told.mrr == pytest.approx(100 * (0.75 + 0.1) / 2)
    assert (told.at_1, told.at_5, told.at_10) == (25.0, 50.0, 100.0)
    assert (told.file_at_1, told.file_at_5) == (50.0, 50.0)


@pytest.mark.long
def test_the_programs_work_one_after_the_other(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, "a/one", 64, 1)
    out = tmp_path / "out"
    common = ["--pairs", str(tmp_path), "--base", str(base)]
    assert train.main([*common, "--out", str(out), "--steps", "40", "--batch", "16", "--peak", "3e-3"]) == 0
    tuned = str(out / train.TUNED)
    assert (
        average.main(["--base", str(base), "--tuned", tuned, "--factor", "0.7", "--out", str(tmp_path / "m")])
        == 0
    )
    capsys.readouterr()
    assert evaluate.main([*common, "--tuned", tuned, "--factors", "0,1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["all"]
    assert told["original"] == told["tuned × 0"]
    assert told["tuned × 1"]["mrr"] > told["original"]["mrr"]
