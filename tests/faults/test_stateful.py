"""Any order of events: people, crashes and redeliveries in random interleavings, held to a small model of the promises.

Each step is done at once, while a worker process works on what came before; now and then all is waited for, and GitHub is
compared with the model and with every promise.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import shutil
import tempfile
import time
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from infra.embedded.postgres import SERVICE_ROLE, SUPERUSER, EmbeddedPostgres
from infra.models.playbook import Playbook
from infra.simulator.deliveries import again
from tests.claims import claim
from tests.faults.asking import unlimited
from tests.faults.model_of_promises import Promises, Pull, Request
from tests.faults.processes import Process, service
from tests.faults.promises import kept, quiet
from tests.lengths import Lengths
from tests.line.conftest import SIMULATOR, Words
from tests.line.conversations import create, finish, plans, playbook, repository_file, scenario
from tests.line.seen import push
from tests.line.stage import Stage, staged

GROUP = "Any order of events"
NOTES = 60
WITHIN = 240.0
_databases = itertools.count(1)


def script() -> Playbook:
    """Note 7 is another file than note 6; the newest that is asked for is written."""
    notes = [
        scenario(
            create(f"NOTE-{number}.md", "A note.\n"), finish(f"Write note {number}"), when=f"note {number:03}"
        )
        for number in reversed(range(NOTES))
    ]
    explained = {"calls": [{"tool": "answer", "arguments": {"text": "It adds a file."}}]}
    said = {"name": "said", "when": {"system_contains": "Your task is to explain"}, "turns": [explained]}
    return playbook(plans(), said, *notes, scenario(create("NOTES.md", "A note.\n"), finish()))


class Events(RuleBasedStateMachine):
    """One service, one repository, a few issues, and everything that can happen to them."""

    postgres: EmbeddedPostgres
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = Path(tempfile.mkdtemp(prefix="magicode-events-"))
        self.database = f"events{next(_databases)}"
        self.promises = Promises()
        self.issues: list[int] = []
        self.noted = itertools.count()
        self.dirty = False

    # --- the stage ---------------------------------------------------------------------------------------------------

    @initialize()
    def raised(self) -> None:
        self._do(self._raise())

    async def _raise(self) -> None:
        with psycopg.connect(self.postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {self.database} TEMPLATE template STRATEGY FILE_COPY")
        sample = self.folder / "fairshare"
        shutil.copytree(SIMULATOR / "sample", sample, ignore=shutil.ignore_patterns("__pycache__"))
        repository_file(sample, checks=[], second_look=False)
        self.stage: Stage = await self.stack.enter_async_context(
            staged(
                self.folder / "stage",
                {"octo/fairshare": sample},
                script(),
                database_url=self.postgres.url(SERVICE_ROLE, self.database),
                encoder=Words(),
                working=False,
            )
        )
        unlimited(self.stage)
        await self._start()
        self.issues.append(await self.stage.open_issue("The note is wrong", "NOTES.md says nothing."))

    async def _start(self) -> None:
        self.process_stack = AsyncExitStack()
        self.process: Process = await self.process_stack.enter_async_context(
            service(self.stage, role="worker", heartbeat=0.5, stalled_after=8.0, retry=0.2, tries=8)
        )

    def teardown(self) -> None:
        try:
            if hasattr(self, "process"):
                self._do(self._settle())
                self._do(self.process_stack.aclose())
        finally:
            self._do(self.stack.aclose())
            self.runner.close()
            shutil.rmtree(self.folder, ignore_errors=True)
            with psycopg.connect(self.postgres.url(SUPERUSER, "postgres"), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE IF EXISTS {self.database} WITH (FORCE)")

    def _do(self, work: Any) -> Any:
        type(self).steps += 1
        return self.runner.run(work)

    # --- what people do ------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.issues) < 3)
    @rule()
    def opens_an_issue(self) -> None:
        self.issues.append(self._do(self.stage.open_issue("The note is wrong", "NOTES.md says nothing.")))

    @rule(
        which=st.integers(0, 2),
        on_pull=st.booleans(),
        verb=st.sampled_from(["fix", "fix", "fix", "plan", "go", "undo", "retry", "cancel", "explain"]),
        user=st.sampled_from(["wim", "wim", "wim", "ada", "rita"]),
    )
    def asks(self, which: int, on_pull: bool, verb: str, user: str) -> None:
        self._do(self._ask(which, on_pull, verb, user))

    async def _ask(self, which: int, on_pull: bool, verb: str, user: str) -> None:
        number = self.issues[which % len(self.issues)]
        ours = [pull for pull in await self._pulls() if pull.issue == number]
        if on_pull and ours:
            number, verb = ours[-1].number, "revise" if verb == "fix" else verb
        words = f"note {next(self.noted) % NOTES:03}" if verb in ("fix", "revise") else ""
        comment = await self.stage.comment(number, f"@magicode {verb} {words}".strip(), user=user)
        self.promises.asked(Request(comment, number, verb, may_write=user != "rita"))
        self.dirty = True

    @rule(which=st.integers(0, 20), deletes=st.booleans())
    def edits_or_deletes_a_comment_that_asked(self, which: int, deletes: bool) -> None:
        if asked := list(self.promises.requests.values()):
            one = asked[which % len(asked)]
            if deletes:
                self._try("DELETE", f"/issues/comments/{one.comment}")
            else:
                self._try("PATCH", f"/issues/comments/{one.comment}", body="I think that it is fine.")

    @rule(which=st.integers(0, 2), body=st.booleans())
    def edits_an_issue(self, which: int, body: bool) -> None:
        self._try(
            "PATCH",
            f"/issues/{self._issue(which)}",
            **{"body" if body else "title": "It says something else now."},
        )

    @rule(which=st.integers(0, 2), state=st.sampled_from(["closed", "open"]))
    def closes_or_reopens_an_issue(self, which: int, state: str) -> None:
        self._try("PATCH", f"/issues/{self._issue(which)}", state=state)

    @rule(which=st.integers(0, 2), there=st.booleans())
    def says_hands_off_by_a_label_or_takes_it_back(self, which: int, there: bool) -> None:
        issue = self._issue(which)
        if there:
            self._try("POST", f"/issues/{issue}/labels", labels=["no-magicode"])
        else:
            self._try("DELETE", f"/issues/{issue}/labels/no-magicode")

    @rule(which=st.integers(0, 3), how=st.sampled_from(["close", "merge", "reopen"]))
    def ends_a_pull_request_or_reopens_it(self, which: int, how: str) -> None:
        self._do(self._end_pull(which, how))

    async def _end_pull(self, which: int, how: str) -> None:
        pulls = await self._pulls()
        if not pulls:
            return
        pull = pulls[which % len(pulls)]
        # Nobody is at work there, so that what a person meant to end is what they saw.
        await self._settle()
        pull = next(one for one in await self._pulls() if one.number == pull.number)
        if how == "merge":
            done = await self._tried("PUT", f"/pulls/{pull.number}/merge")
        else:
            done = await self._tried(
                "PATCH", f"/pulls/{pull.number}", state="closed" if how == "close" else "open"
            )
        if done and how != "reopen" and pull.state == "open":
            self.promises.ended_by_a_person(pull)
        elif done and how == "reopen" and pull.state == "closed":
            self.promises.opened_again(pull.number)

    @rule(which=st.integers(0, 3))
    def pushes_to_our_branch(self, which: int) -> None:
        self._do(self._push(which))

    async def _push(self, which: int) -> None:
        pulls = [pull for pull in await self._pulls() if pull.state == "open"]
        if pulls:
            branch = pulls[which % len(pulls)].branch
            try:
                sha = await push(self.stage, branch, f"BY-HAND-{next(self.noted)}.md", "By hand.\n")
            except AssertionError:
                return  # our own commit came in between: GitHub said 409
            self.promises.pushed(branch, sha)

    @rule()
    def moves_the_base(self) -> None:
        self._do(push(self.stage, "main", f"BASE-{next(self.noted)}.md", "The base has moved.\n"))

    # --- what machines do ----------------------------------------------------------------------------------------------

    @rule()
    def is_killed_and_another_takes_over(self) -> None:
        self._do(self._kill())

    async def _kill(self) -> None:
        self.process.kill()
        await self.process_stack.aclose()
        await self._start()

    @rule(which=st.integers(0, 200))
    def delivers_again(self, which: int) -> None:
        world = self.stage.github.world
        made = [one for one in world.deliveries if not one.redelivery]
        if made:
            self._do(self._again(made[which % len(made)]))

    async def _again(self, delivery: Any) -> None:
        again(self.stage.github.world, delivery)
        await self.stage.settled()

    @rule()
    def waits_until_all_is_quiet(self) -> None:
        self._do(self._settle())

    # --- the comparison ------------------------------------------------------------------------------------------------

    async def _settle(self) -> None:
        if not self.dirty:
            return
        self.dirty = False
        deadline = time.monotonic() + WITHIN
        while True:
            await self.stage.settled()
            runs = await self._runs()
            if all(run.state.ended for run in runs):
                await quiet(self.stage, within=WITHIN)
                if all(run.state.ended for run in await self._runs()):
                    break
            assert time.monotonic() < deadline, [(run.verb, run.state, run.attempt) for run in runs]
            await asyncio.sleep(0.2)
        by_comment: dict[int, list[tuple[str, str, str]]] = defaultdict(list)
        for run in await self._runs():
            if run.comment_id is not None:
                by_comment[run.comment_id].append((run.verb, run.state.value, run.reason or ""))
        broken = self.promises.broken(await self._pulls(), by_comment)
        assert not broken, "\n".join(broken)
        await kept(self.stage)

    async def _runs(self) -> Any:
        async with self.stage.house.store.transaction(self.stage.installation) as transaction:
            return await transaction.runs(limit=10_000)

    async def _pulls(self) -> list[Pull]:
        found = []
        for one in reversed(await self.stage.pulls()):
            branch = re.fullmatch(r"magicode/issue-(\d+)(?:-\d+)?", one["head"]["ref"])
            if branch and one["user"]["login"] == "magicode[bot]":
                merged = one["merged_at"] is not None
                found.append(
                    Pull(
                        one["number"],
                        int(branch[1]),
                        one["head"]["ref"],
                        one["state"],
                        one["head"]["sha"],
                        merged,
                    )
                )
        return found

    def _issue(self, which: int) -> int:
        return self.issues[which % len(self.issues)]

    def _try(self, method: str, route: str, **body: Any) -> None:
        self._do(self._tried(method, route, **body))

    async def _tried(self, method: str, route: str, **body: Any) -> bool:
        """What a person does and GitHub may refuse."""
        answer = await self.stage.client("wim").request(
            method, f"/repos/{self.stage.repository}{route}", json=body or None
        )
        assert answer.status_code < 500, answer.text
        self.dirty = True
        return answer.is_success


@pytest.mark.long
@pytest.mark.timeout(3600)
@claim(
    GROUP,
    "Requests, edits, deletions, labels, closings, merges, pushes by people, redeliveries and killed processes in random order",
    "At each moment of quiet GitHub holds what a page-long model of the promises allows, and every other promise holds too",
)
def test_any_order_of_events(postgres: EmbeddedPostgres, lengths: Lengths, record_property: Any) -> None:
    minutes = lengths.choose(suite=0, prove=45)
    machine = type("Events", (Events,), {"postgres": postgres, "steps": 0})
    how = settings(
        max_examples=lengths.choose(suite=2, prove=20),
        stateful_step_count=lengths.choose(suite=25, prove=60),
        derandomize=minutes == 0,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[
            Phase.explicit,
            Phase.generate,
        ],  # shrinking would play for hours; the printed steps are the example
        print_blob=True,
    )
    until, number = time.monotonic() + 60 * minutes, 0
    while True:
        if minutes:
            number = random.SystemRandom().randrange(2**32)
            print(f"seed {number}")
            run_state_machine_as_test(seeded(number)(machine), settings=how)
        else:
            run_state_machine_as_test(machine, settings=how)
        if time.monotonic() > until:
            break
    record_property("steps", machine.steps)
