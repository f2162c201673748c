"""What a test of `tests/faults` or `tests/attacks` claims, said so that a stranger can read it in a table: what was done to the
service, and what came of it. `tests/report.py` gathers the claims."""

from __future__ import annotations

import re
from typing import Any, Final

import pytest

MARK: Final = "claim"


def claim(group: str, what: str, outcome: str) -> pytest.MarkDecorator:
    """On a test: `@claim("Webhook", "A body signed with another secret", "401; nothing is accepted, nothing is written")`.

    Several cases of one test that say the same are counted together.
    """
    return pytest.mark.claim(group, what, outcome)


def case(group: str, what: str, outcome: str, *given: Any, marks: tuple[Any, ...] = ()) -> Any:
    """One row of `pytest.mark.parametrize` that claims something of its own; its id is what is done."""
    return pytest.param(*given, marks=(claim(group, what, outcome), *marks), id=slug(what))


def slug(what: str) -> str:
    """The words of a sentence as a test's id: the same in every process."""
    return re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")[:80]
