"""The corpus of edits: every case by hand, each about something else."""

from __future__ import annotations

import pytest

from app.agent.edits import ToolError, replace
from tests.app.agent.corpus import ALL_EDITS, ALL_PATCHES
from tests.app.agent.corpus.case import Edit, No


@pytest.mark.parametrize("case", ALL_EDITS, ids=lambda case: case.name)
def test_an_edit_of_the_corpus_gives_these_bytes_or_this_refusal(case: Edit) -> None:
    if isinstance(case.after, No):
        with pytest.raises(ToolError) as refused:
            replace(case.before, case.old, case.new, case.path)
        for part in case.after.shows:
            assert part in str(refused.value)
        return
    done = replace(case.before, case.old, case.new, case.path)
    assert done.data == case.after
    assert done.tolerance is case.via
    if case.lines is not None:
        assert (done.start_line, done.end_line) == case.lines


def test_the_corpus_is_large_and_each_case_is_its_own() -> None:
    assert len(ALL_EDITS) + len(ALL_PATCHES) >= 200
    assert len(ALL_PATCHES) >= 50
    assert len({case.language for case in ALL_EDITS} | {case.language for case in ALL_PATCHES}) >= 15
    assert len({case.name for case in ALL_EDITS}) == len(ALL_EDITS)
    assert len({case.name for case in ALL_PATCHES}) == len(ALL_PATCHES)
    assert len({(case.before, case.old, case.new, case.path) for case in ALL_EDITS}) == len(ALL_EDITS)
    assert len({(case.patch, tuple(case.before.items())) for case in ALL_PATCHES}) == len(ALL_PATCHES)
