"""Planted words go through whole requests on a real service, crashes among them, and are at rest nowhere afterwards."""

from __future__ import annotations

import pytest

from app.prove import places
from app.prove.proof import prove
from app.prove.scenarios import SCENARIOS
from app.prove.told import document


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_no_planted_word_is_at_rest_after_whole_requests_crashes_and_errors() -> None:
    report = await prove(lambda _: None)
    told = document(report)
    assert report.hits == []
    assert [one for one in told["scenarios"] if not one["as_expected"]] == [], told["warned"]
    assert report.unread == [], "every word was seen on its way"
    assert report.blind == [], "the search finds what is there"
    assert {one.name for one in report.played} == {one.name for one in SCENARIOS if one.ends}
    assert report.crashes == ["SIGKILL", "SIGABRT"]
    assert told["ok"]
    size = {place: row["bytes"] for place, row in told["places"].items()}
    assert size[places.POSTGRES] > 50_000_000, "the database was really read, after each crash and at the end"
    assert size[places.POSTGRES_VALUES] > 1_000_000
    assert size[places.QDRANT] > 100_000
    assert size[places.LOG] > 2_000
    assert told["warned"], "what a failure is looked up in is there"
