"""The bundled model, as it is: no network, no noise, unit vectors that mean something."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from infra.encoder import BUNDLED, BundledEncoder, ModelMissingError


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
    assert np.abs(together - alone).max() < 1e-4


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
            assert np.abs(vectors - expected).max() < 1e-4


def test_a_model_that_is_not_here_is_not_fetched():
    with pytest.raises(ModelMissingError) as missing:
        BundledEncoder("nobody/no-such-model-anywhere").encode(["x"])
    assert "MAGICODE_EMBEDDING_MODEL" in missing.value.message
