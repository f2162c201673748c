"""Path patterns in .gitignore's language, matched in linear time whatever the pattern and whatever the path (RE2).

pathspec translates them; it does not match them here, because its own matching lets a folder's name with a line break
hide what lies below, cannot take names that are no Unicode, and matches all patterns as one automaton, which says "no"
where it grows too large. A rule that forbids something must not do that. https://git-scm.com/docs/gitignore
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import re2
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "tests": (
        "test/", "tests/", "__tests__/", "spec/", "test_*.py", "*_test.*", "*.test.*", "*.spec.*", "*Test.java", "*Tests.cs",
    ),
    "dependencies": (
        "requirements*.txt", "pyproject.toml", "setup.cfg", "setup.py", "Pipfile*", "poetry.lock", "uv.lock", "package.json",
        "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "go.mod", "go.sum", "Cargo.toml", "Cargo.lock",
        "Gemfile*", "*.gemspec", "composer.json", "composer.lock", "pom.xml", "build.gradle*", "gradle.lockfile", "*.csproj",
        "packages.lock.json",
    ),
    "infrastructure": (
        "Dockerfile*", "*.dockerfile", "docker-compose*", "compose.yml", "compose.yaml", "*.tf", "*.tfvars", "terraform/", "k8s/",
        "kubernetes/", "helm/", "charts/", "ansible/", "Jenkinsfile*", ".gitlab-ci.yml", ".circleci/", "azure-pipelines.yml",
    ),
    "migrations": ("migrations/", "alembic/", "db/migrate/", "*.sql"),
    "documentation": ("docs/", "doc/", "*.md", "*.rst", "*.adoc"),
}  # fmt: skip
"""Kinds of files that people name by a word, and by which paths they are known."""

_FOLDER = "ps_d"  # pathspec's group for the slash behind a folder that was named
_BY_FOLDER, _BY_NAME = 1, 2


@dataclass(frozen=True, slots=True)
class _Line:
    index: int
    includes: bool
    form: re2._Regexp
    marks_folder: bool


class PathPatterns:
    """Lines of a .gitignore. The last that matches decides; one that names the path weighs more than one that names a folder
    above it."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises ValueError for a line that is no pattern."""
        read = [_read(index, line) for index, line in enumerate(lines)]
        self._lines = tuple(line for line in read if line is not None)

    def __bool__(self) -> bool:
        """Whether any line can match at all: comments, and sets of characters that never end, cannot."""
        return bool(self._lines)

    def match(self, path: str) -> int | None:
        """The index of the line that takes `path` in, or None."""
        seen = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        decides: _Line | None = None
        weight = 0
        for line in self._lines:
            # Nearly all begin with ^ where they have to; "*/" matches any folder's slash.
            found = line.form.search(seen)
            if found is None:
                continue
            by_folder = line.marks_folder and found.group(_FOLDER) is not None
            weighs = _BY_FOLDER if by_folder else _BY_NAME
            if weighs >= weight or (line.includes and by_folder):
                decides, weight = line, max(weight, weighs)
        return decides.index if decides is not None and decides.includes else None


def _read(index: int, line: str) -> _Line | None:
    pattern = GitIgnoreSpecPattern(line)  # its error is a ValueError
    if pattern.include is None or pattern.regex is None:
        return None
    options = re2.Options()
    options.log_errors = False
    options.dot_nl = True
    form = str(pattern.regex.pattern)
    try:
        return _Line(index, pattern.include, re2.compile(form, options), f"(?P<{_FOLDER}>" in form)
    except re2.error as error:
        raise ValueError(f"`{line}` is too large a pattern") from error


def kind_of(path: str, kinds: Iterable[str]) -> str | None:
    """The first of these KINDS that `path` is of, or None."""
    return next((kind for kind in kinds if _kind(kind).match(path) is not None), None)


@cache
def _kind(kind: str) -> PathPatterns:
    return PathPatterns(KINDS[kind])
