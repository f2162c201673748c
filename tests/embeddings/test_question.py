"""A request is taken apart as its writer meant it, and no hostile one takes long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.question import MAX_CHARACTERS, Frame, Names, Question, names_in, read


@pytest.mark.parametrize(
    ("question", "files", "symbols"),
    [
        ("fix the total", (), ()),
        ("`total` is wrong", (), ("total",)),
        ("total_price and renderBasket and HTTPServer", (), ("total_price", "renderBasket", "HTTPServer")),
        ("call total() twice", (), ("total",)),
        ("Basket.add_fruit, std::sort, Foo#bar", ("Basket.add_fruit",), ("add_fruit", "sort", "bar")),
        ("see shop/prices.py, please", ("shop/prices.py",), ()),
        ("in ./web/app.js:12 it breaks", ("web/app.js",), ()),
        ("the folder src/deep/er", ("src/deep/er",), ()),
        ("", (), ()),
    ],
)
def test_names_are_what_only_code_would_say(question, files, symbols):
    found = names_in(question)
    assert found.files == files
    assert found.symbols == symbols


TRACEBACK = """
Traceback (most recent call last):
  File "/home/me/app/shop/prices.py", line 14, in Basket.add_fruit
    self.fruit = fruit
TypeError: no
"""


def test_a_traceback_names_its_files_lines_and_functions():
    found = names_in(TRACEBACK)
    assert found.lines == (("home/me/app/shop/prices.py", 14),)
    assert found.symbols == ("add_fruit", "fruit", "TypeError")
    assert names_in("web/app.js:12 and docs/guide.md#L3").lines == (("web/app.js", 12), ("docs/guide.md", 3))


ISSUE = """Adding fruit fails with `ValueError`

<!-- Thank you for the report! Please fill in every part. -->
- [x] I have searched the existing issues

### What happened?

I added a pear to a basket and it said "the basket is not big enough".
See https://github.com/acme/shop/blob/main/shop/prices.py#L14 for the place.

```python
from shop.prices import Basket
Basket().add_fruit("pear")
```

```
Traceback (most recent call last):
  File "/srv/app/run.py", line 3, in <module>
  File "/srv/app/shop/prices.py", line 14, in add_fruit
ValueError: the basket is full
```

### Environment

- OS: Linux
- Python version: 3.12.1
shop==1.2.3

### Anything else?

_No response_
"""


def test_an_issue_is_taken_apart():
    asked = read(ISSUE)
    assert asked.title == "Adding fruit fails with `ValueError`"
    assert "I added a pear" in asked.prose
    assert any("add_fruit" in block for block in asked.code)
    assert asked.frames == (
        Frame("/srv/app/run.py", 3, "<module>"),
        Frame("/srv/app/shop/prices.py", 14, "add_fruit"),
    )
    assert "shop.prices.Basket" in asked.modules
    assert ("shop/prices.py", 14) in asked.names.lines


@pytest.mark.parametrize(
    "noise", ["Thank you", "searched", "Linux", "3.12.1", "1.2.3", "No response", "Environment", "github.com"]
)
def test_templates_and_machines_are_left_out(noise):
    assert noise not in read(ISSUE).text


def test_what_follows_a_silent_section_is_read_again():
    asked = read("Title\n## Versions\nfoo 1\n## Reproduction\nIt breaks.")
    assert "It breaks." in asked.prose
    assert "foo 1" not in asked.prose


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        ('  File "a/b.py", line 7, in run', Frame("a/b.py", 7, "run")),
        ("File ~/x/b.py:7, in C.run(self)", Frame("~/x/b.py", 7, "run")),
        ("~/x/b.py in run(self, n)", Frame("~/x/b.py", 0, "run")),
        ("a/b.py:7: TypeError", Frame("a/b.py", 7, "")),
        ("    at Basket.add (/srv/web/app.js:12:5)", Frame("/srv/web/app.js", 12, "add")),
        ("    at /srv/web/app.ts:12:5", Frame("/srv/web/app.ts", 12, "")),
        ("\tat com.acme.Shop.sell(Shop.java:31)", Frame("Shop.java", 31, "sell")),
        ("\t/srv/shop/shop.go:31 +0x1d", Frame("/srv/shop/shop.go", 31, "")),
        ("             at ./src/shop.rs:31:9", Frame("./src/shop.rs", 31, "")),
        ("thread 'main' panicked at src/shop.rs:31:9:", Frame("src/shop.rs", 31, "")),
        ("\tfrom lib/shop.rb:31:in `sell'", Frame("lib/shop.rb", 31, "sell")),
    ],
)
def test_frames_of_many_languages_are_read(line, frame):
    assert read(f"It fails\n```\n{line}\n```\n").frames == (frame,)


def test_the_innermost_frame_is_last_whatever_the_language():
    java = "It fails\n\tat a.Inner.f(Inner.java:1)\n\tat a.Outer.g(Outer.java:2)\n"
    assert [frame.file for frame in read(java).frames] == ["Outer.java", "Inner.java"]
    python = 'It fails\n  File "outer.py", line 1, in g\n  File "inner.py", line 2, in f\n'
    assert [frame.file for frame in read(python).frames] == ["outer.py", "inner.py"]


def test_an_interpreter_session_is_code():
    asked = read("Title\n>>> import shop\n>>> shop.sell()\nIt hangs.")
    assert asked.code == ("import shop\nshop.sell()",)
    assert asked.prose == "It hangs."


def test_an_unclosed_comment_or_fence_hides_nothing_before_it():
    assert "seen" in read("T\nseen <!-- unclosed").prose
    assert read("T\nseen\n```\ncode").code == ("code",)


def test_windows_hold_the_whole_prose_under_the_title():
    prose = " ".join(f"word{number}" for number in range(300))
    windows = read(f"Title\n{prose}").windows()
    assert 1 < len(windows) <= 4
    assert all(window.startswith("Title\n") and len(window) < 1000 for window in windows)
    said = " ".join(window.removeprefix("Title\n") for window in windows)
    assert said.replace(" ", "").replace("\n", "") == prose.replace(" ", "")


@pytest.mark.parametrize(
    "part",
    [
        "a", "a.", "/a", "a/", ".", "`a", "a_b ", "line 1, in a.", "aA", "::a", '"', ":1", "a.py:1 ",
        "(", "[", "{", "<", "<!--", "```", "```\n", "~~~\n", " ", "\t", "\n", "*", "**a", "#", "# a\n", "- [x] ", ">>> ", "'a", "“",
        "at ", " at a.js", "File \"", "error: ", "http://", "from a import ", "a b ", "1.", "...", "<details>", "![", "panicked at '",
    ],
)  # fmt: skip
def test_a_hostile_request_of_a_million_characters_is_read_at_once(part):
    began = time.thread_time()
    asked = read.__wrapped__(part * (1_000_000 // len(part)))
    assert time.thread_time() - began < 3
    assert len(asked.text) <= MAX_CHARACTERS + 1000
    assert len(asked.windows()) <= 4


@given(st.text(max_size=300))
@settings(deadline=None)
def test_no_request_makes_it_fail(question):
    assert isinstance(names_in(question), Names)
    assert isinstance(read(question), Question)


@given(st.lists(st.sampled_from(ISSUE.split("\n")), max_size=30))
@settings(deadline=None)
def test_no_order_of_an_issues_lines_makes_it_fail(lines):
    asked = read("\n".join(lines))
    assert all(frame.line >= 0 for frame in asked.frames)
