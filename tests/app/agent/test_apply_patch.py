"""A patch does all that it says, or nothing, and says why."""

from __future__ import annotations

import pytest

from app.agent.apply_patch import apply_patch
from app.agent.draft import Draft
from app.agent.edits import ToolError
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
