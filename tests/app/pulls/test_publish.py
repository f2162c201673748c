"""The publisher on a GitHub in memory: one run, one pull request, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from app.errors import (
    AlreadyExistsError,
    InvalidError,
    RefusedError,
    StoppedError,
    SupersededError,
    TransientError,
)
from app.nouns import Action, ChecksReport, Publication, Rule
from app.pulls import body, wording
from app.pulls.publish import choose_branch, publish

EFFECTS = 7  # two blobs, tree, commit, ref, pull request, ready


@dataclass
class Desk:
    """Publishes with everything that a publisher needs at hand."""

    github: Any
    recorded: Any
    run: Callable[..., Any]
    change: Callable[..., Any]
    request_: Callable[..., Any]
    no_sleep: Any
    fences: int = 0

    async def publish(self, **options: Any) -> Publication:
        async def fence() -> None:
            self.fences += 1

        asked = {
            "reader": self.github,
            "writer": self.github,
            "fence": fence,
            "record": self.recorded,
            "guard": lambda **_: None,
            "ledger_head": "abc123",
            "sleep": self.no_sleep,
        }
        run = options.pop("run", None) or self.run()
        request = options.pop("request", None) or self.request_()
        change = options.pop("change", None) or self.change()
        return await publish(run, request, change, **{**asked, **options})


@pytest.fixture
def desk(github: Any, recorded: Any, run: Any, change: Any, request_: Any, no_sleep: Any) -> Desk:
    return Desk(github, recorded, run, change, request_, no_sleep)


async def test_a_change_becomes_one_ready_pull_request(desk: Desk) -> None:
    done = await desk.publish()
    assert done.created
    assert done.branch == "magicode/issue-3"
    assert not done.pull_request.draft
    assert "Fixes #3" in done.pull_request.body
    commit = desk.github.commits[done.commit_sha]
    assert commit.parents == (desk.request_().base_sha,)
    assert commit.message.splitlines()[0] == "Count the last item too"
    assert commit.message.splitlines()[-1] == f"MagiCode-Run: {UUID(int=1)}"
    _, changes = desk.github.trees[commit.tree_sha]
    assert [(one.path, one.mode, one.blob_sha is None) for one in changes] == [
        ("src/total.py", "100644", False),
        ("docs/gone.md", "100644", True),
        ("run.sh", "100755", False),
    ]
    assert [action for action, _ in desk.recorded.actions] == [
        Action.COMMIT_CREATED,
        Action.REF_CREATED,
        Action.PULL_REQUEST_OPENED,
        Action.PULL_REQUEST_UPDATED,
    ]


@pytest.mark.parametrize("effect", ["create_commit", "create_ref", "create_pull_request"])
async def test_a_cancellation_stops_it_until_the_pull_request_is_open_and_not_halfway_after(
    desk: Desk, effect: str
) -> None:
    async def fence() -> None:
        if effect in desk.github.effects:
            raise StoppedError(reason="cancelled")

    if effect == "create_pull_request":
        assert not (await desk.publish(fence=fence)).pull_request.draft
        return
    with pytest.raises(StoppedError):
        await desk.publish(fence=fence)
    assert desk.github.pulls == {}


async def test_the_fence_is_awaited_before_each_effect(desk: Desk) -> None:
    await desk.publish()
    assert desk.fences == len(desk.github.effects)


@pytest.mark.parametrize("survived", range(1, EFFECTS))
async def test_a_run_that_died_after_an_effect_ends_with_one_pull_request(
    desk: Desk, crash: type[BaseException], survived: int
) -> None:
    def die(_: str) -> None:
        if len(desk.github.effects) == survived:
            raise crash

    desk.github.after_effect = die
    with pytest.raises(crash):
        await desk.publish()
    desk.github.after_effect = lambda _: None
    done = await desk.publish()
    assert list(desk.github.pulls) == [done.pull_request.number]
    assert done.branch == "magicode/issue-3"
    assert done.created
    assert set(desk.github.refs) == {"main", "magicode/issue-3"}
    assert not done.pull_request.draft


async def test_publishing_twice_changes_nothing_the_second_time(desk: Desk) -> None:
    first = await desk.publish()
    effects = list(desk.github.effects)
    assert await desk.publish() == first
    assert desk.github.effects == effects


@pytest.mark.parametrize("allowed", range(EFFECTS))
async def test_a_superseded_worker_has_no_further_effect(desk: Desk, allowed: int) -> None:
    left = [allowed]

    async def fence() -> None:
        if not left[0]:
            raise SupersededError
        left[0] -= 1

    with pytest.raises(SupersededError):
        await desk.publish(fence=fence)
    assert len(desk.github.effects) == allowed


async def test_asking_again_while_it_is_open_revises_it(desk: Desk) -> None:
    first = await desk.publish()
    again = desk.run(id=UUID(int=2))
    choice = await choose_branch(again, desk.github)
    assert choice.pull_request is not None
    request = desk.request_(base_sha=choice.pull_request.head_sha, is_revision=True)
    second = await desk.publish(run=again, request=request, change=desk.change(summary="Better."))
    assert not second.created
    assert second.pull_request.number == first.pull_request.number
    assert desk.github.commits[second.commit_sha].parents == (first.commit_sha,)
    assert "Better." in second.pull_request.body
    assert "The loop stopped one short." not in second.pull_request.body
    assert len(desk.github.pulls) == 1
    assert (
        Action.REF_UPDATED,
        {"branch": "magicode/issue-3", "sha": second.commit_sha},
    ) in desk.recorded.actions


@pytest.mark.parametrize("merged", [False, True])
async def test_after_a_closed_pull_request_the_next_branch_is_used(desk: Desk, merged: bool) -> None:
    first = await desk.publish()
    desk.github.close(first.pull_request.number, merged=merged)
    second = await desk.publish(run=desk.run(id=UUID(int=2)))
    assert second.branch == "magicode/issue-3-2"
    desk.github.close(second.pull_request.number)
    assert (await desk.publish(run=desk.run(id=UUID(int=3)))).branch == "magicode/issue-3-3"


@pytest.mark.parametrize("merged", [False, True])
async def test_what_is_ended_while_it_is_revised_does_not_come_back(desk: Desk, merged: bool) -> None:
    first = await desk.publish()
    again = desk.run(id=UUID(int=2))
    request = desk.request_(base_sha=first.commit_sha, is_revision=True)
    desk.github.close(first.pull_request.number, merged=merged)
    before = list(desk.github.refs)
    with pytest.raises(RefusedError) as caught:
        await desk.publish(run=again, request=request)
    assert caught.value.reason == "pull_request_closed"
    assert len(desk.github.pulls) == 1
    assert list(desk.github.refs) == before


async def test_a_pull_request_closed_between_crash_and_rerun_is_not_opened_again(desk: Desk) -> None:
    first = await desk.publish()
    desk.github.close(first.pull_request.number)
    again = await desk.publish()
    assert again.pull_request.number == first.pull_request.number
    assert len(desk.github.pulls) == 1


async def test_a_human_commit_on_our_branch_is_left_alone(desk: Desk) -> None:
    await desk.publish()
    theirs = desk.github.push("magicode/issue-3", "My own idea", "ada")
    for base in (theirs, desk.request_().base_sha):
        with pytest.raises(RefusedError) as refused:
            await desk.publish(run=desk.run(id=UUID(int=2)), request=desk.request_(base_sha=base))
        assert refused.value.reason == "human_commits"
    assert desk.github.refs["magicode/issue-3"] == theirs


async def test_a_person_who_keeps_our_trailer_is_still_a_person(desk: Desk) -> None:
    first = await desk.publish()
    message = desk.github.commits[first.commit_sha].message
    desk.github.push("magicode/issue-3", message, "ada")
    with pytest.raises(RefusedError, match="Somebody has committed"):
        await desk.publish()


async def test_work_that_began_from_an_older_head_of_ours_is_not_written_over_it(desk: Desk) -> None:
    await desk.publish()
    with pytest.raises(RefusedError) as refused:
        await desk.publish(run=desk.run(id=UUID(int=2)))
    assert refused.value.reason == "branch_moved"


async def test_a_branch_of_that_name_without_commits_of_its_own_is_used(desk: Desk) -> None:
    desk.github.refs["magicode/issue-3"] = desk.request_().base_sha
    assert (await desk.publish()).branch == "magicode/issue-3"


async def test_a_persons_branch_of_that_name_is_left_alone(desk: Desk) -> None:
    desk.github.push("magicode/issue-3", "Theirs", "ada")
    with pytest.raises(RefusedError) as refused:
        await desk.publish()
    assert refused.value.reason == "human_commits"


async def test_a_branch_that_another_run_left_without_a_pull_request_is_passed_over(desk: Desk) -> None:
    desk.github.push("magicode/issue-3", f"Half\n\n{wording.trailer(UUID(int=9))}", "magicode[bot]")
    assert (await desk.publish()).branch == "magicode/issue-3-2"


async def test_a_protected_branch_of_ours_is_not_written_to(desk: Desk) -> None:
    desk.github.refs["magicode/issue-3"] = desk.request_().base_sha
    desk.github.protected.add("magicode/issue-3")
    with pytest.raises(RefusedError) as refused:
        await desk.publish()
    assert refused.value.reason == "branch_protected"
    assert desk.github.effects == []


async def test_the_guard_sees_both_branches_rules_and_the_message_before_anything_is_written(
    desk: Desk,
) -> None:
    desk.github.ruled = {"main": [Rule("pull_request")], "magicode/issue-3": [Rule("creation")]}
    desk.github.protected.add("main")
    seen: dict[str, Any] = {}

    def guard(**facts: Any) -> None:
        seen.update(facts)
        raise RefusedError(reason="rules_say_no")

    with pytest.raises(RefusedError):
        await desk.publish(guard=guard)
    assert seen.pop("commit_message").startswith("Count the last item too")
    assert seen == {
        "branch": "magicode/issue-3",
        "branch_rules": [Rule("creation")],
        "branch_protected": False,
        "base": "main",
        "base_rules": [Rule("pull_request")],
        "base_protected": True,
    }
    assert desk.github.effects == []


async def test_a_draft_with_pending_checks_stays_a_draft(desk: Desk) -> None:
    desk.github.pending = 1
    done = await desk.publish()
    assert done.pull_request.draft
    assert "mark_ready" not in desk.github.effects


async def test_where_drafts_are_not_supported_it_is_opened_ready(desk: Desk) -> None:
    desk.github.refuse["create_pull_request"] = InvalidError(reason="drafts_unsupported")
    assert not (await desk.publish()).pull_request.draft


async def test_a_ref_made_by_a_quicker_attempt_of_this_run_is_adopted(desk: Desk) -> None:
    def be_quicker(effect: str) -> None:
        if effect == "create_commit":
            mine = next(c for c in desk.github.commits.values() if wording.has_trailer(c.message))
            desk.github.refs["magicode/issue-3"] = mine.sha

    desk.github.after_effect = be_quicker
    done = await desk.publish()
    assert desk.github.refs["magicode/issue-3"] == done.commit_sha
    assert len(desk.github.pulls) == 1


async def test_a_ref_made_by_somebody_else_in_the_meantime_is_left_alone(desk: Desk) -> None:
    def be_quicker(effect: str) -> None:
        if effect == "create_commit":
            desk.github.push("magicode/issue-3", "Theirs", "ada")

    desk.github.after_effect = be_quicker
    with pytest.raises(RefusedError) as refused:
        await desk.publish()
    assert refused.value.reason == "human_commits"


async def test_a_pull_request_opened_in_the_meantime_is_adopted(desk: Desk) -> None:
    async def open_it() -> None:
        await desk.github.create_pull_request(
            title="t", body="By hand.", head="magicode/issue-3", base="main", draft=False
        )

    made: list[int] = []

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(desk.github, name)

        async def create_pull_request(self, **asked: Any) -> Any:
            if not made:
                made.append(1)
                await open_it()
            return await desk.github.create_pull_request(**asked)

    done = await desk.publish(writer=Slow())
    assert not done.created
    assert len(desk.github.pulls) == 1
    assert done.pull_request.body.startswith("By hand.")
    assert wording.marker(UUID(int=1)) in done.pull_request.body


async def test_a_pull_request_that_exists_and_is_not_found_is_tried_again_later(desk: Desk) -> None:
    desk.github.refuse["create_pull_request"] = AlreadyExistsError()
    with pytest.raises(TransientError):
        await desk.publish()


async def test_a_pull_request_of_somebody_else_is_not_committed_to(desk: Desk) -> None:
    desk.github.push("feature", "Theirs", "ada")
    theirs = await desk.github.create_pull_request(
        title="t", body="", head="feature", base="main", draft=False
    )
    with pytest.raises(RefusedError) as refused:
        await desk.publish(
            run=desk.run(is_pull_request=True, number=theirs.number),
            request=desk.request_(pull_request=theirs, base_sha=theirs.head_sha),
        )
    assert refused.value.reason == "not_our_pull_request"


async def test_a_revision_asked_on_our_pull_request_goes_to_its_branch_and_closes_nothing_new(
    desk: Desk,
) -> None:
    first = await desk.publish()
    run = desk.run(id=UUID(int=2), is_pull_request=True, number=first.pull_request.number, verb="revise")
    request = desk.request_(pull_request=first.pull_request, base_sha=first.commit_sha)
    second = await desk.publish(run=run, request=request)
    assert second.branch == first.branch
    assert "Fixes" not in desk.github.commits[second.commit_sha].message
    assert "Fixes #3" in second.pull_request.body


async def test_a_refusal_by_githubs_rules_is_final_and_leaves_no_pull_request(desk: Desk) -> None:
    desk.github.refuse["create_ref"] = InvalidError(reason="branch_rules")
    with pytest.raises(InvalidError):
        await desk.publish()
    assert not desk.github.pulls


async def test_a_runs_own_update_from_the_base_is_no_change_of_its(desk: Desk) -> None:
    first = await desk.publish()
    run = desk.run(id=UUID(int=2))
    desk.github.write("main", "ada", "Elsewhere", other_py="x")
    message = body.merge_message(run.id, "main", first.branch)
    merged = await desk.github.merge(first.branch, desk.github.refs["main"], message)
    second = await desk.publish(run=run, request=desk.request_(base_sha=merged.sha))
    assert second.commit_sha != merged.sha
    assert desk.github.commits[second.commit_sha].parents == (merged.sha,)
    assert await desk.publish(run=run, request=desk.request_(base_sha=merged.sha)) == second


async def test_the_body_names_each_commit_of_ours(desk: Desk) -> None:
    first = await desk.publish()
    request = desk.request_(base_sha=first.commit_sha)
    again = desk.change(title="Count @ada's items", checks=ChecksReport(not_run="there is no sandbox here"))
    second = await desk.publish(run=desk.run(id=UUID(int=2)), request=request, change=again)
    said = second.pull_request.body
    one, two = first.commit_sha[:10], second.commit_sha[:10]
    assert f"## Commits\n\n- {one}: Count the last item too\n- {two}: Count @\u200bada's items" in said
    assert "Checks were not run, because there is no sandbox here." in said
    assert "What the newest commit changed" in said
