"""What a model or a person writes reads the same on GitHub and does nothing there."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pulls.neutralise import BODY_LIMIT, code, cut, neutralise, one_line, with_closed_fence

NASTY = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "@octocat", "@org/team", "\\@ada", "&#64;ada", "&commat;ada", "@\u200bada", "@\u00adada", "＠ada",
                "<!--", "-->", "<!-", "- x -->", "<img src=x>", "<im<img>g src=x>", "![a](http://e/?q=1)", "![", "](",
                "[x](javascript:alert(1))", "[x]: http://e", "http://e.example/?s=1", "HTTPS://e", "www.e.example",
                "fixes #12", "Closes: octo/x#3", "resolve GH-7", "fixes https://github.com/o/r/issues/1", "#12",
                "\n/merge", "\n> /lgtm", "\n!deploy", "bors r+", "[skip ci]", "[ci skip]", "***NO_CI***",
                "\nskip-checks: true", "\nCo-authored-by: A <a@b.c>", "\nMagiCode-Run: 1", "```", "~~~", "\n", " ", "`",
                "\u202e", "\U000e0041", "a", "é", "😀", "(", ")", "[", "]", "!", "<", "&", ";", ":", "//", "#", "@",
            ]
        ),
        st.text(max_size=6),
    ),
    max_size=40,
).map("".join)  # fmt: skip

ACTIVE = {
    "mention": r"@[^\W_]",
    "issue": r"#\d",
    "issue by GH": r"(?i)\bGH-\d",
    "tag": r"<[A-Za-z/!?]",
    "entity": r"&#?\w+;",
    "image": r"!\[",
    "link": r"\][(\[:]",
    "address": r"(?i)\b[a-z][a-z0-9+.-]*://",
    "www": r"(?i)\bwww\.",
    "slash command": r"(?m)^[\s>*+-]*/[A-Za-z]",
    "skip ci": r"(?i)\[(skip|no) +(ci|actions)\b|\[(ci|actions) +skip\b|\*\*\*NO_CI",
    "trailer": r"(?m)^[ \t]*[A-Za-z]+(-[A-Za-z]+)+\s*:",
}


@pytest.mark.parametrize("sign", ACTIVE)
@given(text=NASTY)
def test_nothing_active_survives(sign: str, text: str) -> None:
    assert not re.search(ACTIVE[sign], neutralise(text))


@given(text=NASTY)
def test_what_is_inert_stays_inert_when_it_is_neutralised_again(text: str) -> None:
    for pattern in ACTIVE.values():
        assert not re.search(pattern, neutralise(neutralise(text)))


@given(text=NASTY)
def test_a_title_is_one_short_inert_line(text: str) -> None:
    line = one_line(text, 72)
    assert "\n" not in line
    assert len(line) <= 72
    assert not re.search(ACTIVE["mention"], line)
    assert not re.search(ACTIVE["issue"], line)


@given(text=NASTY)
def test_a_code_span_is_not_ended_by_what_stands_in_it(text: str) -> None:
    span = code(text)
    ticks = re.match(r"`+", span)
    assert ticks
    assert "\n" not in span
    assert len(re.findall(rf"(?<!`){ticks.group()}(?!`)", span)) == 2 or span == "` `"


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("The loop ends one short.", "The loop ends one short."),
        ("a < b and b > c", "a < b and b > c"),
        ("`x = a[0]`\n\n- one\n- two", "`x = a[0]`\n\n- one\n- two"),
        ("before <!-- hidden @ada --> after", "before  after"),
        ("left <!-- open for ever", "left"),
        ("see ![chart](http://e/?secret=1)", "see (image removed: chart)"),
        ("naïve café 日本語 😀", "naïve café 日本語 😀"),
    ],
)
def test_honest_text_stays_legible(written: str, left: str) -> None:
    assert neutralise(written) == left


def test_a_link_shows_its_target_and_is_none() -> None:
    assert neutralise("[docs](https://e.example/x)").replace("\u200b", "") == "docs (https://e.example/x)"


def test_invisible_characters_are_gone() -> None:
    assert neutralise("a\u202eb\U000e0041c\x00d") == "abcd"


@given(text=NASTY)
def test_no_code_fence_is_left_open(text: str) -> None:
    closed = with_closed_fence(text)
    assert with_closed_fence(closed) == closed


@given(st.text(alphabet="a😀`\n", max_size=400), st.integers(90, 300))
def test_a_cut_text_is_within_the_limit_and_says_so(text: str, limit: int) -> None:
    after = cut(text, limit, "(Cut.)")
    assert len(after.encode("utf-16-le")) // 2 <= limit
    assert after == text or after.endswith("(Cut.)")


def test_the_limit_is_githubs() -> None:
    assert BODY_LIMIT == 65_536
    assert len(cut("x" * 70_000)) <= 65_536
    assert cut("x" * 65_536) == "x" * 65_536
