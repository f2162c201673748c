"""What a comment that anybody may read says of one run."""

from __future__ import annotations

from typing import Any

from app.actionlog.exported import ExportedEntry
from app.actionlog.summary import summary


def entry(seq: int, action: str, at: str = "10:00:00", **details: Any) -> ExportedEntry:
    return ExportedEntry(
        installation_id=1,
        seq=seq,
        at=f"2026-11-20T{at}.000000Z",
        actor="secret-person",
        action=action,
        run_id="6b7c9a8e-0000-4000-8000-000000000001",
        details=details,
        salt="00",
        details_hash="0" * 64,
        previous_hash="0" * 64,
        hash="0" * 64,
    )


def called(seq: int, at: str, model: str, cost: str | None) -> ExportedEntry:
    return entry(seq, "model.called", at, model=model, input_tokens=1_200, output_tokens=34, cost_usd=cost)


def test_a_run_is_told_in_figures() -> None:
    said = summary(
        [
            entry(3, "webhook.accepted", "09:59:58", delivery="secret-guid"),
            entry(4, "code.fetched", "10:00:01", sha="secret-sha", files=3),
            called(5, "10:00:09", "claude-opus-4-5", "0.0123"),
            called(6, "10:01:00", "claude-opus-4-5", "0.02"),
            called(7, "10:01:00", "/models/secret-folder/llama-3:8b", None),
            entry(9, "ref.created", "10:01:30", branch="magicode/secret-branch"),
            entry(10, "run.ended", "11:02:05", state="opened", reason="opened"),
        ]
    )
    assert said == (
        "**7 actions** from 2026-11-20 09:59:58 to 2026-11-20 11:02:05 UTC (1 h 2 min), ended as opened.\n\n"
        "| Action | Entries |\n|---|---:|\n"
        "| `code.fetched` | 1 |\n| `model.called` | 3 |\n| `ref.created` | 1 |\n| `run.ended` | 1 |\n"
        "| `webhook.accepted` | 1 |\n\n"
        "Models: `claude-opus-4-5` (2), `llama-3:8b` (1). 3,600 tokens in, 102 out. "
        "Cost: $0.0323 and 1 call without a known price."
    )
    assert "secret" not in said


def test_nothing_that_an_entry_was_given_is_said_as_it_is() -> None:
    said = summary(
        [
            entry(1, "run.<script>", path="/etc/passwd"),
            entry(
                2,
                "model.called",
                model="`@everyone` x",
                cost_usd="NaN",
                input_tokens="9",
                output_tokens=True,
            ),
            entry(3, "model.called", model="../../etc/", cost_usd="a", input_tokens=None),
            entry(4, "run.ended", state="`@everyone`"),
        ]
    )
    assert "everyone" not in said
    assert "script" not in said
    assert "etc" not in said
    assert "| `other` | 1 |" in said
    assert "`unnamed` (2)" in said
    assert "0 tokens in, 0 out. Cost: 2 calls without a known price." in said


def test_a_run_without_a_model_or_without_an_entry_says_so() -> None:
    assert summary([]) == "The action log has no entry of this run."
    said = summary([entry(1, "run.started")])
    assert "**1 action** from" in said
    assert "(0 s)" in said
    assert said.endswith("No model was called.")


def test_details_that_cannot_be_opened_are_counted_and_no_cost_is_made_up() -> None:
    closed = [
        one.model_copy(update={"details": None, "salt": None}) for one in [called(1, "10:00:00", "m", "1")]
    ]
    said = summary(closed)
    assert "The details of 1 of them cannot be opened any more." in said
    assert "$" not in said
