"""An edit changes what it says and not one byte more."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.agent.edits import Replaced, ToolError, decode, replace
from app.agent.matching import Tolerance
from app.agent.rewriting import Work, steps

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


# --- what is looked past ---------------------------------------------------------------------------------------------

WORD = st.text("abcxyz=() .\"'", min_size=1, max_size=8).map(str.strip).filter(bool)
DEPTHS = st.lists(st.tuples(st.integers(0, 3), WORD), min_size=1, max_size=6)


def block(lines: list[tuple[int, str]], margin: str, step: str) -> list[str]:
    return [margin + step * depth + word for depth, word in lines]


def outcome(data: bytes, old: str, new: str, path: str) -> Replaced | str:
    try:
        return replace(data, old, new, path)
    except ToolError as error:
        return str(error)


def written(lines: list[str], end: str = "\n") -> bytes:
    return "".join(line + end for line in lines).encode()


@given(
    DEPTHS,
    DEPTHS,
    st.sampled_from(["", "  ", "    "]),
    st.sampled_from(["", "  ", "      "]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["a.py", "a.go", "a.yml", "a"]),
)
def test_a_moved_block_gives_what_the_same_edit_at_the_files_own_depth_gives(
    old: list[tuple[int, str]], new: list[tuple[int, str]], here: str, sent: str, end: str, path: str
) -> None:
    rest = ["<first>", "", "  <other>"]
    data = written([*rest, *block(old, here, "  "), "<last>"], end)
    asked, put = (written(block(each, sent, "  ")).decode() for each in (old, new))
    assume(asked != put)
    done = outcome(data, asked, put, path)
    if isinstance(done, str):
        # Less white space in front than the block can give up: then it has to be refused.
        assert "another indentation" in done
        return
    # A block that stands in the file as it was sent is found by that, though it begins inside deeper lines.
    assume(done.tolerance is Tolerance.INDENTATION or here == sent)
    assert done.data == written([*rest, *block(new, here, "  "), "<last>"], end)


@given(DEPTHS, DEPTHS, st.sampled_from(["  ", "    ", "        "]), st.integers(0, 2))
def test_tabs_and_spaces_stand_for_each_other_where_they_are_style_alone(
    old: list[tuple[int, str]], new: list[tuple[int, str]], step: str, margin: int
) -> None:
    data = written(["{", *block(old, "\t" * margin, "\t"), "}"])
    asked, put = (written(block(each, step * margin, step)).decode() for each in (old, new))
    assume(asked != put)
    done = outcome(data, asked, put, "a.go")
    if isinstance(done, str):
        assert "another indentation" in done
        return
    assume(done.tolerance is Tolerance.INDENTATION)
    assert done.data == written(["{", *block(new, "\t" * margin, "\t"), "}"])
    with pytest.raises(ToolError):
        replace(data, asked, put, "Makefile")


@given(st.data(), st.lists(WORD, min_size=2, max_size=8, unique=True))
def test_trailing_space_stays_on_each_line_that_stays(data: st.DataObject, lines: list[str]) -> None:
    space = st.text(" \t", max_size=2)
    there = [line + data.draw(space) for line in lines]
    sent = [line + data.draw(space) for line in lines]
    changed = data.draw(st.integers(0, len(lines) - 1))
    put = [*sent[:changed], "<new>", *sent[changed + 1 :]]
    done = replace(written(["<", *there, ">"]), written(sent).decode(), written(put).decode())
    assert done.data == written(["<", *there[:changed], "<new>", *there[changed + 1 :], ">"])


@given(st.data(), DEPTHS, DEPTHS, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "  ", "\t"]))
def test_an_edit_that_looked_past_something_can_be_taken_back(
    data: st.DataObject, old: list[tuple[int, str]], new: list[tuple[int, str]], end: str, sent: str
) -> None:
    there = [line + data.draw(st.text(" \t", max_size=1)) for line in block(old, "    ", "  ")]
    whole = written(["<", *there, ">"], end)
    try:
        done = replace(
            whole, written(block(old, sent, "  ")).decode(), written(block(new, sent, "  ")).decode()
        )
    except ToolError:
        return
    now = done.data.decode().replace("\r\n", "\n").split("\n")
    back = replace(done.data, "\n".join(now[:-1]), "\n".join(["<", *there, ">"]))
    assert back.data == whole


@given(
    st.lists(WORD, min_size=2, max_size=6, unique=True),
    st.data(),
    st.sampled_from(["case", "inside", "blank", "quote", "end"]),
)
def test_nothing_but_white_space_at_the_ends_of_lines_is_looked_past(
    lines: list[str], draw: st.DataObject, how: str
) -> None:
    at = draw.draw(st.integers(0, len(lines) - 1))
    asked = list(lines)
    asked[at] = {
        "case": lines[at].upper(),
        "inside": lines[at][0] + " " + lines[at][1:],
        "blank": lines[at] + "\n",
        "quote": lines[at].replace("'", '"'),
        "end": lines[at] + ";",
    }[how]
    assume(asked != lines and len(lines[at].strip()) > 1)
    text = written(asked).decode()
    assume(text not in written(lines).decode())
    with pytest.raises(ToolError, match="does not occur"):
        replace(written(lines), text, "new\n")


# --- what stays and what comes ---------------------------------------------------------------------------------------

FEW = st.lists(st.sampled_from("abcdef"), max_size=14)


@given(FEW, FEW)
def test_the_steps_from_one_text_to_another_keep_lines_in_order_and_give_the_other(
    old: list[str], new: list[str]
) -> None:
    told = steps(old, new, Work())
    kept = [step for step in told if isinstance(step, int)]
    assert kept == sorted(set(kept))
    assert [old[step] if isinstance(step, int) else step for step in told] == new


def test_comparing_long_texts_of_few_different_lines_stops_at_its_limit() -> None:
    work = Work()
    old, new = ["ab"[i % 2] for i in range(5000)], ["abc"[i % 3] for i in range(5000)]
    told = steps(old, new, work)
    assert work.gave_up
    assert [old[step] if isinstance(step, int) else step for step in told] == new


def test_an_edit_too_long_to_compare_is_refused_where_it_was_found_only_apart_from_white_space() -> None:
    old = [f"{'ab'[i % 2]}" for i in range(500)]
    new = "\n".join("abc"[i % 3] for i in range(500)) + "\n"
    with pytest.raises(ToolError, match="too long for that"):
        replace(written([line + " " for line in old]), written(old).decode(), new)
