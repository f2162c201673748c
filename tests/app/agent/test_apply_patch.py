"""A patch does all that it says, or nothing, and says why."""

from __future__ import annotations

from difflib import SequenceMatcher
from operator import add
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.agent.apply_patch import apply_patch
from app.agent.draft import Draft
from app.agent.edits import ToolError
from app.agent.tools import Toolbox
from app.nouns import ToolCall
from tests.app.agent.corpus import ALL_PATCHES
from tests.app.agent.corpus.case import No, Patching
from tests.app.tree import Tree


@pytest.mark.parametrize("case", ALL_PATCHES, ids=lambda case: case.name)
def test_a_patch_of_the_corpus_gives_these_files_or_this_refusal(case: Patching) -> None:
    draft = Draft(Tree(case.before))
    if isinstance(case.after, No):
        with pytest.raises(ToolError) as refused:
            apply_patch(draft, case.patch)
        for part in case.after.shows:
            assert part in str(refused.value)
        assert draft.edits() == ()
        return
    touched = apply_patch(draft, case.patch)
    assert {edit.path: edit.after for edit in draft.edits()} == case.after
    for note in case.notes:
        assert any(note in str(one) for one in touched)
    if not case.notes:
        assert not any(one.notes for one in touched)


# --- whatever the file and the change are ----------------------------------------------------------------------------

LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=8)
ENDS = st.sampled_from(["\n", "\r\n"])


def as_patch(path: str, old: list[str], new: list[str]) -> str:
    """The whole of a file replaced line by line, as a model would write it."""
    body: list[str] = []
    for tag, i, i_end, j, j_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            body += [" " + line for line in old[i:i_end]]
        else:
            body += ["-" + line for line in old[i:i_end]] + ["+" + line for line in new[j:j_end]]
    return "\n".join(["*** Begin Patch", f"*** Update File: {path}", "@@", *body, "*** End Patch", ""])


@given(st.lists(LINE, min_size=1, max_size=10), st.lists(LINE, min_size=1, max_size=10), ENDS, st.booleans())
def test_a_patch_and_its_reverse_give_the_same_bytes(
    old: list[str], new: list[str], end: str, final: bool
) -> None:
    assume(old != new)
    # An unended last line that is empty cannot be told from a file that ends with a newline.
    assume(final or (old[-1] and new[-1]))
    # One line without an end does not say how lines end in this file.
    assume(final or end == "\n" or (len(old) > 1 and len(new) > 1))
    before = (end.join(old) + (end if final else "")).encode()
    there = Draft(Tree({"a.txt": before}))
    apply_patch(there, as_patch("a.txt", old, new))
    after = there.read("a.txt")
    assert after == (end.join(new) + (end if final else "")).encode()
    apply_patch(there, as_patch("a.txt", new, old))
    assert there.read("a.txt") == before


@given(st.data(), st.lists(LINE, min_size=3, max_size=14), st.lists(LINE, max_size=4))
def test_a_hunk_touches_no_line_that_it_does_not_take_out(
    data: st.DataObject, lines: list[str], new: list[str]
) -> None:
    ends = data.draw(st.lists(ENDS, min_size=len(lines), max_size=len(lines)))
    first = data.draw(st.integers(0, len(lines) - 1))
    last = data.draw(st.integers(first, len(lines) - 1))
    before = "".join(line + end for line, end in zip(lines, ends, strict=True)).encode()
    draft = Draft(Tree({"a.txt": before}))
    body = ["-" + line for line in lines[first : last + 1]] + ["+" + line for line in new]
    try:
        apply_patch(draft, "\n".join(["*** Begin Patch", "*** Update File: a.txt", *body, "*** End Patch"]))
    except ToolError:
        assert draft.edits() == ()
        return
    after = draft.read("a.txt")
    head = "".join(map(add, lines[:first], ends[:first])).encode()
    tail = "".join(map(add, lines[last + 1 :], ends[last + 1 :])).encode()
    assert after.startswith(head)
    assert after.endswith(tail)
    middle = after[len(head) : len(after) - len(tail)].decode()
    assert [line.removesuffix("\r") for line in middle.split("\n")[:-1]] == new


@given(
    st.lists(st.sampled_from("ab"), min_size=2, max_size=12),
    st.lists(st.sampled_from("ab"), min_size=1, max_size=3),
)
def test_a_hunk_is_applied_only_where_its_text_stands_once(lines: list[str], old: list[str]) -> None:
    draft = Draft(Tree({"a.txt": "".join(line + "\n" for line in lines).encode()}))
    places = [i for i in range(len(lines) - len(old) + 1) if lines[i : i + len(old)] == old]
    text = "\n".join(
        ["*** Begin Patch", "*** Update File: a.txt", *("-" + o for o in old), "+x", "*** End Patch"]
    )
    if len(places) != 1:
        with pytest.raises(ToolError, match="occurs" if places else "does not occur"):
            apply_patch(draft, text)
        return
    apply_patch(draft, text)
    at = places[0]
    told = [*lines[:at], "x", *lines[at + len(old) :]]
    assert draft.read("a.txt") == "".join(line + "\n" for line in told).encode()


@given(st.text(max_size=200) | st.lists(st.sampled_from(
    ["*** Begin Patch", "*** End Patch", "*** Update File: a", "*** Add File: b", "*** Delete File: a", "*** Move to: c",
     "@@", "@@ x", " x", "-x", "+y", "", "*** End of File", "z"]), max_size=12).map("\n".join))  # fmt: skip
def test_any_text_is_applied_or_refused_and_a_refusal_changes_nothing(text: str) -> None:
    draft = Draft(Tree({"a": b"x\nw\nx\n"}))
    try:
        apply_patch(draft, text)
    except ToolError:
        assert draft.edits() == ()


# --- what is said about it -------------------------------------------------------------------------------------------


def test_the_lines_that_are_told_are_those_of_the_file_in_the_end() -> None:
    draft = Draft(Tree({"a.txt": b"".join(b"%d\n" % n for n in range(1, 21))}))
    said = apply_patch(
        draft,
        "*** Begin Patch\n*** Update File: a.txt\n@@\n-3\n+three\n+and a half\n@@\n-15\n+fifteen\n"
        "*** Update File: a.txt\n@@\n-20\n+twenty\n*** End Patch\n",
    )
    assert [one.spans for one in said] == [(), ((21, 21),)]


def test_an_executable_file_is_not_moved() -> None:
    draft = Draft(Tree({"run.sh": b"a\n"}, executable=["run.sh"]))
    with pytest.raises(ToolError, match="executable"):
        apply_patch(draft, "*** Begin Patch\n*** Update File: run.sh\n*** Move to: go.sh\n*** End Patch\n")
    assert draft.edits() == ()


def test_a_link_is_not_patched() -> None:
    draft = Draft(Tree({"a": b"a\n"}, {"link": "120000"}))
    with pytest.raises(ToolError, match="symbolic link"):
        apply_patch(draft, "*** Begin Patch\n*** Update File: link\n-a\n+b\n*** End Patch\n")


async def test_the_tool_is_offered_where_asked_for_and_shows_what_it_changed(kit: Any) -> None:
    tree = Tree({"a.py": b"if a:\n    b()  \n    c()\n", "gone.py": b"x\n"})
    draft = Draft(tree)
    assert "apply_patch" not in [spec.name for spec in Toolbox(tree, draft, kit.Places()).specs]
    box = Toolbox(tree, draft, kit.Places(), apply_patch=True)
    assert "apply_patch" in [spec.name for spec in box.specs]
    text = (
        "*** Begin Patch\n*** Update File: a.py\n@@ if a:\n     b()\n-    c()\n+    d()\n"
        "*** Delete File: gone.py\n*** Add File: n.py\n+n\n*** End Patch\n"
    )
    (said,) = await box.run([ToolCall("1", "apply_patch", {"patch": text})])
    assert not said.is_error
    assert "Updated `a.py`. Matched apart from white space at line ends" in said.text
    assert "     3\t    d()" in said.text
    assert "Deleted `gone.py`" in said.text
    assert "Added `n.py`" in said.text
    (said,) = await box.run([ToolCall("2", "apply_patch", {"patch": text})])
    assert said.is_error
    assert "Nothing of the patch was applied" in said.text


async def test_an_edit_says_what_it_looked_past(kit: Any) -> None:
    tree = Tree({"a.py": b"class A:\n    def f(self):\n        pass\n"})
    box = Toolbox(tree, Draft(tree), kit.Places())
    call = {"path": "a.py", "old": "def f(self):\n    pass\n", "new": "def f(self):\n    return 1\n"}
    (said,) = await box.run([ToolCall("1", "edit", call)])
    assert said.text.startswith("Matched apart from indentation;")
    assert "     3\t        return 1" in said.text
