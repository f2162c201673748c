"""The last line of defence: whatever is logged, no key and no content comes out."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infra.telemetry
from infra.simulator.auth import new_private_key
from infra.telemetry import REDACTED, redacted, set_up

HERE = "app.somewhere"
LONG = "aB3" * 180
TOKENS = {
    "an installation token": f"ghs_424242_eyJ0eXAiOiJKV1QifQ.{LONG}.x-_y",
    "an old installation token": "ghs_" + "a1B2" * 9,
    "a person's token": "ghp_" + "a1B2" * 9,
    "a person's fine-grained token": "github_pat_" + "a1B2_" * 16,
    "Anthropic's key": "sk-ant-api03-" + "a1B2-_" * 15,
    "OpenAI's key": "sk-proj-" + "a1B2-_" * 20,
    "OpenAI's old key": "sk-" + "a1B2" * 12,
    "a JSON Web Token": jwt.encode({"iss": "1", "sub": "x"}, "k" * 32, "HS256"),
}


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """What is written, with the root logger put back afterwards."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    stream = io.StringIO()
    set_up("debug", stream)
    yield stream
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize(
    "around", ["{}", "token={} x", "'{}'", "Authorization: Bearer {}", "a\n{}\nb", r"a\n{}\nb", "({})"]
)
def test_a_token_is_redacted_wherever_it_stands(token: str, around: str) -> None:
    text = redacted(around.format(token))
    assert REDACTED in text
    for start in range(0, len(token) - 12, 4):
        assert token[start : start + 12] not in text


def test_a_private_key_is_redacted_whole_or_cut_off() -> None:
    key = new_private_key()
    for text in (key, repr(key), key[: len(key) // 2], f"{key}\n{key}"):
        assert not any(line in redacted(text) for line in key.splitlines())
    assert redacted(f"before {key.strip()} after") == f"before {REDACTED} after"


def test_a_password_in_an_address_is_redacted_and_the_host_stays() -> None:
    assert redacted("postgresql://magicode:hunter2@db.internal/x") == f"postgresql://{REDACTED}@db.internal/x"


@pytest.mark.parametrize(
    "plain",
    ["task-queue is empty", "disk-usage 12345678", "The token was revoked.", "https://api.github.com/app", "risk-free-thing-here"],
)  # fmt: skip
def test_plain_words_stay(plain: str) -> None:
    assert redacted(plain) == plain


@given(st.text(), st.sampled_from(sorted(TOKENS.values())), st.text())
def test_a_token_between_any_text_does_not_come_out(before: str, token: str, after: str) -> None:
    assert token not in redacted(f"{before} {token} {after}")


def test_arguments_facts_and_errors_are_redacted(out: io.StringIO) -> None:
    token = TOKENS["an installation token"]
    logging.getLogger(HERE).info("got %s", token, extra={"fact": token})
    try:
        raise ValueError(f"refused: {token} secret words")
    except ValueError:
        logging.getLogger(HERE).exception("It failed.")
    said = out.getvalue()
    assert token[:30] not in said
    assert said.count(REDACTED) == 2
    assert "secret words" not in said
    assert "builtins.ValueError at" in said
    assert "test_arguments_facts_and_errors_are_redacted" in said


def test_an_errors_causes_are_told_by_kind_alone(out: io.StringIO) -> None:
    try:
        try:
            raise KeyError("inner words")
        except KeyError as error:
            raise RuntimeError("outer words") from error
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    said = out.getvalue()
    assert "words" not in said
    assert said.index("RuntimeError") < said.index("KeyError")


def test_one_record_is_one_line_with_its_facts(out: io.StringIO) -> None:
    logging.getLogger(HERE).warning(
        "Refused\nor \x1b[31mnot", extra={"reason": "x", "status": 401, "what": object()}
    )
    (line,) = out.getvalue().splitlines()
    assert line.endswith(r'WARNING app.somewhere Refused\nor \x1b[31mnot reason="x" status=401 what="object"')
    assert line[10] == "T"
    assert line[19] == "Z"


@pytest.mark.parametrize(
    "name",
    [
        "httpx", "httpx2", "httpcore.http11", "openai._base_client", "anthropic._base_client", "githubkit", "qdrant_client",
        "urllib3.connectionpool", "procrastinate.worker", "sqlalchemy.engine.Engine", "psycopg.pool", "alembic.runtime",
    ],
)  # fmt: skip
def test_other_libraries_say_nothing_below_a_warning(out: io.StringIO, name: str) -> None:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.DEBUG)  # as OPENAI_LOG=debug makes it
    logger.info("HTTP Request: POST https://example.com/?key=1")
    logger.debug("Request options: the whole prompt")
    assert out.getvalue() == ""
    logger.warning("Lost a connection.")
    logger.setLevel(before)
    assert "Lost a connection." in out.getvalue()


def test_our_own_level_is_the_one_asked_for(out: io.StringIO) -> None:
    logging.getLogger("infra.postgres.queue").debug("quietly")
    assert "quietly" in out.getvalue()
    set_up("ERROR", out)
    logging.getLogger("infra.postgres.queue").warning("loudly")
    assert "loudly" not in out.getvalue()


def test_a_pythons_warning_and_a_tasks_error_do_not_quote_values(out: io.StringIO) -> None:
    warnings.warn("input_value='the whole file'", stacklevel=1)
    logging.getLogger("asyncio").error(
        "Task exception was never retrieved\nfuture: <Task exception=E('the file')>"
    )
    assert "file" not in out.getvalue()
    assert "never retrieved" in out.getvalue()


def test_what_a_library_set_up_before_is_replaced(out: io.StringIO) -> None:
    other = io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(other))
    set_up("info", out)
    logging.getLogger(HERE).info("once")
    assert other.getvalue() == ""
    assert out.getvalue().count("once") == 1


def test_an_error_that_nobody_caught_is_told_without_its_words() -> None:
    script = "from infra.telemetry import set_up\nset_up('info')\nraise ValueError('secret words')\n"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(infra.telemetry.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "CRITICAL" in done.stderr
    assert "ValueError" in done.stderr
    assert "secret words" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def documents(out: io.StringIO) -> io.StringIO:
    set_up("info", out, form="json")
    return out


def told_in(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_line_is_a_document_for_programs(documents: io.StringIO) -> None:
    logging.getLogger(HERE).info(
        "A delivery was refused.", extra={"reason": "signature_wrong", "status": 401}
    )
    logging.getLogger("httpx").warning("two\nlines")
    first, second = told_in(documents)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first.pop("time"))
    assert first == {
        "level": "INFO",
        "logger": HERE,
        "message": "A delivery was refused.",
        "facts": {"reason": "signature_wrong", "status": 401},
    }
    assert (second["message"], "facts" in second) == ("two\nlines", False)


@pytest.mark.parametrize(
    "token", [*TOKENS.values(), "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE"], ids=[*TOKENS, "a key"]
)
def test_a_document_stays_one_whatever_is_redacted_in_it(token: str, documents: io.StringIO) -> None:
    facts = {"one": token, "several": [token, {token: {"deeper": token}}], "count": 3, "unknown": Path("x")}
    logging.getLogger(HERE).warning("Look: %s", token, extra={"given": facts})
    (told,) = told_in(documents)
    assert token[-12:] not in documents.getvalue()
    assert told["facts"]["given"]["count"] == 3
    assert told["facts"]["given"]["unknown"] == "PosixPath"
    assert told["facts"]["given"]["one"] == REDACTED


def test_a_document_tells_an_errors_kind_and_places_and_not_its_words(documents: io.StringIO) -> None:
    try:
        raise ValueError("secret words")
    except ValueError:
        logging.getLogger(HERE).exception("It broke.")
    (told,) = told_in(documents)
    assert "builtins.ValueError at " in told["error"]
    assert "secret words" not in documents.getvalue()
