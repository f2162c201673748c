"""GitHub's own published schemas, asked: is this answer, is this webhook body, one that GitHub could have sent?

The files are those of the npm packages `@octokit/openapi`, `@octokit/openapi-webhooks` and `@octokit/webhooks-schemas`,
unpacked below `.cache/octokit`. Of the OpenAPI description the one with references is read: the dereferenced file
says the same in 73 MB instead of 13. Nothing is read before the first question.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match

OCTOKIT = Path(__file__).resolve().parents[3] / ".cache" / "octokit"

Json = Any

formats = FormatChecker(formats=())
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)\Z")
_URI = re.compile(r"[a-z][a-z0-9+.-]*:\S+\Z", re.IGNORECASE)


@formats.checks("date-time")
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or _TIME.match(value) is not None


@formats.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or _URI.match(value) is not None


class SchemaError(AssertionError):
    """An answer or a webhook body that GitHub's own schema refuses."""


# --- REST answers ----------------------------------------------------------------------------------------------------


@cache
def _description() -> Json:
    """Corrected where GitHub is known to answer otherwise: a comment on a line that has gone has nulls for its place.

    https://github.com/github/rest-api-description/issues/5568
    """
    found = json.loads((OCTOKIT / "openapi" / "generated" / "api.github.com.json").read_bytes())
    on_line = found["components"]["schemas"]["pull-request-review-comment"]["properties"]
    for name in ("line", "position"):
        on_line[name]["nullable"] = True
    return found


_MAY_BE_EMPTY = ("/repos/{}/{}/contents", "/repos/{}/{}/tarball")
"""Whose last parameter may be left out: the root folder, the default branch."""


def shape(template: str) -> str:
    """A path template without its parameters' names or converters: `/repos/{}/{}/issues/{}`."""
    plain = re.sub(r"\{[^}]*\}", "{}", template).rstrip("/")
    return f"{plain}/{{}}" if plain in _MAY_BE_EMPTY else plain


@cache
def _operations() -> dict[tuple[str, str], Json]:
    found: dict[tuple[str, str], Json] = {}
    for template, item in _description()["paths"].items():
        for method, operation in item.items():
            if method in {"get", "post", "put", "patch", "delete", "head"}:
                found[method.upper(), shape(template)] = operation
    return found


def is_documented(method: str, template: str) -> bool:
    """Whether GitHub documents this route at all."""
    return (method.upper(), shape(template)) in _operations()


def _resolve(document: Json, node: Json) -> Json:
    while isinstance(node, Mapping) and "$ref" in node:
        found = document
        for part in str(node["$ref"]).removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        node = found
    return node


def _convert(schema: Json) -> Json:
    """OpenAPI 3.0's dialect to JSON Schema 2020-12: `nullable`, and boolean `exclusiveMinimum`."""
    if isinstance(schema, list):
        return [_convert(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix("#/components/schemas/").removeprefix("#/definitions/")
        return {"$ref": f"#/$defs/{name}"}
    out: dict[str, Json] = {}
    for key, value in schema.items():
        if key in {
            "nullable",
            "example",
            "examples",
            "description",
            "discriminator",
            "externalDocs",
            "x-github",
        }:
            continue
        if key == "allOf" and {"Simple User", "Enterprise"} == {one.get("title") for one in value}:
            # GET /app/installations asks for an account that is both; the component `installation` says either.
            out["anyOf"] = _convert(value)
        elif key in {"properties", "patternProperties"} and isinstance(value, dict):
            out[key] = {name: _convert(one) for name, one in value.items()}
        elif key in {"enum", "default", "const", "required"}:
            out[key] = value
        else:
            out[key] = _convert(value)
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if isinstance(out.get(exclusive), bool) and out.pop(exclusive):
            out[exclusive] = out.pop(bound)
    if schema.get("nullable") is True:
        return {"anyOf": [out, {"type": "null"}]}
    return out


def _references(node: Json) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            yield reference
        for value in node.values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)


def _closed(schema: Json, definitions: Mapping[str, Json], prefix: str) -> Json:
    """`schema` with all it refers to, so that one validator can be compiled from it."""
    wanted = list(_references(schema))
    gathered: dict[str, Json] = {}
    while wanted:
        name = wanted.pop().removeprefix(prefix)
        if name not in gathered:
            gathered[name] = definitions[name]
            wanted.extend(_references(definitions[name]))
    return {"$defs": {name: _convert(one) for name, one in gathered.items()}, **_convert(schema)}


@cache
def _component(name: str) -> Draft202012Validator:
    schemas = _description()["components"]["schemas"]
    closed = _closed(schemas[name], schemas, "#/components/schemas/")
    return Draft202012Validator(closed, format_checker=formats)


@cache
def _answer(method: str, path_shape: str, status: int) -> Draft202012Validator | None:
    """None: GitHub answers this with no JSON body. Undocumented refusals must have the shape of all refusals."""
    operation = _operations().get((method, path_shape))
    if operation is None:
        raise SchemaError(f"GitHub documents no {method} {path_shape}")
    response = operation["responses"].get(str(status))
    if response is None:
        if status < 400:
            raise SchemaError(f"GitHub documents no {status} for {method} {path_shape}")
        return _component("validation-error" if status == 422 else "basic-error")
    content = _resolve(_description(), response).get("content", {})
    media = next((one for kind, one in content.items() if kind.startswith("application/json")), None)
    if media is None:
        return None
    schemas = _description()["components"]["schemas"]
    closed = _closed(media["schema"], schemas, "#/components/schemas/")
    return Draft202012Validator(closed, format_checker=formats)


def _complain(validator: Draft202012Validator, body: Json, what: str) -> None:
    problem = best_match(validator.iter_errors(body))
    if problem is not None:
        where = "/".join(str(part) for part in problem.absolute_path) or "the body"
        raise SchemaError(f"{what}: {where}: {problem.message[:600]}")


def check_answer(method: str, template: str, status: int, body: Json) -> None:
    """Raises SchemaError unless GitHub could have answered so. `body` is the parsed JSON, or None for no body."""
    validator = _answer(method.upper(), shape(template), status)
    what = f"{method.upper()} {template} {status}"
    if validator is None:
        if body is not None and status < 300:
            raise SchemaError(f"{what}: GitHub answers without a body")
        return
    _complain(validator, body, what)


def check_component(name: str, body: Json) -> None:
    """Raises SchemaError unless `body` is valid under one named component of the description."""
    _complain(_component(name), body, name)


# --- webhooks --------------------------------------------------------------------------------------------------------


@cache
def _hook_schemas() -> Json:
    """These forbid what they do not name, and are older than the description, which knows more."""
    schemas = json.loads((OCTOKIT / "webhooks-schemas" / "schema.json").read_bytes())
    commit = schemas["definitions"]["status$event"]["properties"]["commit"]["properties"]["commit"]
    commit["properties"]["verification"]["properties"]["verified_at"] = {"type": ["string", "null"]}
    suite = schemas["definitions"]["check_suite$completed"]["properties"]["check_suite"]["properties"]
    suite["conclusion"]["enum"] += ["skipped", "startup_failure"]
    for name, definition in schemas["definitions"].items():
        if name.startswith("marketplace_purchase$"):
            definition["properties"]["sender"]["properties"]["node_id"] = {"type": "string"}
    return schemas


@cache
def _hook_description() -> Json:
    return json.loads((OCTOKIT / "openapi-webhooks" / "generated" / "api.github.com.json").read_bytes())


@cache
def _hook(event: str, action: str | None) -> tuple[Draft202012Validator, ...]:
    found = []
    definitions = _hook_schemas()["definitions"]
    name = f"{event}${action}" if action is not None else f"{event}$event"
    name = name if name in definitions else f"{event}_event"
    if name in definitions:
        closed = _closed(definitions[name], definitions, "#/definitions/")
        found.append(Draft202012Validator(closed, format_checker=formats))
    dashed = event.replace("_", "-") + (f"-{action.replace('_', '-')}" if action is not None else "")
    hook = _hook_description()["webhooks"].get(dashed)
    if hook is not None:
        media = hook["post"]["requestBody"]["content"]["application/json"]["schema"]
        schemas = _hook_description()["components"]["schemas"]
        closed = _closed(media, schemas, "#/components/schemas/")
        found.append(Draft202012Validator(closed, format_checker=formats))
    if not found:
        raise SchemaError(f"GitHub documents no webhook {event} {action or ''}")
    return tuple(found)


def check_webhook(event: str, payload: Json) -> None:
    """Raises SchemaError unless GitHub could have sent this body for this event."""
    action = payload.get("action")
    for validator in _hook(event, action if isinstance(action, str) else None):
        _complain(validator, payload, f"webhook {event} {action or ''}")
