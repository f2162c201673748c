"""Conversations that a process can be killed in, at every point of them, and that another process then goes on with."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import text

from app.jobs.accept import NOBODY
from app.nouns import Run, RunState
from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.models.playbook import Playbook
from infra.postgres.store import PostgresStore
from infra.simulator.ci import CiJob, Code, failing, passing
from tests.faults.points import Point, Watch, read_trace
from tests.faults.processes import NotStartedError, Process, service
from tests.faults.promises import kept
from tests.line.conftest import SIMULATOR, Words
from tests.line.conversations import (
    ask,
    asked_of_the_model,
    branches,
    create,
    edit,
    finish,
    notes,
    ours,
    plans,
    playbook,
    scenario,
)
from tests.line.roles import role_of
from tests.line.seen import act, commits, get, push
from tests.line.stage import Stage, staged

REPOSITORY = "octo/fairshare"
WORKSPACES = Path("/dev/shm")
WITHIN = 240.0

QUICK: dict[str, Any] = {"heartbeat": 0.2, "stalled_after": 1.5, "retry": 0.1, "tries": 8}
"""As the service takes over and tries again, without its waits."""

CATCHING_UP: dict[str, Any] = {
    "app.rounds:CATCH_UP_AFTER_SECONDS": 0.1,
    "app.rounds:CATCH_UP_EVERY_SECONDS": 0.5,
    "app.jobs.reconcile:FIRST_PAUSE": timedelta(seconds=1),
}
NOWHERE = "http://127.0.0.1:1/webhooks/github"

_numbers = itertools.count(1)


# --- a stage for each play -------------------------------------------------------------------------------------------


@asynccontextmanager
async def database(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """A migrated, empty database of its own, by the service's address."""
    name = f"kill{next(_numbers)}"

    def run(statement: str) -> None:
        with psycopg.connect(postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute(statement)

    await asyncio.to_thread(run, f"CREATE DATABASE {name} TEMPLATE template STRATEGY FILE_COPY")
    try:
        yield postgres.url(SERVICE_ROLE, name)
    finally:
        await asyncio.to_thread(run, f"DROP DATABASE {name} WITH (FORCE)")


@asynccontextmanager
async def stage_for(
    conversation: Conversation, postgres: EmbeddedPostgres, folder: Path
) -> AsyncIterator[Stage]:
    sample = folder / "sample"
    ignored = shutil.ignore_patterns("__pycache__")
    await asyncio.to_thread(shutil.copytree, SIMULATOR / "sample", sample, ignore=ignored)
    for path, content in conversation.files.items():
        (sample / path).parent.mkdir(parents=True, exist_ok=True)
        (sample / path).write_text(content)
    with tempfile.TemporaryDirectory(prefix="magicode-kills-", dir=WORKSPACES) as workspaces:
        async with (
            database(postgres) as url,
            staged(
                folder / "stage",
                {REPOSITORY: sample},
                conversation.book(),
                database_url=url,
                encoder=Words(),
                working=False,
                environ={"MAGICODE_WORKSPACE_DIR": workspaces, "MAGICODE_SANDBOX": "false"},
            ) as stage,
        ):
            if conversation.ci is not None:
                stage.github.on_push(conversation.ci(stage))
            yield stage


# --- conversations ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Conversation:
    """`before` is worked by a service that nobody kills; then something is asked, and the victim works until `done`. `owes` is
    what this conversation owes beyond what all owe. `meanwhile` is what people do while the victim works, or once it is dead.
    `foremost` is in the labels of the points that it is there for. `volume`: the processes share one folder, one after another, as containers share a volume."""

    name: str
    asks: Callable[[Stage], Awaitable[object]]
    owes: Callable[[Stage], Awaitable[None]]
    runs: int = 1
    book: Callable[[], Playbook] = notes
    before: Callable[[Stage], Awaitable[None]] | None = None
    meanwhile: Callable[[Stage, Callable[[], bool]], Awaitable[None]] | None = None
    ci: Callable[[Stage], Callable[[Code], Any]] | None = None
    role: str = "worker"
    done: Callable[[Stage], Awaitable[bool]] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    volume: bool = False
    erases: bool = False
    foremost: str = ""
    about: str = ""
    promise: str = (
        "It ends once, with exactly one pull request and one status comment, no branch left over, nothing done twice, and a log "
        "that verifies and misses no write"
    )


async def fix_opened(stage: Stage) -> None:
    (issue,) = {run.number for run in await stage.runs() if run.verb == "fix"}
    (pull,) = await stage.pulls()
    must(pull["head"]["ref"] == f"magicode/issue-{issue}", "the pull request has the issue's branch")
    must(not pull["draft"], "the pull request is ready for review")
    must(await commits(stage, pull["number"]) == ["Write the note"], "one commit")
    must(reasons(await stage.runs()) == [("fix", "opened", "opened")], "the run opened it")
    must(len(await ours(stage, issue)) == 1, "one comment")


async def ask_once(stage: Stage) -> None:
    await ask(stage)


async def fixed(stage: Stage) -> None:
    """A pull request is open."""
    await ask(stage)
    await stage.ended()


async def ask_once_more(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    await stage.comment(pull["number"], "@magicode write it once more")


async def revised(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    told = await commits(stage, pull["number"])
    must(told == ["Write the note", "Write another note"], f"one more commit: {told}")
    must(
        sorted(reasons(await stage.runs()))
        == [("fix", "opened", "opened"), ("revise", "updated", "updated")],
        "both runs ended well",
    )
    must(len(await ours(stage, pull["number"])) == 1, "one comment on the pull request")


# --- CI that fails ---


def mending_book() -> Playbook:
    return playbook(
        scenario(
            create("ROUND.md", "x\n"), finish("Mend it", "CI failed."), when="FAILED tests/test_note.py"
        ),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


FAILS = "E       AssertionError: it is wrong\nFAILED tests/test_note.py::test_the_note - AssertionError: it is wrong\n"
GATE = "ci-may-end"


def red_until_mended(stage: Stage) -> Callable[[Code], Awaitable[list[CiJob]]]:
    """CI ends once the stage's gate is there."""

    async def ci(code: Code) -> list[CiJob]:
        while not (stage.folder / GATE).exists():
            await asyncio.sleep(0.02)
        wrong = "NOTES.md" in code.files and "ROUND.md" not in code.files
        return [failing("tests", FAILS) if wrong else passing("tests")]

    return ci


async def ci_fails(stage: Stage) -> None:
    (stage.folder / GATE).touch()

    async def heard() -> bool:
        return any(one.event == "check_suite" for one in stage.github.world.deliveries)

    await until(heard)


async def mended(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    told = await commits(stage, pull["number"])
    must(told == ["Write the note", "Mend it"], f"one commit that mends: {told}")
    ends = sorted(reasons(await stage.runs()))
    must(ends == [("fix", "opened", "opened"), ("mend", "updated", "mended")], f"runs: {ends}")
    must(not pull["draft"], "ready for review once CI has passed")
    must(len(await ours(stage, pull["number"])) == 1, "one comment about CI")


async def mend_done(stage: Stage) -> bool:
    runs = await stage.runs()
    (pull,) = await stage.pulls()
    return any(run.verb == "mend" for run in runs) and not pull["draft"]


# --- a request that is cancelled ---


def slow_book() -> Playbook:
    return playbook(scenario(create("NOTES.md", "A note.\n") | {"slow": {"seconds": 2}}, finish()))


async def cancel_while_the_model_thinks(stage: Stage, dead: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return dead() or bool(await asked_of_the_model(stage))

    await until(asked)
    await stage.comment(1, "@magicode cancel")


async def cancel_behind_the_branch(stage: Stage, dead: Callable[[], bool]) -> None:
    """What was pushed is there when it is cancelled, and its pull request is not, or just so."""
    world = stage.github.world

    async def pushed() -> bool:
        return dead() or any(
            one.method == "POST" and one.path.endswith("/git/refs") for one in world.requests
        )

    await until(pushed)
    await stage.comment(1, "@magicode cancel")


async def no_pull_request_is_let_through(stage: Stage) -> None:
    await stage.fault(kind="status", method="POST", route="/pulls$", status=422, times=1000)


async def refused(stage: Stage) -> None:
    (run,) = await stage.runs()
    must(run.state is RunState.REFUSED, f"the run was refused: {run.state} ({run.reason})")
    must(await stage.pulls() == [], "no pull request")
    must(await branches(stage) == [], "and no branch without one")


async def cancelled(stage: Stage) -> None:
    ends = {run.verb: (run.state.value, run.reason) for run in await stage.runs()}
    must(ends["cancel"] == ("answered", "cancel"), f"the cancellation was answered: {ends}")
    pulls = await stage.pulls(state="open")
    if ends["fix"][0] == RunState.OPENED.value:
        must(len(pulls) == 1, "what was published before it could be stopped is one pull request")
    else:
        must(ends["fix"] == ("cancelled", "cancelled"), f"the run ended as cancelled: {ends}")
    if not pulls:
        must(await branches(stage) == [], "nothing is left on GitHub of what was cancelled")


# --- deletion ---


async def fixed_and_told_what_delete_destroys(stage: Stage) -> None:
    await fixed(stage)
    await stage.comment(1, "@magicode delete", user="ada")
    await stage.ended(2)


async def confirm(stage: Stage) -> None:
    await stage.comment(1, "@magicode delete octo", user="ada")


async def erased(stage: Stage) -> bool:
    async with stage.house.store.transaction(stage.installation, erasing=True) as transaction:
        found = await transaction.erasure()
    return found is not None and found.ended_at is not None


async def nothing_left(stage: Stage) -> None:
    async with stage.house.store.transaction(stage.installation, erasing=True) as transaction:
        left = {name: count for name, count in (await transaction.row_counts()).items() if count}
        key = await transaction.wrapped_key()
    must(not left, f"rows are left: {left}")
    must(key is None, "the key is destroyed")
    vectors = list((stage.folder / "volume" / "qdrant").rglob("storage.sqlite"))
    must(not vectors, "vectors are left")
    receipts = [one for one in await ours(stage, 1) if "**Deleted.**" in one]
    must(len(receipts) == 1, f"{len(receipts)} receipts")
    must(len(await stage.pulls()) == 1, "one pull request")
    told = [one for one in await stage.log(NOBODY) if one.action == "data.deleted"]
    must(len(told) == 1, f"{len(told)} entries of it in the service's own log")


# --- what else is said on GitHub ---


def review_book() -> Playbook:
    said = finish("Say it in the second line", "A reviewer asked for a second line.")
    said["calls"][0]["arguments"]["replies"] = [
        {"comment_id": "{thread:int}", "text": "The second line says it now."}
    ]
    return playbook(
        scenario(
            edit("NOTES.md", "A note.\n", "A note.\nA second line.\n"),
            {**said, "capture": [r"(?s)comment_id[=\" :]+(?P<thread>\d+)"]},
            when="second line",
        ),
        scenario(create("NOTES.md", "A note.\n"), finish()),
    )


async def review(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    on_line = {"path": "NOTES.md", "line": 1, "side": "RIGHT", "body": "@magicode add a second line"}
    await act(
        stage,
        "POST",
        f"/pulls/{pull['number']}/reviews",
        event="REQUEST_CHANGES",
        body="One thing.",
        commit_id=pull["head"]["sha"],
        comments=[on_line],
    )


async def review_answered(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    told = await commits(stage, pull["number"])
    must(told == ["Write the note", "Say it in the second line"], f"one more commit: {told}")
    comments = await get(stage, f"/pulls/{pull['number']}/comments")
    replies = [one for one in comments if one["user"]["login"] == "magicode[bot]"]
    must(len(replies) == 1, f"{len(replies)} replies in the thread")


async def comment_on_line(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    await act(
        stage,
        "POST",
        f"/pulls/{pull['number']}/comments",
        body="@magicode add a second line",
        path="NOTES.md",
        line=1,
        side="RIGHT",
        commit_id=pull["head"]["sha"],
    )


async def ask_to_undo(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    await stage.comment(pull["number"], "@magicode undo")


async def undone(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    told = await commits(stage, pull["number"])
    must(len(told) == 2, f"one commit that takes the change back: {told}")
    ends = sorted(reasons(await stage.runs()))
    must(ends == [("fix", "opened", "opened"), ("undo", "updated", "undone")], f"runs: {ends}")


def plan_book() -> Playbook:
    return playbook(plans(), scenario(create("NOTES.md", "A note.\n"), finish()))


async def ask_for_a_plan(stage: Stage) -> None:
    await ask(stage, "@magicode plan")


async def plan_told(stage: Stage) -> None:
    await ask_for_a_plan(stage)
    await stage.ended()


async def planned(stage: Stage) -> None:
    must(await stage.pulls() == [] and await branches(stage) == [], "a plan changes nothing")
    must(reasons(await stage.runs()) == [("plan", "answered", "planned")], "it is a plan")


async def say_go(stage: Stage) -> None:
    await stage.comment(1, "@magicode go")


async def gone(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    must(await commits(stage, pull["number"]) == ["Write the note"], "one commit")
    ends = sorted(reasons(await stage.runs()))
    must(ends == [("go", "opened", "opened"), ("plan", "answered", "planned")], f"runs: {ends}")


LINES = "".join(f"line {number}\n" for number in range(30))


def counting_book() -> Playbook:
    return playbook(scenario(edit("LONG.md", "line 2\n", "two\n"), finish("Count in words")))


async def base_moves(stage: Stage) -> None:
    """Below what we changed: it merges."""
    await push(stage, "main", "LONG.md", LINES.replace("line 28\n", "twenty-eight\n"))


async def merged_in(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    told = await commits(stage, pull["number"])
    must(told[0] == "Count in words", f"our commit comes first: {told}")
    merges = [one for one in told if one.startswith("Merge")]
    must(len(merges) == 1, f"one merge commit: {told}")


async def close_it(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    await act(stage, "PATCH", f"/pulls/{pull['number']}", state="closed")


async def closed(stage: Stage) -> None:
    (pull,) = await stage.pulls()
    must(pull["state"] == "closed", "it stays closed")
    must(reasons(await stage.runs()) == [("fix", "opened", "closed_unmerged")], "and is known to be")


async def ask_for_an_export(stage: Stage) -> None:
    await stage.comment(1, "@magicode export", user="ada")


async def exported(stage: Stage) -> None:
    async with stage.house.store.transaction(stage.installation) as transaction:
        made = await transaction.exports()
    must(len(made) == 1, f"{len(made)} exports")
    names = await stage.house.objects.names(str(stage.installation))
    must(len(names) == 1, f"{len(names)} objects")
    ready = [one for one in await ours(stage, 1) if "Your export is ready" in one]
    must(len(ready) == 1, f"{len(ready)} answers that lead to it")


async def export_ready(stage: Stage) -> bool:
    return any("Your export is ready" in one for one in await ours(stage, 1))


async def choose(stage: Stage) -> None:
    await stage.comment(1, "@magicode settings keep-runs 6 months", user="ada")


async def chosen(stage: Stage) -> None:
    changed = [one for one in await stage.log() if one.action == "setting.changed"]
    must(len(changed) == 1, f"{len(changed)} changes in the log")


async def appoint(stage: Stage) -> None:
    await stage.comment(1, "@magicode settings member wim viewer", user="ada")


async def appointed(stage: Stage) -> None:
    await chosen(stage)
    must(await role_of(stage, "wim") == "viewer", "the role is not there")


async def an_issue(stage: Stage) -> None:
    await stage.open_issue("A question", user="ada")


CANCELLED = (
    "It ends as cancelled with nothing left on GitHub but its status comment, or, where it had been published before, as one pull "
    "request; nothing is done twice, and the log verifies and misses no write"
)

CONVERSATIONS = (
    Conversation("fix", ask_once, fix_opened, about="A request on an issue"),
    Conversation(
        "accept",
        ask_once,
        fix_opened,
        role="serve",
        foremost="app.jobs.accept",
        about="A request, from the webhook on",
    ),
    Conversation(
        "revise", ask_once_more, revised, runs=2, before=fixed, about="A request for more on our pull request"
    ),
    Conversation(
        "mend",
        ci_fails,
        mended,
        runs=2,
        before=fixed,
        book=mending_book,
        ci=red_until_mended,
        done=mend_done,
        about="Failing CI on our pull request",
    ),
    Conversation(
        "cancel",
        ask_once,
        cancelled,
        runs=2,
        book=slow_book,
        meanwhile=cancel_while_the_model_thinks,
        about="A request that is cancelled while the model is at work",
        promise=CANCELLED,
    ),
    Conversation(
        "cancel-late",
        ask_once,
        cancelled,
        runs=2,
        meanwhile=cancel_behind_the_branch,
        about="A request that is cancelled when its branch has been pushed",
        promise=CANCELLED,
    ),
    Conversation(
        "refused",
        ask_once,
        refused,
        before=no_pull_request_is_let_through,
        about="A request whose pull request GitHub refuses when its branch has been pushed",
        promise="It ends as refused, with one status comment and no branch left over; nothing is done twice, and the log verifies",
    ),
    Conversation(
        "review",
        review,
        review_answered,
        runs=2,
        before=fixed,
        book=review_book,
        about="A review of our pull request that asks for changes",
    ),
    Conversation(
        "comment-on-line",
        comment_on_line,
        review_answered,
        runs=2,
        before=fixed,
        book=review_book,
        about="A comment on a line of our pull request",
    ),
    Conversation("undo", ask_to_undo, undone, runs=2, before=fixed, about="A change that is taken back"),
    Conversation("plan", ask_for_a_plan, planned, book=plan_book, about="A request for a plan"),
    Conversation(
        "go", say_go, gone, runs=2, before=plan_told, book=plan_book, about="A plan that is agreed to"
    ),
    Conversation(
        "base",
        base_moves,
        merged_in,
        before=fixed,
        book=counting_book,
        files={"LONG.md": LINES},
        about="A base branch that moved under our pull request",
    ),
    Conversation("close", close_it, closed, before=fixed, about="Our pull request, closed by a person"),
    Conversation("settings", choose, chosen, before=an_issue, about="A setting that is changed"),
    Conversation("member", appoint, appointed, before=an_issue, about="A role that is given"),
    Conversation(
        "export",
        ask_for_an_export,
        exported,
        runs=2,
        before=fixed,
        done=export_ready,
        about="The export of an installation's data",
    ),
    Conversation(
        "delete",
        confirm,
        nothing_left,
        runs=0,
        before=fixed_and_told_what_delete_destroys,
        done=erased,
        volume=True,
        erases=True,
        about="The deletion of an installation's data",
        promise="Everything is destroyed, with one receipt, and nothing is done twice",
    ),
)


# --- playing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Played:
    """`killed` False: the process never came to that point this time. `resumed` is how many seconds after the kill the next
    process made a request for the work, None where nothing was left to do."""

    killed: bool
    points: Sequence[Point]
    resumed: float | None = None


async def play(
    conversation: Conversation,
    postgres: EmbeddedPostgres,
    folder: Path,
    *,
    kill: Point | None = None,
    paces: Mapping[str, Any] = QUICK,
) -> Played:
    """Plays it whole, with the victim killed at this point and followed by another. Raises AssertionError for a promise that is
    broken."""
    async with stage_for(conversation, postgres, folder) as stage:
        shared = {"folder": stage.folder / "volume"} if conversation.volume else {}
        if conversation.before is not None:
            async with service(stage, name="before", **paces, **shared) as early:
                await conversation.before(stage)
                await until(lambda: _idle(stage))
                await early.stop()
        trace = folder / "trace"
        watch = Watch(trace=trace, kill=kill)
        resumed: float | None = None
        serving = {"role": "serve", "constants": CATCHING_UP} if conversation.role == "serve" else {}
        stack = contextlib.AsyncExitStack()
        async with stack:
            if not serving:
                await conversation.asks(stage)
                await stage.settled()
            victim = await stack.enter_async_context(
                service(stage, name="victim", watch=watch, ready=False, **paces, **shared, **serving)
            )
            meanwhile = None
            if serving:
                await _takes_webhooks(stage, victim)
                await conversation.asks(stage)
            if conversation.meanwhile is not None:
                meanwhile = asyncio.ensure_future(conversation.meanwhile(stage, lambda: not victim.alive))
            await until(lambda: _over(stage, conversation, victim, meanwhile))
            killed = not victim.alive
            if killed:
                must(kill is not None and victim.exitcode == -9, f"the victim fell: {victim.said()}")
                died, seen = time.monotonic(), len(stage.github.world.requests)
                awaited = conversation.meanwhile is None and not serving and await _work_left(stage)
                following = {"constants": CATCHING_UP} if serving else {}
                again = await stack.enter_async_context(
                    service(stage, name="next", **paces, **shared, **{**serving, **following})
                )
                if serving:
                    await _takes_webhooks(stage, again)
                if meanwhile is not None:
                    await meanwhile
                if awaited:
                    resumed = await _resumed(stage, seen, died)
                await until(lambda: _finished(stage, conversation), why=lambda: f"{again.said()}")
                await again.stop()
                must(again.exitcode == 0, f"the next process fell: {again.said()}")
            else:
                if meanwhile is not None:
                    await meanwhile
                    await until(lambda: _finished(stage, conversation), why=victim.said)
                await victim.stop()
        await _judge(stage, conversation)
    return Played(killed, read_trace(trace), resumed)


async def _takes_webhooks(stage: Stage, process: Process) -> None:
    """GitHub delivers to this process from now on; to nobody where it does not live to listen."""
    stage.github.world.app_url = NOWHERE
    with contextlib.suppress(NotStartedError):
        await process.ready()
        stage.github.world.app_url = f"{process.url}/webhooks/github"


async def _judge(stage: Stage, conversation: Conversation) -> None:
    await stage.settled()
    await conversation.owes(stage)
    left = list(Path(stage.environ["MAGICODE_WORKSPACE_DIR"]).iterdir())  # noqa: ASYNC240
    must(not left, f"workspaces are left: {left}")
    if conversation.erases:
        await kept(stage, complete=False)  # its own log is gone with everything else
    else:
        await kept(stage, runs=conversation.runs)


async def _over(
    stage: Stage, conversation: Conversation, victim: Process, meanwhile: asyncio.Future[None] | None
) -> bool:
    if not victim.alive:
        await victim.gone()
        return True
    return (meanwhile is None or meanwhile.done()) and await _finished(stage, conversation)


async def _finished(stage: Stage, conversation: Conversation) -> bool:
    """Nothing is left to be done, twice in a row: some jobs put the next one on the queue when they have ended."""
    for _ in range(2):
        if not conversation.erases:
            runs = await stage.runs()
            if len(runs) < conversation.runs or not all(run.state.ended for run in runs):
                return False
        await stage.settled()
        if not await _idle(stage):
            return False
        if conversation.done is not None and not await conversation.done(stage):
            return False
        await asyncio.sleep(0.15)
    return True


async def _idle(stage: Stage) -> bool:
    """No job is at work or due soon."""
    due = "(status = 'todo' AND (scheduled_at IS NULL OR scheduled_at < now() + interval '60 seconds'))"
    return await _jobs(stage, f"status = 'doing' OR {due}") == 0


async def _work_left(stage: Stage) -> bool:
    """A run, or an erasure, is to go on."""
    return await _jobs(stage, "task_name IN ('work', 'erase') AND status IN ('todo', 'doing')") > 0


async def _jobs(stage: Stage, which: str) -> int:
    store = stage.house.store
    assert isinstance(store, PostgresStore)
    async with store._engine.connect() as connection:
        counted = text(f"SELECT count(*) FROM magicode_jobs.procrastinate_jobs WHERE {which}")
        return int(await connection.scalar(counted) or 0)


async def _resumed(stage: Stage, seen: int, died: float) -> float | None:
    """Until somebody asks GitHub for something in the installation's name; None where all had been done but that the queue was
    not told."""

    def asks() -> bool:
        later = stage.github.world.requests[seen:]
        return any(one.caller == "installation" or one.path.endswith("/access_tokens") for one in later)

    async def again() -> bool:
        return asks() or not await _work_left(stage)

    await until(again)
    return time.monotonic() - died if asks() else None


async def until(
    true: Callable[[], Awaitable[bool]], *, within: float = WITHIN, why: Callable[[], str] = lambda: ""
) -> None:
    deadline = time.monotonic() + within
    while not await true():
        must(time.monotonic() < deadline, f"it did not come to pass within {within:.0f} s: {why()}")
        await asyncio.sleep(0.2)


def must(holds: object, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def reasons(runs: Sequence[Run]) -> list[tuple[str, str, str | None]]:
    return [(run.verb, run.state.value, run.reason) for run in reversed(runs)]
