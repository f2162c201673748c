"""`make prove`: the proof that no code is kept, every fault and every attack, at length; and the report that a sceptic can read.

    python -m tests.prove [--out FOLDER] [--workers N] [--short]   plays, and writes report.md and report.json
    python -m tests.prove --tables                                 writes the tables of tests/faults and tests/attacks anew

Refuses to call something proven that was not played: what was skipped is told as skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
ROOMS = ("faults", "attacks")
Row = Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    asked = _parser().parse_args(arguments)
    if asked.tables:
        return write_tables()
    return prove(Path(asked.out), asked.workers, short=asked.short)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.prove", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--out", default=str(ROOT / "build" / "proof"), help="where the report is written")
    parser.add_argument("--workers", type=int, default=2, help="processes that play beside each other")
    parser.add_argument("--short", action="store_true", help="as short as `make test` plays it")
    parser.add_argument(
        "--tables", action="store_true", help="write the tables in the rooms' READMEs, play nothing"
    )
    return parser


def prove(out: Path, workers: int, *, short: bool) -> int:
    """Plays and writes the report. 0 where everything held, 1 where something fell or could not be played."""
    out.mkdir(parents=True, exist_ok=True)
    began, clock = datetime.now(UTC), time.monotonic()
    print("Proving that no code is kept ...", file=sys.stderr)
    kept = _magicode_prove()
    print("Playing the faults and the attacks ...", file=sys.stderr)
    code = _play(out / "claims.json", workers, short=short)
    claims = (
        json.loads((out / "claims.json").read_text(encoding="utf-8"))
        if (out / "claims.json").is_file()
        else []
    )
    told = document(
        claims, kept, {**_about(began, short), "seconds": round(time.monotonic() - clock), "pytest": code}
    )
    (out / "report.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(told), encoding="utf-8")
    print(f"{told['verdict']} The report: {out / 'report.md'}")
    return 0 if told["ok"] else 1


def _magicode_prove() -> dict[str, Any] | None:
    """What `magicode prove --json` told; None where it broke off."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "prove", "--json"], cwd=ROOT, stdout=subprocess.PIPE, check=False
    )
    try:
        told: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return None
    return told


def _play(claims: Path, workers: int, *, short: bool) -> int:
    claims.unlink(missing_ok=True)
    rooms = [f"tests/{room}" for room in ROOMS]
    command = [sys.executable, "-m", "pytest", *rooms, "-q", "-n", str(workers), "--dist", "worksteal"]
    command += ["--claims", str(claims), *([] if short else ["--at-length", "-o", "timeout=7200"])]
    return subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr).returncode


def _about(began: datetime, short: bool) -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip() or "unknown",
        "changed_since": bool(changed.stdout.strip()),
        "began": began.isoformat(timespec="seconds"),
        "length": "as in `make test`" if short else "at length",
        "machine": f"{os.cpu_count()} cores, {psutil.virtual_memory().total // 2**30} GiB, {platform.system()}",
        "python": platform.python_version(),
    }


# --- the report ------------------------------------------------------------------------------------------------------


def document(
    claims: Sequence[Row], kept: Mapping[str, Any] | None, about: Mapping[str, Any]
) -> dict[str, Any]:
    """All that is told, as one JSON document."""
    fell = [case for claim in claims for case in claim["fell"]]
    skipped = [why for claim in claims for why in claim["skipped"]]
    no_code = bool(kept and kept["ok"])
    ok = bool(claims) and not fell and not skipped and no_code and about["pytest"] == 0
    if ok:
        verdict = "Everything that was tried held."
    else:
        verdict = f"Not proven: {len(fell)} fell, {len(skipped)} were not played"
        verdict += "." if no_code else ", and that no code is kept was not shown."
    return {
        "ok": ok,
        "verdict": verdict,
        **about,
        "claims": len(claims),
        "cases": sum(claim["cases"] for claim in claims),
        "groups": [_group(name, list(rows)) for name, rows in _grouped(claims)],
        "no_code_at_rest": kept,
    }


def _grouped(claims: Iterable[Row]) -> Iterable[tuple[str, Iterable[Row]]]:
    def key(claim: Row) -> tuple[int, str]:
        return ROOMS.index(claim["place"].split("/")[1]), claim["group"]

    for (_, name), rows in groupby(sorted(claims, key=key), key=key):
        yield name, rows


def _group(name: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "name": name,
        "claims": len(rows),
        "cases": sum(row["cases"] for row in rows),
        "held": sum(row["held"] for row in rows),
        "fell": sum(len(row["fell"]) for row in rows),
        "skipped": sum(len(row["skipped"]) for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "rows": list(rows),
    }


def markdown(told: Mapping[str, Any]) -> str:
    """The same for people: the verdict, what fell, a table by group, each claim with its cases and figures."""
    changed = " (with changes that are not committed)" if told["changed_since"] else ""
    lines = [
        "# What was tried, and what came of it",
        "",
        f"**{told['verdict']}**",
        "",
        (
            f"Commit {told['commit']}{changed}, begun {told['began']}, {told['length']}, {told['seconds']:,} s, "
            f"on {told['machine']}, Python {told['python']}."
        ),
        (
            "GitHub and the model are simulated, and as strict as their documentation; PostgreSQL, the processes, the signals and "
            "the sandbox are real. Each row is a test: its name is in `report.json`, and `pytest` plays it alone."
        ),
        "",
    ]
    fell = [case for group in told["groups"] for row in group["rows"] for case in row["fell"]]
    skipped = [
        f"{row['what']}: {why}" for group in told["groups"] for row in group["rows"] for why in row["skipped"]
    ]
    for heading, found in (("What did not hold", fell), ("What was not played", skipped)):
        if found:
            lines += [f"## {heading}", "", *(f"- `{_cell(one)}`" for one in found), ""]
    lines += _no_code(told["no_code_at_rest"])
    lines += [
        "| what | claims | cases | held | fell | not played | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for group in told["groups"]:
        numbers = [group[name] for name in ("claims", "cases", "held", "fell", "skipped")]
        cells = " | ".join(f"{one:,}" for one in numbers)
        lines.append(f"| {group['name']} | {cells} | {group['seconds']:,.0f} |")
    for group in told["groups"]:
        lines += [
            "",
            f"## {group['name']}",
            "",
            "| tried | what came of it | cases | held |",
            "|---|---|--:|:-:|",
        ]
        for row in group["rows"]:
            figures = "".join(f" *{_cell(name)}: {_cell(value)}*" for name, value in row["figures"])
            held = "yes" if row["held"] == row["cases"] and not row["fell"] else "**no**"
            lines.append(
                f"| {_cell(row['what'])} | {_cell(row['outcome'])}{figures} | {row['cases']} | {held} |"
            )
    return "\n".join(lines) + "\n"


def _no_code(kept: Mapping[str, Any] | None) -> list[str]:
    if kept is None:
        return ["**That no code is kept was not shown**: `magicode prove` broke off.", ""]
    searched = sum(place["bytes"] for place in kept["places"].values())
    return [
        (
            f"No code at rest: {kept['words']} words went through {len(kept['scenarios'])} requests, crashes included; "
            f"{searched // 2**20:,} MiB were searched in {len(kept['forms'])} forms, and {len(kept['hits'])} were found."
        ),
        "",
    ]


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


# --- the tables in the rooms' READMEs --------------------------------------------------------------------------------

BEGIN = "<!-- the table below is written by `python -m tests.prove --tables` -->"


def write_tables() -> int:
    for room in ROOMS:
        path = ROOT / "tests" / room / "README.md"
        before = path.read_text(encoding="utf-8").partition(BEGIN)[0]
        path.write_text(f"{before}{BEGIN}\n\n{table(collected(room))}", encoding="utf-8")
    return 0


def collected(room: str) -> list[dict[str, Any]]:
    """What the tests of a room claim, without playing them. Raises CalledProcessError where they cannot be collected."""
    out = ROOT / "build" / "claims" / f"{room}-{os.getpid()}.json"
    command = [sys.executable, "-m", "pytest", f"tests/{room}", "--collect-only", "-q", "-p", "no:xdist"]
    subprocess.run([*command, "--claims", str(out)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    try:
        found: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    finally:
        out.unlink(missing_ok=True)
    return found


def table(claims: Sequence[Row]) -> str:
    lines = []
    for name, rows in _grouped(claims):
        lines += [f"## {name}", "", "| tried | what comes of it |", "|---|---|"]
        lines += [f"| {_cell(row['what'])} | {_cell(row['outcome'])} |" for row in rows]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
