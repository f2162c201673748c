"""A change is written whole or not at all, and never over work that was not committed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from app.errors import DefectError
from app.nouns import FileEdit
from infra.work_tree import InTheWayError, apply

BEFORE = b"one\ntwo\n"
AFTER = b"one\nthree\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "code"
    (root / "bill").mkdir(parents=True)
    (root / "bill" / "share.py").write_bytes(BEFORE)
    (root / "bill" / "tax.py").write_bytes(BEFORE)
    return root


def content(root: Path) -> dict[str, bytes]:
    """Every file of the folder; a link by its target."""
    return {
        str(path.relative_to(root)): str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_files_are_changed_created_and_deleted(root: Path) -> None:
    apply(
        root,
        [
            FileEdit("bill/share.py", BEFORE, AFTER),
            FileEdit("bill/tax.py", BEFORE, None),
            FileEdit("new/d\u00e9ep/file.sh", None, b"x", "100755"),
        ],
    )
    assert content(root) == {"bill/share.py": AFTER, "new/d\u00e9ep/file.sh": b"x"}
    assert (root / "new" / "d\u00e9ep" / "file.sh").stat().st_mode & stat.S_IXUSR


def test_modes_stay_and_new_files_get_what_the_umask_leaves(root: Path) -> None:
    (root / "bill" / "share.py").chmod(0o751)
    before = os.umask(0o027)
    try:
        apply(root, [FileEdit("bill/share.py", BEFORE, AFTER), FileEdit("plain.txt", None, b"")])
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "bill" / "share.py").stat().st_mode) == 0o751
    assert stat.S_IMODE((root / "plain.txt").stat().st_mode) == 0o640


def test_a_folder_that_is_left_empty_goes_as_in_git(root: Path) -> None:
    apply(root, [FileEdit("bill/share.py", BEFORE, None), FileEdit("bill/tax.py", BEFORE, None)])
    assert not (root / "bill").exists()
    assert root.is_dir()


def test_line_endings_that_git_wrote_on_checking_out_are_kept(root: Path) -> None:
    (root / "bill" / "share.py").write_bytes(BEFORE.replace(b"\n", b"\r\n"))
    apply(root, [FileEdit("bill/share.py", BEFORE, AFTER)])
    assert (root / "bill" / "share.py").read_bytes() == b"one\r\nthree\r\n"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (FileEdit("bill/tax.py", b"another\n", AFTER), "uncommitted changes"),
        (FileEdit("bill/tax.py", b"another\n", None), "uncommitted changes"),
        (FileEdit("bill/tax.py", None, AFTER), "there already"),
        (FileEdit("bill/gone.py", BEFORE, AFTER), "not there"),
        (FileEdit("bill/gone.py", BEFORE, None), "not there"),
        (FileEdit("linked/share.py", BEFORE, AFTER), "link"),
        (FileEdit("linked/new.py", None, AFTER), "link"),
        (FileEdit("link.py", BEFORE, AFTER), "link"),
        (FileEdit("link.py", None, AFTER), "link"),
        (FileEdit("bill/tax.py/new.py", None, AFTER), "below a file"),
        (FileEdit("bill", None, AFTER), "no regular file"),
        (FileEdit("pipe", None, AFTER), "no regular file"),
    ],
)
def test_what_is_in_the_way_is_named_and_nothing_is_written(root: Path, edit: FileEdit, said: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "share.py").write_bytes(BEFORE)
    (root / "linked").symlink_to(outside)
    (root / "link.py").symlink_to(outside / "share.py")
    os.mkfifo(root / "pipe")
    (root / "bill" / "share.py").chmod(0o644)
    before = [(one.name, one.stat().st_mtime_ns) for one in (root / "bill").iterdir()]
    files = ["bill/share.py", "bill/tax.py"]
    with pytest.raises(InTheWayError, match=said) as raised:
        apply(root, [FileEdit("bill/share.py", BEFORE, AFTER), FileEdit("new/file", None, b"x"), edit])
    assert edit.path in raised.value.message
    assert {path: (root / path).read_bytes() for path in files} == dict.fromkeys(files, BEFORE)
    assert [(one.name, one.stat().st_mtime_ns) for one in (root / "bill").iterdir()] == before
    assert (outside / "share.py").read_bytes() == BEFORE
    assert not (root / "new").exists()


@pytest.mark.parametrize(
    "path", [".git/config", "sub/.GIT/hooks/post-commit", "../outside", "/etc/passwd", "a//b", "./a", "a\0b"]
)
def test_git_itself_and_the_outside_are_never_written(root: Path, path: str) -> None:
    with pytest.raises(DefectError):
        apply(root, [FileEdit(path, None, b"x")])
    assert content(root) == {"bill/share.py": BEFORE, "bill/tax.py": BEFORE}


@pytest.mark.parametrize("failing", range(1, 5))
def test_what_fails_in_the_middle_leaves_the_folder_as_it_was(
    root: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    (root / "bill" / "share.py").chmod(0o755)
    real = {"rename": os.rename, "unlink": os.unlink}
    calls = 0

    def counted(name: str):  # type: ignore[no-untyped-def]
        def call(*arguments, **keywords):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(28, "No space left on device")
            return real[name](*arguments, **keywords)

        return call

    monkeypatch.setattr(os, "rename", counted("rename"))
    monkeypatch.setattr(os, "unlink", counted("unlink"))
    edits = [
        FileEdit("new/one", None, b"x"),
        FileEdit("bill/share.py", BEFORE, AFTER),
        FileEdit("bill/tax.py", BEFORE, None),
        FileEdit("two", None, b"x"),
    ]
    with pytest.raises(InTheWayError, match="No space"):
        apply(root, edits)
    assert content(root) == {"bill/share.py": BEFORE, "bill/tax.py": BEFORE}
    assert stat.S_IMODE((root / "bill" / "share.py").stat().st_mode) == 0o755
    assert not (root / "new").exists()
