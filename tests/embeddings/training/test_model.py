"""The model that ships: small enough, whole, and made of what it says it is made of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embeddings.shipped import SHIPPED
from embeddings.training.ruled_out import ruled_out

FOLDER = SHIPPED["magicode-minilm-1"]
MADE_OF = json.loads((FOLDER / "provenance.json").read_text("utf-8"))
LISTED = json.loads((Path(__file__).parents[3] / "embeddings/training/repositories.json").read_text("utf-8"))
PERMISSIVE = {"MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "MIT OR Apache-2.0", "ISC"}


def test_the_folder_is_at_most_fifty_megabytes() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) <= 50_000_000


def test_the_weights_are_half_precision_and_all_numbers() -> None:
    weights = load_file(FOLDER / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    assert all(bool(torch.isfinite(weight).all()) for weight in weights.values())


def test_each_repository_it_was_made_of_is_listed_for_training_under_a_permissive_licence() -> None:
    listed = {each["repository"]: each for each in LISTED}
    for each in MADE_OF["repositories"]:
        name = each["repository"]
        assert listed[name]["split"] == "train"
        assert each["licence"] == listed[name]["licence"]
        assert each["licence"] in PERMISSIVE
        assert len(each["commit"]) == 40
        assert not ruled_out(name)


def test_no_repository_is_both_trained_on_and_measured_on() -> None:
    trained = {each["repository"] for each in MADE_OF["repositories"]}
    assert trained.isdisjoint(MADE_OF["validation"])


@pytest.mark.long
def test_sentence_transformers_loads_it_and_it_tells_related_from_unrelated() -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(FOLDER), device="cpu", local_files_only=True)
    asked, right, wrong = model.encode(
        [
            "Retries ignore the Retry-After header when the server answers 429",
            "client/retry.py Retry.wait\ndef wait(self, response):\n    return self.backoff * 2 ** self.count",
            "client/cookies.py Jar.clear\ndef clear(self):\n    self._cookies = {}",
        ]
    )
    assert float(asked @ right) > float(asked @ wrong) + 0.05
