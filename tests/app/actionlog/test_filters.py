"""What is asked for of a log, and nothing else, from the real store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from app.actionlog.anchors import Anchor
from app.actionlog.export import Format, export, opened
from app.actionlog.filters import Filter, UnknownKindError, UnreadableFilterError, read_filter
from app.actionlog.ledger import Ledger
from app.actionlog.verify import Kind, told, verify_text
from app.custody.keys import Keys
from app.nouns import Action, Run, RunState
from app.ports import Store

FIVE, SIX, GONE = UUID(int=5), UUID(int=6), UUID(int=99)
FORMS = [Format.JSON, Format.JSONL, Format.CSV]


def a_run(run_id: UUID, repository_id: int, at: datetime) -> Run:
    return Run(
        id=run_id, installation_id=1, repository_id=repository_id, number=run_id.int, is_pull_request=False, verb="fix",
        occasion="comment:9", comment_id=9, asker_id=3, asker_login="mona", meaning=str(run_id), input_hash="h",
        cost_limit_usd=Decimal(1), state=RunState.QUEUED, attempt=0, blocked_by=None, cancel_requested=False,
        reason=None, status_comment_id=None, branch=None, base_sha=None, head_sha=None, pull_request=None,
        input_tokens=0, cached_tokens=0, output_tokens=0, cost_usd=Decimal(0), created_at=at, started_at=None,
        ended_at=None,
    )  # fmt: skip


@pytest.fixture
async def written(ledger: Ledger, store: Store, watch: Any) -> Ledger:
    """Twelve entries, a day apart: runs of repositories 50 and 60, one that is not known any more, and none."""
    async with store.transaction(1) as transaction:
        await transaction.add_run(a_run(FIVE, 50, watch.now))
        await transaction.add_run(a_run(SIX, 60, watch.now))
    entries: list[tuple[Action, str, UUID | None, dict[str, Any]]] = [
        (Action.WEBHOOK_ACCEPTED, "ada", FIVE, {"repository": 50}),
        (Action.RUN_STARTED, "magicode", FIVE, {}),
        (Action.WEBHOOK_ACCEPTED, "Eve", SIX, {"repository": 60}),
        (Action.MODEL_CALLED, "magicode", SIX, {"model": "m"}),
        (Action.MODEL_CALLED, "magicode", FIVE, {"model": "m"}),
        (Action.INDEX_UPDATED, "magicode", None, {"repository": 50}),
        (Action.INDEX_UPDATED, "magicode", None, {"repository": 60}),
        (Action.SETTING_CHANGED, "ADA", None, {}),
        (Action.WEBHOOK_ACCEPTED, "ada", GONE, {"repository": 50}),
        (Action.RUN_STARTED, "magicode", GONE, {}),
        (Action.RUN_ENDED, "magicode", FIVE, {}),
        (Action.RUN_ENDED, "magicode", SIX, {}),
    ]
    watch.now = datetime(2026, 3, 1, tzinfo=UTC)
    for action, actor, run_id, facts in entries:
        await ledger.record(1, action, actor, run_id, facts)
        watch.now += timedelta(days=1)
    await ledger.record(2, Action.RUN_STARTED, "ada", None, {"repository": 50})
    return ledger


async def seqs(store: Store, keys: Keys, only: Filter, installation_id: int = 1) -> Sequence[int]:
    return [entry.seq async for entry in opened(store, keys, installation_id, only=only)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, [*range(1, 13)]),
        ({"since": "2026-03-05"}, [*range(5, 13)]),
        ({"until": "2026-03-05"}, [1, 2, 3, 4]),
        ({"since": "2026-03-02T00:00:00.002+00:00", "until": "2026-03-04T12:00+02:00"}, [2, 3, 4]),
        ({"since": "2026-03-02T00:00:00.002001", "until": "2026-03-05T00:00:00.005"}, [3, 4]),
        ({"repository_id": 50}, [1, 2, 5, 6, 9, 11]),
        ({"repository_id": 60}, [3, 4, 7, 12]),
        ({"repository_id": 70}, []),
        ({"run_id": FIVE}, [1, 2, 5, 11]),
        ({"kinds": ["model.called"]}, [4, 5]),
        ({"kinds": ["run", "setting.changed"]}, [2, 8, 10, 11, 12]),
        ({"kinds": ["webhook"], "actor": "@Ada"}, [1, 9]),
        ({"actor": "ADA"}, [1, 8, 9]),
        ({"actor": "a_a"}, []),
        ({"repository_id": 50, "kinds": ["run"], "since": "2026-03-03"}, [11]),
        ({"run_id": SIX, "repository_id": 50}, []),
    ],
)
async def test_what_is_asked_for_is_found_and_nothing_else(
    asked: dict[str, Any], expected: list[int], written: Ledger, store: Store, keys: Keys
) -> None:
    assert await seqs(store, keys, read_filter(**asked)) == expected


async def test_a_part_says_of_what_and_its_gaps_are_not_judged(
    written: Ledger, store: Store, keys: Keys
) -> None:
    only = read_filter(repository_id=50, kinds=["run", "index"], since="2026-03-01T01:00+01:00")
    for form in FORMS:
        text = "".join([piece async for piece in export(store, keys, 1, form, only=only)])
        report = verify_text(text)
        assert report.ok
        assert (report.whole, report.entries, report.first_seq, report.head_seq) == (False, 3, 2, 11)
        assert any("cannot be judged" in line for line in told(report))
    document = json.loads("".join([piece async for piece in export(store, keys, 1, Format.JSON, only=only)]))
    assert document["whole"] is False
    assert document["filter"] == {
        "since": "2026-03-01T00:00:00.000000Z",
        "repository": 50,
        "kinds": ["index", "run"],
    }
    text = "".join([piece async for piece in export(store, keys, 1, Format.TEXT, only=only)])
    assert text.startswith("# A part of the action log of installation 1: ")


async def test_an_empty_part_is_a_part_too(written: Ledger, store: Store, keys: Keys) -> None:
    for form in FORMS:
        only = Filter(actor="nobody")
        report = verify_text("".join([piece async for piece in export(store, keys, 1, form, only=only)]))
        assert (report.ok, report.whole, report.entries) == (True, False, 0)


@pytest.mark.parametrize("form", FORMS)
async def test_a_falsified_part_is_found_as_far_as_it_can_be(
    form: Format, written: Ledger, store: Store, keys: Keys
) -> None:
    only = read_filter(kinds=["webhook", "run", "model"])  # 1 to 5, 9 to 12
    text = "".join([piece async for piece in export(store, keys, 1, form, only=only)])
    head = await written.head(1)

    edited = verify_text(text.replace("run.ended", "run.forged", 1))
    assert {finding.kind for finding in edited.findings} == {Kind.EDITED}
    marked = [at for at, line in enumerate(text.splitlines()) if "model.called" in line]
    lines = text.splitlines(keepends=True)
    first, second = marked
    lines[first], lines[second] = lines[second], lines[first]
    assert not verify_text("".join(lines)).ok
    doubled = text.splitlines(keepends=True)
    doubled.insert(second, doubled[second])
    assert {finding.kind for finding in verify_text("".join(doubled)).findings} == {Kind.INSERTED}
    dropped = text.splitlines(keepends=True)
    del dropped[first]
    report = verify_text("".join(dropped))
    assert report.ok
    assert not report.whole
    assert not verify_text(text, [Anchor(head.seq, "0" * 64)]).ok
    beyond = verify_text(text, [Anchor(head.seq, head.hash), Anchor(7, "0" * 64), Anchor(90, "0" * 64)])
    assert beyond.ok
    assert (beyond.anchors, beyond.anchors_apart) == (1, 2)


async def test_a_part_that_calls_itself_whole_has_gaps(written: Ledger, store: Store, keys: Keys) -> None:
    only = Filter(kinds=("run",))
    text = "".join([piece async for piece in export(store, keys, 1, Format.JSON, only=only)])
    report = verify_text(text.replace('"whole":false', '"whole":true'))
    assert {finding.kind for finding in report.findings} == {Kind.TRUNCATED, Kind.DROPPED}


async def test_details_that_cannot_be_opened_tell_no_repository(
    written: Ledger, store: Store, keys: Keys
) -> None:
    class Destroyed(Keys):
        async def existing_key(self, transaction: Any) -> bytes | None:
            return None

    gone = Destroyed(keys._master)
    assert await seqs(store, gone, Filter(repository_id=50)) == [1, 2, 5, 11]


async def test_another_installations_entries_are_never_found(
    written: Ledger, store: Store, keys: Keys
) -> None:
    assert await seqs(store, keys, Filter(repository_id=50), installation_id=2) == [1]
    assert await seqs(store, keys, Filter(run_id=FIVE), installation_id=2) == []


@pytest.mark.parametrize("kind", ["modell", "model.", "", "model.call", "%", "MODEL"])
def test_a_kind_that_is_none_is_refused_with_those_that_there_are(kind: str) -> None:
    with pytest.raises(UnknownKindError, match=r"model, model\.asked, model\.called"):
        read_filter(kinds=[kind])


@pytest.mark.parametrize(
    "asked",
    [
        {"since": "yesterday"},
        {"until": "2026-13-01"},
        {"since": "0001-01-01T00:00:00+14:00"},
        {"actor": ""},
        {"actor": "a b"},
        {"actor": "a'--"},
    ],
)
def test_times_and_names_that_are_none_are_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UnreadableFilterError):
        read_filter(**asked)


def test_a_filter_is_read_in_utc_and_says_what_it_is() -> None:
    assert read_filter() == Filter()
    assert read_filter().whole
    assert read_filter().document() == {}
    berlin = timezone(timedelta(hours=1))
    given = Filter(since=datetime(2026, 1, 1, tzinfo=berlin), run_id=FIVE, actor="dependabot[bot]")
    assert not given.whole
    assert given.document() == {
        "since": "2025-12-31T23:00:00.000000Z",
        "run": str(FIVE),
        "actor": "dependabot[bot]",
    }
    assert read_filter(actor="dependabot[bot]").actor == "dependabot[bot]"
