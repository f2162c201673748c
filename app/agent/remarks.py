"""What plain code has to remark on a change that a guard does not refuse: tests weakened, lock files written by hand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from app.agent.weakened import weakened_tests
from app.nouns import FileEdit

# GitHub folds most of them away in a diff: https://github.com/github-linguist/linguist/blob/main/lib/linguist/generated.rb
LOCK_FILES: Final = frozenset(
    (
        "bun.lock", "cargo.lock", "composer.lock", "conda-lock.yml", "deno.lock", "flake.lock", "gemfile.lock", "go.sum",
        "gradle.lockfile", "mix.lock", "npm-shrinkwrap.json", "package-lock.json", "package.resolved", "packages.lock.json",
        "pdm.lock", "pipfile.lock", "pixi.lock", "pnpm-lock.yaml", "podfile.lock", "poetry.lock", "pubspec.lock", "pylock.toml",
        ".terraform.lock.hcl", "uv.lock", "yarn.lock",
    )
)  # fmt: skip


def remarks(edits: Sequence[FileEdit]) -> tuple[str, ...]:
    """A sentence for each thing found, in the order of the edits, tests first."""
    return (*weakened_tests(edits), *_locks(edits))


def _locks(edits: Sequence[FileEdit]) -> list[str]:
    """No package manager runs where changes are written, so each line that is new in a lock file is invented or copied."""
    return [
        f"A lock file {'deleted' if edit.after is None else 'written by hand'}: no package manager made this of "
        f"`{edit.path}`, and GitHub folds its diff. Make it anew with yours, and compare."
        for edit in edits
        if PurePosixPath(edit.path).name.lower() in LOCK_FILES and edit.before != edit.after
    ]
