"""The manifest, the table of routes and the code: each holds the others to the permissions that the App asks for."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from githubkit import GitHub

from app.web.signin import RETURN
from infra.github.permissions import READER_PERMISSIONS, ROUTES
from infra.github.reader import API_VERSION

ROOT = Path(__file__).resolve().parent.parent
MANIFEST_TEXT = (ROOT / "app-manifest.yml").read_text(encoding="utf-8")
MANIFEST = yaml.safe_load(MANIFEST_TEXT)
ADAPTER = sorted((ROOT / "infra" / "github").glob("*.py"))

ASKED_FOR = {
    "contents": "write",
    "pull_requests": "write",
    "issues": "write",
    "checks": "read",
    "statuses": "read",
    "actions": "read",
    "metadata": "read",
}

LEVELS = {"read": 1, "write": 2}


def _calls(path: Path) -> set[str]:
    """Every `….<namespace>.async_<name>` that a file names."""
    return {
        f"{node.value.attr}.{node.attr}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("async_")
        and isinstance(node.value, ast.Attribute)
    }


def _documents(path: Path) -> set[str]:
    """GraphQL: a mutation by what it does, a query by the name that it gives itself."""
    return {
        f"graphql.{name}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for pattern in (r"^mutation\b.*\{\s*(\w+)\(input:", r"^query\s+(\w+)\(")
        for name in re.findall(pattern, node.value, re.MULTILINE)
    }


def _used() -> set[str]:
    return set().union(*(_calls(path) | _documents(path) for path in ADAPTER))


def test_every_call_in_the_code_is_in_the_table() -> None:
    assert _used() - set(ROUTES) == set()


def test_every_row_of_the_table_is_called_somewhere() -> None:
    assert set(ROUTES) - _used() == set()


def test_the_walk_sees_the_calls() -> None:
    assert {
        "git.async_create_ref",
        "issues.async_get",
        "graphql.markPullRequestReadyForReview",
        "graphql.ReviewThreads",
    } <= _used()


def test_a_write_is_named_as_the_call_that_it_makes() -> None:
    named = 0
    for path in ADAPTER:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="write" | "write_response"),
                    args=[ast.Constant(value=str(name)), ast.Lambda(body=ast.Call(func=called))],
                ):
                    assert isinstance(called, ast.Attribute)
                    assert isinstance(called.value, ast.Attribute)
                    assert name == f"{called.value.attr}.{called.attr}"
                    named += 1
    assert (
        named
        == sum(route.access == "write" and route.permission is not None for route in ROUTES.values()) - 1
    )


def test_no_request_goes_around_the_table() -> None:
    ways_around = {
        "arequest",
        "request",
        "get_async_client",
        "post",
        "put",
        "patch",
        "delete",
        "async_graphql",
    }
    for path in ADAPTER:
        calls = [
            node.func.attr
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        ]
        assert ways_around & set(calls) <= ({"async_graphql"} if path.name == "calls.py" else set()), (
            path.name
        )


def test_only_the_adapter_speaks_to_github() -> None:
    for room in ("app", "webhooks", "embeddings", "infra", "client"):
        for path in (ROOT / room).rglob("*.py"):
            if path.parent.name == "github" and path.parent.parent.name == "infra":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = {
                name.split(".")[0]
                for node in ast.walk(tree)
                for name in (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import)
                    else [node.module or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
            }
            assert not imported & {"githubkit", "githubkit_schemas"}, path.relative_to(ROOT)


def test_the_table_says_what_githubs_client_does() -> None:
    github = GitHub()  # held: its namespaces only refer to it weakly
    rest = github.rest(API_VERSION)
    for name, route in ROUTES.items():
        namespace, _, method = name.partition(".")
        if namespace == "graphql":
            continue
        doc = inspect.getdoc(getattr(getattr(rest, namespace), method)) or ""
        assert f"{route.method} {route.template}" in doc.splitlines(), name
        assert route.doc in doc, name


def test_the_table_needs_nothing_that_the_manifest_does_not_ask_for() -> None:
    granted = MANIFEST["default_permissions"]
    for name, route in ROUTES.items():
        if route.permission is not None:
            assert LEVELS[granted.get(route.permission, "none")] >= LEVELS[route.access], name


def test_the_manifest_asks_for_nothing_that_no_call_needs() -> None:
    needed: dict[str, str] = {}
    for route in ROUTES.values():
        if route.permission is not None and LEVELS[route.access] > LEVELS.get(
            needed.get(route.permission, ""), 0
        ):
            needed[route.permission] = route.access
    assert MANIFEST["default_permissions"] == needed


def test_the_manifest_asks_for_exactly_the_designed_permissions() -> None:
    assert MANIFEST["default_permissions"] == ASKED_FOR


def test_each_permission_and_each_event_stands_with_its_reason() -> None:
    for name in MANIFEST["default_permissions"]:
        assert re.search(rf"^  {name}: \w+ +# \w.{{15,}}$", MANIFEST_TEXT, re.MULTILINE), name
    for name in MANIFEST["default_events"]:
        assert re.search(rf"^  - {name} +# \w.{{10,}}$", MANIFEST_TEXT, re.MULTILINE), name


def test_the_read_token_can_write_nothing() -> None:
    assert set(READER_PERMISSIONS.values()) == {"read"}
    assert set(READER_PERMISSIONS) == {
        "contents",
        "issues",
        "pull_requests",
        "actions",
        "checks",
        "statuses",
        "metadata",
    }


def test_the_manifest_has_what_githubs_flow_needs() -> None:
    assert {"name", "url", "hook_attributes", "default_permissions", "default_events"} <= set(MANIFEST)
    assert MANIFEST["hook_attributes"]["url"].startswith("https://")


def test_people_who_sign_in_come_back_to_the_address_that_is_registered() -> None:
    assert [urlsplit(url).path for url in MANIFEST["callback_urls"]] == [RETURN]
