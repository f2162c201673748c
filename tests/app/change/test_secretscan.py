"""Keys are kept out of what is said, and found in pieces."""

from __future__ import annotations

import base64
import time

import pytest

from app.change.secretscan import disguised, find, redacted

AWS = "AKIA" + "Q3EG7XK2LMNP4RST"


def test_a_key_in_a_sentence_gives_way_to_what_it_was() -> None:
    assert redacted(f"It uses {AWS}, and {AWS} again.") == (
        "It uses (AWS access key removed), and (AWS access key removed) again."
    )


def test_a_sentence_without_a_key_stays_as_it_is() -> None:
    text = "Set `API_KEY` in the environment, as `token = os.environ['TOKEN']` does: sha 0123456789abcdef."
    assert redacted(text) == text
    assert find(redacted(f"key {AWS}")) == []


@pytest.mark.parametrize(
    "piece",
    ["'a' + 'b'", "QUtJQQ", '"', "' '", "\\x41", "\\\n", "a" * 24 + " ", "0123456789abcdef" * 3 + "\n"],
)
def test_looking_for_pieces_takes_time_in_proportion(piece: str) -> None:
    before = time.process_time()
    disguised(piece * (300_000 // len(piece)))
    assert time.process_time() - before < 3


def test_code_is_not_taken_for_pieces_of_a_key() -> None:
    text = (
        "x = ['AK', 'IA']\nsk = 'sk-' + name\nurl = 'a' + 'b'\nhashed = '"
        + base64.b64encode(b"x" * 60).decode()
        + "'\n"
    )
    assert disguised(text) == []
