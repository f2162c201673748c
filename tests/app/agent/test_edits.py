"""An edit changes what it says and not one byte more."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.agent.edits import ToolError, decode, replace

LINE = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)
LINES = st.lists(LINE, min_size=1, max_size=12)


def test_crlf_files_stay_crlf_although_the_model_writes_plain_line_ends() -> None:
    assert replace(b"a\r\nb\r\nc\r\n", "a\nb\n", "a\nx\ny\n").data == b"a\r\nx\r\ny\r\nc\r\n"


def test_in_a_file_of_mixed_line_ends_each_line_keeps_its_own() -> None:
    assert replace(b"a\r\nb\nc\r\nd\n", "a\nb\nc\nd\n", "a\nB\nc\nD\n").data == b"a\r\nB\nc\r\nD\n"


def test_an_added_line_does_not_shift_the_line_ends_of_those_behind_it() -> None:
    assert replace(b"a\r\nb\nc\r\nd\n", "a\nb\nc\n", "a\nX\nb\nc\n").data == b"a\r\nX\nb\nc\r\nd\n"


def test_a_byte_order_mark_and_a_missing_final_newline_are_kept() -> None:
    assert replace(b"\xef\xbb\xbfold\nlast", "old", "new").data == b"\xef\xbb\xbfnew\nlast"


def test_bytes_that_are_not_utf8_are_kept() -> None:
    assert replace(b"caf\xe9 = 1\nx = 2\n", "x = 2", "x = 3").data == b"caf\xe9 = 1\nx = 3\n"


def test_a_character_that_the_files_encoding_lacks_is_refused() -> None:
    with pytest.raises(ToolError, match="latin-1"):
        replace(b"caf\xe9 = 1\n", "= 1", "= '\u20ac'")


def test_a_binary_file_is_refused() -> None:
    with pytest.raises(ToolError, match="binary"):
        replace(b"\0a", "a", "b")


def test_text_that_occurs_twice_is_refused_with_the_count_and_the_lines() -> None:
    with pytest.raises(ToolError, match=r"occurs 2 times \(at lines 1, 3\)"):
        replace(b"x = 1\ny = 2\nx = 1\n", "x = 1", "x = 2")


def test_overlapping_occurrences_count_as_two() -> None:
    with pytest.raises(ToolError, match="occurs 2 times"):
        replace(b"aaa\n", "aa", "b")


def test_text_that_does_not_occur_is_answered_with_the_nearest_lines() -> None:
    data = b"def total(price):\n    return price\n\ndef other():\n    pass\n"
    with pytest.raises(ToolError, match=r"     1\tdef total\(price\):\n     2\t    return price"):
        replace(data, "def total(prices):\n    return price\n", "x")


def test_a_difference_in_white_space_alone_is_said_to_be_that() -> None:
    with pytest.raises(ToolError, match="only white space differs"):
        replace(b"if a:\n\treturn b\n", "if a:\n    return b\n", "x")


def test_copied_line_numbers_are_recognised() -> None:
    with pytest.raises(ToolError, match="line numbers"):
        replace(b"a\nb\n", "     1\ta", "x")


@pytest.mark.parametrize(("old", "new"), [("", "x"), ("a", "a"), ("a\r\n", "a\n")])
def test_an_edit_that_says_nothing_is_refused(old: str, new: str) -> None:
    with pytest.raises(ToolError):
        replace(b"a\n", old, new)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_without_loss(data: bytes) -> None:
    assert decode(data).encode() == data


@given(
    st.data(), LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.sampled_from([b"", b"\xef\xbb\xbf"])
)
def test_an_edit_touches_no_line_outside_its_range(
    data: st.DataObject, lines: list[str], end: str, final: bool, bom: bytes
) -> None:
    first = data.draw(st.integers(0, len(lines) - 1))
    last = data.draw(st.integers(first, len(lines) - 1))
    new = data.draw(LINES)
    whole = bom + (end.join(lines) + (end if final else "")).encode()
    old = "\n".join(lines[first : last + 1])
    assume(old and old != "\n".join(new) and "\n".join([*lines, ""][: len(lines) + final]).count(old) == 1)
    try:
        changed = replace(whole, old, "\n".join(new)).data
    except ToolError as error:
        assume("times" not in str(error))
        raise
    expected = end.join([*lines[:first], *new, *lines[last + 1 :]]) + (end if final else "")
    # A file without any line end gives no example to follow: then new lines end plainly.
    if end == "\r\n" and len(lines) == 1 and not final:
        expected = expected.replace("\r\n", "\n")
    assert changed == bom + expected.encode()


@given(st.data(), LINES, LINES, st.sampled_from(["\n", "\r\n"]))
def test_an_edit_and_its_reverse_give_the_same_bytes(
    data: st.DataObject, lines: list[str], new: list[str], end: str
) -> None:
    whole = (end.join(["<anchor>", *lines, "</anchor>"]) + end).encode()
    first = data.draw(st.integers(0, len(lines) - 1))
    old, put = "\n".join(lines[first:]), "\n".join(new)
    try:
        there = replace(whole, old, put).data
        back = replace(there, put, old).data
    except ToolError:
        assume(False)
    assert back == whole


@given(st.binary(max_size=60).filter(lambda d: b"\0" not in d), st.data())
def test_an_edit_of_arbitrary_bytes_changes_only_what_was_named(data: bytes, draw: st.DataObject) -> None:
    text = decode(data)
    assume(text.body and "\r" not in text.body)
    start = draw.draw(st.integers(0, len(text.body) - 1))
    old = text.body[start : draw.draw(st.integers(start + 1, len(text.body)))]
    assume(text.body.count(old) == 1)
    try:
        after = replace(data, old, "new").data
    except ToolError:
        assume(False)
    assert after == text.bom + (text.body[:start] + "new" + text.body[start + len(old) :]).encode(text.codec)
