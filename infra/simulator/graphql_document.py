"""Reads a GraphQL document: one operation, fields, arguments, aliases, variables and inline fragments.

Named fragments, directives and subscriptions are refused: the simulator serves too little for them to matter, and a
document that it half understood would be answered wrongly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

# https://spec.graphql.org/October2021/#sec-Language.Source-Text.Lexical-Tokens
_TOKEN = re.compile(
    r"""(?P<skip>[\s,\ufeff]+|\#[^\r\n]*)
      |(?P<name>[_A-Za-z][_0-9A-Za-z]*)
      |(?P<block>\"\"\"(?:[^"]|"(?!""))*\"\"\")
      |(?P<string>"(?:[^"\\\r\n]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*")
      |(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
      |(?P<spread>\.\.\.)
      |(?P<mark>[!$()\[\]{}:=|@&])""",
    re.VERBOSE,
)


class DocumentError(Exception):
    """The document is not one that can be read; `line` and `column` (1-based) say where."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message, self.line, self.column = message, line, column


@dataclass(frozen=True, slots=True)
class Variable:
    name: str


@dataclass(frozen=True, slots=True)
class EnumValue:
    name: str


Value = str | int | float | bool | None | Variable | EnumValue | list["Value"] | dict[str, "Value"]


@dataclass(frozen=True, slots=True)
class Field:
    """One selected field. `on` is the type condition of the inline fragment that it stands in."""

    name: str
    alias: str | None
    arguments: Mapping[str, Value]
    selections: tuple[Field, ...]
    line: int
    column: int
    on: str | None = None

    @property
    def key(self) -> str:
        return self.alias or self.name


@dataclass(frozen=True, slots=True)
class VariableDefinition:
    name: str
    type: str
    default: Value
    has_default: bool

    @property
    def required(self) -> bool:
        return self.type.endswith("!") and not self.has_default


@dataclass(frozen=True, slots=True)
class Operation:
    kind: str  # "query", "mutation"
    name: str | None
    variables: tuple[VariableDefinition, ...]
    selections: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> tuple[Operation, ...]:
    """The document's operations. Raises DocumentError."""
    reader = _Reader(text)
    operations = []
    while reader.peek().kind != "end":
        operations.append(reader.operation())
    if not operations:
        raise reader.unexpected()
    return tuple(operations)


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = self._scan()
        self._next = 0

    def _scan(self) -> list[_Token]:
        tokens: list[_Token] = []
        at = 0
        while at < len(self._text):
            match = _TOKEN.match(self._text, at)
            if match is None:
                raise self._error(f'Parse error on "{self._text[at]}" (error)', at)
            if match.lastgroup != "skip":
                tokens.append(_Token(str(match.lastgroup), match.group(), at))
            at = match.end()
        tokens.append(_Token("end", "", len(self._text)))
        return tokens

    def _place(self, at: int) -> tuple[int, int]:
        before = self._text[:at]
        return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1

    def _error(self, message: str, at: int) -> DocumentError:
        line, column = self._place(at)
        return DocumentError(f"{message} at [{line}, {column}]", line, column)

    def peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self.peek()
        self._next += 1
        return token

    def unexpected(self) -> DocumentError:
        token = self.peek()
        if token.kind == "end":
            return self._error("Unexpected end of document", token.at)
        return self._error(f'Parse error on "{token.text}" ({token.kind.upper()})', token.at)

    def _expect(self, text: str) -> _Token:
        if self.peek().text != text or self.peek().kind not in {"mark", "spread", "name"}:
            raise self.unexpected()
        return self._take()

    def _at(self, text: str) -> bool:
        return self.peek().kind in {"mark", "spread"} and self.peek().text == text

    def _name(self) -> str:
        if self.peek().kind != "name":
            raise self.unexpected()
        return self._take().text

    def operation(self) -> Operation:
        if self._at("{"):
            return Operation("query", None, (), self._selections(None))
        if self.peek().text not in {"query", "mutation"}:
            raise self.unexpected()
        kind = self._name()
        name = self._name() if self.peek().kind == "name" else None
        variables: list[VariableDefinition] = []
        if self._at("("):
            self._take()
            while not self._at(")"):
                variables.append(self._variable_definition())
            self._take()
        return Operation(kind, name, tuple(variables), self._selections(None))

    def _variable_definition(self) -> VariableDefinition:
        self._expect("$")
        name = self._name()
        self._expect(":")
        kind = self._type()
        if self._at("="):
            self._take()
            return VariableDefinition(name, kind, self._value(), True)
        return VariableDefinition(name, kind, None, False)

    def _type(self) -> str:
        if self._at("["):
            self._take()
            inner = f"[{self._type()}"
            self._expect("]")
            kind = f"{inner}]"
        else:
            kind = self._name()
        if self._at("!"):
            self._take()
            kind += "!"
        return kind

    def _selections(self, on: str | None) -> tuple[Field, ...]:
        self._expect("{")
        fields: list[Field] = []
        while not self._at("}"):
            if self._at("..."):
                self._take()
                self._expect("on")
                fields.extend(self._selections(self._name()))
            else:
                fields.append(self._field(on))
        if not fields:
            raise self.unexpected()
        self._take()
        return tuple(fields)

    def _field(self, on: str | None) -> Field:
        line, column = self._place(self.peek().at)
        name, alias = self._name(), None
        if self._at(":"):
            self._take()
            name, alias = self._name(), name
        arguments: dict[str, Value] = {}
        if self._at("("):
            self._take()
            while not self._at(")"):
                argument = self._name()
                self._expect(":")
                arguments[argument] = self._value()
            self._take()
        inner = self._selections(None) if self._at("{") else ()
        return Field(name, alias, arguments, inner, line, column, on)

    def _value(self) -> Value:
        token = self.peek()
        if token.kind == "mark" and token.text in {"$", "[", "{"}:
            return self._compound()
        if token.kind not in {"string", "block", "number", "name"}:
            raise self.unexpected()
        self._take()
        if token.kind == "string":
            return str(json.loads(token.text))
        if token.kind == "block":
            return token.text[3:-3].strip()
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        constants: dict[str, Value] = {"true": True, "false": False, "null": None}
        return constants[token.text] if token.text in constants else EnumValue(token.text)

    def _compound(self) -> Value:
        mark = self._take().text
        if mark == "$":
            return Variable(self._name())
        if mark == "[":
            items: list[Value] = []
            while not self._at("]"):
                items.append(self._value())
            self._take()
            return items
        members: dict[str, Value] = {}
        while not self._at("}"):
            name = self._name()
            self._expect(":")
            members[name] = self._value()
        self._take()
        return members
