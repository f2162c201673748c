"""The rules and the dashboard ask for what the service really tells, and name what its code really says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import infra.operating
from infra.metrics import Metrics

ROOM = Path(infra.operating.__file__).parent
ROOT = ROOM.parent.parent
OTHERS = {"process_resident_memory_bytes", "process_cpu_seconds_total"}


def rules() -> list[dict[str, Any]]:
    told = yaml.safe_load((ROOM / "alerts.yml").read_text(encoding="utf-8"))
    return [rule for group in told["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def panels() -> list[dict[str, Any]]:
    return list(json.loads((ROOM / "dashboard.json").read_text(encoding="utf-8"))["panels"])


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def labels_told() -> dict[str, set[str]]:
    """Each name that Prometheus would know, and the labels that it can have."""
    told: dict[str, set[str]] = {}
    for metric in vars(Metrics()).values():
        if (name := getattr(metric, "_name", None)) is None:
            continue
        labels, kind = set(metric._labelnames), type(metric).__name__
        if kind == "Histogram":
            told |= {f"{name}_bucket": {*labels, "le"}, f"{name}_count": labels, f"{name}_sum": labels}
        else:
            told[f"{name}_total" if kind == "Counter" else name] = labels
    return told


EXPRESSIONS = list(expressions())


@pytest.mark.parametrize(("where", "expression"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_each_expression_asks_for_what_is_told_with_labels_that_it_has(where: str, expression: str) -> None:
    told = labels_told()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    names = set(re.findall(r"\b(?:magicode|process)[_:][a-z_:0-9A-Z]+", re.sub(r'"[^"]*"', "", expression)))
    assert names
    assert names <= told.keys() | recorded | OTHERS, where
    for name, chosen in re.findall(r"(magicode[a-z_0-9:]+)\{([^}]*(?:\\\\\}[^}]*)*)\}", expression):
        asked = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', chosen)))
        # What was recorded of a figure by its growth has the figure's labels.
        figure = re.sub(r"^magicode:([a-z_]+):grown\w+$", r"magicode_\1_total", name)
        assert asked <= told[figure], (where, name)
    for by in re.findall(r"by \(([^)]*)\)", expression):
        grown = {re.sub(r"^magicode:([a-z_]+):grown\w+$", r"magicode_\1_total", name) for name in names}
        every = set().union(*(told.get(name, set()) for name in grown))
        assert {one.strip() for one in by.split(",")} <= every, where


def test_a_name_that_nobody_tells_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        test_each_expression_asks_for_what_is_told_with_labels_that_it_has("x", "magicode_nothing_total > 1")
    with pytest.raises(AssertionError):
        test_each_expression_asks_for_what_is_told_with_labels_that_it_has(
            "x", 'magicode_runs_total{tenant="1"}'
        )


def code() -> str:
    rooms = ("app", "infra", "webhooks")
    return "\n".join(
        path.read_text(encoding="utf-8")
        for room in rooms
        for path in (ROOT / room).rglob("*.py")
        if "simulator" not in path.parts
    )


def test_each_reason_and_outcome_that_a_rule_looks_for_is_one_that_the_code_gives() -> None:
    said = set(re.findall(r'"([a-z]+(?:_[a-z]+)*)"', code())) | {"unavailable", "refused"}
    looked_for = {
        word
        for rule in alerts()
        for pattern in re.findall(r'(?:reason|outcome|state)=~?"([^"]*)"', rule["expr"])
        for word in pattern.split("|")
    }
    assert len(looked_for) > 30
    for word in looked_for:
        if word.endswith(".*"):
            assert any(one.startswith(word.removesuffix(".*")) for one in said), word
        else:
            assert word in said, word


def test_each_alert_says_what_it_means_how_urgent_it_is_and_where_it_stands_what_to_do() -> None:
    readme = (ROOM / "README.md").read_text(encoding="utf-8")
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"^### (.+)$", readme, re.MULTILINE)}
    assert len(alerts()) > 20
    for alert in alerts():
        assert alert["labels"]["severity"] in {"page", "ticket", "security"}, alert["alert"]
        told = alert["annotations"]
        assert told["summary"]
        assert told["meaning"]
        file, _, anchor = told["do"].partition("#")
        assert file == "README.md"
        assert anchor in anchors, alert["alert"]
    pointed_at = {alert["annotations"]["do"].partition("#")[2] for alert in alerts()}
    assert anchors == pointed_at, "what to do is said of nothing that nobody is told of"


def test_routes_that_rules_look_for_are_routes_of_ours() -> None:
    routes = set(re.findall(r'"(/[^"\s]*)"', code()))
    for alert in alerts():
        for pattern in re.findall(r'route=~?"([^"]*)"', alert["expr"]):
            sought = re.compile(pattern.replace("\\\\", "\\"))
            assert any(sought.fullmatch(route) or sought.fullmatch(f"/api{route}") for route in routes), (
                alert["alert"]
            )


def test_the_dashboards_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    ids = [panel["id"] for panel in panels()]
    assert len(ids) == len(set(ids))
    for panel in panels():
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_manual_names_commands_kinds_and_settings_that_there_are() -> None:
    from app.cli import cli
    from app.nouns import Action
    from app.settings import PREFIX, Settings

    readme = (ROOM / "README.md").read_text(encoding="utf-8")
    known = {one.name or one.callback.__name__ for one in cli.registered_commands if one.callback}
    known |= {one.name for one in cli.registered_groups if one.name}
    assert set(re.findall(r"`magicode ([a-z-]+)", readme)) <= known
    assert set(re.findall(r"--kind ([a-z_.]+)", readme)) <= {one.value for one in Action}
    settings = {f"{PREFIX}{one.upper()}" for one in Settings.model_fields}
    assert set(re.findall(r"MAGICODE_[A-Z_]+", readme)) <= settings
