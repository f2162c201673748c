"""The process's log on standard error: static messages, ids and figures, one line each, in UTC.

Nobody is to log content or keys; this is the last line of defence. It redacts what looks like a token or a key, tells
of an error its kind and its places but never its message, which may quote what it was about, and lets other
libraries say nothing below a warning, since some log addresses and bodies.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TextIO

OWN = ("app", "infra", "webhooks", "embeddings", "__main__")
REDACTED = "[redacted]"
_WORDY = ("asyncio",)
"""Loggers whose messages go on, after their first line, to show the error itself."""
_SILENT = ("py.warnings",)
"""A Python warning quotes source and values, such as pydantic's."""

# No length is assumed but a least one: GitHub's installation tokens have about 520 characters since 2026.
_SECRETS = re.compile(
    r"""
    -----BEGIN\ [A-Z0-9 ]*-----.*?(?:-----END\ [A-Z0-9 ]*-----|\Z)
    | (?:(?<![A-Za-z0-9])|(?<=\\[nrt]))(?:  # after an escaped line's end too
        gh[a-z]_[A-Za-z0-9._-]{8,}
      | github_pat_[A-Za-z0-9_]{8,}
      | v1\.[0-9a-f]{40}
      | (?:sk|rk|pk)-[A-Za-z0-9_-]{8,}
      | eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*){1,4}
      | (?i:bearer|basic|token)\ +[A-Za-z0-9._~+/=-]{16,}
      )
    | (?<=://)[^\s/@:]*:[^\s/@]+(?=@)
    """,
    re.VERBOSE | re.DOTALL,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def redacted(text: str) -> str:
    """The text without what looks like a token, a key, a PEM block, a JSON Web Token or a password in an address."""
    return _SECRETS.sub(REDACTED, text)


def set_up(level: str, stream: TextIO | None = None, *, form: str = "text") -> None:
    """Log to `stream` (standard error) from `level` on, and nothing from anywhere else; errors that nobody caught too. In the form
    of `text` for people, or of `json`, a document in each line, for programs.

    Takes the place of whatever a library has set up before. Raises ValueError for a level that is none.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneDocument() if form == "json" else OneLine())
    handler.addFilter(Ours(level.upper()))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught


class Ours(logging.Filter):
    """Our own records from a level on, and others' warnings, whatever level a library gave its own loggers."""

    def __init__(self, level: str) -> None:
        super().__init__()
        self._level = logging.getLevelNamesMapping()[level]

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name in _SILENT:
            return False
        least = self._level if _is_own(record) else max(self._level, logging.WARNING)
        return record.levelno >= least


class OneLine(logging.Formatter):
    """`2026-11-20T12:00:00Z WARNING app.main A delivery was refused. reason="signature_wrong" status=401`."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name in _WORDY:
            message = message.partition("\n")[0]
        parts = [self.formatTime(record), record.levelname, record.name, message]
        if _is_own(record):
            parts += [f"{name}={_value(value)}" for name, value in _facts(record).items()]
        if record.exc_info and record.exc_info[1] is not None:
            parts.append(_told(record.exc_info[1]))
        return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], redacted(" ".join(parts)))


class OneDocument(OneLine):
    """`{"time": …, "level": …, "logger": …, "message": …, "facts": {…}, "error": …}`; the last two where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        if record.name in _WORDY:
            message = message.partition("\n")[0]
        told: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": redacted(message),
        }
        if _is_own(record) and (facts := _facts(record)):
            told["facts"] = {name: _redacted(json.loads(_value(value))) for name, value in facts.items()}
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = redacted(_told(record.exc_info[1]))
        return json.dumps(told, ensure_ascii=True)


def _redacted(value: Any) -> Any:
    """Each text in it by itself: a redaction of the whole might take a document's own marks with it."""
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, list):
        return [_redacted(one) for one in value]
    if isinstance(value, dict):
        return {redacted(name): _redacted(one) for name, one in value.items()}
    return value


def _is_own(record: logging.LogRecord) -> bool:
    return record.name.partition(".")[0] in OWN


def _facts(record: logging.LogRecord) -> Mapping[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _value(value: object) -> str:
    """JSON; of what JSON does not know, its kind alone."""
    return json.dumps(value, ensure_ascii=True, default=lambda other: type(other).__name__)


def _told(error: BaseException) -> str:
    """The kinds of an error and of those behind it, each with the places that it came through; no messages."""
    said: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        said.append(
            f"{type(one).__module__}.{type(one).__qualname__} at {' < '.join(_places(one.__traceback__))}"
        )
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "error: " + "; after ".join(said)


def _places(trace: TracebackType | None) -> list[str]:
    """`module:function:line`, innermost first, a dozen at most."""
    places = []
    while trace is not None:
        code = trace.tb_frame.f_code
        module = trace.tb_frame.f_globals.get("__name__", "?")
        places.append(f"{module}:{code.co_name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return places[:-13:-1]


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
    """For `sys.excepthook`: Python's own would print the error's message."""
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(__name__).critical(
        "The program ended with an error of ours.", exc_info=(kind, error, trace)
    )
