"""Reads a template: resources by their kind, statements of policies, who may speak to whom."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Template = Mapping[str, Any]


def of(template: Template, kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: one.get("Properties", {})
        for name, one in template["Resources"].items()
        if one["Type"] == f"AWS::{kind}"
    }


def only(template: Template, kind: str, part: str = "") -> dict[str, Any]:
    (found,) = (one for name, one in of(template, kind).items() if part in name)
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def strings(value: Any) -> Iterator[str]:
    """Every text, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield key
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


@dataclass(frozen=True)
class Way:
    """Who may speak to whom; the source is a group's name in the template, or a network."""

    source: str
    target: str
    first: int
    last: int


def _end(value: Any) -> str:
    return str(value["Fn::GetAtt"][0]) if isinstance(value, dict) else str(value)


def ways_in(template: Template) -> set[Way]:
    """What every security group lets in, by rules of its own and by rules beside it."""
    found = set()
    for name, group in of(template, "EC2::SecurityGroup").items():
        for rule in group.get("SecurityGroupIngress", []):
            found.add(_way({**rule, "GroupId": name}))
    for rule in of(template, "EC2::SecurityGroupIngress").values():
        found.add(_way(rule))
    return found


def _way(rule: Mapping[str, Any]) -> Way:
    source = rule.get("SourceSecurityGroupId") or rule.get("CidrIp") or rule.get("CidrIpv6") or "?"
    ports = (0, 65535) if str(rule["IpProtocol"]) == "-1" else (rule["FromPort"], rule["ToPort"])
    return Way(_end(source), _end(rule["GroupId"]), *ports)


@dataclass(frozen=True)
class Statement:
    actions: tuple[str, ...]
    resources: str
    condition: str
    effect: str

    @property
    def everywhere(self) -> bool:
        return '"*"' in self.resources


def statements(template: Template) -> dict[str, list[Statement]]:
    """What each role may, by the role's name in the template."""
    found: dict[str, list[Statement]] = {name: [] for name in of(template, "IAM::Role")}
    for policy in of(template, "IAM::Policy").values():
        for role in policy["Roles"]:
            found[role["Ref"]] += _statements(policy)
    for name, role in of(template, "IAM::Role").items():
        for policy in role.get("Policies", []):
            found[name] += _statements(policy)
    return found


def _statements(policy: Mapping[str, Any]) -> list[Statement]:
    return [
        Statement(
            tuple(sorted(listed(one["Action"]))),
            json.dumps(listed(one["Resource"]), sort_keys=True),
            json.dumps(one.get("Condition", {}), sort_keys=True),
            one["Effect"],
        )
        for one in policy["PolicyDocument"]["Statement"]
    ]


def containers(template: Template) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Each container with its task definition, by its name."""
    return {
        f"{one['Name']}" if one["Name"] != "collector" else f"collector of {name}": (one, task)
        for name, task in of(template, "ECS::TaskDefinition").items()
        for one in task["ContainerDefinitions"]
    }


def environment(container: Mapping[str, Any]) -> dict[str, Any]:
    return {one["Name"]: one["Value"] for one in container.get("Environment", [])}


def secrets(container: Mapping[str, Any]) -> dict[str, str]:
    return {one["Name"]: json.dumps(one["ValueFrom"]) for one in container.get("Secrets", [])}
