"""Exports are read as a stream, however they are broken up, and nothing is taken for one that is none."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.actionlog.entry import canonical, details_hash, entry_hash, genesis, timestamp
from app.actionlog.exported import COLUMNS, ExportedEntry, Log, UnreadableLogError
from app.actionlog.verify import parse, verify_stream, verify_text

START = datetime(2026, 11, 20, tzinfo=UTC)


def entries(size: int) -> Iterator[ExportedEntry]:
    previous = genesis(1)
    for seq in range(1, size + 1):
        details: dict[str, Any] = {"n": seq, "said": 'a "b" \\ ü {[ 🙂'}
        clear: dict[str, Any] = {
            "installation_id": 1,
            "seq": seq,
            "at": timestamp(START + timedelta(seconds=seq)),
            "actor": "ada",
            "action": "model.called",
            "run_id": None,
            "details_hash": details_hash(b"salt", details),
            "previous_hash": previous,
        }
        previous = entry_hash(**clear)
        yield ExportedEntry(**clear, details=details, salt=b"salt".hex(), hash=previous)


class Trickle(io.StringIO):
    """Gives no more than a few characters at a time."""

    def __init__(self, text: str, most: int) -> None:
        super().__init__(text, newline="")
        self.most = most

    def read(self, size: int | None = -1, /) -> str:
        return super().read(self.most if size is None or size < 0 else min(size, self.most))


LOG = tuple(entries(4))
ITEMS = [entry.model_dump() for entry in LOG]
HEADER = {"format": "magicode-actions/1", "installation_id": 1, "whole": True, "filter": None}


def table() -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for entry in LOG:
        values = {**entry.model_dump(), "details": json.dumps(entry.details)}
        writer.writerow([values[name] for name in COLUMNS])
    return out.getvalue()


DOCUMENTS = {
    "as written": json.dumps({**HEADER, "entries": ITEMS}),
    "in lines": "\n".join(json.dumps(item) for item in ITEMS),
    "in lines, with a header": "\r\n".join(json.dumps(item) for item in [HEADER, *ITEMS]),
    "indented": json.dumps({**HEADER, "entries": ITEMS}, indent=4, ensure_ascii=False),
    "sorted": json.dumps({**HEADER, "entries": ITEMS}, sort_keys=True),
    "a list": json.dumps(ITEMS, indent="\t"),
    "with a mark": "\ufeff" + json.dumps(ITEMS),
    "a table": table(),
    "a table with a mark": "\ufeff" + table(),
    "a table with other line ends": table().replace("\r\n", "\n"),
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS.keys())
@pytest.mark.parametrize("most", [1, 7, 64, 1 << 20])
def test_a_log_is_read_however_it_comes(text: str, most: int) -> None:
    assert tuple(Log(Trickle(text, most))) == LOG


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_a_log_that_breaks_off_is_unreadable_or_as_long_as_it_is(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(list(DOCUMENTS.values())))
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    try:
        read = parse(cut)
    except UnreadableLogError:
        return
    assert read == LOG[: len(read)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"entries": ITEMS}) + "{}",
        json.dumps({"entries": ITEMS})[:-1] + ',"entries":[]}',
        json.dumps({**HEADER, "whole": "false", "entries": ITEMS}),
        json.dumps({**HEADER, "whole": None, "entries": ITEMS}),
        json.dumps({**HEADER, "filter": 5, "entries": ITEMS}),
        json.dumps({**HEADER, "format": "magicode-actions/2", "entries": ITEMS}),
        json.dumps({**HEADER, "format": "magicode-actions/2"}),
        json.dumps({"entries": ITEMS}).replace("{", '{"whole":false,"whole":true,', 1),
        json.dumps(ITEMS)[:-1] + ",]",
        json.dumps(ITEMS) + "]",
        json.dumps(ITEMS) + json.dumps(ITEMS),
        "\n".join(json.dumps(item) for item in [*ITEMS, HEADER]),
        table().replace("seq", "number", 1),
        table().replace("hash\r\n", "hash,part:\r\n", 1),
        table().replace("hash\r\n", 'hash,"part:{}"\r\n', 1),
        table() + "1,2,3\r\n",
        table().replace("1,2,", "1,٢,", 1),
        table().replace("1,2,", "1,-2,", 1),
        table().replace("1,2,", "1,,", 1),
        table()[: table().rindex(",") - 90] + '"',
        "\x00",
        '"text"',
        "5",
        "{" * 100_000,
        '{"a":' * 100_000,
    ],
)
def test_what_is_no_log_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableLogError):
        verify_text(text)


def test_bytes_that_are_no_text_are_unreadable() -> None:
    with pytest.raises(UnreadableLogError):
        verify_stream(io.TextIOWrapper(io.BytesIO(b"[\xff]"), encoding="utf-8", newline=""))


class Endless(io.TextIOBase):
    """A log of any length, made while it is read."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines

    def read(self, size: int | None = -1, /) -> str:
        return next(self._lines, "")

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        return next(self._lines, "")

    def __next__(self) -> str:
        return next(self._lines)


def lines(size: int, form: str) -> Iterator[str]:
    if form == "csv":
        yield ",".join(COLUMNS) + "\r\n"
    if form == "json":
        yield '{"entries":['
    for entry in entries(size):
        if form == "csv":
            out = io.StringIO(newline="")
            values = {**entry.model_dump(), "details": canonical(entry.details or {}).decode()}
            csv.writer(out).writerow([values[name] for name in COLUMNS])
            yield out.getvalue()
        else:
            yield ("," if form == "json" and entry.seq > 1 else "") + json.dumps(entry.model_dump()) + "\n"
    if form == "json":
        yield "]}"


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_a_long_log_is_verified_in_little_memory(form: str) -> None:
    peaks = []
    for size in (500, 5_000):
        tracemalloc.start()
        report = verify_stream(Endless(lines(size, form)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (report.ok, report.entries) == (True, size)
    assert peaks[1] < peaks[0] + 100_000
