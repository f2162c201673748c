"""How often a request becomes a change that the repository's own tests accept: `magicode run` on real issues.

    python tests/bench/agent.py FILE [--results FILE] [--resume] [--limit N] [--model PROVIDER:NAME] [--up-to DOLLARS]
        [--no-checks] [--seconds N] [--tools DIR ...] [--no-sandbox] [--playbook FILE]

FILE holds one object a line: `id`, `repo_dir` (relative to FILE, bare or not), `base_commit`, `request`, `test_command`,
and where the tests that decide are not in the repository yet, `test_patch`. Other keys are passed over.

Each instance is played on a throw-away clone at its base commit, by the code of `magicode run`: it sees the tree of that
commit, no later history and no test patch. Then the patch is applied by `git apply`, the files of `test_patch` are put in
place of whatever was done to them, and `test_command` is run, in the sandbox where there is one. Resolved is what exits
with 0 then. An instance whose command passes before the change as well measures nothing: it is invalid and counts nowhere.

A line of JSON for each instance goes to standard output, or to `--results` at whose end the next run can `--resume`; the
table of all of them goes to standard error, or to standard output beside `--results`. Settings are those of `magicode run`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from clones import Clone, CloneError, Tested, cloned, judged
from pydantic import BaseModel, ConfigDict, ValidationError

from app import settings
from app.errors import MagicodeError, RefusedError, UserError
from app.local_run import Asked, Made, Tally, run
from app.local_said import document, spending_document
from app.ports import Model, Sandbox
from embeddings.embed import Encoder, EncoderError
from embeddings.shipped import SHIPPED
from infra.encoder import BundledEncoder
from infra.models.playbook import load
from infra.models.scripted import ScriptedModel
from infra.sandbox.bubblewrap import BubblewrapSandbox

RESOLVED, UNRESOLVED, INVALID = "resolved", "unresolved", "invalid"


class Instance(BaseModel):
    """One line of FILE."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    repo_dir: Path
    base_commit: str
    request: str
    test_command: str
    test_patch: str = ""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all instances are played with. `sandbox` None runs test commands plainly."""

    read: settings.Settings
    environ: Mapping[str, str]
    encoder: Encoder
    sandbox: Sandbox | None
    model: Model | None = None
    named: str = ""
    up_to: Decimal | None = None
    checks: bool = True
    seconds: float = 1800.0


class UnreadableError(Exception):
    """FILE, or the results to resume from, cannot be read; the message says where."""


def read_instances(file: Path) -> list[Instance]:
    """Raises UnreadableError that names the line."""
    instances: list[Instance] = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            one = Instance.model_validate_json(line)
        except ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'line'}: {e['msg']}" for e in error.errors())
            raise UnreadableError(f"{file}, line {number}: {wrong}") from None
        if any(one.id == other.id for other in instances):
            raise UnreadableError(f"{file}, line {number}: the id {one.id} is there already")
        instances.append(one.model_copy(update={"repo_dir": file.parent / one.repo_dir}))
    return instances


def read_results(file: Path) -> list[dict[str, Any]]:
    """Those that are whole: a run that was killed may have left half a line. Raises UnreadableError."""
    results = []
    for line in _lines(file) if file.exists() else ():
        try:
            results.append(dict(json.loads(line)))
        except ValueError:
            continue
    return results


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").split("\n")  # a string may hold other ends of lines
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"{file}: {error}") from None


# --- one instance ----------------------------------------------------------------------------------------------------


async def play(bench: Bench, instance: Instance, below: Path) -> dict[str, Any]:
    """What came of it. Trouble with one instance is its result and ends no other."""
    try:
        with cloned(instance.repo_dir.resolve(), instance.base_commit, below) as clone:
            before = await _before(bench, instance, clone)
            if before.passed:
                why = "test_command passes without any change"
                return _result(instance, INVALID, why, before=before)
            return await _attempt(bench, instance, clone, before)
    except CloneError as error:
        return _result(instance, INVALID, str(error))


async def _before(bench: Bench, instance: Instance, clone: Clone) -> Tested:
    clone.apply(instance.test_patch.encode(), "test_patch does not apply to base_commit")
    before = await _tested(bench, instance, clone)
    clone.reset()
    return before


async def _attempt(bench: Bench, instance: Instance, clone: Clone, before: Tested) -> dict[str, Any]:
    tally, began = Tally(), time.monotonic()
    asked = Asked(clone.folder, instance.request, model=bench.named, up_to=bench.up_to, checks=bench.checks)
    made, why = None, ""
    try:
        made = await run(
            bench.read,
            bench.environ,
            asked,
            tell=_tell,
            tally=tally,
            model=bench.model,
            encoder=bench.encoder,
        )
    except (UserError, RefusedError) as error:
        ended, why = "refused", f"{error.reason}: {error.message}"
    except (MagicodeError, EncoderError, OSError) as error:
        ended, why = "failed", f"{type(error).__name__}: {error}"
    else:
        ended = "patch" if made.answer is None else "answer"
    spent: dict[str, Any] = {
        **spending_document(tally.spending),
        "seconds": round(time.monotonic() - began, 3),
    }
    if made is None or made.answer is not None:
        why = why if made is None else str(made.answer)
        return _result(instance, UNRESOLVED, why, ended=ended, before=before, **spent)
    told = {"ended": ended, "before": before, **spent, **_change(made, tally)}
    try:
        after = await _after(bench, instance, clone, made)
    except CloneError as error:
        return _result(instance, UNRESOLVED, str(error), **told)
    return _result(instance, RESOLVED if after.passed else UNRESOLVED, "", after=after, **told)


async def _after(bench: Bench, instance: Instance, clone: Clone, made: Made) -> Tested:
    clone.apply(made.patch, "the patch does not apply")
    clone.restore(instance.test_patch.encode())
    clone.apply(instance.test_patch.encode(), "test_patch does not apply after the change")
    return await _tested(bench, instance, clone)


async def _tested(bench: Bench, instance: Instance, clone: Clone) -> Tested:
    return await judged(clone.folder, instance.test_command, seconds=bench.seconds, sandbox=bench.sandbox)


def _change(made: Made, tally: Tally) -> dict[str, Any]:
    told = document(made, tally.spending)
    return {name: told[name] for name in ("title", "patch", "patch_encoding", "checks", "concerns")}


def _result(
    instance: Instance,
    outcome: str,
    why: str,
    *,
    before: Tested | None = None,
    after: Tested | None = None,
    **more: Any,
) -> dict[str, Any]:
    tests = {"before": before and asdict(before), "after": after and asdict(after)}
    return {"id": instance.id, "outcome": outcome, "why": why, **more, **tests}


# --- all of them -----------------------------------------------------------------------------------------------------


def interval(resolved: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (https://doi.org/10.1080/01621459.1927.10502953); 0 to 1 for none."""
    if not of:
        return 0.0, 1.0
    share = resolved / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    whole = 1 + z * z / of
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """A row for each instance, and what they are together."""
    rows = [("instance", "outcome", "seconds", "turns", "tokens", "dollars")]
    rows += [(str(one["id"]), _outcome(one), *_figures([one])) for one in results]
    played = [one for one in results if one["outcome"] != INVALID]
    rows.append((f"all {len(played)} valid", "", *_figures(played)))
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", _share(results, played)])


def _share(results: Sequence[Mapping[str, Any]], played: Sequence[Mapping[str, Any]]) -> str:
    resolved = sum(one["outcome"] == RESOLVED for one in played)
    low, high = interval(resolved, len(played))
    share = resolved / len(played) if played else 0.0
    said = f"resolved {resolved} of {len(played)}: {share:.1%} (95 % interval {low:.1%} to {high:.1%})"
    if invalid := len(results) - len(played):
        said += f"; {invalid} invalid, counted nowhere"
    seconds = [float(one.get("seconds", 0)) for one in played]
    return said + (f"; median {statistics.median(seconds):.1f} s" if seconds else "")


def _outcome(one: Mapping[str, Any]) -> str:
    return one["outcome"] if one.get("ended") in (None, "patch") else f"{one['outcome']} ({one['ended']})"


def _figures(results: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    def total(name: str) -> float:
        return sum(one.get(name) or 0 for one in results)

    unpriced = " + ?" if total("unpriced_calls") else ""
    tokens = int(total("input_tokens") + total("output_tokens"))
    return (
        f"{total('seconds'):.1f}", f"{int(total('turns'))}", f"{tokens:,}", f"{total('cost_usd'):.4f}{unpriced}",
    )  # fmt: skip


async def play_all(
    bench: Bench, instances: Sequence[Instance], done: Sequence[Mapping[str, Any]], out: TextIO
) -> list[Mapping[str, Any]]:
    """The results of all, those of `done` first; each new one is a line of `out` as soon as it is there."""
    results = list(done)
    known = {one["id"] for one in done}
    left = [one for one in instances if one.id not in known]
    for number, instance in enumerate(left, 1):
        _tell(f"[{number}/{len(left)}] {instance.id}")
        with tempfile.TemporaryDirectory(prefix="magicode-bench-", ignore_cleanup_errors=True) as below:
            # An index is of one folder, and this one is gone in a moment.
            read = bench.read.model_copy(update={"data_dir": Path(below) / "data"})
            one = await play(replace(bench, read=read), instance, Path(below))
        out.write(json.dumps(one) + "\n")
        out.flush()
        results.append(one)
        _tell(f"[{number}/{len(left)}] {instance.id}: {_outcome(one)} {one['why'][:200]}".rstrip())
    return results


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


# --- the program -----------------------------------------------------------------------------------------------------


async def _sandbox(wanted: bool, tools: Sequence[Path]) -> Sandbox | None:
    if not wanted:
        return None
    sandbox = BubblewrapSandbox(tools=tools)
    why_not = await sandbox.why_not()
    if why_not is None:
        return sandbox
    _tell(f"WARNING: test commands run on this machine itself, with all that it holds, because {why_not}.")
    return None


async def bench_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Bench:
    """Raises pydantic.ValidationError and UnknownSettingError for settings, PlaybookError for a playbook."""
    read = settings.read(environ)
    return Bench(
        read=read,
        environ=environ,
        encoder=BundledEncoder(read.embedding_model, shipped=SHIPPED),
        sandbox=await _sandbox(arguments.sandbox, arguments.tools),
        model=ScriptedModel(load(arguments.playbook)) if arguments.playbook else None,
        named=arguments.model,
        up_to=arguments.up_to,
        checks=arguments.checks,
        seconds=arguments.seconds,
    )


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--results", type=Path, help="append the lines of JSON to this file")
    parser.add_argument("--resume", action="store_true", help="pass over what --results holds already")
    parser.add_argument("--limit", type=int, help="play the first N instances")
    parser.add_argument("--model", default="", help="as for `magicode run`")
    parser.add_argument("--up-to", type=Decimal, metavar="DOLLARS", help="for each instance")
    parser.add_argument("--no-checks", dest="checks", action="store_false", help="the agent runs no checks")
    parser.add_argument("--seconds", type=float, default=1800.0, help="for each run of a test command")
    parser.add_argument(
        "--tools", type=Path, action="append", default=[], help="folders that test commands see too"
    )
    parser.add_argument(
        "--no-sandbox", dest="sandbox", action="store_false", help="run test commands plainly"
    )
    parser.add_argument("--playbook", type=Path, help="a scripted model instead of a real one")
    read = parser.parse_args(given)
    if read.resume and read.results is None:
        parser.error("--resume needs --results")
    if read.results is not None and read.results.exists() and not read.resume:
        parser.error(f"{read.results} is there already: --resume goes on with it")
    return read


def main(given: Sequence[str] | None = None) -> int:
    """0 when all instances were played, whatever came of them; 2 for wrong use, 130 when it was stopped."""
    arguments = _arguments(given)
    try:
        instances = read_instances(arguments.file)[: arguments.limit]
        done = read_results(arguments.results) if arguments.resume else []
        results = asyncio.run(_main(arguments, instances, done))
    except (UnreadableError, ValidationError, MagicodeError, settings.UnknownSettingError) as error:
        _tell(f"agent.py: {error}")
        return 2
    except KeyboardInterrupt:
        _tell("Stopped. What was played is told above, or in --results, where --resume goes on.")
        return 130
    print(table(results), file=sys.stdout if arguments.results else sys.stderr)
    return 0


async def _main(
    arguments: argparse.Namespace, instances: Sequence[Instance], done: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    bench = await bench_of(arguments, os.environ)
    wanted = {one.id for one in instances}
    known = [one for one in done if one.get("id") in wanted]
    if arguments.results is None:
        return await play_all(bench, instances, known, sys.stdout)
    whole = not arguments.results.exists() or _ends_whole(arguments.results)
    with arguments.results.open("a", encoding="utf-8") as out:
        out.write("" if whole else "\n")
        return await play_all(bench, instances, known, out)


def _ends_whole(file: Path) -> bool:
    return file.read_bytes()[-1:] in (b"", b"\n")


if __name__ == "__main__":
    sys.exit(main())
