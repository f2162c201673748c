"""An export being read again: a document, JSON lines or CSV, entry by entry, with no more of it in memory than one.

It refuses what `magicode actions export` never writes: another shape, a key given twice, a number that is none.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TextIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.errors import UserError

FORMAT: Final = "magicode-actions/1"
PART: Final = "part:"
"""How the name of a CSV's last, empty column begins where the file holds a part; the filter follows as JSON."""
FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "'")
"""What a cell does not begin with: a spreadsheet would run it. An apostrophe goes before it, also before another one."""

_READ: Final = 1 << 16
_LONGEST: Final = 1 << 24

Hash = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]


class UnreadableLogError(UserError):
    """This is not an action log as `magicode actions export` writes it in JSON, JSON lines or CSV."""


class ExportedEntry(BaseModel):
    """One entry as exported. `details` and `salt` are None once the installation's key was destroyed."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    installation_id: int
    seq: int
    at: str
    actor: str
    action: str
    run_id: str | None
    details: dict[str, str | int | float | bool | None] | None
    salt: Annotated[str, Field(pattern=r"\A(?:[0-9a-f]{2})*\z")] | None
    details_hash: Hash
    previous_hash: Hash
    hash: Hash


COLUMNS: Final = tuple(ExportedEntry.model_fields)


@dataclass(slots=True)
class Header:
    """What the file says about itself. `whole` is False for a part of a log, whose `only` is the filter."""

    installation_id: int | None = None
    whole: bool = True
    only: Mapping[str, object] | None = None


class Log:
    """The entries of an export, once. The header is known when they have been read, since a document may end with it."""

    def __init__(self, stream: TextIO) -> None:
        """`stream` is opened with `newline=""`: a cell of a CSV may hold line ends of its own."""
        self.header = Header()
        self._stream = stream

    def __iter__(self) -> Iterator[ExportedEntry]:
        """Raises UnreadableLogError."""
        try:
            for item in self._items():
                yield ExportedEntry.model_validate(item)
        except (ValueError, RecursionError, ValidationError, csv.Error):
            raise UnreadableLogError from None

    def _items(self) -> Iterator[object]:
        text = _Text(self._stream)
        match text.peek():
            case "":
                return iter(())
            case "[":
                return self._list(text)
            case "{":
                return self._objects(text)
            case _:
                return self._rows(text.lines())

    def _list(self, text: _Text) -> Iterator[object]:
        yield from text.items()
        if text.peek():
            raise UnreadableLogError

    def _objects(self, text: _Text) -> Iterator[object]:
        """A document with its entries, or values one behind the other of which the first may be a header."""
        first: dict[str, object] = {}
        document = False
        for name in text.members():
            if name in first or (name == "entries" and document):
                raise UnreadableLogError
            if name == "entries" and text.peek() == "[":
                document = True
                yield from text.items()
            else:
                first[name] = text.value()
        if document or "format" in first:
            self._head(first)
        else:
            yield first
        while text.peek():
            if document:
                raise UnreadableLogError
            yield text.value()

    def _head(self, given: Mapping[str, object]) -> None:
        if given.get("format", FORMAT) != FORMAT:
            raise UnreadableLogError("This action log was written by a version that this one cannot read.")
        whole, only, whose = given.get("whole", True), given.get("filter"), given.get("installation_id")
        if (
            not isinstance(whole, bool)
            or not isinstance(only, Mapping | None)
            or not isinstance(whose, int | None)
        ):
            raise UnreadableLogError
        self.header.whole, self.header.only, self.header.installation_id = whole, only, whose

    def _rows(self, lines: Iterator[str]) -> Iterator[object]:
        rows = csv.reader(lines, strict=True)
        names = next(rows, [])
        if len(names) == len(COLUMNS) + 1 and names[-1].startswith(PART):
            only = load(names.pop().removeprefix(PART))
            self._head({"whole": False, "filter": only})
        if tuple(names) != COLUMNS:
            raise UnreadableLogError
        width = len(names) + (not self.header.whole)
        for row in rows:
            if len(row) != width:
                raise UnreadableLogError
            yield {name: _READS.get(name, _text)(cell) for name, cell in zip(names, row, strict=False)}


def load(text: str) -> Any:
    """One JSON value. Raises ValueError, and UnreadableLogError for a key given twice."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises UnreadableLogError for a key given twice, of which a reader might see another one than a program does."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise UnreadableLogError
    return made


def _text(cell: str) -> str:
    return cell.removeprefix("'")


def _perhaps(cell: str) -> str | None:
    return cell or None


def _number(cell: str) -> int:
    if not (cell.isascii() and cell.isdigit()):
        raise UnreadableLogError
    return int(cell)


_READS: Final[Mapping[str, Callable[[str], object]]] = {
    "installation_id": _number,
    "seq": _number,
    "run_id": _perhaps,
    "details": lambda cell: load(cell) if cell else None,
    "salt": _perhaps,
}


class _Text:
    """JSON values, taken one after the other from a stream. Each method raises ValueError where the text ends too early or
    is no JSON."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._held = ""
        self._at = 0
        self._ended = False
        self._decoder = json.JSONDecoder(object_pairs_hook=_object)

    def peek(self) -> str:
        """The next character that is no white space; nothing at the end."""
        while True:
            held, at = self._held, self._at
            while at < len(held) and held[at] in " \t\r\n\ufeff":
                at += 1
            self._at = at
            if at < len(held):
                return held[at]
            if not self._more():
                return ""

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._held, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            # What ends where the held text ends may go on beyond it.
            if end < len(self._held) or not self._more():
                self._at = end
                return value

    def items(self) -> Iterator[Any]:
        """Those of the list that begins here."""
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            yield self.value()
            if self.peek() != ",":
                self._take("]")
                return
            self._take(",")

    def members(self) -> Iterator[str]:
        """The names of the object that begins here; who is given one takes its value before the next."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        while True:
            name = self.value()
            if not isinstance(name, str):
                raise UnreadableLogError
            self._take(":")
            self.peek()
            yield name
            if self.peek() != ",":
                self._take("}")
                return
            self._take(",")

    def lines(self) -> Iterator[str]:
        """All that is left, as the csv module wants it: line by line, with the line ends."""
        yield from io.StringIO(self._held[self._at :] + self._stream.readline(), newline="")
        yield from self._stream

    def _take(self, character: str) -> None:
        if self.peek() != character:
            raise UnreadableLogError
        self._at += 1

    def _more(self) -> bool:
        """False at the end of the stream."""
        if self._ended:
            return False
        self._held, self._at = self._held[self._at :], 0
        if len(self._held) > _LONGEST:
            raise UnreadableLogError
        # As much again as is held, so that a long value is not tried over and over.
        read = self._stream.read(max(_READ, len(self._held)))
        self._ended = not read
        self._held += read
        return bool(read)
