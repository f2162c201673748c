"""Edits and patches made by hand, with the bytes or the refusal that each has to come to."""

from __future__ import annotations

from tests.app.agent.corpus import bytes as of_bytes
from tests.app.agent.corpus import exact, indentation, patches, refusals, whitespace
from tests.app.agent.corpus.case import Edit, Patching

ALL_EDITS: tuple[Edit, ...] = (
    *exact.CASES,
    *of_bytes.CASES,
    *whitespace.CASES,
    *indentation.CASES,
    *refusals.CASES,
)
ALL_PATCHES: tuple[Patching, ...] = (*patches.APPLIED, *patches.REFUSED)
