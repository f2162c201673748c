"""What is written of a description: all that it says, or nothing."""

from __future__ import annotations

import ast
from copy import deepcopy
from typing import Any

import pytest

from client.generate import UnknownError, source

RUN = {
    "type": "object",
    "required": ["id", "note"],
    "properties": {
        "id": {"type": "string", "format": "uuid", "description": "Nobody guesses it."},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "counts": {"type": "object", "additionalProperties": {"type": "integer"}, "default": None},
        "parts": {"type": "array", "items": {"$ref": "#/components/schemas/PartShape"}, "default": None},
    },
}
DOCUMENT: dict[str, Any] = {
    "components": {
        "schemas": {
            "RunShape": RUN,
            "PartShape": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
            "Colour": {"type": "string", "enum": ["red", "blue"], "description": 'One of """two""".'},
            "Sent": {
                "type": "object",
                "required": ["colour"],
                "properties": {
                    "colour": {"$ref": "#/components/schemas/Colour"},
                    "names": {"type": "array", "items": {"type": "string"}, "default": []},
                },
            },
            "Unused": {"type": "object", "properties": {}},
        }
    },
    "paths": {
        "/api/runs/{run}/of/{name}": {
            "put": {
                "operationId": "paint",
                "description": "Paints it.",
                "parameters": [
                    {"name": "run", "in": "path", "schema": {"type": "integer"}},
                    {"name": "name", "in": "path", "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 7}},
                    {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}},
                ],
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Sent"}}}
                },
                "responses": {
                    "200": {
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "array",
                                    "items": {"$ref": "#/components/schemas/RunShape"},
                                }
                            }
                        }
                    },
                    "404": {},
                },
            }
        },
        "/api/zip": {
            "get": {
                "operationId": "download",
                "responses": {"200": {"content": {"application/zip": {"schema": {"type": "string"}}}}},
            },
            "delete": {"operationId": "forget", "responses": {"204": {}}},
        },
    },
}


def methods(text: str) -> dict[str, ast.AsyncFunctionDef | ast.FunctionDef]:
    (client,) = (
        one for one in ast.parse(text).body if isinstance(one, ast.ClassDef) and one.name == "Client"
    )
    return {one.name: one for one in client.body if isinstance(one, ast.AsyncFunctionDef | ast.FunctionDef)}


def test_a_call_takes_what_stands_in_its_path_in_order_and_the_rest_by_name() -> None:
    paint = methods(source(DOCUMENT))["paint"]
    assert [ast.unparse(one) for one in paint.args.args] == ["self", "run: int", "name: str"]
    assert [ast.unparse(one) for one in paint.args.kwonlyargs] == [
        "limit: int",
        "colour: Colour",
        "names: tuple[str, ...]",
    ]
    assert [None if one is None else ast.unparse(one) for one in paint.args.kw_defaults] == ["7", None, "()"]
    assert ast.unparse(paint.returns or ast.Constant(0)) == "list[Run]"
    assert ast.get_docstring(paint) == "Paints it."
    asked = ast.unparse(paint)
    assert "'PUT', f\"/api/runs/{run}/of/{quote(name, safe='')}\"" in asked
    assert "query={'limit': limit}, body={'colour': colour, 'names': names}" in asked


def test_what_is_given_stands_before_what_is_made_of_it_and_nothing_else_is_written() -> None:
    text = source(DOCUMENT)
    names = [one.name for one in ast.parse(text).body if isinstance(one, ast.ClassDef)]
    assert names == ["_Given", "Part", "Run", "Client"]
    assert 'Colour = Literal["red", "blue"]' in text
    run = next(one for one in ast.parse(text).body if isinstance(one, ast.ClassDef) and one.name == "Run")
    assert [ast.unparse(one) for one in run.body if isinstance(one, ast.AnnAssign)] == [
        "id: UUID",
        "note: str | None",
        "counts: dict[str, int] | None = None",
        "parts: list[Part] | None = None",
    ]


def test_a_download_is_streamed_and_an_answer_with_nothing_in_it_gives_nothing() -> None:
    found = methods(source(DOCUMENT))
    assert ast.unparse(found["download"].returns or ast.Constant(0)) == (
        "AbstractAsyncContextManager[AsyncIterator[bytes]]"
    )
    assert isinstance(found["download"], ast.FunctionDef)
    assert ast.unparse(found["forget"].returns or ast.Constant(0)) == "None"


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "format": "float-of-a-kind"},
        {"type": "array", "items": {"not": {}}},
        {"allOf": [{"type": "string"}]},
    ],
)
def test_what_it_does_not_know_is_not_left_out(schema: dict[str, Any]) -> None:
    document = deepcopy(DOCUMENT)
    document["components"]["schemas"]["RunShape"]["properties"]["new"] = schema
    with pytest.raises(UnknownError):
        source(document)


def test_a_parameter_in_a_cookie_is_refused() -> None:
    document = deepcopy(DOCUMENT)
    document["paths"]["/api/zip"]["get"]["parameters"] = [
        {"name": "c", "in": "cookie", "schema": {"type": "string"}}
    ]
    with pytest.raises(UnknownError):
        source(document)
