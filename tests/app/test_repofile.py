"""`.github/magicode.yml` is read strictly, and says what is wrong with it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import UserError
from app.repofile import DEFAULT, MAX_BYTES, RepoFile, parse

FULL = b"""\
# what MagiCode may do here
enabled: true
model: anthropic:some-model
deny:
  - "secrets/**"
  - "*.lock"
max_cost_usd: 1.5
max_changed_lines: 300
max_files: 10
instructions: |
  Write tests first.
base: develop
draft: yes
"""


def refused(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        parse(data)
    assert caught.value.reason == "repofile_invalid"
    assert ".github/magicode.yml" in caught.value.message
    return caught.value.message


def test_every_key_is_read() -> None:
    assert parse(FULL) == RepoFile(
        enabled=True,
        model="anthropic:some-model",
        deny=("secrets/**", "*.lock"),
        max_cost_usd=Decimal("1.5"),
        max_changed_lines=300,
        max_files=10,
        instructions="Write tests first.\n",
        base="develop",
        draft=True,
    )


@pytest.mark.parametrize("data", [b"", b"# nothing\n", b"---\n", b"{}"])
def test_an_empty_file_says_the_same_as_none(data: bytes) -> None:
    assert parse(data) == DEFAULT


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert parse(b"\xef\xbb\xbfdraft: true\n").draft


def test_an_unknown_key_is_named_with_the_one_that_was_meant() -> None:
    assert "`denny`: did you mean `deny`?" in refused(b"denny: [a]\n")


def test_an_unknown_key_like_no_other_is_answered_with_those_there_are() -> None:
    assert "`max_cost_usd`" in refused(b"zzzzzzzz: 1\n")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"enabled: maybe", "enabled"),
        (b"enabled: 1", "enabled"),
        (b"max_files: 0", "max_files"),
        (b"max_files: many", "max_files"),
        (b"max_files: true", "max_files"),
        (b"max_cost_usd: -1", "max_cost_usd"),
        (b"max_cost_usd: .nan", "max_cost_usd"),
        (b"max_cost_usd: .inf", "max_cost_usd"),
        (b"max_cost_usd: true", "max_cost_usd"),
        (b"deny: secrets", "deny"),
        (b"deny: [1]", "deny"),
        (b"deny: ['!']", "deny"),
        (b"model: ''", "model"),
        (b"draft: true\ndraft: false", "twice"),
        (b"a: &x 1\nb: *x", "aliases"),
        (b"draft: !!python/object:os.system x", "tags"),
        (b"deny: !!binary 'x'", "tags"),
        (b"? [a]\n: 1", "key has to be a word"),
        (b"- a\n- b", "key: value"),
        (b"just words", "key: value"),
        (b"deny: [", "line"),
        (b"\xff\xfe", "UTF-8"),
        (b"draft: true\n---\ndraft: false", "YAML"),
        (b"max_files: " + b"9" * 5000, "magicode.yml"),
        (b"instructions: '" + b"x" * 9000 + b"'", "instructions"),
        (b"#" * (MAX_BYTES + 1), "larger"),
        (b"[" * 5000, "nested"),
        (b"a: " * 300, "magicode.yml"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, named: str) -> None:
    assert named in refused(data)


def test_a_yaml_bomb_is_refused_at_its_first_alias() -> None:
    layers = [f"l{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "aliases" in refused("\n".join(["l0: &a0 [x]", *layers]).encode())


def test_words_that_other_readers_take_for_dates_are_words() -> None:
    assert parse(b"base: 2026-06-31\n").base == "2026-06-31"


@pytest.mark.parametrize(
    ("path", "denied"),
    [("secrets/a/b", "secrets/**"), ("deep/poetry.lock", "*.lock"), ("src/a.py", None), ("secrets.py", None)],
)
def test_deny_patterns_read_as_gitignore_has_them(path: str, denied: str | None) -> None:
    assert parse(FULL).denied_by(path) == denied


@given(
    st.binary(max_size=300)
    | st.text(alphabet="a:-[]{}&*!|>'\"\n \t#,?%@`<01.~", max_size=120).map(str.encode)
)
def test_any_bytes_are_read_or_refused_as_the_users_error(data: bytes) -> None:
    try:
        read = parse(data)
    except UserError as error:
        read, reason = None, error.reason
    assert isinstance(read, RepoFile) or reason == "repofile_invalid"
