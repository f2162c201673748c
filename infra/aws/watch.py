"""What tells somebody: alarms, and a trail of every call that was made of AWS itself."""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from infra.aws.collector import NAMESPACE
from infra.aws.data import Data
from infra.aws.door import Door
from infra.aws.keys import Keys
from infra.aws.logs import log_group

CONNECTIONS = 700
"""PostgreSQL on an m7g.large (8 GiB) takes about 900, RDS's LEAST(DBInstanceClassMemory/9531392, 5000):
https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html#RDS_Limits.MaxConnections"""

_AGE_SECONDS = 600
_STORAGE_BYTES = 20 * 1024**3
_TRAIL_DAYS = 365

_TAMPERING = {
    "TrailStopped": (
        "cloudtrail.amazonaws.com",
        ("StopLogging", "DeleteTrail", "UpdateTrail", "PutEventSelectors"),
    ),
    "KeyEnding": (
        "kms.amazonaws.com",
        ("ScheduleKeyDeletion", "DisableKey", "PutKeyPolicy", "DisableKeyRotation"),
    ),
}
"""What nobody does to this account's trails and keys unnoticed, deployments of this stack included."""


class Watch(Construct):
    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        keys: Keys,
        data: Data,
        door: Door,
        email: str,
    ) -> None:
        super().__init__(scope, name)
        self.topic = sns.Topic(self, "Alarms", master_key=keys.data, enforce_ssl=True)
        self.topic.add_to_resource_policy(_alarms_may_tell(self.topic))
        if email:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))
        self._door(door.balancer)
        self._queue()
        self._database(data)
        self._trail(keys, data)

    # --- alarms ------------------------------------------------------------------------------------------------------

    def _door(self, balancer: elb.ApplicationLoadBalancer) -> None:
        seen = balancer.metrics
        minute = Duration.minutes(1)
        ours = seen.http_code_target(elb.HttpCodeTarget.TARGET_5XX_COUNT, period=minute, statistic="Sum")
        its = seen.http_code_elb(elb.HttpCodeElb.ELB_5XX_COUNT, period=minute, statistic="Sum")
        self._alarm("TasksFail", ours, 10, "The web tasks answer with errors of their own.", minutes=5)
        self._alarm("NobodyAnswers", its, 10, "The load balancer finds nobody who answers.", minutes=5)

    def watch_target(self, target: elb.ApplicationTargetGroup) -> None:
        sick = target.metrics.unhealthy_host_count(period=Duration.minutes(1), statistic="Maximum")
        self._alarm("Unhealthy", sick, 1, "A web task is not alive.", minutes=5)

    def watch_own_workers(self) -> None:
        age = _of("magicode_queue_oldest_seconds", {"queue": "own_runs"}, "Maximum")
        what = "A request has waited for its installation's own workers for ten minutes."
        self._alarm("OwnQueueAge", age, _AGE_SECONDS, what, minutes=5)

    def _queue(self) -> None:
        age = _of("magicode_queue_oldest_seconds", {"queue": "runs"}, "Maximum")
        self._alarm(
            "QueueAge", age, _AGE_SECONDS, "A request has waited for a worker for ten minutes.", minutes=5
        )
        silent = _of("magicode_queue_jobs", {"queue": "runs"}, "SampleCount")
        self._alarm(
            "Unmeasured",
            silent,
            1,
            "The service says nothing of its queue: no task runs, or no collector does.",
            minutes=10,
            operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            missing=cloudwatch.TreatMissingData.BREACHING,
        )
        errors = _of("magicode_log_records_total", {"level": "error"}, "Sum", Duration.minutes(5))
        self._alarm("Errors", errors, 5, "The service's logs hold errors.", minutes=1)

    def _database(self, data: Data) -> None:
        database = data.database
        five = Duration.minutes(5)
        self._alarm(
            "DatabaseCpu", database.metric_cpu_utilization(period=five), 80, "PostgreSQL is busy.", minutes=3
        )
        self._alarm(
            "DatabaseStorage",
            database.metric_free_storage_space(period=five, statistic="Minimum"),
            _STORAGE_BYTES,
            "PostgreSQL's disk is nearly full, and grows no more.",
            minutes=1,
            operator=cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        )
        self._alarm(
            "DatabaseConnections",
            database.metric_database_connections(period=five, statistic="Maximum"),
            CONNECTIONS,
            "PostgreSQL has few connections left: a process opens up to 22.",
            minutes=1,
        )

    def _alarm(
        self,
        name: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        what: str,
        *,
        minutes: int,
        operator: cloudwatch.ComparisonOperator = (
            cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
        ),
        missing: cloudwatch.TreatMissingData = cloudwatch.TreatMissingData.NOT_BREACHING,
    ) -> None:
        """`minutes` are as many periods of the metric."""
        alarm = cloudwatch.Alarm(
            self,
            name,
            metric=metric,
            threshold=threshold,
            evaluation_periods=minutes,
            comparison_operator=operator,
            treat_missing_data=missing,
            alarm_description=what,
        )
        alarm.add_alarm_action(actions.SnsAction(self.topic))
        alarm.add_ok_action(actions.SnsAction(self.topic))

    # --- the trail ---------------------------------------------------------------------------------------------------

    def _trail(self, keys: Keys, data: Data) -> None:
        """Who read a secret or used a key is among the management events, which a trail holds anyway; who fetched or deleted an
        export is not, and is asked for.
        https://docs.aws.amazon.com/secretsmanager/latest/userguide/monitoring-cloudtrail.html
        https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-data-events-with-cloudtrail.html
        """
        bucket = s3.Bucket(
            self,
            "Trails",
            encryption=s3.BucketEncryption.KMS,
            encryption_key=keys.data,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            versioned=True,
            server_access_logs_bucket=data.access_logs,
            server_access_logs_prefix="trail/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    expiration=Duration.days(_TRAIL_DAYS), noncurrent_version_expiration=Duration.days(30)
                )
            ],
            removal_policy=RemovalPolicy.RETAIN,
        )
        group = log_group(self, "TrailLogs", keys)
        trail = cloudtrail.Trail(
            self,
            "Trail",
            bucket=bucket,
            encryption_key=keys.data,
            enable_file_validation=True,
            include_global_service_events=False,
            is_multi_region_trail=False,
            management_events=cloudtrail.ReadWriteType.ALL,
            send_to_cloud_watch_logs=True,
            cloud_watch_log_group=group,
        )
        trail.add_s3_event_selector(
            [cloudtrail.S3EventSelector(bucket=one) for one in (data.exports, data.backups)],
            include_management_events=True,
        )
        for name, (source, calls) in _TAMPERING.items():
            self._told(group, name, source, calls)

    def _told(self, group: logs.ILogGroup, name: str, source: str, calls: tuple[str, ...]) -> None:
        named = " || ".join(f'($.eventName = "{call}")' for call in calls)
        told = logs.MetricFilter(
            self,
            f"{name}Filter",
            log_group=group,
            metric_namespace=NAMESPACE,
            metric_name=name,
            filter_pattern=logs.FilterPattern.literal(f'{{ ($.eventSource = "{source}") && ({named}) }}'),
        )
        self._alarm(
            name,
            told.metric(statistic="Sum", period=Duration.minutes(5)),
            1,
            f"Somebody called {', '.join(calls)} or the like: see the trail.",
            minutes=1,
        )


def _of(
    name: str, labels: Mapping[str, str], statistic: str, period: Duration | None = None
) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map=dict(labels),
        statistic=statistic,
        period=period or Duration.minutes(1),
    )


def _alarms_may_tell(topic: sns.ITopic) -> iam.PolicyStatement:
    return iam.PolicyStatement(
        principals=[iam.ServicePrincipal("cloudwatch.amazonaws.com")],
        actions=["sns:Publish"],
        resources=[topic.topic_arn],
        conditions={"StringEquals": {"aws:SourceAccount": topic.env.account}},
    )
