"""What a comment asks for: a table to be read, and properties that hold for any text."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from webhooks.command import Ask, Verb
from webhooks.comment import read

HELP = Ask(Verb.HELP)


def fix(words: str = "", limit: str | None = None) -> Ask:
    return Ask(Verb.FIX, words, Decimal(limit) if limit else None)


def near(word: str, verb: Verb, words: str = "") -> Ask:
    return Ask(Verb.HELP, words, near_miss=word, suggestion=verb)


VERBS = [
    ("@magicode fix", fix()),
    ("@magicode fix this", fix("this")),
    ("@magicode plan", Ask(Verb.PLAN)),
    ("@magicode plan the migration", Ask(Verb.PLAN, "the migration")),
    ("@magicode go", Ask(Verb.GO)),
    ("@magicode go ahead with the plan", Ask(Verb.GO, "ahead with the plan")),
    ("@magicode revise use a set instead", Ask(Verb.REVISE, "use a set instead")),
    ("@magicode explain why the cache is cold", Ask(Verb.EXPLAIN, "why the cache is cold")),
    ("@magicode retry", Ask(Verb.RETRY)),
    ("@magicode cancel", Ask(Verb.CANCEL)),
    ("@magicode cancel, I found it myself", Ask(Verb.CANCEL, "I found it myself")),
    ("@magicode undo", Ask(Verb.UNDO)),
    ("@magicode undo the last commit please", Ask(Verb.UNDO, "the last commit please")),
    ("@magicode logs", Ask(Verb.LOGS)),
    ("@magicode export", Ask(Verb.EXPORT)),
    ("@magicode export all our data", Ask(Verb.EXPORT, "all our data")),
    ("@magicode delete", Ask(Verb.DELETE)),
    ("@magicode delete my data", Ask(Verb.DELETE, "my data")),
    ("@magicode delete. We are leaving.", Ask(Verb.DELETE, "We are leaving")),
    ("@magicode delete\n\nWe are leaving.", Ask(Verb.DELETE)),
    ("@magicode delete everything you have about us", Ask(Verb.DELETE, "everything you have about us")),
    ("@magicode settings", Ask(Verb.SETTINGS)),
    ("@magicode help", HELP),
    ("@magicode FIX this", fix("this")),
    ("@MagiCode fix this", fix("this")),
    ("@MAGICODE Fix this", fix("this")),
    ("@magicode[bot] fix this", fix("this")),
    ("@magicode: fix this", fix("this")),
    ("@magicode, fix this", fix("this")),
    ("@magicode - fix this", fix("this")),
    ("@magicode fix: the login", fix("the login")),
    ("@magicode\nfix this", fix("this")),
    ("@magicode\r\nfix this\r\n", fix("this")),
    ("@magicode\n\nfix this", fix("this")),
    ("@magicode\tfix\tthis", fix("this")),
    ("  @magicode fix this  ", fix("this")),
    ("@magicode /fix this", fix("this")),
    ("@magicode please fix this", fix("this")),
    ("@magicode can you please explain this?", Ask(Verb.EXPLAIN, "this?")),
    ("Hey @magicode, could you fix this?", fix("this?")),
    ("I looked at it. @magicode fix it", fix("it")),
    ("cc @alice @magicode fix this", fix("this")),
    ("I asked around and @magicode explain is what I need", Ask(Verb.EXPLAIN, "is what I need")),
    ("(@magicode fix this)", fix("this)")),
    ("**@magicode** fix this", fix("this")),
    ("@magicode **fix** this", fix("this")),
    ("_@magicode fix this_", fix("this")),
    ("# @magicode fix this", fix("this")),
    ("- @magicode fix this", fix("this")),
    ("- [ ] @magicode fix this", fix("this")),
    ("1. @magicode fix this", fix("this")),
    ("| who | what |\n|---|---|\n| @magicode fix this | now |", fix("this | now |")),
    ("@magicode fix the `parse` function", fix("the parse function")),
    ("@magicode fix this\n\nIt fails on Mondays.", fix("this It fails on Mondays.")),
    ("<div>@magicode fix this</div>", fix("this")),
    ('<img width="10" src="https://example.com/a.png">\n@magicode fix this', fix("this")),
    ('<img alt="a > b">\n@magicode fix this', fix("this")),
    ("It looks wrong.<br>@magicode fix this", fix("this")),
    ("![screenshot](a.png)@magicode fix this", fix("this")),
    ("<table><tr><td>now</td><td>@magicode fix this</td></tr></table>", fix("this")),
    ("<b>@magicode</b> fix this", fix("this")),
    ("1 < 2 <!-- note --> @magicode fix this", fix("this")),
    ("<details><summary>more</summary>\n\n@magicode fix this\n\n</details>", fix("this")),
]

ARGUMENTS = [
    ("@magicode delete octo-org", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete Octo-Org.", Ask(Verb.DELETE, "Octo-Org")),
    ("@magicode delete octo-org!", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete: octo-org", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete `octo-org`", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete **octo-org**", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete @octo-org", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete @this", Ask(Verb.DELETE, "this")),
    ("@magicode delete mona-lisa_octo", Ask(Verb.DELETE, "mona-lisa_octo")),
    ("@magicode delete octo-org, please", Ask(Verb.DELETE, "octo-org")),
    ("@magicode please delete octo-org", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete octo-org\nThank you!", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete octo-org\n\nWe are leaving for another service.", Ask(Verb.DELETE, "octo-org")),
    ("We are leaving.\r\n\r\n@magicode delete octo-org\r\n", Ask(Verb.DELETE, "octo-org")),
    ("@magicode delete octo-org up to $3", Ask(Verb.DELETE, "octo-org", Decimal(3))),
    ("@magicode settings retention.runs 6 months", Ask(Verb.SETTINGS, "retention.runs 6 months")),
    (
        "@magicode settings Providers anthropic:claude-sonnet-5.",
        Ask(Verb.SETTINGS, "Providers anthropic:claude-sonnet-5"),
    ),
    ("@magicode settings providers anthropic, openai!", Ask(Verb.SETTINGS, "providers anthropic, openai")),
    ("@magicode settings consent off\nThanks a lot", Ask(Verb.SETTINGS, "consent off")),
    ("@magicode settings `consent` `off`\n\nThanks a lot", Ask(Verb.SETTINGS, "consent off")),
    ("@magicode settings\nconsent off", Ask(Verb.SETTINGS)),
    ("@magicode settings?", Ask(Verb.SETTINGS)),
    ("@magicode logs, please!", Ask(Verb.LOGS, "please")),
    ("(@magicode logs)", Ask(Verb.LOGS)),
    ("@magicode logs of #12", Ask(Verb.LOGS, "of #12")),
    ("@magicode export.", Ask(Verb.EXPORT)),
    ("@magicode export\n\nFor our auditors.", Ask(Verb.EXPORT)),
]

PLAIN = [
    ("@magicode make the parser faster", fix("make the parser faster")),
    ("@magicode, the login page is broken", fix("the login page is broken")),
    ("@magicode please make it faster", fix("please make it faster")),
    ("Hi @magicode make it faster", fix("make it faster")),
    ("@alice @magicode make it faster", fix("make it faster")),
    ("The tests are red. @magicode make them green", fix("make them green")),
    ("@magicode 为什么测试失败", fix("为什么测试失败")),
    ("@magicode größere Schrift bitte", fix("größere Schrift bitte")),
    ("@magicode #12 has the details", fix("#12 has the details")),
    ("@magicode delete the unused import", fix("delete the unused import")),
    ("@magicode delete this", fix("delete this")),
    ("@magicode delete: the unused import", fix("delete: the unused import")),
    ("@magicode delete, rename and move the files", fix("delete, rename and move the files")),
    ("@magicode delete\nthe unused import", fix("delete the unused import")),
    ("@magicode delete utils and its tests", fix("delete utils and its tests")),
    ("@magicode delete utils\nand its tests", fix("delete utils and its tests")),
    ("@magicode delete utils.py", fix("delete utils.py")),
    ("@magicode delete src/utils", fix("delete src/utils")),
    ("@magicode delete octo-org/sample", fix("delete octo-org/sample")),
    ("@magicode delete `utils()`", fix("delete utils()")),
    ("@magicode delete octo-org's data from fixtures", fix("delete octo-org's data from fixtures")),
    ("@magicode delete größe", fix("delete größe")),
    ("@magicode delete them", fix("delete them")),
    ("@magicode undo the rename of `run` in worker.py", fix("undo the rename of run in worker.py")),
    ("@magicode export the Parser class", fix("export the Parser class")),
    (
        "@magicode go through all tests and make them quicker",
        fix("go through all tests and make them quicker"),
    ),
    ("@magicode plan.md is out of date", fix("plan.md is out of date")),
    ("@magicode `retry()` never ends", fix("retry() never ends")),
    ("@magicode go.mod is out of date", fix("go.mod is out of date")),
    ("@magicode got it wrong here", fix("got it wrong here")),
    ("@magicode fixed width fonts look wrong", fix("fixed width fonts look wrong")),
    ("@magicode six tests fail", fix("six tests fail")),
    ("@magicode ```not a fence``` is shown raw", fix("not a fence is shown raw")),
]

LIMITS = [
    ("@magicode fix this up to $3", fix("this", "3")),
    ("@magicode fix this up to 3 USD", fix("this", "3")),
    ("@magicode fix this, up to $2.50", fix("this", "2.50")),
    ("@magicode fix this (up to $2.50)", fix("this", "2.50")),
    ("@magicode fix up to $3 the login", fix("the login", "3")),
    ("@magicode fix this UP TO US$ 1,000", fix("this", "1000")),
    ("@magicode fix this up to 3 dollars please", fix("this please", "3")),
    ("@magicode fix this for up to 3$", fix("this", "3")),
    ("@magicode up to $3", Ask(Verb.HELP)),
    ("@magicode make it faster up to $3", fix("make it faster", "3")),
    ("@magicode delete my data up to $3", Ask(Verb.DELETE, "my data", Decimal(3))),
    ("@magicode fix up to 3 files", fix("up to 3 files")),
    ("@magicode fix the pop up to $30k", fix("the pop up to $30k")),
    ("up to $3 is what I pay. @magicode fix this", fix("this")),
]

NEAR = [
    ("@magicode fxi", near("fxi", Verb.FIX)),
    ("@magicode fxi the login", near("fxi", Verb.FIX, "the login")),
    ("@magicode fxii", near("fxii", Verb.FIX)),
    ("@magicode Fiix this", near("Fiix", Verb.FIX, "this")),
    ("@magicode explian this", near("explian", Verb.EXPLAIN, "this")),
    ("@magicode please retyr", near("retyr", Verb.RETRY)),
    ("@magicode cancle", near("cancle", Verb.CANCEL)),
    ("@magicode delte my data", near("delte", Verb.DELETE, "my data")),
    ("@magicode setings", near("setings", Verb.SETTINGS)),
    ("@magicode hepl", near("hepl", Verb.HELP)),
    ("@magicode log", near("log", Verb.LOGS)),
]

ALONE = [
    ("@magicode", HELP),
    ("@magicode!", HELP),
    ("@magicode ?", HELP),
    ("Hey @magicode", HELP),
    ("What is this, @magicode?", HELP),
    ("I think @magicode broke it", HELP),
]

SEVERAL = [
    ("@magicode make it nice\n\n@magicode explain it", Ask(Verb.EXPLAIN, "it")),
    ("@magicode plan it\n\n@magicode fix it", Ask(Verb.PLAN, "it @magicode fix it")),
    ("@magicode fxi\n\n@magicode make it nice", fix("make it nice")),
    ("`@magicode plan`, or rather @magicode fix it", fix("it")),
    ("> @magicode plan\n\n@magicode fix it", fix("it")),
    ("@magicode\n\n@magicode retry", Ask(Verb.RETRY)),
]

SILENT = [
    "",
    "fix this",
    "magicode fix this",
    "`@magicode fix this`",
    "`` `@magicode fix` ``",
    "```\n@magicode fix this\n```",
    "```text\n@magicode fix this\n```\nafter",
    "```\n@magicode fix this",
    "~~~\n@magicode fix this\n~~~",
    "````\n```\n@magicode fix\n```\n````",
    "    @magicode fix this",
    "text\n\n\t@magicode fix this",
    "- item\n\n      @magicode fix this",
    "> @magicode fix this",
    "> a\n> > @magicode fix this",
    "> quoted\n@magicode fix this",
    "> [!NOTE]\n> @magicode fix this",
    "- > @magicode fix this",
    "<!-- @magicode fix this -->",
    "a <!-- @magicode fix this --> b",
    "<!--\n@magicode fix this\n",
    "<pre>\n@magicode fix this\n</pre>",
    "<div><code>@magicode fix this</code></div>",
    '<img alt="> @magicode fix this">',
    "<div title='> @magicode fix'>\n</div>",
    "<p><a href='https://example.com'>@magicode fix</a></p>",
    "<?php @magicode fix ?>",
    "<![CDATA[ @magicode fix ]]>",
    "<!DOCTYPE @magicode fix>",
    "<div>\n<!-- @magicode fix -->\n</div>",
    "<div>\n<!-- @magicode fix\n</div>",
    "<script>\n@magicode fix\n</script>",
    "<div>&#64;magicode fix</div>",
    "a <code>@magicode fix this</code> b",
    "<blockquote>\n\n@magicode fix this\n\n</blockquote>",
    "~~@magicode fix this~~",
    "<del>@magicode fix this</del>",
    "[@magicode fix this](https://example.com)",
    "[text](https://example.com/@magicode)",
    "[text](<@magicode fix>)",
    '[text](https://example.com "@magicode fix")',
    "![@magicode fix](https://example.com/a.png)",
    "[ref]: https://example.com/@magicode 'fix'",
    "https://example.com/@magicode fix",
    "https://example.com/?q=(@magicode fix",
    "www.example.com,@magicode fix",
    "<https://example.com/@magicode>",
    "a@magicode.dev fix",
    "a@magicode fix",
    "write to a.b+c@magicode.dev",
    "<a@magicode.dev> fix",
    "@magicode.dev fix",
    "@magicode-bot fix this",
    "@magicodex fix this",
    "@magicode_ fix this",
    "@magicode2 fix this",
    "@magicode/team fix this",
    "x@magicode fix",
    "@@magicode fix",
    "@alice/@magicode fix",
    "\\@magicode fix this",
    "&#64;magicode fix this",
    "&commat;magicode fix this",
    "@mаgicode fix this",  # а is Cyrillic
    "@ｍagicode fix this",
    "＠magicode fix this",
    "@magiсode fix this",  # с is Cyrillic
    "@MAGİCODE fix this",  # dotted capital I
    "@magıcode fix this",  # dotless i
    "@magicode\u0301 fix this",
    "@magi\u200bcode fix this",
    "@magicode\u200d fix this",
    "@magicodе fix this",  # the last е is Cyrillic
    "@magicodé fix this",
    "é@magicode fix",
    "@magicode's last change is fine",
    "@magicode’s last change is fine",
    "Thanks @magicode!",
    "@magicode thank you so much",
    "@magicode thanks!",
]


@pytest.mark.parametrize(("body", "ask"), [*VERBS, *ARGUMENTS, *PLAIN, *LIMITS, *NEAR, *ALONE, *SEVERAL])
def test_a_comment_asks_for(body: str, ask: Ask) -> None:
    assert read(body, slug="magicode") == ask


@pytest.mark.parametrize("body", SILENT)
def test_a_comment_does_not_speak_to_the_app(body: str) -> None:
    assert read(body, slug="magicode") is None


def test_plain_words_on_a_pull_request_revise_it() -> None:
    assert read("@magicode use a set", slug="magicode", plain=Verb.REVISE) == Ask(Verb.REVISE, "use a set")


def test_an_app_of_another_name_hears_its_own_name_only() -> None:
    assert read("@magicode-dev fix this", slug="magicode-dev") == fix("this")
    assert read("@magicode fix this", slug="magicode-dev") is None


def test_the_kelvin_sign_and_the_long_s_are_no_letters_of_a_name() -> None:
    assert read("@\u212aick\u017f fix this", slug="kicks") is None
    assert read("@KickS fix this", slug="kicks") == fix("this")


@given(st.text(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_read(text: str) -> None:
    for body in (text, f"@magicode {text}", f"{text} @magicode fix {text}"):
        read(body, slug="magicode")


_POINTING = {"it", "its", "this", "that", "these", "those", "them", "him", "her"}
_ACCOUNTS = st.from_regex(r"\A[A-Za-z0-9](?:[A-Za-z0-9]|-(?=[A-Za-z0-9])){0,38}\Z").filter(
    lambda name: name.lower() not in _POINTING
)
_ASIDE = ["", ".", "!", "?", " ", "\n", "\n\nGood bye.", " please", "\r\nThanks!", " (thank you)"]


@given(_ACCOUNTS, st.sampled_from(_ASIDE))
def test_an_account_is_named_to_the_letter(name: str, after: str) -> None:
    assert read(f"@magicode delete {name}{after}", slug="magicode") == Ask(Verb.DELETE, name)


@given(_ACCOUNTS, st.sampled_from(["and", "from", "in", "with", "or"]), _ACCOUNTS)
def test_a_name_among_other_words_is_a_wish_about_code(name: str, joint: str, other: str) -> None:
    said = f"delete the {name} {joint} {other}-old"
    assert read(f"@magicode {said}", slug="magicode") == fix(said)


@given(
    st.lists(st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9.:-]{0,10}[A-Za-z0-9]\Z"), max_size=6),
    st.sampled_from(["", ".", "!", "\nMore.", "\n\nMore."]),
)
def test_a_settings_line_is_given_as_it_stands(words: list[str], after: str) -> None:
    said = " ".join(words)
    ask = read(f"@magicode settings {said}{after}", slug="magicode")
    assert ask == Ask(Verb.SETTINGS, said)


_MARKUP = st.lists(
    st.sampled_from(
        ["@magicode", "fix", " ", "\n", "\n\n", "`", "```", "~~~", "> ", "    ", "<!--", "-->", "[", "](", ")", "<pre>", "</pre>",
         "*", "~~", "\\", "|", "- ", "&#64;", "<a>", "</a>", "http://", "up to $3", "\u200b", "\0"]
    ),
    max_size=40,
).map("".join)  # fmt: skip


@given(_MARKUP)
@settings(max_examples=300, deadline=None)
def test_any_markup_can_be_read(body: str) -> None:
    read(body, slug="magicode")


@given(_MARKUP.filter(lambda text: "~~~" not in text))
@settings(max_examples=200, deadline=None)
def test_nothing_inside_a_fence_is_a_command(inside: str) -> None:
    assert read(f"~~~~\n{inside}\n~~~~", slug="magicode") is None


@given(_MARKUP, _MARKUP)
@settings(max_examples=200, deadline=None)
def test_nothing_quoted_is_a_command(first: str, second: str) -> None:
    lines = f"{first}\n{second}".splitlines() or [""]
    assert read("\n".join(f"> {line}" for line in lines), slug="magicode") is None


@given(_MARKUP.filter(lambda text: "-->" not in text))
@settings(max_examples=200, deadline=None)
def test_nothing_inside_an_html_comment_is_a_command(inside: str) -> None:
    assert read(f"<!-- {inside} -->", slug="magicode") is None


LONGEST = 65_536
ADVERSARIES = [
    "`", "[", "![", "<!--", "x <!--", ">", "> ", "*", "**a ", "~~a ", "<", "<a ", "<pre>", "<b>", "</", "\\", "&", "@", "@magicode ",
    "@magicode", "@magicode fix ", "thanks @magicode\n", "[a](", "[a]: ", "[a\\]", "- ", "1. ", "\n", "a\n", "|", "|a\n|-\n", "www.", "http://",
    "up to ", "up to $1", "a@b.c ", "` ``", "please ", "hey ", "<![CDATA[", "(", "\u200b", "x" * 500 + "@magicode ", "&#64;magicode ",
    "<https://a@magicode ", '<a "', "<a '\"", "<div>\n<a \"", "<div><!--", "<div>\n<", "<div>", "@magicode delete a a a ", "_", "@magicode\u0301",
]  # fmt: skip


@pytest.mark.parametrize("unit", ADVERSARIES, ids=lambda unit: repr(unit)[:20])
def test_the_longest_comment_does_not_take_a_worker_away(unit: str) -> None:
    """`tests/bench/grammar.py` prints how the seconds grow with the length."""
    body = "@magicode " + (unit * (LONGEST // len(unit) + 1))[:LONGEST]
    began = time.process_time()  # not the clock's: the machine may be busy with something else
    ask = read(body, slug="magicode")
    assert time.process_time() - began < 60
    assert ask is None or ask.verb in Verb
