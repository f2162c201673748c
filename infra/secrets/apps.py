"""The App's own secrets (its private key, the webhook's secret, providers' keys …) as lines or JSON, in a file or elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from app.errors import SHORT, ShortError, UserError
from infra.secrets import private

_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class SecretsUnreadableError(UserError):
    """What MAGICODE_SECRETS names cannot be read. A file has mode 0600 and belongs to the service's own user; it, or the
    secret in AWS, holds a JSON object of names and texts, or lines of NAME=value."""


class AppSecrets(Protocol):
    """Where the secrets are. Both ask there each time, and may block."""

    def read(self) -> Mapping[str, str]:
        """Names with their values. Raises SecretsUnreadableError, and AWS's AwsAwayError and AwsRefusedError."""
        ...

    def keep(self, found: Mapping[str, str]) -> None:
        """From now on these too, in place of those of the same names. Raises as `read`, and ShortError."""
        ...


class FileSecrets:
    """Implements AppSecrets by a file that only its owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Mapping[str, str]:
        try:
            content = private.read(self._path)
        except private.ExposedError:
            raise SecretsUnreadableError(reason="secrets_exposed") from None
        except OSError:
            raise SecretsUnreadableError(reason="secrets_unreadable") from None
        return parsed(content)

    def keep(self, found: Mapping[str, str]) -> None:
        """A file that is not there yet is made; in one that is, whatever else stands there stays as it is."""
        try:
            private.make(self._path, b"")
            with private.locked(self._path):
                content = private.read(self._path)
                parsed(content)
                private.replace(self._path, merged(content.decode("utf-8"), found).encode())
        except private.ExposedError:
            raise SecretsUnreadableError(reason="secrets_exposed") from None
        except OSError as error:
            if error.errno in SHORT:
                raise ShortError(reason="machine_short") from None
            raise SecretsUnreadableError(reason="secrets_unreadable") from None


def merged(text: str, found: Mapping[str, str]) -> str:
    """What stood there with what is `found`, in the form that it had. A line holds no line breaks: each is written there as a
    backslash and an n, which a private key is read with."""
    if text.lstrip().startswith("{"):
        return json.dumps({**_of_json(text), **found}, indent=1) + "\n"
    kept = [line for line in text.splitlines() if line.partition("=")[0].strip() not in found]
    return "\n".join([*kept, *(f"{name}={_on_one_line(value)}" for name, value in found.items()), ""])


def _on_one_line(value: str) -> str:
    return value.replace("\n", "\\n")


def parsed(content: bytes) -> Mapping[str, str]:
    """A JSON object, or lines of NAME=value; a line that begins with # says nothing, and a pair of quotation marks around
    a value is taken off. No error quotes what stands there. Raises SecretsUnreadableError."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretsUnreadableError(reason="secrets_malformed") from None
    found = _of_json(text) if text.lstrip().startswith("{") else _of_lines(text)
    if not all(map(_NAME.fullmatch, found)):
        raise SecretsUnreadableError(
            "What MAGICODE_SECRETS names has a name in it that is not of capital letters, digits and underscores.",
            reason="secrets_malformed",
        )
    return found


def _of_json(text: str) -> dict[str, str]:
    try:
        document = json.loads(text)
    except ValueError:
        raise SecretsUnreadableError(reason="secrets_malformed") from None
    if not all(isinstance(value, str | int) and not isinstance(value, bool) for value in document.values()):
        raise SecretsUnreadableError(
            "What MAGICODE_SECRETS names has a value in it that is no text.", reason="secrets_malformed"
        )
    return {name: str(value) for name, value in document.items()}


def _of_lines(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        said = line.strip()
        if not said or said.startswith("#"):
            continue
        name, mark, value = (part.strip() for part in said.partition("="))
        if not mark or name in found:
            raise SecretsUnreadableError(
                f"Line {number} of what MAGICODE_SECRETS names is not NAME=value, or says a name again.",
                reason="secrets_malformed",
            )
        quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        found[name] = value[1:-1] if quoted else value
    return found
