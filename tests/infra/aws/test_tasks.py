"""How the tasks are run, and what they are told."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

from infra.aws.collector import configuration
from infra.aws.service import STOP_SECONDS
from tests.infra.aws.conftest import DIGEST, Written
from tests.infra.aws.reading import Template, containers, environment, of, only, secrets

OURS = ("web", "worker", "migration")


def fields(root: Path) -> set[str]:
    """The fields of app/settings.py, read without importing it: the product is not in this environment."""
    source = ast.parse((root / "app/settings.py").read_text())
    (settings,) = (one for one in source.body if isinstance(one, ast.ClassDef) and one.name == "Settings")
    return {
        one.target.id
        for one in settings.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }


def kept_apart(root: Path) -> set[str]:
    source = ast.parse((root / "app/settings.py").read_text())
    (value,) = (
        one.value
        for one in source.body
        if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "KEPT_APART"
    )
    assert isinstance(value, ast.Call)
    found: set[str] = ast.literal_eval(value.args[0])
    return found


@pytest.mark.parametrize("name", OURS)
def test_a_task_is_given_only_settings_that_the_service_knows(
    template: Template, root: Path, name: str
) -> None:
    container, _ = containers(template)[name]
    given = {*environment(container), *secrets(container)}
    ours = {one.removeprefix("MAGICODE_").lower() for one in given if one.startswith("MAGICODE_")}
    assert ours <= fields(root)
    others = {one for one in given if not one.startswith("MAGICODE_")}
    assert others <= {"AWS_REGION", "PGPASSWORD"}


def test_a_password_or_a_token_is_never_in_the_environment_of_a_definition(
    template: Template, root: Path
) -> None:
    secret = {f"MAGICODE_{one.upper()}" for one in kept_apart(root)} - {
        "MAGICODE_DATABASE_URL",  # without its password
        "MAGICODE_DATABASE_OWNER_URL",
        "MAGICODE_PUBLIC_URL",
    }
    for container, _ in containers(template).values():
        plain = environment(container)
        assert not set(plain) & (secret | {"PGPASSWORD", "METRICS_TOKEN", "QDRANT__SERVICE__API_KEY"})
        for value in plain.values():
            assert not re.search(r"://[^/@\s]*:[^/@\s]*@", json.dumps(value))


def test_the_passwords_come_from_secrets_manager(template: Template) -> None:
    for name, wanted in {
        "web": {"PGPASSWORD", "MAGICODE_METRICS_TOKEN", "MAGICODE_QDRANT_API_KEY"},
        "worker": {"PGPASSWORD", "MAGICODE_METRICS_TOKEN", "MAGICODE_QDRANT_API_KEY"},
        "migration": {"PGPASSWORD", "MAGICODE_DATABASE_SERVICE_PASSWORD"},
        "qdrant": {"QDRANT__SERVICE__API_KEY"},
    }.items():
        assert set(secrets(containers(template)[name][0])) == wanted


def test_web_takes_no_jobs_and_the_worker_no_webhooks(template: Template) -> None:
    web, worker = (containers(template)[name][0] for name in ("web", "worker"))
    assert web["Command"] == ["serve"]
    assert environment(web)["MAGICODE_WORKER"] == "false"
    assert worker["Command"] == ["worker"]
    assert "LoadBalancers" not in only(template, "ECS::Service", "WorkerService")
    assert "OWNER" not in json.dumps(environment(web)) + json.dumps(environment(worker))


def test_a_command_follows_the_program_that_the_image_starts(template: Template, root: Path) -> None:
    dockerfile = (root / "infra" / "container" / "Dockerfile").read_text()
    started = json.loads(re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.MULTILINE)[-1])
    assert started == ["magicode"]
    for name, command in {"web": "serve", "worker": "worker", "migration": "migrate"}.items():
        container, _ = containers(template)[name]
        assert "EntryPoint" not in container
        assert container["Command"] == [command], "the program itself would be its own argument"


@pytest.mark.parametrize("name", OURS)
def test_a_task_writes_into_its_memory_alone_and_is_nobody(template: Template, name: str) -> None:
    container, task = containers(template)[name]
    assert container["ReadonlyRootFilesystem"] is True
    assert container["User"].partition(":")[0] not in ("", "0", "root")
    assert container.get("Privileged", False) is False
    assert container["LinuxParameters"]["Capabilities"] == {"Drop": ["ALL"]}
    assert "Volumes" not in task
    mounts = container["LinuxParameters"]["Tmpfs"]
    for mount in mounts:
        assert {"nosuid", "nodev", "noexec"} <= set(mount["MountOptions"])
    held = sum(int(mount["Size"]) for mount in mounts)
    assert held * 2 <= int(task["Memory"]), "what is in memory-backed file systems is of the task's memory"


@pytest.mark.parametrize("name", ["web", "worker"])
def test_trees_and_data_lie_where_memory_is(template: Template, name: str) -> None:
    container, _ = containers(template)[name]
    paths = {mount["ContainerPath"] for mount in container["LinuxParameters"]["Tmpfs"]}
    told = environment(container)
    assert {told["MAGICODE_WORKSPACE_DIR"], told["MAGICODE_DATA_DIR"], "/tmp"} == paths


def test_every_image_is_named_by_its_bytes(template: Template) -> None:
    found = [json.dumps(container["Image"]) for container, _ in containers(template).values()]
    assert len(found) == 6
    assert all(f"@{DIGEST}" in one for one in found)


def drain(root: Path) -> int:
    """Seconds that a worker's jobs are given to end."""
    source = (root / "infra/postgres/queue.py").read_text()
    (found,) = re.findall(r"drain: timedelta = timedelta\(seconds=(\d+)\)", source)
    return int(found)


@pytest.mark.parametrize("name", ["web", "worker"])
def test_who_is_told_to_stop_is_given_the_time_to_hand_its_runs_back(
    template: Template, root: Path, name: str
) -> None:
    container, _ = containers(template)[name]
    assert container["StopTimeout"] == STOP_SECONDS
    assert max(40, drain(root) + 10) <= STOP_SECONDS <= 120


def test_the_load_balancer_lets_requests_end_before_a_task_must(template: Template) -> None:
    (target,) = of(template, "ElasticLoadBalancingV2::TargetGroup").values()
    found = {one["Key"]: one["Value"] for one in target["TargetGroupAttributes"]}
    assert int(found["deregistration_delay.timeout_seconds"]) < STOP_SECONDS


@pytest.mark.parametrize("name", ["WebService", "WorkerService"])
def test_a_version_that_does_not_start_is_taken_back_and_nobody_waits(template: Template, name: str) -> None:
    service = only(template, "ECS::Service", name)
    deployment = service["DeploymentConfiguration"]
    assert deployment["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}
    assert deployment["MinimumHealthyPercent"] == 100
    assert service.get("EnableExecuteCommand", False) is False


def test_workers_are_added_by_what_waits(template: Template) -> None:
    text = json.dumps([one for name, one in of(template, "CloudWatch::Alarm").items() if "Waiting" in name])
    assert text.count("magicode_queue_jobs") == 2
    targets = of(template, "ApplicationAutoScaling::ScalableTarget")
    (worker,) = (one for name, one in targets.items() if "Worker" in name)
    assert (worker["MinCapacity"], worker["MaxCapacity"]) == (2, 10)


@pytest.fixture(scope="session")
def dedicated(written: Written) -> Template:
    return written(dedicated="123:1, 456:2")


def of_service(template: Template, name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The service, its task and the task's container that is ours."""
    service = only(template, "ECS::Service", name)
    task = of(template, "ECS::TaskDefinition")[service["TaskDefinition"]["Ref"]]
    (container,) = (one for one in task["ContainerDefinitions"] if one["Name"] == "worker")
    return service, task, container


@pytest.mark.parametrize(("installation", "tasks"), [("123", 1), ("456", 2)])
def test_an_installation_may_have_tasks_of_its_own_that_differ_in_whom_they_work_for_alone(
    dedicated: Template, installation: str, tasks: int
) -> None:
    service, task, container = of_service(dedicated, f"Worker{installation}Service")
    everybodys, their_task, their_container = of_service(dedicated, "WorkerService")
    assert service["DesiredCount"] == tasks
    told = environment(container)
    assert told.pop("MAGICODE_DEDICATED_TO") == installation
    assert told == environment(their_container)
    others = {"Environment"}
    assert {key: one for key, one in container.items() if key not in others} == {
        key: one for key, one in their_container.items() if key not in others
    }
    for key in ("Cpu", "Memory", "TaskRoleArn", "ExecutionRoleArn"):
        assert task[key] == their_task[key]
    for key in ("NetworkConfiguration", "DeploymentConfiguration", "Cluster"):
        assert service[key] == everybodys[key]
    assert {one["Name"] for one in task["ContainerDefinitions"]} == {"worker", "collector"}


def test_everybodys_tasks_roles_and_scaling_are_the_same_with_them(eu: Template, dedicated: Template) -> None:
    def without(kind: str) -> dict[str, Any]:
        return {
            name: one for name, one in of(dedicated, kind).items() if not re.search("Worker(123|456)", name)
        }

    for kind in ("ECS::Service", "ECS::TaskDefinition", "IAM::Role", "IAM::Policy", "Logs::LogGroup"):
        assert without(kind) == of(eu, kind), kind
    kind = "ApplicationAutoScaling::ScalableTarget"
    assert of(dedicated, kind) == of(eu, kind)


def test_an_alarm_tells_that_an_installations_own_tasks_are_not_there(
    eu: Template, dedicated: Template
) -> None:
    def seen(template: Template) -> list[dict[str, Any]]:
        text = '"own_runs"'
        return [one for one in of(template, "CloudWatch::Alarm").values() if text in json.dumps(one)]

    (alarm,) = seen(dedicated)
    assert alarm["MetricName"] == "magicode_queue_oldest_seconds"
    assert not seen(eu)


def test_nothing_of_an_installations_own_runs_before_there_are_secrets(written: Written) -> None:
    template = written(dedicated="123:1", web_tasks="0", worker_tasks="0")
    assert {one["DesiredCount"] for one in of(template, "ECS::Service").values()} == {0}


def read(container: dict[str, Any]) -> dict[str, Any]:
    """The collector's configuration, with the template's references as their names."""
    value = environment(container)["AOT_CONFIG_CONTENT"]
    parts = value["Fn::Join"][1] if isinstance(value, dict) else [value]
    found: dict[str, Any] = json.loads("".join(one if isinstance(one, str) else one["Ref"] for one in parts))
    return found


@pytest.mark.parametrize(("task", "port"), [("WebTask", 8646), ("WorkerTask", 8647)])
def test_the_collector_asks_its_own_task_with_the_token_and_tells_cloudwatch(
    template: Template, task: str, port: int
) -> None:
    (name,) = (one for one in containers(template) if one.startswith(f"collector of Service{task}"))
    container, _ = containers(template)[name]
    told = read(container)
    (scraped,) = told["receivers"]["prometheus"]["config"]["scrape_configs"]
    assert scraped["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    assert scraped["authorization"] == {"credentials": "${env:METRICS_TOKEN}"}
    assert set(secrets(container)) == {"METRICS_TOKEN"}
    sent = told["exporters"]["awsemf"]
    assert sent["log_group_name"] in of(template, "Logs::LogGroup")
    assert container["Essential"] is False
    assert container["ReadonlyRootFilesystem"] is True
    for pipeline in told["service"]["pipelines"].values():
        assert set(pipeline["receivers"]) <= set(told["receivers"])
        assert set(pipeline["exporters"]) <= set(told["exporters"])
        assert set(pipeline["processors"]) <= set(told["processors"])


def test_what_alarms_and_scaling_look_at_is_what_the_collector_declares(template: Template) -> None:
    declared = {
        (selector.strip("^$"), tuple(label for labels in one["dimensions"] for label in labels))
        for one in json.loads(configuration(1, "", ""))["exporters"]["awsemf"]["metric_declarations"]
        for selector in one["metric_name_selectors"]
    }
    seen = {
        (one["MetricName"], tuple(sorted(dimension["Name"] for dimension in one.get("Dimensions", []))))
        for one in of(template, "CloudWatch::Alarm").values()
        if one.get("Namespace") == "MagiCode" and one["MetricName"].startswith("magicode_")
    }
    assert len(seen) >= 3
    assert seen <= declared
