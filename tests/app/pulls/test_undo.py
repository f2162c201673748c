"""Undoing: our last change, with a new commit, once, and nobody else's work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidError, RefusedError, SupersededError, TransientError, UserError
from app.nouns import Action, FileEdit, Publication, Rule
from app.pulls import body as body_
from app.pulls import wording
from app.pulls.publish import choose_branch, publish
from app.pulls.undo import Undone, undo
from tests.app.pulls.conftest import FakeGitHub, Recorded, a_change, a_request, a_run

BRANCH = "magicode/issue-3"
EFFECTS = 3  # commit, ref, body


async def _no_fence() -> None:
    return None


@dataclass
class Desk:
    github: Any
    recorded: Any
    runs: int = 0

    def run(self, **changes: Any) -> Any:
        self.runs += 1
        return a_run(**{"id": UUID(int=self.runs), **changes})

    async def change(self, *paths: str, text: str = "x") -> Publication:
        run = self.run()
        choice = await choose_branch(run, self.github)
        pull = choice.pull_request
        start = pull.head_sha if pull else self.github.refs["main"]
        edits = tuple(FileEdit(path, None, f"{text} {run.id}".encode()) for path in paths)

        async def sleep(_: float) -> None:
            return None

        return await publish(
            run, a_request(base_sha=start), a_change(edits=edits, title=f"Change {self.runs}"),
            reader=self.github, writer=self.github, fence=_no_fence, record=self.recorded,
            guard=lambda **_: None, ledger_head="h", sleep=sleep,
        )  # fmt: skip

    @property
    def pull(self) -> Any:
        return next(one for one in self.github.pulls.values() if one.head_ref == BRANCH)

    async def undo(self, **options: Any) -> Undone:
        run = options.pop("run", None) or self.run(verb="undo")
        asked = {
            "reader": self.github, "writer": self.github, "fence": _no_fence, "record": self.recorded,
            "guard": lambda **_: None, "ledger_head": "h2",
        }  # fmt: skip
        return await undo(run, options.pop("pull", None) or self.pull, **{**asked, **options})

    def files(self) -> dict[str, str]:
        tree = self.github.commits[self.github.refs[BRANCH]].tree_sha
        return {path: entry.sha for path, entry in self.github.files[tree].items()}

    async def merge_main(self, **texts: str | None) -> None:
        self.github.write("main", "ada", "Elsewhere", **texts)
        message = body_.merge_message(UUID(int=77), "main", BRANCH)
        await self.github.merge(BRANCH, self.github.refs["main"], message)


@pytest.fixture
def desk(github: Any, recorded: Any) -> Desk:
    return Desk(github, recorded)


async def test_the_last_change_is_taken_back_by_a_new_commit_on_top(desk: Desk) -> None:
    first = await desk.change("a.py")
    before = desk.files()
    second = await desk.change("a.py", "b.py")
    done = await desk.undo()
    assert done.undone_sha == second.commit_sha
    assert desk.files() == before
    commit = desk.github.commits[done.publication.commit_sha]
    assert commit.parents == (second.commit_sha,)
    assert commit.message.splitlines()[0] == "Undo: Change 2"
    assert body_.undoes(commit.message) == second.commit_sha
    assert wording.has_trailer(commit.message, UUID(int=3))
    assert not done.publication.created
    assert done.publication.pull_request.number == first.pull_request.number


async def test_asked_again_it_takes_back_the_change_before_and_then_says_that_nothing_is_left(
    desk: Desk,
) -> None:
    first = await desk.change("a.py")
    second = await desk.change("b.py")
    third = await desk.change("a.py")
    undone = [(await desk.undo()).undone_sha for _ in range(3)]
    assert undone == [third.commit_sha, second.commit_sha, first.commit_sha]
    assert desk.files() == {}
    with pytest.raises(UserError) as refused:
        await desk.undo()
    assert refused.value.reason == "nothing_to_undo"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["change", "undo", "merge"]), max_size=9))
async def test_whatever_came_before_undoing_leaves_the_files_of_the_changes_that_stand(
    steps: list[str],
) -> None:
    desk = Desk(FakeGitHub(), Recorded())
    await desk.change("first.py")
    standing, merges = [desk.files()["first.py"]], 0
    for number, step in enumerate(steps):
        if step == "change":
            await desk.change(f"file{number}.py")
            standing.append(desk.files()[f"file{number}.py"])
        elif step == "merge":
            merges += 1
            await desk.merge_main(**{f"main{number}_py": "m"})
        elif standing:
            await desk.undo()
            standing.pop()
        else:
            with pytest.raises(UserError):
                await desk.undo()
    ours = {path: one for path, one in desk.files().items() if not path.startswith("main")}
    assert sorted(ours.values()) == sorted(standing)
    assert len(desk.files()) == len(standing) + merges


async def test_an_update_from_the_base_branch_stays(desk: Desk) -> None:
    await desk.change("a.py")
    await desk.merge_main(other_py="theirs")
    done = await desk.undo()
    assert set(desk.files()) == {"other.py"}
    assert desk.github.commits[done.publication.commit_sha].parents[0] != done.undone_sha


async def test_where_an_update_touched_the_same_file_a_person_decides(desk: Desk) -> None:
    desk.github.write("main", "ada", "First of it", a_py="one")
    await desk.change("b.py")
    last = await desk.change("c.py")
    await desk.merge_main(a_py="two")
    github = desk.github
    # What the base brought into a file of ours, as a merge line by line would leave it.
    files = {**github.files[github.commits[github.refs[BRANCH]].tree_sha]}
    files["c.py"] = files["a.py"].__class__("c.py", "100644", "f" * 40, 1)
    merge = github.commits[github.refs[BRANCH]]
    github.move(BRANCH, github.commit_by("magicode[bot]", merge.message, files, *merge.parents))
    effects = list(github.effects)
    with pytest.raises(RefusedError, match=r"`c\.py`") as refused:
        await desk.undo()
    assert refused.value.reason == "undo_over_merge"
    assert github.effects == effects
    assert last.commit_sha in github.history(github.refs[BRANCH])


async def test_a_merged_change_of_ours_on_the_base_branch_is_not_undone(desk: Desk) -> None:
    message = f"Squashed\n\n{wording.trailer(UUID(int=50))}"
    desk.github.write("main", "magicode[bot]", message, old_py="x")
    await desk.change("a.py")
    await desk.undo()
    with pytest.raises(UserError) as refused:
        await desk.undo()
    assert refused.value.reason == "nothing_to_undo"
    assert set(desk.files()) == {"old.py"}


async def test_a_persons_commit_at_the_head_is_left_alone(desk: Desk) -> None:
    await desk.change("a.py")
    theirs = desk.github.write(BRANCH, "ada", "By hand", a_py="mine")
    with pytest.raises(RefusedError) as refused:
        await desk.undo()
    assert refused.value.reason == "human_commits"
    assert desk.github.refs[BRANCH] == theirs


async def test_a_persons_commit_further_down_ends_the_search(desk: Desk) -> None:
    await desk.change("a.py")
    desk.github.write(BRANCH, "ada", "By hand", b_py="mine")
    desk.github.write(BRANCH, "magicode[bot]", f"Ours\n\n{wording.trailer(UUID(int=60))}", c_py="x")
    await desk.undo()
    with pytest.raises(UserError):
        await desk.undo()
    assert set(desk.files()) == {"a.py", "b.py"}


async def test_a_persons_undo_trailer_hides_no_change(desk: Desk) -> None:
    """Only a commit of ours can say that another is undone."""
    first = await desk.change("a.py")
    message = body_.undo_message(UUID(int=9), first.commit_sha, "x")
    desk.github.write(BRANCH, "ada", message, a_py="mine")
    with pytest.raises(RefusedError):
        await desk.undo()


@pytest.mark.parametrize("survived", range(1, EFFECTS + 1))
async def test_a_run_that_died_after_an_effect_undoes_once(
    desk: Desk, crash: type[BaseException], survived: int
) -> None:
    first = await desk.change("a.py")
    second = await desk.change("b.py")
    run, begun = desk.run(), len(desk.github.effects)

    def die(_: str) -> None:
        if len(desk.github.effects) == begun + survived:
            raise crash

    desk.github.after_effect = die
    with pytest.raises(crash):
        await desk.undo(run=run)
    desk.github.after_effect = lambda _: None
    done = await desk.undo(run=run)
    assert done.undone_sha == second.commit_sha
    assert desk.github.history(desk.github.refs[BRANCH])[1:3] == [second.commit_sha, first.commit_sha]
    assert done.publication.pull_request.body.count(wording.marker(run.id)) == 1
    effects = list(desk.github.effects)
    assert await desk.undo(run=run) == done
    assert desk.github.effects == effects


@pytest.mark.parametrize("allowed", range(EFFECTS))
async def test_a_superseded_worker_has_no_further_effect(desk: Desk, allowed: int) -> None:
    await desk.change("a.py")
    left, begun = [allowed], len(desk.github.effects)

    async def fence() -> None:
        if not left[0]:
            raise SupersededError
        left[0] -= 1

    with pytest.raises(SupersededError):
        await desk.undo(fence=fence)
    assert len(desk.github.effects) == begun + allowed


async def test_its_own_commit_by_a_quicker_attempt_is_adopted_and_anothers_is_tried_again(desk: Desk) -> None:
    await desk.change("a.py")
    github, run = desk.github, desk.run()
    made: list[str] = []

    def be_quicker(effect: str) -> None:
        if effect == "create_commit" and not made:
            made.append(
                next(c.sha for c in github.commits.values() if wording.has_trailer(c.message, run.id))
            )
            github.move(BRANCH, made[0])

    github.after_effect = be_quicker
    github.refuse["update_ref"] = InvalidError(reason="not_fast_forward")
    assert (await desk.undo(run=run)).publication.commit_sha == made[0]
    await desk.change("b.py")
    github.refuse["update_ref"] = InvalidError(reason="not_fast_forward")
    with pytest.raises(TransientError) as moved:
        await desk.undo()
    assert moved.value.reason == "branch_moved"


async def test_rules_and_states_are_obeyed_before_anything_is_written(desk: Desk, request_: Any) -> None:
    await desk.change("a.py")
    desk.github.ruled = {BRANCH: [Rule("creation")]}
    begun = list(desk.github.effects)
    seen: dict[str, Any] = {}

    def guard(**facts: Any) -> None:
        seen.update(facts)
        raise RefusedError(reason="rules_say_no")

    with pytest.raises(RefusedError):
        await desk.undo(guard=guard)
    assert seen["branch"] == BRANCH
    assert seen["commit_message"].startswith("Undo: Change 1")
    desk.github.ruled = {}
    desk.github.protected.add(BRANCH)
    for prepare, reason in (
        (lambda: None, "branch_protected"),
        (lambda: _closed(desk), "pull_request_closed"),
    ):
        prepare()
        with pytest.raises(RefusedError) as refused:
            await desk.undo()
        assert refused.value.reason == reason
    assert desk.github.effects == begun


def _closed(desk: Desk) -> None:
    desk.github.close(desk.pull.number)


async def test_a_pull_request_of_somebody_else_is_not_touched(desk: Desk) -> None:
    desk.github.push("feature", f"Theirs\n\n{wording.trailer(UUID(int=9))}", None)
    theirs = await desk.github.create_pull_request(
        title="t", body="", head="feature", base="main", draft=False
    )
    with pytest.raises(RefusedError) as refused:
        await desk.undo(pull=theirs)
    assert refused.value.reason == "not_our_pull_request"


async def test_the_body_and_the_log_say_so(desk: Desk, change: Callable[..., Any]) -> None:
    await desk.change("a.py")
    second = await desk.change("b.py")
    desk.github.pulls[desk.pull.number] = desk.pull.__class__(
        **{f: getattr(desk.pull, f) for f in desk.pull.__slots__} | {"body": f"By hand.\n\n{desk.pull.body}"}
    )
    desk.recorded.actions.clear()
    done = await desk.undo()
    body = desk.pull.body
    assert body.startswith("By hand.")
    new, old = done.publication.commit_sha[:10], second.commit_sha[:10]
    assert f"{new} takes back what {old} changed" in body
    assert f"- {old}: Change 2\n- {new}: Undo {old}" in body
    assert "ran no checks" in body
    assert [action for action, _ in desk.recorded.actions] == [
        Action.COMMIT_CREATED, Action.REF_UPDATED, Action.PULL_REQUEST_UPDATED,
    ]  # fmt: skip
