"""What a repository says of its files is read as git reads it, and no pattern takes long."""

from __future__ import annotations

import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embeddings.chunk import chunk
from embeddings.rules import Reason, Rules

PATTERNS = [
    "a", "/a", "a/", "a/b", "a/*", "a/**", "**/b", "a/**/c", "*.py", "a*c", "?", "[ab]", "[!ac]", "\\*", "*", "**",
    "a/**b", "b/", "**/a/**", "[a-b]c", "a\\b", "[", "d/[]a]", "**/*.py", "foo/**/", "/**", "/*", "a**", "[z-a]",
    "[\\]]", "é", "[^a]", "a[b-]",
]  # fmt: skip
PATHS = [
    "a", "b", "c", "ab", "ac", "a-", "a/b", "a/c", "a/b/c", "a/x/y/c", "x/a", "x/a/b", "x.py", "a/x.py", "*", "d/]",
    "d/a", "b/a", "foo/x/y", "foo/y", "a/bb", "a/x/b", "abc/x", "x/é",
]  # fmt: skip


def rules(**files: str) -> Rules:
    """The rules of a tree with these rule files: `ignore` and `attributes` lie in the root."""
    named = {f".magicode{name}" if name == "ignore" else f".git{name}": text for name, text in files.items()}
    return Rules.of(lambda path: named[path].encode(), [*named, *PATHS])


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    root = tmp_path_factory.mktemp("rules")
    subprocess.run(["git", "init", "-q", root], check=True)

    def ask(*arguments: str) -> list[str]:
        command = ["git", "-C", str(root), *arguments]
        done = subprocess.run(command, input="\0".join(PATHS), capture_output=True, text=True, check=False)
        return done.stdout.split("\0")

    return root, ask


@pytest.mark.parametrize("pattern", PATTERNS)
def test_attributes_match_as_in_git(asked, pattern):
    root, ask = asked
    line = f"{pattern} linguist-generated\n"
    (root / ".gitattributes").write_text(line, encoding="utf-8")
    said = ask("check-attr", "-z", "--stdin", "linguist-generated")
    by_git = {path for path, value in zip(said[::3], said[2::3], strict=False) if value == "set"}
    read = rules(attributes=line)
    assert {path for path in PATHS if read.reason(path, 1) == Reason.GENERATED} == by_git


@pytest.mark.parametrize("pattern", PATTERNS)
def test_ignored_files_are_the_same_as_in_git(asked, pattern):
    root, ask = asked
    (root / ".gitignore").write_text(f"{pattern}\n", encoding="utf-8")
    by_git = set(ask("check-ignore", "-z", "--no-index", "--stdin")[:-1])
    read = rules(ignore=f"{pattern}\n")
    assert {path for path in PATHS if read.reason(path, 1) == Reason.IGNORED} == by_git


def test_the_last_line_that_matches_counts():
    read = rules(
        ignore="# all of them\n*.py\n!x.py\r\n",
        attributes="*.js linguist-generated\nmine.js -linguist-generated\n",
    )
    assert [read.reason(path, 1) for path in ("a/b.py", "a/x.py", "a.js", "mine.js")] == [
        Reason.IGNORED, None, Reason.GENERATED, None,
    ]  # fmt: skip


def test_what_a_deeper_folder_says_counts_more():
    files = {
        ".gitattributes": b"*.js linguist-vendored\n",
        "own/.gitattributes": b"*.js linguist-vendored=false\n",
        ".magicodeignore": b"docs\n",
        "docs/.magicodeignore": b"!guide.md\n",
    }
    read = Rules.of(files.get, files)
    assert [read.reason(path, 1) for path in ("a.js", "own/a.js", "docs/x.md", "docs/guide.md")] == [
        Reason.VENDORED, None, Reason.IGNORED, None,
    ]  # fmt: skip


def test_a_repository_may_take_back_what_its_names_say():
    read = rules(attributes="vendor/** -linguist-vendored\n*_pb2.py linguist-generated=false\n")
    assert read.reason("vendor/own.py", 1) is None
    assert read.reason("node_modules/a.js", 1) == Reason.VENDORED
    assert chunk("a_pb2.py", b"# @generated\nx = 1\n", read).chunks
    assert chunk("a.py", b"# @generated\nx = 1\n", read).left_out == Reason.GENERATED


def test_attributes_that_say_something_else_say_nothing_here():
    read = rules(
        attributes='* text=auto\n[attr]x linguist-generated\n!a linguist-generated\n*.py diff=python linguist-detectable\n"with space.txt" linguist-generated\n*.md !linguist-generated\n'
    )
    assert [read.reason(path, 1) for path in ("a.py", "x", "!a", "with space.txt", "a.md")] == [
        None, None, None, Reason.GENERATED, None,
    ]  # fmt: skip


def test_rules_that_cannot_be_read_are_none():
    assert Rules.of(lambda _: None, [".gitattributes", ".magicodeignore"]).reason("a.py", 1) is None
    assert (
        Rules.of(lambda _: b"\xff\0[" * 1000, [".gitattributes", ".magicodeignore"]).reason("a.py", 1) is None
    )


def test_a_file_that_stands_for_another_is_left_out():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    assert chunk("model.py", pointer).left_out == Reason.LFS_POINTER


def test_every_reason_is_a_word_that_can_be_shown():
    assert all(reason.replace("_", "").isalpha() and reason.islower() for reason in Reason)


@given(st.text(max_size=200), st.text(alphabet="ab/*.\\[]é\udc80", max_size=20))
@settings(max_examples=200, deadline=None)
def test_no_rule_file_makes_it_fail(text, path):
    files = {
        ".gitattributes": "\n".join(f"{line} linguist-generated" for line in text.split("\n")),
        ".magicodeignore": text,
    }
    Rules.of(lambda name: files[name].encode("utf-8", "replace"), files).reason(path, 1)


def test_no_pattern_takes_long():
    began = time.thread_time()
    text = "".join(f"{'*a' * 7}{n}\n{'**/' * 7}b{n}\n" for n in range(200))
    read = rules(
        ignore=text, attributes="".join(f"{line} linguist-generated\n" for line in text.split("\n") if line)
    )
    for path in ("a" * 4000, "a/" * 2000, "x/" * 30 + "b"):
        for _ in range(10):
            read.reason(path, 1)
    assert time.thread_time() - began < 10
