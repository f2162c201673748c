"""Heads quoted on GitHub, read back from what a person saved of it."""

from __future__ import annotations

import html
import json
from typing import Any
from uuid import UUID

import pytest

from app.actionlog.anchors import Anchor, NoHeadsError, quoted_heads
from app.actionlog.ledger import Head
from app.nouns import Outcome, RunState
from app.pulls import wording

HEADS = [Head(12, "ab" * 32, 7), Head(345, "0c" * 32, 7)]
ANCHORS = tuple(Anchor(head.seq, head.hash, head.installation_id) for head in HEADS)
SAID = [
    wording.ended(UUID(int=n), Outcome(RunState.OPENED, "opened", "Done."), None, str(head))
    for n, head in enumerate(HEADS)
]


def answered(body: str, kind: str = "Bot") -> dict[str, Any]:
    """As `gh api` prints a comment."""
    return {"id": 1, "user": {"login": "magicode[bot]", "type": kind}, "body": body}


def test_the_heads_that_we_quote_are_read_from_text() -> None:
    assert quoted_heads("\n\n".join(["Some page.", *SAID, SAID[0]])) == ANCHORS


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([answered(said) for said in SAID]),
        json.dumps([answered(said) for said in SAID], indent=2, ensure_ascii=False),
        "\n".join(json.dumps([answered(said)]) for said in SAID),
        json.dumps({"body": SAID[0], "comments": [{"author": {"login": "magicode"}, "body": SAID[1]}]}),
        "".join(f"<p>{said.replace('`', '')}</p>" for said in SAID),
        "".join(
            f'Action log head: <code class="notranslate">{html.escape(str(head))}</code></sub>'
            for head in HEADS
        ),
        "".join(f"> {said}\r\n" for said in SAID),
    ],
)
def test_answers_of_the_api_pages_and_quotations_are_read(text: str) -> None:
    assert quoted_heads(text) == ANCHORS


def test_a_head_that_does_not_say_whose_it_is_is_read_too() -> None:
    assert quoted_heads(f"Action log head: `5:{'1' * 64}`") == (Anchor(5, "1" * 64),)


def test_what_a_person_wrote_is_left_out_where_that_is_known() -> None:
    forged = SAID[1].replace("0c", "0d")
    text = json.dumps([answered(SAID[0]), answered(forged, kind="User")])
    assert quoted_heads(text) == ANCHORS[:1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "[]",
        "{}",
        "Action log head: none yet",
        f"Action log head: `5:{'1' * 65}`",
        f"5:{'1' * 64}",
    ],
)
def test_a_file_without_a_head_is_said_to_have_none(text: str) -> None:
    with pytest.raises(NoHeadsError):
        quoted_heads(text)
