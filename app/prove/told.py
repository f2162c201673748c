"""What is told of a proof, to people and as one JSON document: figures and places, never a word nor what stands around one."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.prove.places import LOG
from app.prove.proof import Report, prove
from app.prove.words import NOT_UNPACKED, form_names


def document(report: Report) -> dict[str, Any]:
    """The whole report."""
    seen: Counter[str] = sum((one.not_unpacked for one in report.searched), Counter())
    return {
        "ok": report.ok,
        "seconds": round(report.seconds, 1),
        "words": report.words,
        "sources": report.reached,
        "unread": report.unread,
        "scenarios": [
            {
                "name": one.name,
                "ends": [list(end) for end in one.ends],
                "as_expected": one.as_expected,
                "broke_off": one.broke or None,
            }
            for one in report.played
        ],
        "crashes": report.crashes,
        "workspaces_in_memory_right_after_crashes": report.workspaces_after_crash,
        "forms": list(form_names()),
        "not_unpacked": {name: seen[name] for name in NOT_UNPACKED},
        "places": _places(report),
        "metrics": report.metrics,
        "traces": report.traces,
        "warned": [] if any(hit.place == LOG for hit in report.hits) else report.warned,  # never a word
        "cores": report.cores,
        "control": {"forms": report.forms_found, "places": report.control_found},
        "hits": [
            {
                "place": hit.place,
                "where": hit.where,
                "offset": hit.offset,
                "form": hit.form,
                "source": hit.source,
                "inside": hit.inside,
            }
            for hit in report.hits
        ],
    }


def _places(report: Report) -> dict[str, dict[str, Any]]:
    """By place; what was searched after each crash and at the end counts each time."""
    told: dict[str, dict[str, Any]] = {}
    for one in report.searched:
        row = told.setdefault(
            one.place,
            {
                "searches": 0,
                "files": 0,
                "bytes": 0,
                "unpacked_streams": 0,
                "unpacked_bytes": 0,
                "left_out": Counter(),
            },
        )
        row["searches"] += 1
        row["files"] += one.files
        row["bytes"] += one.bytes
        row["unpacked_streams"] += one.inflated_streams
        row["unpacked_bytes"] += one.inflated_bytes
        row["left_out"].update(one.left_out)
    return told


def show(out: Console, told: Mapping[str, Any]) -> None:
    """For people: what was played, that the words went through, what was searched, what was found."""
    runs = Table(title="What was played", title_justify="left")
    for heading in ("request", "its runs", ""):
        runs.add_column(heading)
    for one in told["scenarios"]:
        ends = ", ".join(f"{verb}: {state} ({reason})" for verb, state, reason in one["ends"])
        unlike = "" if one["as_expected"] else f"[red]not as expected[/] {escape(one['broke_off'] or '')}"
        runs.add_row(one["name"], ends, unlike)
    out.print(runs)
    left = told["workspaces_in_memory_right_after_crashes"]
    out.print(
        f"The service was ended without warning by {', '.join(told['crashes']) or 'nothing'}, which left {left} workspaces "
        "in memory for the next start to sweep."
    )
    sources = Table(
        title=f"{told['words']} words, and where they were seen to go through", title_justify="left"
    )
    for heading in ("planted in", "seen"):
        sources.add_column(heading)
    for source, ways in told["sources"].items():
        sources.add_row(source, "; ".join(ways) or "[red]nowhere: nothing is proven of it[/]")
    out.print(sources)
    searched = Table(title="What was searched, each time it was", title_justify="left")
    for heading in ("place", "times", "files", "bytes", "unpacked", "left out"):
        searched.add_column(heading, justify="left" if heading in ("place", "left out") else "right")
    for place, row in told["places"].items():
        left_out = ", ".join(f"{count} {why}" for why, count in row["left_out"].items())
        unpacked = f"{row['unpacked_bytes']:,}"
        searched.add_row(
            place, str(row["searches"]), f"{row['files']:,}", f"{row['bytes']:,}", unpacked, left_out
        )
    out.print(searched)
    out.print(f"Forms: {'; '.join(told['forms'])}.")
    seen = ", ".join(f"{name} ({count} seen)" for name, count in told["not_unpacked"].items())
    out.print(f"Searched as they lie, and not unpacked: {seen}.")
    cores = told["cores"]
    left = "leaves one" if cores["another_program_left_one"] else "leaves none where it can be found"
    out.print(
        f"Cores: another program that aborts {left}; the kernel's pattern is {escape(ascii(cores['pattern']))}."
    )
    control = told["control"]
    found = [sum(control[kind].values()) for kind in ("forms", "places")]
    out.print(
        f"The search itself was given words to find: {found[0]} of {len(control['forms'])} forms, "
        f"{found[1]} of {len(control['places'])} places."
    )
    for hit in told["hits"]:
        inside = f", in {hit['inside']}" if hit["inside"] else ""
        said = f"{hit['place']}: {ascii(hit['where'])[1:-1]} at {hit['offset']}{inside}: {hit['source']}, {hit['form']}"
        out.print(f"[red]found[/] {escape(said)}", soft_wrap=True)
    count = len(told["hits"])
    verdict = "[green]No word is at rest.[/]" if told["ok"] else f"[red]Not proven[/]: {count} found."
    out.print(f"{verdict} {told['seconds']:.0f} s")


def main(as_json: bool) -> int:
    """The command `magicode prove`: 0 when no word was found and all of them went through, 1 otherwise."""
    progress = Console(stderr=True, highlight=False)
    report = asyncio.run(prove(lambda line: progress.print(f"[dim]{escape(line)}[/]")))
    told = document(report)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        show(Console(highlight=False), told)
    return 0 if report.ok else 1
