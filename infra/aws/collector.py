"""What carries the service's metrics to CloudWatch: AWS's collector beside each task, which asks the task and nobody else."""

from __future__ import annotations

import json

from aws_cdk import Acknowledgment, CfnResource, Stack, Validations
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs

NAMESPACE = "MagiCode"

DECLARED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("queue", ("magicode_queue_jobs", "magicode_queue_oldest_seconds")),
    ("level", ("magicode_log_records_total",)),
    ("outcome", ("magicode_deliveries_total",)),
    ("state", ("magicode_runs_total",)),
    ("station", ("magicode_station_seconds",)),
    ("provider", ("magicode_cost_dollars_total",)),
    ("", ("magicode_delivery_seconds", "magicode_webhook_lag_seconds")),
)
"""By which label each is told apart. A metric of CloudWatch is paid for by each combination, so no more than these:
https://aws.amazon.com/cloudwatch/pricing/"""


def configuration(port: int, group: str, region: str) -> str:
    """As JSON, which is YAML too. The token stands in the collector's environment and not here.

    https://aws-otel.github.io/docs/getting-started/prometheus-remote-write-exporter
    https://github.com/open-telemetry/opentelemetry-collector-contrib/tree/main/exporter/awsemfexporter
    """
    return json.dumps(
        {
            "extensions": {"health_check": {}},
            "receivers": {
                "prometheus": {
                    "config": {
                        "global": {"scrape_interval": "30s", "scrape_timeout": "10s"},
                        "scrape_configs": [
                            {
                                "job_name": "magicode",
                                "authorization": {"credentials": "${env:METRICS_TOKEN}"},
                                "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                            }
                        ],
                    }
                }
            },
            "processors": {"batch": {}},
            "exporters": {
                "awsemf": {
                    "namespace": NAMESPACE,
                    "region": region,
                    "log_group_name": group,
                    "log_stream_name": "{TaskId}",
                    "dimension_rollup_option": "NoDimensionRollup",
                    "metric_declarations": [
                        {
                            "dimensions": [[label] if label else []],
                            "metric_name_selectors": [f"^{name}$" for name in names],
                        }
                        for label, names in DECLARED
                    ],
                }
            },
            "service": {
                "extensions": ["health_check"],
                "telemetry": {"logs": {"level": "warn"}},
                "pipelines": {
                    "metrics": {
                        "receivers": ["prometheus"],
                        "processors": ["batch"],
                        "exporters": ["awsemf"],
                    }
                },
            },
        },
        separators=(",", ":"),
    )


def add_collector(
    task: ecs.FargateTaskDefinition,
    *,
    image: str,
    port: int,
    group: logs.ILogGroup,
    own_logs: logs.ILogGroup,
    token: ecs.Secret,
) -> None:
    """Not essential: a service that is not measured goes on."""
    task.add_container(
        "collector",
        image=ecs.ContainerImage.from_registry(image),
        essential=False,
        readonly_root_filesystem=True,
        user="4317:4317",
        cpu=64,
        memory_limit_mib=256,
        environment={
            "AOT_CONFIG_CONTENT": configuration(port, group.log_group_name, Stack.of(task).region),
        },
        secrets={"METRICS_TOKEN": token},
        logging=ecs.LogDriver.aws_logs(log_group=own_logs, stream_prefix="collector"),
    )
    _explain(task)
    task.task_role.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["logs:CreateLogStream", "logs:PutLogEvents"],
            resources=[group.log_group_arn],
        )
    )


def _explain(task: ecs.FargateTaskDefinition) -> None:
    """To CDK's own check and to cfn-lint: what looks like a name for Fn::Sub is the collector's own way to name a variable."""
    found = task.node.default_child
    if not isinstance(found, CfnResource):
        raise AssertionError("a task definition is a resource of the template")
    found.add_metadata("cfn-lint", {"config": {"ignore_checks": ["E1029"]}})
    Validations.of(task).acknowledge(
        Acknowledgment(
            id="CloudFormation-Validate::E1029",
            reason="${env:…} is read by the collector, not by CloudFormation.",
        )
    )
