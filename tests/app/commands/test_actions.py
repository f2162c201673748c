"""`magicode actions`: what is exported is verified offline, with the heads that a user saved from GitHub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from app.actionlog.export import Format, export
from app.actionlog.filters import Filter
from app.actionlog.ledger import Head, Ledger
from app.cli import cli
from app.custody.keys import Keys
from app.nouns import Action, Outcome, RunState
from app.pulls import wording
from infra.postgres.store import PostgresStore
from infra.secrets import FileMasterKey

RUN = UUID("6b7c9a8e-0000-4000-8000-000000000001")


def magicode(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["actions", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


class Kept:
    """A log and what was quoted of it, as files of a user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.heads: list[Head] = []

    def log(self, form: Format = Format.JSONL) -> Path:
        return self.folder / f"log.{form.value}"

    def saved(self, heads: list[Head]) -> Path:
        """As `gh api` prints the comments of an issue."""
        place = self.folder / "comments.json"
        outcome = Outcome(RunState.ANSWERED, "answered", "Said.")
        bodies = [wording.ended(RUN, outcome, None, str(head)) for head in heads]
        place.write_text(json.dumps([{"user": {"type": "Bot"}, "body": body} for body in bodies]))
        return place


@pytest.fixture
async def kept(store: PostgresStore, tmp_path: Path, register: Callable[..., Awaitable[Any]]) -> Kept:
    await register(1)
    now = datetime(2026, 11, 1, tzinfo=UTC)
    keys = Keys(FileMasterKey(tmp_path / "master.key"))
    ledger = Ledger(store, keys, lambda: now)
    kept = Kept(tmp_path)
    for n in range(10):
        now += timedelta(hours=1)
        await ledger.record(1, Action.RUN_STARTED, "ada", RUN if n % 2 else None, {"n": n})
        kept.heads.append(await ledger.head(1))
    for form in Format:
        kept.log(form).write_text(
            "".join([piece async for piece in export(store, keys, 1, form)]), newline=""
        )
    part = export(store, keys, 1, Format.CSV, only=Filter(run_id=RUN))
    (tmp_path / "part.csv").write_text("".join([piece async for piece in part]), newline="")
    return kept


@pytest.mark.parametrize("form", [Format.JSON, Format.JSONL, Format.CSV])
async def test_an_export_alone_and_with_saved_comments_is_sound(form: Format, kept: Kept) -> None:
    code, said = await asyncio.to_thread(magicode, "verify", kept.log(form))
    assert code == 0
    assert "Without a quoted head" in said
    assert "10 entries" in said
    code, said = magicode("verify", kept.log(form), "--anchors", kept.saved(kept.heads[2:]))
    assert (code, "Compared with 8 quoted heads." in said, said.rstrip().endswith(": sound")) == (
        0,
        True,
        True,
    )


async def test_a_falsified_export_is_not_sound_and_the_place_is_told(kept: Kept) -> None:
    lines = kept.log().read_text().splitlines(keepends=True)
    kept.log().write_text("".join(lines[:4] + lines[5:]))
    code, said = magicode("verify", kept.log())
    assert code == 1
    assert "entry 5 (seq 6): dropped: Missing before it: entry 5." in said
    assert "NOT sound" in said
    code, said = magicode("verify", kept.log(), "--json")
    assert (code, json.loads(said)["ok"], json.loads(said)["findings"][0]["kind"]) == (1, False, "dropped")


async def test_what_was_cut_off_at_the_end_is_found_by_a_saved_comment(kept: Kept) -> None:
    lines = kept.log().read_text().splitlines(keepends=True)
    kept.log().write_text("".join(lines[:6]))
    assert magicode("verify", kept.log())[0] == 0
    assert magicode("verify", kept.log(), "--anchors", kept.saved(kept.heads[:6]))[0] == 0
    code, said = magicode("verify", kept.log(), "--anchors", kept.saved(kept.heads[4:9]))
    assert code == 1
    assert "A head with number 9 was once quoted; the log ends at 6." in said
    other = Head(9, "0" * 64, 2)
    code, said = magicode(
        "verify", kept.log(), "--anchors", kept.saved([other]), "--anchor", str(kept.heads[5])
    )
    assert code == 0
    assert "1 quoted heads are of another installation's log." in said
    assert magicode("verify", kept.log(), "--anchor", f"6:{'0' * 64}")[0] == 1


async def test_a_part_is_told_to_be_one(kept: Kept) -> None:
    code, said = magicode("verify", kept.folder / "part.csv", "--anchors", kept.saved(kept.heads))
    assert code == 0
    assert "whether entries are missing from it cannot be judged" in said
    assert "Compared with 10 quoted heads" in said
    assert "\n5 entries, head " in said


async def test_a_file_that_is_no_log_and_one_without_heads_are_told(kept: Kept) -> None:
    done = CliRunner().invoke(cli, ["actions", "verify", str(kept.log(Format.TEXT))])
    assert done.exit_code == 1
    assert type(done.exception).__name__ == "UnreadableLogError"
    done = CliRunner().invoke(cli, ["actions", "verify", str(kept.log()), "--anchors", str(kept.log())])
    assert type(done.exception).__name__ == "NoHeadsError"
    assert magicode("verify", kept.log(), "--anchors", kept.folder / "none")[0] == 2
    assert magicode("verify", kept.log(), "--anchor", "5")[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--since", "yesterday"],
        ["--until", "2026-99-01"],
        ["--kind", "modell"],
        ["--actor", "a b"],
        ["--run", "seven"],
        ["--repository", "octo/fairshare"],
        ["--format", "xml"],
    ],
)
def test_a_part_that_cannot_be_asked_for_is_wrong_use(arguments: list[str]) -> None:
    assert magicode("export", *arguments)[0] == 2


def test_a_part_is_exported_from_a_folder_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAGICODE_DATA_DIR", str(tmp_path / "data"))
    asked = [
        "--installation",
        "0",
        "--kind",
        "run",
        "--actor",
        "@ada",
        "--since",
        "2026-11-01",
        "--repository",
        "5",
    ]
    place = tmp_path / "part.json"
    code, said = magicode("export", *asked, "--out", place, "--format", "json")
    assert (code, said) == (0, "")
    assert json.loads(place.read_text()) == {
        "format": "magicode-actions/1",
        "installation_id": 0,
        "whole": False,
        "filter": {
            "since": "2026-11-01T00:00:00.000000Z",
            "repository": 5,
            "kinds": ["run"],
            "actor": "ada",
        },
        "entries": [],
    }
    assert magicode("verify", place)[0] == 0
