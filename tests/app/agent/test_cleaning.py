"""What nobody could see on GitHub's page does not reach the model as an instruction."""

from __future__ import annotations

import sys
import time
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from app.agent.cleaning import UNCLOSED, clean, invisible, is_invisible, seen


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a<!-- hidden -->b", "ab"),
        ("a<!--\nover\nlines\n-->b", "ab"),
        ("a<!-->b", "ab"),
        ("a<!--->b", "ab"),
        ("a<!-- x --!>b", "ab"),
        ("<!-<!-- x -->- y -->b", "b"),
        ("<!\u200b-- hidden -->b", "b"),
        ("a\u202egnp.\u202cb", "agnp.b"),
        ("tag \U000e0041\U000e0042", "tag "),
        ("a\x1b[2Kb", "a[2Kb"),
        ("one\r\ntwo\rthree\tfour\u00a0five", "one\ntwo\nthree\tfour\u00a0five"),
        ("👩\u200d💻 naïve 日本語 🎉", "👩💻 naïve 日本語 🎉"),
        ("a --> b <- c", "a --> b <- c"),
    ],
)
def test_hidden_text_goes_and_visible_text_stays(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


def test_an_unclosed_comment_hides_what_follows_and_says_so() -> None:
    assert clean("a <!-- hidden to the end") == f"a {UNCLOSED}"


@given(st.text(st.sampled_from("<!->a \n\r\u200b\U000e0041"), max_size=60) | st.text(max_size=60))
def test_cleaning_twice_changes_nothing_and_leaves_nothing_hidden(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert "<!--" not in once
    assert not invisible(once)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="<")))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


def test_every_default_ignorable_character_is_invisible() -> None:
    ignorable = regex.compile(r"\p{Default_Ignorable_Code_Point}")
    missed = [
        hex(c) for c in range(sys.maxunicode + 1) if ignorable.match(chr(c)) and not is_invisible(chr(c))
    ]
    assert missed == []


def test_no_assigned_letter_digit_or_sign_is_taken_for_invisible() -> None:
    wrong = [
        hex(c)
        for c in range(sys.maxunicode + 1)
        if is_invisible(chr(c))
        and unicodedata.category(chr(c))[0] in "LNPSZ"
        and not regex.match(r"\p{Default_Ignorable_Code_Point}", chr(c))
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "text", ["<!--" * 16_000, "<!-" * 8_000 + "->" * 8_000, "-->" * 20_000, "<!-<!-- -->" * 5_000]
)
def test_the_largest_comment_that_github_takes_is_cleaned_at_once(text: str) -> None:
    start = time.process_time()
    clean(text[:65_536])
    assert time.process_time() - start < 2


def test_invisible_characters_are_named() -> None:
    assert invisible("a\u200bb\ue000") == ["U+200B ZERO WIDTH SPACE", "U+E000 Co"]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[//]: # (hidden)\n\nshown", "\nshown"),
        ("[hidden\nlabel]: <a b> 'hidden\ntitle'\nshown [a]", "shown [a]"),
        ("> [q]: #q (hidden)\n\nshown", "\nshown"),
        ("a <p title='hidden > still'>shown</p>", "a <p>shown</p>"),
        ('<img src=x alt="hidden">', "<img>"),
        ("a <?hidden?> b <!X hidden> c <![CDATA[ hidden ]]>", "a  b  c "),
        ("<div data-x='hid\nden'>\nshown\n</ hidden>\n</div>", "<div>\nshown\n\n</div>"),
        ("a&#x200b;b&zwnj;c&#xE0041;&shy;", "abc"),
        ("&amp;#x200b; &lt;b&gt; &#65;", "&amp;#x200b; &lt;b&gt; &#65;"),
        (
            "```php\n<?php shown ?>\n[x]: y\n```\n`<p class='x'>`",
            "```php\n<?php shown ?>\n[x]: y\n```\n`<p class='x'>`",
        ),
        ("a[0]: 1, b < c, <https://a.example>, Map<K, V>", "a[0]: 1, b < c, <https://a.example>, Map<K, V>"),
        ("[text][r]\n\nmore\n\n[r]: https://a.example", "[text][r]\n\nmore\n"),
    ],
)
def test_what_markdown_and_html_do_not_show_goes_and_code_stays(text: str, left: str) -> None:
    assert seen(text) == left


@given(
    st.lists(
        st.sampled_from(
            [
                "[a]: b",
                "<p title='",
                "'>",
                "<?",
                "?>",
                "&#x200b;",
                "&",
                "```",
                "> ",
                "- ",
                "\n",
                "a",
                "`",
                "<",
                "!--",
                "[",
                "]: x (",
                ")",
            ]
        ),
        max_size=25,
    ).map("".join)
)
def test_what_a_person_sees_is_seen_the_same_when_it_is_looked_at_again(text: str) -> None:
    assert seen(seen(text)) == seen(text)
