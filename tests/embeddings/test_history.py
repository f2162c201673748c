"""Past commits say which files changed lately and together, and nothing of files that are gone."""

from __future__ import annotations

from embeddings.history import past


class Commits:
    def __init__(self, *commits):
        self.commits = commits

    def changed(self, limit):
        return self.commits[:limit]


def test_without_a_history_nothing_is_said():
    none = past(None, ["a.py"])
    assert none.recent == {}
    assert none.together("a.py", "b.py") == 0


def test_the_latest_change_counts_most():
    found = past(Commits(["a.py"], *[["c.py"]] * 50, ["b.py"]), ["a.py", "b.py"])
    assert 1 >= found.recent["a.py"] > found.recent["b.py"] > 0
    assert "c.py" not in found.recent


def test_files_that_change_together_belong_together():
    found = past(Commits(*[["a.py", "b.py"]] * 9, ["a.py", "c.py"]), ["a.py", "b.py", "c.py"])
    assert found.together("b.py", "a.py") > found.together("c.py", "a.py") > 0
    assert found.together("c.py", "b.py") == 0


def test_a_commit_of_very_many_files_joins_none():
    many = [f"{number}.py" for number in range(40)]
    assert past(Commits(many), many).together("1.py", "2.py") == 0
