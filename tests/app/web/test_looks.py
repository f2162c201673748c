"""What needs no browser: what is said once an hour, sentences with code in them, numbers and heads as people type them."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.nouns import Installation
from app.web.access import Allowed
from app.web.entries import UnreadableQuestionError, read_anchors, read_number, read_run
from app.web.looks import Looks
from app.web.pages import ticked
from tests.line.stage import Stage


@pytest.mark.asyncio(loop_scope="module")
async def test_a_look_is_written_down_again_after_an_hour_and_a_download_each_time(shared: Stage) -> None:
    now = datetime.now(UTC)
    looks = Looks(replace(shared.house, clock=lambda: now))
    allowed = Allowed(Installation(shared.installation, 1, "octo", False), "olga")
    for minutes in (0, 59, 1, 30):
        now += timedelta(minutes=minutes)
        await looks.at(allowed, "log")
    await looks.at(allowed, "settings")
    for _ in range(2):
        await looks.taken(allowed, "log", format="csv")
    said = [(one.action, (one.details or {})["what"]) for one in await shared.log() if one.actor == "olga"]
    assert said == [
        ("data.looked", "log"),
        ("data.looked", "log"),
        ("data.looked", "settings"),
        ("data.exported", "log"),
        ("data.exported", "log"),
    ]


@given(st.text(alphabet="`<>&\"'ab \n", max_size=60))
def test_a_sentence_holds_no_markup_but_code(text: str) -> None:
    shown = str(ticked(text))
    assert re.sub(r"</?code>", "", shown).count("<") == 0
    assert shown.count("<code>") == shown.count("</code>")


@given(st.text(max_size=30))
def test_what_is_typed_is_read_or_said_to_be_unreadable(text: str) -> None:
    for read in (read_number, read_run, read_anchors):
        with suppress(UnreadableQuestionError):
            read(text)
