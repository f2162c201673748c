"""What tells somebody."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from infra.aws import collector
from tests.infra.aws.reading import Template, of, only

WATCHED = (
    "TasksFail",
    "NobodyAnswers",
    "Unhealthy",
    "QueueAge",
    "Unmeasured",
    "Errors",
    "DatabaseCpu",
    "DatabaseStorage",
    "DatabaseConnections",
    "TrailStopped",
    "KeyEnding",
)


def test_each_thing_that_is_watched_tells_somebody(template: Template) -> None:
    (topic,) = of(template, "SNS::Topic")
    alarms = of(template, "CloudWatch::Alarm")
    for name in WATCHED:
        (alarm,) = (one for key, one in alarms.items() if key.startswith(f"Watch{name}"))
        assert alarm["AlarmActions"] == [{"Ref": topic}]
        assert alarm.get("ActionsEnabled", True) is True
        assert alarm["AlarmDescription"]


def test_a_service_that_says_nothing_is_an_alarm_and_not_peace(template: Template) -> None:
    alarm = next(
        one for name, one in of(template, "CloudWatch::Alarm").items() if name.startswith("WatchUnmeasured")
    )
    assert alarm["TreatMissingData"] == "breaching"


def test_alarms_are_told_under_our_key_to_who_speaks_tls(template: Template) -> None:
    assert "KeysData" in json.dumps(only(template, "SNS::Topic")["KmsMasterKeyId"])
    policy = json.dumps(only(template, "SNS::TopicPolicy"))
    assert '"aws:SecureTransport": "false"' in policy
    assert only(template, "SNS::Subscription")["Endpoint"] == "somebody@example.com"


def test_the_trail_is_signed_in_a_bucket_of_its_own_and_holds_who_touched_an_export(
    template: Template,
) -> None:
    trail = only(template, "CloudTrail::Trail")
    assert trail["EnableLogFileValidation"] is True
    assert trail["IsLogging"] is True
    assert "KeysData" in json.dumps(trail["KMSKeyId"])
    assert trail["S3BucketName"]["Ref"].startswith("WatchTrails")
    (selector,) = (one for one in trail["EventSelectors"] if one.get("DataResources"))
    (data,) = selector["DataResources"]
    assert data["Type"] == "AWS::S3::Object"
    assert "DataExports" in json.dumps(data["Values"])
    assert selector.get("ReadWriteType", "All") == "All"


def test_who_read_a_secret_is_in_the_trail(template: Template) -> None:
    """GetSecretValue is a management event that reads."""
    selectors = only(template, "CloudTrail::Trail")["EventSelectors"]
    assert any(
        one.get("IncludeManagementEvents", True) and one.get("ReadWriteType", "All") == "All"
        for one in selectors
    )
    for one in selectors:
        assert not one.get("ExcludeManagementEventSources")


def test_stopping_the_trail_or_ending_a_key_is_told(template: Template) -> None:
    patterns = "".join(one["FilterPattern"] for one in of(template, "Logs::MetricFilter").values())
    for call in ("StopLogging", "DeleteTrail", "ScheduleKeyDeletion", "DisableKey"):
        assert f'"{call}"' in patterns
    (group,) = {one["LogGroupName"]["Ref"] for one in of(template, "Logs::MetricFilter").values()}
    assert group in json.dumps(only(template, "CloudTrail::Trail")["CloudWatchLogsLogGroupArn"])


def test_the_key_lets_the_trail_write(template: Template) -> None:
    (key,) = (one for name, one in of(template, "KMS::Key").items() if name.startswith("KeysData"))
    services = json.dumps([one["Principal"] for one in key["KeyPolicy"]["Statement"]])
    for service in ("cloudtrail.amazonaws.com", "cloudwatch.amazonaws.com", "logs."):
        assert service in services


def told(root: Path) -> dict[str, set[str]]:
    """What the service tells at /metrics, and by which labels: read from its source, which this environment cannot import."""
    kinds = {"counter": "magicode_{}_total", "gauge": "magicode_{}", "seconds": "magicode_{}_seconds"}
    found: dict[str, set[str]] = {}
    for call in ast.walk(ast.parse((root / "infra" / "metrics.py").read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in kinds:
            words = [str(one.value) for one in call.args if isinstance(one, ast.Constant)]
            found[kinds[call.func.id].format(words[0])] = set(words[2:])
    return found


def test_the_collector_declares_figures_and_labels_that_the_service_tells(root: Path) -> None:
    known = told(root)
    assert len(known) > 15
    for label, names in collector.DECLARED:
        for name in names:
            assert label in known[name] | {""}, name
            assert label or not known[name], f"{name} is several figures, told apart by {known[name]}"


def test_the_alarm_of_errors_looks_at_a_level_that_there_is(template: Template, root: Path) -> None:
    levels = {
        dimension["Value"]
        for alarm in of(template, "CloudWatch::Alarm").values()
        for dimension in alarm.get("Dimensions", ())
        if dimension["Name"] == "level"
    }
    assert levels == {"error"}
    assert '"error": logging.ERROR' in (root / "infra" / "metrics.py").read_text()
