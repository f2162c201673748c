"""Archives that nobody's git would make are refused, and nothing of them is written anywhere."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import MagicodeError, RefusedError, TransientError
from app.workspace.unpack import Limits, Member, check_path, unpack

TOP = "owner-repo-abc1234"


def packed(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w:gz", format=form, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def file(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info, content


def read(data: bytes, limits: Limits | None = None, **options) -> tuple[dict[str, bytes], tuple[Member, ...]]:
    kept: dict[str, bytes] = {}
    found = unpack(io.BytesIO(data), kept.__setitem__, limits or Limits(), **options)
    return kept, found.ignored


def refusal(data: bytes, limits: Limits | None = None, **options) -> str:
    with pytest.raises(RefusedError) as refused:
        read(data, limits, **options)
    return refused.value.reason


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        f"{TOP}/../x",
        f"{TOP}/a/../../x",
        "../x",
        f"{TOP}//x",
        f"{TOP}/./x",
        f"{TOP}/..",
        "..",
        f"{TOP}/" + "a/" * 200 + "x",
    ],
)
def test_a_path_that_could_leave_the_tree_is_refused(name):
    assert refusal(packed(file(f"{TOP}/fine"), file(name))) == "archive_unsafe_path"


def test_a_nul_in_a_long_name_is_refused():
    info, content = file(f"{TOP}/x")
    info.pax_headers = {"path": f"{TOP}/a\0b"}
    assert refusal(packed((info, content))) in {"archive_unsafe_path", "archive_malformed"}


def test_a_path_over_the_length_cap_is_refused():
    assert refusal(packed(file(f"{TOP}/" + "a" * 5000))) == "archive_unsafe_path"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "symlink"),
        (tarfile.LNKTYPE, "hard_link"),
        (tarfile.CHRTYPE, "special"),
        (tarfile.BLKTYPE, "special"),
        (tarfile.FIFOTYPE, "special"),
    ],
)
def test_links_and_devices_are_recorded_and_never_content(kind, said):
    data = packed(
        file(f"{TOP}/odd", b"", kind, "../../etc/passwd"), file(f"{TOP}/odd/x", b"1"), file(f"{TOP}/a", b"2")
    )
    kept, ignored = read(data)
    assert kept == {"odd/x": b"1", "a": b"2"}
    assert ignored == (Member("odd", said),)


def test_a_sparse_file_is_recorded_and_never_content():
    info, content = file(f"{TOP}/sparse", b"1\n0\n1\n".ljust(512, b"\0") + b"x")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": f"{TOP}/s",
        "GNU.sparse.realsize": str(1 << 60),
    }
    kept, ignored = read(packed((info, content), file(f"{TOP}/a", b"2")))
    assert kept == {"a": b"2"}
    assert [member.kind for member in ignored] == ["special"]


def test_two_top_folders_are_refused():
    assert refusal(packed(file(f"{TOP}/a"), file("other/b"))) == "archive_malformed"


def test_a_file_without_a_top_folder_is_refused():
    assert refusal(packed(file("a"))) == "archive_malformed"


def test_a_bomb_is_refused_long_before_it_is_unpacked():
    bomb = packed(file(f"{TOP}/zeros", b"\0" * (20 << 20)))
    assert len(bomb) < 50_000
    assert refusal(bomb, Limits(ratio_from=1 << 20)) == "archive_bomb"


def test_more_than_the_commit_can_hold_is_refused():
    assert refusal(packed(file(f"{TOP}/a", b"x" * 100_000)), unpacked_cap=50_000) == "archive_too_large"
    assert (
        refusal(packed(file(f"{TOP}/a", b"x" * 100_000)), Limits(unpacked_bytes=50_000))
        == "archive_too_large"
    )


def test_a_file_over_the_size_cap_is_passed_over_and_the_next_one_read():
    kept, ignored = read(
        packed(file(f"{TOP}/a", b"x" * 700), file(f"{TOP}/b", b"y" * 512)), Limits(file_bytes=600)
    )
    assert kept == {"b": b"y" * 512}
    assert ignored == (Member("a", "too_large"),)


def test_too_many_files_are_refused():
    assert (
        refusal(packed(*(file(f"{TOP}/{n}") for n in range(5))), Limits(files=4)) == "archive_too_many_files"
    )


def test_too_many_folders_are_refused():
    folders = (file(f"{TOP}/{n}", b"", tarfile.DIRTYPE) for n in range(20))
    assert refusal(packed(*folders), Limits(files=4)) == "archive_too_many_files"


def test_a_pax_header_as_large_as_a_file_is_refused():
    info, content = file(f"{TOP}/a")
    info.pax_headers = {"comment": "x" * (3 << 20)}
    assert refusal(packed((info, content))) == "archive_header_too_large"


def test_a_header_that_claims_gigabytes_is_refused_without_reading_them():
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 8 << 30
    assert refusal(gzip.compress(info.tobuf(tarfile.GNU_FORMAT))) == "archive_header_too_large"


def test_a_file_that_claims_gigabytes_but_ends_is_incomplete():
    info = tarfile.TarInfo(f"{TOP}/a")
    info.size = 1 << 20
    with pytest.raises(TransientError) as trouble:
        read(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT)))
    assert trouble.value.reason == "archive_incomplete"


def test_endless_headers_before_one_file_are_refused():
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    header.size = 0
    assert refusal(gzip.compress(header.tobuf(tarfile.USTAR_FORMAT) * 1500)) == "archive_malformed"


def test_something_after_the_archives_end_is_refused():
    inside = gzip.decompress(packed(file(f"{TOP}/a")))
    assert refusal(gzip.compress(inside + b"more" * 200)) == "archive_malformed"


def test_a_wrong_checksum_is_refused():
    data = bytearray(packed(file(f"{TOP}/a")))
    data[-6] ^= 1
    assert refusal(bytes(data)) == "archive_malformed"


def test_names_that_are_not_utf_8_come_back_as_their_bytes():
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        kept, _ = read(packed(file(f"{TOP}/\udcff\udcfe.txt"), file(f"{TOP}/é\n.txt"), form=form))
        assert {name.encode("utf-8", "surrogateescape") for name in kept} == {
            b"\xff\xfe.txt",
            "é\n.txt".encode(),
        }


def test_the_reading_stops_when_it_is_told_to():
    with pytest.raises(TransientError) as trouble:
        read(packed(file(f"{TOP}/a")), stopped=lambda: True)
    assert trouble.value.reason == "archive_stopped"


@given(st.binary(max_size=2000), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_end_in_one_of_our_own_errors_or_in_files(noise, compress):
    _settles(gzip.compress(noise) if compress else noise)


@given(st.integers(0, 1535), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_any_byte_changed_in_a_tar_ends_in_one_of_our_own_errors_or_in_files(where, value):
    inside = bytearray(gzip.decompress(packed(file(f"{TOP}/a", b"abc"))))
    inside[where] = value
    _settles(gzip.compress(bytes(inside)))


def _settles(data: bytes) -> None:
    kept: dict[str, bytes] = {}
    keep: Callable[[str, bytes], None] = kept.__setitem__
    with contextlib.suppress(MagicodeError):
        unpack(io.BytesIO(data), keep, Limits())
    for name in kept:
        assert check_path(name, Limits())


part = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=8)


@given(st.lists(part, min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_a_path_is_safe_exactly_when_no_part_is_special(parts):
    name = "/".join(parts)
    special = any(p in ("", ".", "..") for p in name.split("/")) or "\0" in name
    if special:
        with pytest.raises(RefusedError):
            check_path(name, Limits())
    else:
        assert "/".join(check_path(name, Limits())) == name
