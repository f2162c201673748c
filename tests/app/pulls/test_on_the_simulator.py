"""The publisher and the conversation through the real adapter, on a GitHub backed by real git."""

from __future__ import annotations

import asyncio
import base64
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.errors import RefusedError, TransientError, UserError
from app.nouns import FileEdit, Publication, Reply
from app.pulls import wording
from app.pulls.base import Conflicts, Need, Updated, UpToDate, needed, update_from_base
from app.pulls.ci import Cause, diagnose
from app.pulls.conversation import Conversation, acknowledge
from app.pulls.publish import PERMISSIONS, choose_branch, publish
from app.pulls.threads import Replied, reply_to
from app.pulls.undo import Undone, undo
from infra.github.app import GitHubApp
from infra.simulator import ci
from infra.simulator.serve import Running, running

EFFECTS = 6  # one blob, tree, commit, ref, pull request, ready


async def _fence() -> None:
    return None


class Dying:
    """A writer whose process dies right after its nth effect."""

    def __init__(self, writer: Any, after: int, crash: type[BaseException]) -> None:
        self.writer, self.left, self.crash = writer, after, crash

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = await getattr(self.writer, name)(*args, **kwargs)
            self.left -= 1
            if not self.left:
                raise self.crash
            return answer

        return call


@dataclass
class Desk:
    sim: Running
    app: GitHubApp
    people: Any
    recorded: Any
    run: Callable[..., Any]
    change: Callable[..., Any]
    request_: Callable[..., Any]
    no_sleep: Any

    @property
    def repository_id(self) -> int:
        return next(iter(self.sim.world.repositories))

    async def by_hand(self, method: str, path: str, /, **body: Any) -> Any:
        answer = await self.people.request(method, f"/repos/octo/sample{path}", json=body or None)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    async def a_run(self, **changes: Any) -> Any:
        if "number" not in changes:
            changes["number"] = (await self.by_hand("POST", "/issues", title="Total is wrong"))["number"]
        return self.run(installation_id=self.sim.installation_id, repository_id=self.repository_id, **changes)

    async def publish(self, run: Any, *, dies_after: int = 0, crash: Any = None) -> Publication:
        """As the line does it: where to, from which commit, with a token for this alone."""
        installed = (run.installation_id, run.repository_id)
        async with self.app.reader(*installed) as reader, self.app.writer(*installed, PERMISSIONS) as writer:
            choice = await choose_branch(run, reader)
            base = await reader.branch("main")
            start = choice.pull_request.head_sha if choice.pull_request else base.sha
            request = self.request_(number=run.number, base_sha=start, base_ref="main")
            edit = FileEdit("src/total.py", b"old\n", f"new for {run.id}\n".encode())
            return await publish(
                run, request, self.change(edits=(edit,)),
                reader=reader, writer=Dying(writer, dies_after, crash) if dies_after else writer,  # type: ignore[arg-type]
                fence=_fence, record=self.recorded, guard=lambda **_: None, ledger_head="abc", sleep=self.no_sleep,
            )  # fmt: skip

    async def pulls(self) -> Any:
        return await self.by_hand("GET", "/pulls?state=all")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "sample"
    (root / "src").mkdir(parents=True)
    (root / "src" / "total.py").write_bytes(b"old\n")
    for command in (
        ["init", "-q", "-b", "main"],
        ["add", "-A"],
        ["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "-q", "-m", "First"],
    ):
        subprocess.run(["git", "-C", str(root), *command], check=True)
    return root


@pytest.fixture
async def desk(
    tmp_path: Path, folder: Path, recorded: Any, run: Any, change: Any, request_: Any, no_sleep: Any
) -> AsyncIterator[Desk]:
    async with running(tmp_path / "data", {"octo/sample": folder}) as sim:
        app = GitHubApp(
            app_id=sim.world.app.id, private_key=sim.world.app.private_key_pem, api_url=sim.base_url,
            write_interval_seconds=0, retry_base_seconds=0.01,
        )  # fmt: skip
        yield Desk(sim, app, sim.client("ada"), recorded, run, change, request_, no_sleep)
        await app.aclose()


async def test_an_issue_gets_one_ready_pull_request(desk: Desk) -> None:
    run = await desk.a_run()
    done = await desk.publish(run)
    (pull,) = await desk.pulls()
    assert pull["number"] == done.pull_request.number
    assert not pull["draft"]
    assert pull["head"]["ref"] == f"magicode/issue-{run.number}"
    assert pull["user"]["login"] == "magicode[bot]"
    assert f"Fixes #{run.number}" in pull["body"]
    (file,) = await desk.by_hand("GET", f"/pulls/{pull['number']}/files")
    assert (file["filename"], file["additions"], file["deletions"]) == ("src/total.py", 1, 1)


@pytest.mark.parametrize("survived", range(1, EFFECTS + 1))
async def test_a_crash_after_any_effect_still_ends_with_one_pull_request(
    desk: Desk, crash: type[BaseException], survived: int
) -> None:
    run = await desk.a_run()
    with pytest.raises(crash):
        await desk.publish(run, dies_after=survived, crash=crash)
    done = await desk.publish(run)
    (pull,) = await desk.pulls()
    assert pull["number"] == done.pull_request.number
    assert not pull["draft"]
    refs = await desk.by_hand("GET", "/git/matching-refs/heads/magicode")
    assert [ref["ref"] for ref in refs] == [f"refs/heads/magicode/issue-{run.number}"]


@pytest.mark.parametrize("route", ["/git/refs", "/pulls$", "/git/commits", "/graphql"])
async def test_a_connection_lost_after_the_effect_still_ends_with_one_pull_request(
    desk: Desk, route: str
) -> None:
    run = await desk.a_run()
    desk.sim.simulator.faults.add({"kind": "drop_after", "method": "POST", "route": route})
    with pytest.raises(TransientError):
        await desk.publish(run)
    await desk.publish(run)
    assert len(await desk.pulls()) == 1


async def test_two_workers_at_once_end_with_one_pull_request(desk: Desk) -> None:
    run = await desk.a_run()
    done = await asyncio.gather(*(desk.publish(run) for _ in range(3)), return_exceptions=True)
    published = [one for one in done if isinstance(one, Publication)]
    assert all(isinstance(one, Publication | TransientError) for one in done), done
    assert published
    (pull,) = await desk.pulls()
    assert {one.pull_request.number for one in published} == {pull["number"]}
    refs = await desk.by_hand("GET", "/git/matching-refs/heads/magicode")
    assert [ref["object"]["sha"] for ref in refs] == [pull["head"]["sha"]]
    assert {one.commit_sha for one in published} == {pull["head"]["sha"]}


async def test_asking_again_revises_the_open_one_and_after_closing_the_next_is_opened(desk: Desk) -> None:
    run = await desk.a_run()
    first = await desk.publish(run)
    again = replace(run, id=UUID(int=2))
    second = await desk.publish(again)
    assert (second.created, second.pull_request.number) == (False, first.pull_request.number)
    assert second.commit_sha != first.commit_sha
    await desk.by_hand("PATCH", f"/pulls/{first.pull_request.number}", state="closed")
    third = await desk.publish(replace(run, id=UUID(int=3)))
    assert third.branch == f"magicode/issue-{run.number}-2"
    assert third.created


async def test_a_commit_by_a_person_is_left_alone(desk: Desk) -> None:
    run = await desk.a_run()
    done = await desk.publish(run)
    await desk.by_hand("PUT", "/contents/by-hand.txt", message="By hand", content="aGk=", branch=done.branch)
    with pytest.raises(RefusedError) as refused:
        await desk.publish(replace(run, id=UUID(int=2)))
    assert refused.value.reason == "human_commits"
    assert len(await desk.pulls()) == 1


async def test_a_protected_branch_is_left_alone(desk: Desk) -> None:
    run = await desk.a_run()
    done = await desk.publish(run)
    await desk.by_hand(
        "PUT", f"/branches/{done.branch}/protection", required_status_checks=None, enforce_admins=True,
        required_pull_request_reviews=None, restrictions=None,
    )  # fmt: skip
    with pytest.raises(RefusedError) as refused:
        await desk.publish(replace(run, id=UUID(int=2)))
    assert refused.value.reason == "branch_protected"


async def test_pending_checks_keep_it_a_draft(desk: Desk) -> None:
    run = await desk.a_run()
    original = desk.no_sleep

    async def a_check_begins(seconds: float) -> None:
        refs = await desk.by_hand("GET", "/git/matching-refs/heads/magicode")
        await desk.by_hand("POST", f"/statuses/{refs[0]['object']['sha']}", state="pending", context="ci")

    desk.no_sleep = a_check_begins
    assert (await desk.publish(run)).pull_request.draft
    desk.no_sleep = original
    (pull,) = await desk.pulls()
    assert pull["draft"]


async def test_a_crash_after_the_comment_still_leaves_one(desk: Desk, crash: type[BaseException]) -> None:
    run = await desk.a_run(occasion="labeled:x", comment_id=None)
    installed = (run.installation_id, run.repository_id)
    async with (
        desk.app.reader(*installed) as reader,
        desk.app.writer(*installed, {"issues": "write"}) as writer,
    ):
        for attempt in range(3):
            broken = Dying(writer, 1, crash)
            conversation = Conversation(
                run, reader=reader, writer=broken if attempt == 0 else writer,  # type: ignore[arg-type]
                fence=_fence, record=desk.recorded, clock=lambda: datetime.now(UTC), bot_login="magicode[bot]",
            )  # fmt: skip
            if attempt == 0:
                with pytest.raises(crash):
                    await conversation.say(wording.working(run.id, wording.Stage.READING))
            else:
                assert await acknowledge(run, writer, desk.recorded)
                assert await conversation.say(
                    wording.working(run.id, list(wording.Stage)[attempt]), final=True
                )
    (comment,) = await desk.by_hand("GET", f"/issues/{run.number}/comments")
    assert comment["body"].startswith(wording.marker(run.id))
    reactions = await desk.by_hand("GET", f"/issues/{run.number}/reactions")
    assert [one["content"] for one in reactions] == ["eyes"]


# --- after the pull request is open ----------------------------------------------------------------------------------


@asynccontextmanager
async def at_github(
    desk: Desk, run: Any, writer_of: Callable[[Any], Any] = lambda writer: writer
) -> AsyncIterator[Any]:
    installed = (run.installation_id, run.repository_id)
    async with desk.app.reader(*installed) as reader, desk.app.writer(*installed, PERMISSIONS) as writer:
        yield {"reader": reader, "writer": writer_of(writer), "fence": _fence, "record": desk.recorded}


async def take_back(desk: Desk, run: Any, number: int, **options: Any) -> Undone:
    async with at_github(desk, run, **options) as tools:
        pull = await tools["reader"].pull_request(number)
        return await undo(run, pull, **tools, guard=lambda **_: None, ledger_head="abc")


async def contents(desk: Desk, path: str, ref: str) -> str | None:
    answer = await desk.people.request("GET", f"/repos/octo/sample/contents/{path}?ref={ref}")
    return base64.b64decode(answer.json()["content"]).decode() if answer.status_code == 200 else None


async def test_undoing_gives_the_tree_from_before_and_forces_nothing(desk: Desk) -> None:
    run = await desk.a_run()
    first = await desk.publish(run)
    second = await desk.publish(replace(run, id=UUID(int=2)))
    done = await take_back(desk, replace(run, id=UUID(int=3)), first.pull_request.number)
    assert done.undone_sha == second.commit_sha
    made = await desk.by_hand("GET", f"/git/commits/{done.publication.commit_sha}")
    before = await desk.by_hand("GET", f"/git/commits/{first.commit_sha}")
    assert made["tree"]["sha"] == before["tree"]["sha"]
    assert [one["sha"] for one in made["parents"]] == [second.commit_sha]
    (pull,) = await desk.pulls()
    assert pull["head"]["sha"] == done.publication.commit_sha
    assert "A change was undone" in pull["body"]


@pytest.mark.parametrize("survived", [1, 2, 3])
async def test_a_crash_while_undoing_still_undoes_once(
    desk: Desk, crash: type[BaseException], survived: int
) -> None:
    run = await desk.a_run()
    first = await desk.publish(run)
    again = replace(run, id=UUID(int=3))
    with pytest.raises(crash):
        await take_back(
            desk, again, first.pull_request.number, writer_of=lambda one: Dying(one, survived, crash)
        )
    done = await take_back(desk, again, first.pull_request.number)
    assert done.undone_sha == first.commit_sha
    assert await contents(desk, "src/total.py", first.branch) == "old\n"
    with pytest.raises(UserError) as refused:
        await take_back(desk, replace(run, id=UUID(int=4)), first.pull_request.number)
    assert refused.value.reason == "nothing_to_undo"


async def test_the_base_is_merged_in_cleanly_and_undoing_keeps_it(desk: Desk) -> None:
    run = await desk.a_run()
    first = await desk.publish(run)
    await desk.by_hand("PUT", "/contents/docs/new.md", message="Elsewhere", content="aGk=", branch="main")
    updating = replace(run, id=UUID(int=2))
    async with at_github(desk, updating) as tools:
        pull = await tools["reader"].pull_request(first.pull_request.number)
        assert await needed(pull, tools["reader"]) is None
        done = await update_from_base(updating, pull, **tools, guard=lambda **_: None)
        assert isinstance(done, Updated)
        assert await update_from_base(updating, pull, **tools, guard=lambda **_: None) == UpToDate()
    assert await contents(desk, "docs/new.md", first.branch) == "hi"
    undone = await take_back(desk, replace(run, id=UUID(int=3)), first.pull_request.number)
    assert undone.undone_sha == first.commit_sha
    assert await contents(desk, "docs/new.md", first.branch) == "hi"
    assert await contents(desk, "src/total.py", first.branch) == "old\n"


async def test_a_conflict_with_the_base_names_its_files_and_writes_nothing(desk: Desk) -> None:
    run = await desk.a_run()
    first = await desk.publish(run)
    there = await desk.by_hand("GET", "/contents/src/total.py?ref=main")
    await desk.by_hand(
        "PUT", "/contents/src/total.py", message="Mine", content="bWluZQo=", sha=there["sha"], branch="main"
    )
    async with at_github(desk, run) as tools:
        pull = await tools["reader"].pull_request(first.pull_request.number)
        assert await needed(pull, tools["reader"]) is Need.SAME_FILES
        assert await update_from_base(run, pull, **tools, guard=lambda **_: None) == Conflicts(
            ("src/total.py",)
        )
    (now,) = await desk.pulls()
    assert now["head"]["sha"] == first.commit_sha


async def test_review_threads_get_one_reply_each_and_resolved_ones_none(desk: Desk) -> None:
    run = await desk.a_run()
    first = await desk.publish(run)
    number = first.pull_request.number
    asked = [
        await desk.by_hand(
            "POST", f"/pulls/{number}/comments", body=text, commit_id=first.commit_sha, path="src/total.py",
            line=1, side="RIGHT",
        )
        for text in ("Why?", "And this?", "Settled")
    ]  # fmt: skip
    revising = replace(run, id=UUID(int=2), number=number, is_pull_request=True)
    async with at_github(desk, revising) as tools:
        settled = (await tools["reader"].review_threads(number))[-1]
    resolving = "mutation($id: ID!) { resolveReviewThread(input: {threadId: $id}) { thread { isResolved } } }"
    answer = await desk.people.request(
        "POST", "/graphql", json={"query": resolving, "variables": {"id": settled.node_id}}
    )
    assert "errors" not in answer.json(), answer.json()
    for _ in range(2):
        async with at_github(desk, revising) as tools:
            threads = await tools["reader"].review_threads(number)
            words = [Reply(asked[0]["id"], "Counted from one now.")]
            done = await reply_to(revising, threads, words, commit_sha=first.commit_sha, reason="", **tools)
            assert done == Replied(2)
    said = await desk.by_hand("GET", f"/pulls/{number}/comments")
    replies = [one for one in said if one["user"]["login"] == "magicode[bot]"]
    assert sorted(one["in_reply_to_id"] for one in replies) == sorted(one["id"] for one in asked[:2])
    assert all(first.commit_sha[:10] in one["body"] for one in replies)


@pytest.mark.parametrize(
    ("job", "cause", "why"),
    [
        (ci.failing("test", "tests/test_total.py:3: AssertionError: 1 != 2\n1 failed"), Cause.OURS, ""),
        (ci.failing("test", "npm error network request failed ENOTFOUND"), Cause.INFRASTRUCTURE, "network"),
        (ci.lost("test"), Cause.INFRASTRUCTURE, "stopped or lost"),
        (ci.timed_out("test"), Cause.INFRASTRUCTURE, "longer"),
        (ci.cancelled("test"), Cause.INFRASTRUCTURE, "stopped or lost"),
    ],
)
async def test_failing_ci_is_read_as_github_tells_it(desk: Desk, job: Any, cause: Cause, why: str) -> None:
    desk.sim.on_push(lambda code: [job] if code.branch.startswith("magicode/") else [ci.passing("test")])
    run = await desk.a_run()
    first = await desk.publish(run)
    await desk.sim.world.settled()
    async with at_github(desk, run) as tools:
        base = await tools["reader"].branch("main")
        said = await diagnose(tools["reader"], first.commit_sha, base.sha, b"k" * 32, sleep=asyncio.sleep)
    (one,) = said.found
    assert (one.check.name, one.cause) == ("test", cause)
    assert why in one.why
    assert ("AssertionError" in "".join(said.excerpts)) is (cause is Cause.OURS)


async def test_what_fails_on_the_base_too_is_told_from_what_is_ours(desk: Desk) -> None:
    def verdict(code: Any) -> Any:
        tests = ci.failing("test", "FAILED tests/test_old.py::test_old - assert 1 == 2\n1 failed in 0.3s")
        lint = (
            ci.failing("lint", "src/total.py:1:1: F401 unused")
            if code.branch != "main"
            else ci.passing("lint")
        )
        return [tests, lint]

    desk.sim.on_push(verdict)
    await desk.by_hand("PUT", "/contents/docs/new.md", message="Go", content="aGk=", branch="main")
    run = await desk.a_run()
    first = await desk.publish(run)
    await desk.sim.world.settled()
    async with at_github(desk, run) as tools:
        base = await tools["reader"].branch("main")
        said = await diagnose(tools["reader"], first.commit_sha, base.sha, b"k" * 32, sleep=asyncio.sleep)
    assert [one.check.name for one in said.on_base] == ["test"]
    assert [one.check.name for one in said.ours] == ["lint"]
