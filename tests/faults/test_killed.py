"""A process is killed before and after each outside effect and each commit, and another goes on: never twice, never lost.

The points are not written down anywhere: each conversation is played once with nobody killed, which tells them, and then once
for each point. What none of the conversations comes to fails the last test here, or stands below it with its reason.
"""

from __future__ import annotations

import ast
import asyncio
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

import app.jobs.accept
from app.ports import RepositoryWriter
from infra.embedded.postgres import EmbeddedPostgres
from infra.github import writer
from infra.github.permissions import ROUTES
from tests.claims import case, claim
from tests.faults.kill_plays import CONVERSATIONS, Conversation, Played, play
from tests.faults.points import AFTER, LOOK, ROOT, Point, sent_as, site
from tests.lengths import Lengths

GROUP = "Killed at any point"
AT_ONCE: Final = 3

KILLS: Final = {
    "fix": 12,
    "accept": 6,
    "revise": 8,
    "mend": 8,
    "cancel": 6,
    "cancel-late": 6,
    "delete": 8,
    "refused": 3,
    "review": 4,
    "comment-on-line": 2,
    "undo": 3,
    "plan": 2,
    "go": 2,
    "base": 3,
    "close": 2,
    "settings": 2,
    "member": 2,
    "export": 4,
}
"""How often each conversation's process is killed in the ordinary suite; at length it is at every point."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(0)]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows a push follows soon."""
    monkeypatch.setattr(app.jobs.accept, "FOLLOW_AFTER_SECONDS", 0.2)


def in_order(points: Sequence[Point], foremost: str) -> list[Point]:
    """Each label's first, before and after, and then the others: by chance, and the same each time. What the conversation is there
    for comes before all."""

    def chance(point: Point) -> tuple[bool, bytes]:
        return foremost not in point.label, hashlib.sha256(str(point).encode()).digest()

    found = {one for one in points if one.side != LOOK}
    first = {one for one in found if one.number == 1}
    return sorted(first, key=chance) + sorted(found - first, key=chance)


@pytest.mark.parametrize(
    ("conversation", "kills"),
    [
        case(
            GROUP,
            f"{one.about}: the process is killed before or after an effect or a commit, and another one goes on",
            one.promise,
            one,
            KILLS[one.name],
        )
        for one in CONVERSATIONS
    ],
)
async def test_whoever_goes_on_ends_it_once_and_loses_nothing(
    conversation: Conversation,
    kills: int,
    postgres: EmbeddedPostgres,
    tmp_path: Path,
    lengths: Lengths,
    record_property: Callable[[str, object], None],
) -> None:
    points = in_order((await play(conversation, postgres, tmp_path / "traced")).points, conversation.foremost)
    wanted = lengths.choose(suite=min(kills, len(points)), prove=len(points))
    done: list[Played] = []
    fallen: list[str] = []
    left = iter(enumerate(points))

    async def kill_on() -> None:
        """A point that a process does not come to this time, since its parts go on side by side, is no kill."""
        for number, point in left:
            if sum(one.killed for one in done) + len(fallen) >= wanted:
                return
            try:
                done.append(await play(conversation, postgres, tmp_path / str(number), kill=point))
            except Exception as error:  # noqa: BLE001 each point that falls is told, and not the first alone
                fallen.append(f"{point}: {type(error).__name__}: {error}")
                print("FELL", fallen[-1], flush=True)
            else:
                print("killed" if done[-1].killed else "not met", point, flush=True)

    await asyncio.gather(*(kill_on() for _ in range(AT_ONCE)))
    killed = sum(one.killed for one in done)
    record_property("points", len(points))
    record_property("kills", killed)
    record_property(
        "longest until resumed, s", round(max((one.resumed or 0.0 for one in done), default=0.0), 1)
    )
    assert not fallen, "\n".join(fallen)
    assert killed >= 0.8 * wanted, "a process comes to nearly all of the points"


@claim(
    GROUP,
    "With the service's own waits (heartbeat 10 s, taken for dead after 30 s) a process is killed in the middle of its work",
    "Another goes on with it within 60 seconds",
)
async def test_work_goes_on_within_a_minute(
    postgres: EmbeddedPostgres, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    conversation = CONVERSATIONS[0]
    points = (await play(conversation, postgres, tmp_path / "traced")).points
    ways = ("model POST", "/git/commits", "/git/refs", "/pulls")
    picked = [next(one for one in points if way in one.label and one.side == AFTER) for way in ways]
    played = await asyncio.gather(
        *(
            play(conversation, postgres, tmp_path / str(number), kill=point, paces={"retry": 0.1})
            for number, point in enumerate(picked)
        )
    )
    waits = [one.resumed for one in played if one.killed and one.resumed is not None]
    record_property("kills", len(waits))
    record_property("longest until resumed, s", round(max(waits), 1))
    assert len(waits) >= len(ways) - 1
    assert max(waits) < 60


# --- no effect escapes -----------------------------------------------------------------------------------------------

NOT_OF_THE_LINE: Final = ("web", "commands", "prove")
"""Rooms of app/ whose transactions no job of the queue and no webhook opens: a person's browser, a command, the proof."""

_ASKED_ELSEWHERE = (
    "asked for on the web's pages or the command line; `tests/app/custody` and `tests/line` break it off"
)
_READS = "changes nothing"
_BUTTON = "one transaction, asked for on a run's page; asked for again it is done once (`tests/app/web/test_runs.py`)"
_KEYS = "keys of customers and of the operator, changed on the web's pages or the command line (`tests/app/custody`)"
_TELLS = "no write to GitHub and no state of a run: tells a customer's own address, where there is one (`tests/line/test_hooks.py`)"
_NEWS = "one transaction, as each acceptance is; GitHub is asked for what was not accepted (`tests/line/test_missed.py`)"
_RESTORING = "an operator's command while nobody works; `tests/line/test_restoring.py` breaks it off anywhere, and it is given again"
_LATER = "puts a look on the queue that is taken up by whoever lives, and whose effects are those of the looks that are met"

PAST_THE_CONVERSATIONS: Final = {
    "app.beside:_blocker": _READS,
    "app.beside:_busy": _READS,
    "app.choosing:overview": _READS,
    "app.containing:_remove_tokens": "an operator's command, which says what it did and can be given again",
    "app.containing:require_known": _READS,
    "app.containing:affected": _READS,
    "app.custody.backups:Backups._own_key": _KEYS,
    "app.custody.backups:Backups.keep_service_key": _KEYS,
    "app.custody.backups:Backups.put_keys": _RESTORING,
    "app.custody.backups:Backups.write_keys": _READS,
    "app.custody.hooks:known_hooks": _READS,
    "app.custody.hooks:make": _KEYS,
    "app.custody.hooks:remove": _KEYS,
    "app.custody.provider_keys:known_keys": _READS,
    "app.custody.provider_keys:put": _KEYS,
    "app.custody.provider_keys:remove": _KEYS,
    "app.custody.retention:Retention._expired": _ASKED_ELSEWHERE,
    "app.custody.retention:Retention._once": "each sweep is one transaction, done again every hour",
    "app.custody.rotation:Rotation._moved": _KEYS,
    "app.custody.rotation:Rotation.run": _KEYS,
    "app.custody.tombstones:Tombstones._existing_key": _READS,
    "app.custody.tombstones:Tombstones._key": _KEYS,
    "app.demo:_follow": _READS,
    "app.doctor:_records": _READS,
    "app.erasing:begin": _ASKED_ELSEWHERE,
    "app.erasing:begin_again": _RESTORING,
    "app.erasing:counted": _READS,
    "app.erasing:erase_later": "the deletion's job, put on the queue again when it has failed as often as it may",
    "app.erasing:erase_now": _ASKED_ELSEWHERE,
    "app.erasing:tombstone": _READS,
    "app.exporting:_told": "how far an export is, which is nothing but what its page shows meanwhile",
    "app.exporting:ask": _ASKED_ELSEWHERE,
    "app.exporting:give_up": "the end of an export that has failed as often as it may (`tests/line/test_export_crashes.py`)",
    "app.exporting:open_export": _READS,
    "app.following:follow.<locals>.installed": _READS,
    "app.following:forget": "the index of a repository that left, dropped whole and again by whoever takes the job up",
    "app.jobs.accept:_Acceptance._news": _NEWS,
    "app.jobs.accept:_Acceptance._plan": _NEWS,
    "app.jobs.accept:_Acceptance._turn_away": _NEWS,
    "app.jobs.presence:listed": "one transaction, done again every five minutes by whoever lives, where something differs",
    "app.jobs.presence:unlisted": "a look and one transaction, done again every five minutes by whoever lives",
    "app.jobs.states:unblock": "one transaction that puts a request to work which had waited for a mending run",
    "app.planning:_require_not_done": _READS,
    "app.refreshing:_look_later": _LATER,
    "app.restoring:_mark": _RESTORING,
    "app.restoring:_mark_service": _RESTORING,
    "app.restoring:require_reapplied": _READS,
    "app.retrying:what_is_retried": _READS,
    "app.rounds:_asks_for": "written down before a missed event is asked for; `test_deliveries.py` lets who did so die there",
    "app.settling:_opened_all_the_same": "a run that failed behind its pull request's opening: said first, then noted",
    "app.settling:settle_later": _LATER,
    "app.showing:_last": _READS,
    "app.steering:stop": _BUTTON,
    "app.steering:try_again": _BUTTON,
    "app.telling:ping": _TELLS,
    "app.telling:send": _TELLS,
    "app.telling:tell_accepted": _TELLS,
    "app.wiring:back_up": _READS,
    "reactions.async_create_for_issue": "the same call of the same port as on a comment, where a label asks; twice is once",
}


def functions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Each function of a module by its qualified name, as Python's own code objects have it."""

    def below(node: ast.AST, within: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield within + child.name, child
                yield from below(child, f"{within}{child.name}.<locals>.")
            elif isinstance(child, ast.ClassDef):
                yield from below(child, f"{within}{child.name}.")
            else:
                yield from below(child, within)

    yield from below(ast.parse(path.read_text()), "")


def own(node: ast.AST) -> Iterator[ast.AST]:
    """What a function does itself, without the functions that it defines."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from own(child)


def transactions() -> set[str]:
    """Every place in app/ that opens a transaction: `module:function`."""
    found: set[str] = set()
    for path in (ROOT / "app").rglob("*.py"):
        where = path.relative_to(ROOT).with_suffix("")
        if where.parts[1] not in NOT_OF_THE_LINE:
            found |= {
                f"{'.'.join(where.parts)}:{name}"
                for name, function in functions(path)
                if any(
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in ("transaction", "snapshot")
                    for node in own(function)
                )
            }
    return found


def writes() -> dict[str, set[str]]:
    """Each method of the port that writes to GitHub, and the requests that its implementation can make."""
    tree = ast.parse(Path(inspect.getfile(writer)).read_text())
    made: dict[str, set[str]] = {}
    for method in (one for one in ast.walk(tree) if isinstance(one, ast.AsyncFunctionDef)):
        said = {one.value for one in ast.walk(method) if isinstance(one, ast.Constant)}
        said |= {f"graphql.{one}" for one in said if isinstance(one, str)}
        made[method.name] = {f"github {sent_as(name)}" for name in said & set(ROUTES)}
    return {
        name: made.get(name, set())
        for name, _ in inspect.getmembers(RepositoryWriter, inspect.isfunction)
        if not name.startswith("_")
    }


@claim(
    GROUP,
    "Every write to GitHub and every transaction of the service's code is looked for in the conversations whose processes are killed",
    "Each is met there, or stands in a short list with its reason: a new effect at which nobody is killed fails this test",
)
async def test_no_effect_escapes(
    postgres: EmbeddedPostgres, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    free = asyncio.Semaphore(AT_ONCE)

    async def labels(conversation: Conversation) -> set[str]:
        async with free:
            return {
                one.label for one in (await play(conversation, postgres, tmp_path / conversation.name)).points
            }

    met = set().union(*await asyncio.gather(*(labels(one) for one in CONVERSATIONS)))
    routes = {f"github {sent_as(name)}": name for name, route in ROUTES.items() if route.changes}
    sites = {where for one in met if (where := site(one)) is not None}
    missed = {name for label, name in routes.items() if label not in met}
    missed |= {f"RepositoryWriter.{name}" for name, made in writes().items() if not made & met}
    missed |= transactions() - sites
    record_property("kinds of points", len([one for one in met if not one.startswith(LOOK)]))
    assert missed - set(PAST_THE_CONVERSATIONS) == set(), "nobody is killed at these"


@claim(
    GROUP,
    "The list of what no conversation comes to is held against the code",
    "It names nothing that the code does not have any more",
)
def test_what_is_left_out_is_there_at_all() -> None:
    known = transactions() | {name for name, route in ROUTES.items() if route.changes}
    assert set(PAST_THE_CONVERSATIONS) - known == set()
