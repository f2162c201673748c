"""The base branch moved: merged where that is clean, named where it is not, and never over other people's work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidError, RefusedError, SupersededError
from app.nouns import Action, Rule, TreeEntry
from app.pulls import wording
from app.pulls.base import Conflicts, Need, Updated, UpToDate, needed, update_from_base
from app.pulls.sides import touched_by_both

BRANCH = "magicode/issue-3"
STRICT = Rule("required_status_checks", {"strict_required_status_checks_policy": True})


class Desk:
    def __init__(self, github: Any, recorded: Any, run: Any) -> None:
        self.github, self.recorded, self.run = github, recorded, run

    @property
    def pull(self) -> Any:
        return next(iter(self.github.pulls.values()))

    async def update(self, **options: Any) -> Updated | UpToDate | Conflicts:
        async def fence() -> None:
            return None

        asked = {
            "reader": self.github, "writer": self.github, "fence": fence, "record": self.recorded,
            "guard": lambda **_: None,
        }  # fmt: skip
        return await update_from_base(self.run(), options.pop("pull", self.pull), **{**asked, **options})


@pytest.fixture
async def desk(github: Any, recorded: Any, run: Any) -> Desk:
    """Our pull request with one commit that changes a.py."""
    github.write("main", "ada", "Begin", a_py="1", b_py="1", docs__x_md="1")
    github.refs[BRANCH] = github.refs["main"]
    github.write(BRANCH, "magicode[bot]", f"Ours\n\n{wording.trailer(UUID(int=1))}", a_py="ours")
    await github.create_pull_request(title="t", body="", head=BRANCH, base="main", draft=False)
    github.effects.clear()
    return Desk(github, recorded, run)


async def test_a_base_that_did_not_move_needs_nothing_and_no_rule_is_asked(desk: Desk) -> None:
    def guard(**_: Any) -> None:
        raise RefusedError(reason="rules_say_no")

    assert await desk.update(guard=guard) == UpToDate()
    assert await needed(desk.pull, desk.github) is None
    assert desk.github.effects == []


async def test_a_clean_merge_is_made_with_our_trailer_and_written_down(desk: Desk) -> None:
    ours = desk.github.refs[BRANCH]
    theirs = desk.github.write("main", "ada", "More", b_py="2")
    done = await desk.update()
    assert isinstance(done, Updated)
    commit = desk.github.commits[done.commit_sha]
    assert commit.parents == (ours, theirs)
    assert commit.message.splitlines()[0] == f"Merge main into {BRANCH}"
    assert wording.has_trailer(commit.message, UUID(int=1))
    assert desk.recorded.actions == [
        (Action.REF_UPDATED, {"branch": BRANCH, "sha": done.commit_sha, "merged": theirs})
    ]
    assert await desk.update() == UpToDate(), "a run that is started again merges nothing twice"
    assert desk.github.effects == ["merge"]


async def test_a_base_that_moves_again_is_merged_again(desk: Desk) -> None:
    for text in "23":
        desk.github.write("main", "ada", "More", b_py=text)
        assert isinstance(await desk.update(), Updated)
    assert desk.github.effects == ["merge", "merge"]


async def test_a_conflict_names_its_files_and_writes_nothing(desk: Desk) -> None:
    desk.github.write("main", "ada", "Mine", a_py="theirs", b_py="2")
    head = desk.github.refs[BRANCH]
    assert await desk.update() == Conflicts(("a.py",))
    assert desk.github.refs[BRANCH] == head
    assert desk.recorded.actions == []


@pytest.mark.parametrize(("text", "need"), [("theirs", Need.SAME_FILES), ("ours", None)])
async def test_it_is_needed_where_both_touched_the_same_files_differently(
    desk: Desk, text: str, need: Need | None
) -> None:
    desk.github.write("main", "ada", "Mine", a_py=text)
    assert await needed(desk.pull, desk.github) is need


@pytest.mark.parametrize(
    ("rules", "need"),
    [
        ([STRICT], Need.DEMANDED),
        ([Rule("required_status_checks", {"strict_required_status_checks_policy": False})], None),
        ([Rule("pull_request", {"strict_required_status_checks_policy": True})], None),
        ([], None),
    ],
)
async def test_it_is_needed_where_a_rule_demands_it(desk: Desk, rules: list[Rule], need: Need | None) -> None:
    desk.github.write("main", "ada", "Elsewhere", b_py="2")
    desk.github.ruled = {"main": rules}
    assert await needed(desk.pull, desk.github) is need


async def test_a_persons_commit_at_the_head_is_left_alone(desk: Desk) -> None:
    desk.github.write("main", "ada", "More", b_py="2")
    desk.github.write(BRANCH, "ada", "By hand", a_py="mine")
    with pytest.raises(RefusedError) as refused:
        await desk.update()
    assert refused.value.reason == "human_commits"
    assert desk.github.effects == []


async def test_a_person_who_pushed_while_github_merged_has_the_branch_from_then_on(desk: Desk) -> None:
    desk.github.write("main", "ada", "More", b_py="2")

    async def fence() -> None:
        desk.github.write(BRANCH, "ada", "By hand", docs__x_md="mine")

    with pytest.raises(RefusedError) as refused:
        await desk.update(fence=fence)
    assert refused.value.reason == "human_commits"
    assert desk.recorded.actions, "the merge is written down all the same"
    tree = desk.github.files[desk.github.commits[desk.github.refs[BRANCH]].tree_sha]
    assert (
        tree["docs/x.md"].sha
        != desk.github.files[desk.github.commits[desk.github.refs["main"]].tree_sha]["docs/x.md"].sha
    )


async def test_a_superseded_worker_a_rule_and_a_protection_stop_it_before_anything_is_written(
    desk: Desk,
) -> None:
    desk.github.write("main", "ada", "More", b_py="2")

    async def fence() -> None:
        raise SupersededError

    def guard(**facts: Any) -> None:
        assert facts["commit_message"].startswith("Merge main")
        raise RefusedError(reason="rules_say_no")

    with pytest.raises(SupersededError):
        await desk.update(fence=fence)
    with pytest.raises(RefusedError):
        await desk.update(guard=guard)
    desk.github.protected.add(BRANCH)
    with pytest.raises(RefusedError) as refused:
        await desk.update()
    assert refused.value.reason == "branch_protected"
    assert desk.github.effects == []


async def test_what_is_closed_or_not_ours_is_not_touched(desk: Desk) -> None:
    desk.github.write("main", "ada", "More", b_py="2")
    for pull, reason in (
        (replace(desk.pull, state="closed"), "pull_request_closed"),
        (replace(desk.pull, head_repository_id=8), "not_our_pull_request"),
        (replace(desk.pull, head_ref="feature"), "not_our_pull_request"),
        (replace(desk.pull, head_ref="magicode/issue-9"), "pull_request_closed"),
    ):
        with pytest.raises(RefusedError) as refused:
            await desk.update(pull=pull)
        assert refused.value.reason == reason
    assert desk.github.effects == []


async def test_another_refusal_of_githubs_is_no_conflict(desk: Desk) -> None:
    desk.github.write("main", "ada", "More", b_py="2")
    desk.github.refuse["merge"] = InvalidError(reason="branch_rules")
    with pytest.raises(InvalidError):
        await desk.update()


# --- both sides ------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c/d", "c"])
FILES = st.dictionaries(NAMES, st.sampled_from("12"), max_size=4)


@given(before=FILES, ours=FILES, theirs=FILES)
async def test_both_have_touched_what_each_changed_and_not_alike(
    before: dict[str, str], ours: dict[str, str], theirs: dict[str, str]
) -> None:
    sides = {"p": before, "o": ours, "t": theirs}

    class Reader:
        async def tree(self, sha: str) -> Any:
            class Found:
                entries = tuple(TreeEntry(path, "100644", text, 1) for path, text in sides[sha].items())

            return Found

    reader: Any = Reader()
    both = await touched_by_both(reader, "p", "o", "t")
    for path in ("a", "b", "c/d", "c"):
        was, here, there = before.get(path), ours.get(path), theirs.get(path)
        if here != was and there != was and here != there:
            assert path in both
        elif path in both:
            assert path == "c", "only a file that is a folder on the other side is in the way without that"
    assert both == await touched_by_both(reader, "p", "t", "o")


async def test_a_file_on_one_side_is_in_the_way_of_a_folder_on_the_other() -> None:
    sides = {"p": {}, "o": {"c": "1"}, "t": {"c/d": "1"}}

    class Reader:
        async def tree(self, sha: str) -> Any:
            class Found:
                entries = tuple(TreeEntry(path, "100644", text, 1) for path, text in sides[sha].items())

            return Found

    reader: Any = Reader()
    assert await touched_by_both(reader, "p", "o", "t") == ("c",)
    assert await touched_by_both(reader, "p", "t", "o") == ("c",)


@pytest.mark.parametrize("mode", ["100755", "100644"])
async def test_a_mode_is_a_change_too(mode: str) -> None:
    class Reader:
        async def tree(self, sha: str) -> Any:
            class Found:
                entries = (
                    TreeEntry("a", "100644" if sha == "p" else mode if sha == "o" else "120000", "x", 1),
                )

            return Found

    reader: Any = Reader()
    assert await touched_by_both(reader, "p", "o", "t") == (("a",) if mode == "100755" else ())
