"""A search that finds nothing must be able to find: every form, wherever it lies, in streams and across chunks."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.prove.search import CHUNK, Hit, Search, Searched
from app.prove.words import Canary, fresh, plant

WORD = "kujodifapiwumi"
"""Not a fresh one: every process that collects these tests must see the same."""
SEARCH = Search([Canary("code", 0, WORD), Canary("path", 0, fresh())])


def found(data: bytes) -> list[Hit]:
    return SEARCH.data(data, Searched("here"), "memory")


@pytest.mark.parametrize(
    "data",
    [
        WORD.encode(),
        WORD.upper().encode(),
        WORD.title().encode(),
        WORD.encode().hex().encode(),
        WORD.encode().hex().upper().encode(),
        WORD.encode("utf-16"),
        WORD.encode("utf-16-be"),
        WORD.encode("utf-32"),
        WORD.encode("utf-32-be"),
        zlib.compress(b"x" * 100 + WORD.encode(), 1),
        zlib.compress(b"x" * 100 + WORD.encode(), 9),
        gzip.compress(zlib.compress(WORD.encode()), mtime=0),
        base64.b85encode(b"") + WORD.encode(),
        "".join(f"%{one:02X}" for one in WORD.encode()).encode(),
        "".join(f"\\u{one:04x}" for one in WORD.encode()).encode(),
    ],
)
def test_a_word_is_found_in_this_form_amid_other_bytes(data: bytes) -> None:
    assert {hit.source for hit in found(b"\0junk" + data + b"junk\0")} == {"code"}


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_base64_is_found_whatever_stands_before_and_behind(before: bytes, behind: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert found(encode(before + WORD.encode() + behind))


@given(st.integers(min_value=0, max_value=40))
def test_literals_of_postgresql_s_own_compression_are_found_wherever_its_flags_fall(before: int) -> None:
    plain = b"-" * before + WORD.encode() + b"-" * 20
    data = b"".join(b"\0" + plain[at : at + 8] for at in range(0, len(plain), 8))
    assert found(data)


def test_a_member_of_a_zip_archive_is_looked_into() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("some/name.txt", b"y" * 500 + WORD.encode())
    (hit,) = found(out.getvalue())
    assert hit.inside.startswith("ZIP member at 0")


@pytest.mark.parametrize("shift", [-20, -7, 0, 1])
def test_a_word_at_the_seam_of_two_chunks_is_found_once(tmp_path: Path, shift: int) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"\0" * (CHUNK + shift) + WORD.encode() + b"\0" * 1000)
    searched = Searched("there")
    (hit,) = SEARCH.file(file, searched)
    assert (hit.offset, hit.source) == (CHUNK + shift, "code")
    assert (searched.files, searched.bytes) == (1, file.stat().st_size)


def test_nothing_is_found_where_nothing_is() -> None:
    assert found(bytes(range(256)) * 4000 + WORD[:-1].encode()) == []


def test_a_hit_says_neither_the_word_nor_what_stands_around_it() -> None:
    (hit,) = found(b"surroundings " + WORD.encode() + b" surroundings")
    assert WORD not in repr(hit)
    assert "surroundings" not in repr(hit)


def test_words_are_fresh_and_told_apart_by_their_source() -> None:
    planted = plant(["code", "path"], each=3)
    words = [one.word for several in planted.values() for one in several]
    assert len(set(words)) == 6
    assert words != [one.word for several in plant(["code", "path"], each=3).values() for one in several]
