"""Writes `client/api.py` from the description that the service gives of itself (OpenAPI 3.1), for those who develop it.

    python -m client.generate openapi.json

Refuses what it does not know: a description that says more than this program reads is a reason to stop, not to leave it out.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

OUT: Final = Path(__file__).parent / "api.py"

_HEAD: Final = '''"""The calls that the service's API has, and what they give. Written by `client.generate`; to change it, change the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import date, datetime
from typing import Any, Literal
from urllib.parse import quote
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from client.connection import Connection


class _Given(BaseModel):
    """What a later version of the service gives besides is left aside."""

    model_config = ConfigDict(extra="ignore", frozen=True)
'''

_CLIENT: Final = '''
class Client:
    """Each call raises ProblemError where the service says no, UnavailableError where it does not answer, and UnreadableError where
    something else answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
'''

_STRINGS: Final = {"uuid": "UUID", "date-time": "datetime", "date": "date", None: "str", "password": "str"}
_PLAIN: Final = {"integer": "int", "number": "float", "boolean": "bool", "null": "None"}

Document = Mapping[str, Any]


class UnknownError(Exception):
    """The description says something that this program does not read."""


def source(document: Document) -> str:
    """The module's text. Raises UnknownError."""
    schemas: Document = document["components"]["schemas"]
    calls = [
        (path, method, told)
        for path, methods in document["paths"].items()
        for method, told in methods.items()
    ]
    given = _needed(schemas, [schema for _, _, told in calls for schema in _schemas_of(schemas, told)])
    parts = [_HEAD, *(_given(name, schemas[name]) for name in given), _CLIENT]
    parts += [_call(schemas, path, method, told) for path, method, told in calls]
    return _formatted("\n".join(parts))


def _schemas_of(schemas: Document, told: Document) -> Iterator[Document]:
    """What a call gives, and the types of what it is asked with."""
    answer = _answer(told)
    if answer is not None:
        yield answer
    for one in told.get("parameters", ()):
        yield one["schema"]
    for _, one, _ in _body(schemas, told):
        yield one


def _answer(told: Document) -> Document | None:
    """The schema of what comes back as one JSON document; None where it is nothing, or a download."""
    content = _success(told).get("content", {})
    return content["application/json"]["schema"] if list(content) == ["application/json"] else None


def _success(told: Document) -> Document:
    (found,) = (one for status, one in told["responses"].items() if status.startswith("2"))
    return dict(found)


def _needed(schemas: Document, asked: Sequence[Document]) -> Sequence[str]:
    """The names of what is given, each behind what it is made of."""
    found: list[str] = []

    def walk(schema: object) -> None:
        if isinstance(schema, Mapping):
            reference = schema.get("$ref")
            if isinstance(reference, str):
                name = reference.rpartition("/")[2]
                if name not in found:
                    walk(schemas[name])
                    found.append(name)
            walk(list(schema.get("properties", {}).values()))
            for key in ("items", "anyOf", "additionalProperties"):
                walk(schema.get(key))
        elif isinstance(schema, list):
            for one in schema:
                walk(one)

    walk(list(asked))
    return found


def _type(schema: Document) -> str:
    if "$ref" in schema:
        return _name(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_type(one) for one in schema["anyOf"]))
    kind = schema.get("type")
    if isinstance(kind, str) and kind in _PLAIN:
        return _PLAIN[kind]
    if kind == "string" and schema.get("format") in _STRINGS:
        return _STRINGS[schema.get("format")]
    if kind == "array":
        return f"list[{_type(schema['items'])}]"
    if kind == "object":
        values = schema.get("additionalProperties", True)
        return f"dict[str, {_type(values) if isinstance(values, Mapping) else 'Any'}]"
    raise UnknownError(f"a type: {json.dumps(schema)}")


def _name(name: str) -> str:
    """Without what tells the service's own shapes from its nouns."""
    return name.removesuffix("Shape")


def _given(name: str, schema: Document) -> str:
    if "enum" in schema:
        values = ", ".join(json.dumps(one) for one in schema["enum"])
        return f"\n{_name(name)} = Literal[{values}]\n{_docstring(schema.get('description', ''), '')}"
    if schema.get("type") != "object":
        raise UnknownError(f"{name}: {json.dumps(schema)}")
    lines = [f"\nclass {_name(name)}(_Given):", _docstring(schema.get("description", ""), "    ") + "\n"]
    required = schema.get("required", ())
    for field, told in schema["properties"].items():
        taken = _named(field, _type(told), told, required=field in required)
        lines += [f"    {taken}", _docstring(told.get("description", ""), "    ")]
    return "\n".join(line for line in lines if line.strip(" "))


def _call(schemas: Document, path: str, method: str, told: Document) -> str:
    """One method: what stands in the path in its place, the rest by name."""
    placed, named, query, body = [], [], [], []
    for one in told.get("parameters", ()):
        name, kind = one["name"], _type(one["schema"])
        if one["in"] == "path":
            placed.append(f"{name}: {kind}")
        elif one["in"] == "query":
            query.append(f'"{name}": {name}')
            named.append(_named(name, kind, one["schema"], required=bool(one.get("required"))))
        elif one["in"] != "header":
            raise UnknownError(f"a parameter in {one['in']}")
    for name, schema, required in _body(schemas, told):
        body.append(f'"{name}": {name}')
        named.append(_named(name, _type(schema), schema, required=required))
    taken = ", ".join(["self", *placed, *(["*", *named] if named else ())])
    also = f", query={{{', '.join(query)}}}" if query else ""
    also += f", body={{{', '.join(body)}}}" if body else ""
    says = _docstring(told.get("description", ""), "        ")
    where = _path(path, told)
    content = _success(told).get("content", {})
    if content and _answer(told) is None:
        gives = "AbstractAsyncContextManager[AsyncIterator[bytes]]"
        return (
            f"    def {told['operationId']}({taken}) -> {gives}:\n{says}\n"
            f"        return self._connection.stream({where}{also})\n"
        )
    answer = _answer(told)
    gives = "None" if answer is None else _type(answer)
    asks = f"{json.dumps(method.upper())}, {where}{also}"
    does = f"send({asks})" if answer is None else f"ask({gives}, {asks})"
    return (
        f"    async def {told['operationId']}({taken}) -> {gives}:\n{says}\n"
        f"        {'' if answer is None else 'return '}await self._connection.{does}\n"
    )


def _named(name: str, kind: str, schema: Document, *, required: bool) -> str:
    """A field, or an argument, with what it is where nothing is said."""
    if required:
        return f"{name}: {kind}"
    if schema.get("default") is None:
        return f"{name}: {kind if 'None' in kind.split(' | ') else f'{kind} | None'} = None"
    if isinstance(schema["default"], list):
        each = kind.removeprefix("list[").removesuffix("]")
        return f"{name}: tuple[{each}, ...] = {tuple(schema['default'])!r}"
    return f"{name}: {kind} = {schema['default']!r}"


def _body(schemas: Document, told: Document) -> Iterator[tuple[str, Document, bool]]:
    """The fields of what is sent."""
    if "requestBody" not in told:
        return
    reference = told["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema = schemas[reference.rpartition("/")[2]]
    for name, one in schema["properties"].items():
        yield name, one, name in schema.get("required", ())


def _path(path: str, told: Document) -> str:
    """With each text in it quoted: what stands in its place is no way to another address."""
    for one in told.get("parameters", ()):
        if one["in"] == "path" and _type(one["schema"]) == "str":
            path = path.replace(f"{{{one['name']}}}", f"{{quote({one['name']}, safe='')}}")
    return f'f"{path}"'


def _docstring(text: str, indent: str) -> str:
    if not text:
        return ""
    lines = text.strip().replace("\\", "\\\\").replace('"""', "'''").splitlines()
    return "\n".join([f'{indent}"""{lines[0]}', *(f"{indent}{line}".rstrip() for line in lines[1:])]) + '"""'


def _formatted(text: str) -> str:
    """As the linter wants it."""
    for command in (["check", "--fix", "--quiet", "--exit-zero"], ["format", "--quiet"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(OUT), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        )
        text = done.stdout
    return text


if __name__ == "__main__":
    OUT.write_text(source(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))), encoding="utf-8")
