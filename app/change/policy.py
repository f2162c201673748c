"""What a change is held to: the service's limits, the repository's own file, and GitHub's rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.nouns import Rule
from app.repofile import DEFAULT, RepoFile


@dataclass(frozen=True, slots=True)
class Policy:
    """Sizes in bytes. The repository's file can lower a limit and not raise it.

    `left_alone` are the kinds of files (app.patterns.KINDS) that the installation wants left alone.

    `rules` are the effective ones of the base branch and of our own (`GET /repos/{o}/{r}/rules/branches/{branch}`).
    """

    repofile: RepoFile = DEFAULT
    left_alone: Sequence[str] = ()
    rules: Sequence[Rule] = ()
    max_file_bytes: int = 1_000_000
    max_total_bytes: int = 3_000_000
    max_files: int = 50
    max_changed_lines: int = 3_000

    @property
    def files(self) -> int:
        return min(self.max_files, self.repofile.max_files or self.max_files)

    @property
    def changed_lines(self) -> int:
        return min(self.max_changed_lines, self.repofile.max_changed_lines or self.max_changed_lines)
