"""What a model or a person writes reads the same on GitHub and does nothing there."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.pulls.neutralise import BODY_LIMIT, code, cut, neutralise, one_line, prose, with_closed_fence

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
                "_https://e.example/", "éhttps://e", "_www.e.example", "a@_b.c", "@```ada", "#```1", "[sk```ip ci]", "[skip netlify]",
                "\u2028/merge", "``` a`b", "\n```mermaid\n", "\n## How it was checked\n", "\n---\n", "\\href{//e}{x}", "\ufe0f", "\u034f",
                "\u202e", "\U000e0041", "a", "é", "😀", "(", ")", "[", "]", "!", "<", "&", ";", ":", "//", "#", "@",
            ]
        ),
        st.text(max_size=6),
    ),
    max_size=40,
).map("".join)  # fmt: skip

ACTIVE = {
    "mention": r"@\S(?<!\u200b)",
    "issue": r"#\d",
    "issue by GH": r"(?i)\bGH-\d",
    "tag": r"<[A-Za-z/!?]",
    "entity": r"&#?\w+;",
    "image": r"!\[",
    "link": r"\][(\[:]",
    "address": r"://",
    "www": r"(?i)www\.",
    "mathematics": r"\\href",
    "slash command": r"(?m)^[\s>*+-]*/[A-Za-z]",
    "skip ci": r"(?i)\[(skip|no) +(ci|actions)\b|\[skip \w+\]|\[(ci|actions) +skip\b|\*\*\*NO_CI",
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
@example("x" * 69 + " @octocat and more")
@example("\n## How it was checked\n@")
def test_a_title_is_one_short_inert_line(text: str) -> None:
    line = one_line(text, 72)
    assert "\n" not in line
    assert len(line) <= 72
    assert not re.search(ACTIVE["mention"], line)
    for sign in ("mention", "issue", "issue by GH", "address", "www", "skip ci", "slash command"):
        assert not re.search(ACTIVE[sign], line), sign


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


LINES = st.lists(
    st.sampled_from(
        ["# a", "## How it was checked ##", "- # a", "> ## a", "1. # a", "a", "===", "---", "- ---", "```", "~~~", "``` a`b", "  ```", "    ```",
         "- ```", "> ~~~", "  # a", "\t# a", "", "````", "* a", "    code", "<div>", "<!-- a -->", "#", "  - a", "~~~ a~b", "\t```"]
    ),
    max_size=14,
).map("\n".join)  # fmt: skip


@given(LINES)
def test_prose_makes_no_heading(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(prose(text))
    assert not [token for token in tokens if token.type == "heading_open"]


@given(LINES)
def test_behind_prose_everything_is_ours_again(text: str) -> None:
    tokens = MarkdownIt("commonmark").parse(f"{prose(text)}\n\n## Ours")
    assert [token.content for token in tokens if token.type == "inline"][-1] == "Ours"
    assert tokens[-3].type == "heading_open"


def test_code_in_a_fence_keeps_its_comments_and_a_heading_becomes_bold() -> None:
    assert prose("# Why\n\n```\n# x\n---\n```") == "**Why**\n\n```\n# x\n---\n```"


@pytest.mark.parametrize(
    "piece",
    [
        "[a](",
        "[a]( ",
        " ",
        "a.",
        "\n",
        "\n\n>",
        "<img ",
        "![",
        "a-",
        "@",
        "&a",
        "`",
        "~~",
        "# ",
        "- ",
        "[skip",
        "<!--",
        "\\",
        "w",
    ],
)
def test_it_takes_time_in_proportion(piece: str) -> None:
    long = piece * (20_000 // len(piece))
    for text in (long, f"[a]({long}", f"# {long}x", f"a-b{long}"):
        before = time.process_time()
        prose(text)
        one_line(text, 72)
        assert time.process_time() - before < 1
