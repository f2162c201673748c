"""A tree in memory that satisfies the Workspace port, and short ways to make edits of it."""

from __future__ import annotations

import pytest

from app.nouns import FileEdit, Patch, Spending
from tests.app.tree import Tree


class Kit:
    """What test files use from here, since they cannot import each other."""

    Tree = Tree

    @staticmethod
    def new(path: str, text: str = "x = 1\n") -> FileEdit:
        return FileEdit(path, None, text.encode())

    @staticmethod
    def patch(*edits: FileEdit) -> Patch:
        return Patch(edits, "Fix it", "It was wrong.", "Read it.", ("a.py",), Spending(turns=3))


@pytest.fixture
def kit() -> type[Kit]:
    return Kit
