"""What is said when everything is to be deleted, and when it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.custody.receipt import read_receipt
from app.pulls import farewell
from app.pulls.neutralise import BODY_LIMIT, length

AT = datetime(2027, 3, 1, 12, tzinfo=UTC)
REMAINING = [("GitHub", "comments", None), ("backups", "rows", AT)]
COUNTS = {"runs": 1, "entries": 12_345, "vectors": 2, "settings": 0, "later_table": 3}


def test_what_would_go_is_counted_in_words_and_what_is_none_is_not_said() -> None:
    said = farewell.announced(COUNTS, REMAINING, "octo", "magicode")
    assert "- 1 request with its figures" in said
    assert "- 12,345 entries of the action log" in said
    assert "- 3 rows of `later_table`" in said
    assert "settings" not in said
    assert "backups: rows; gone by 2027-03-01" in said
    assert "`delete octo`" in said
    assert "Nothing is deleted yet" in said


def test_where_nothing_is_held_that_is_said() -> None:
    assert "nothing but the fact that you asked" in farewell.announced({"runs": 0}, REMAINING, "octo", "m")


@given(st.text(max_size=300))
def test_a_wrong_name_is_repeated_as_code_and_mentions_nobody(said: str) -> None:
    told = farewell.wrong_name(f"{said} @everybody", "octo", "magicode")
    first, _, rest = told.partition("\n\n")
    assert first.startswith("Nothing is deleted: you wrote `")
    assert "\n" not in first
    assert "@everybody" not in rest


@pytest.mark.parametrize("tables", [1, 200])
def test_the_comment_begins_with_its_mark_fits_and_gives_the_receipt_back(tables: int) -> None:
    document = {
        "format": "magicode-receipt/1",
        "destroyed": {f"table{number}": number for number in range(tables)},
    }
    erasure = UUID(int=7)
    body = farewell.delivered(erasure, COUNTS, AT, REMAINING, json.dumps(document, indent=2))
    assert body.startswith(farewell.erasure_marker(erasure))
    assert length(body) < BODY_LIMIT
    assert read_receipt(body) == document
    assert "2027-03-01 12:00:00 UTC" in body


def test_a_stopped_request_says_so_under_its_own_mark() -> None:
    said = farewell.stopped_by_deletion(UUID(int=3))
    assert said.startswith(f"<!-- magicode:run:{UUID(int=3)} -->\n")
    assert "**Cancelled.**" in said
