"""The tasks: web, worker and the one that brings the schema up to date; each with no more rights than it uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import Duration
from aws_cdk import aws_applicationautoscaling as scaling
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.aws.accepted import accept
from infra.aws.collector import NAMESPACE, add_collector
from infra.aws.data import OWNER, SERVICE_ROLE, Data, let_read
from infra.aws.door import Door
from infra.aws.keys import Keys
from infra.aws.logs import log_group
from infra.aws.network import PRIVATE, WEB_PORT, WORKER_PORT, Network
from infra.aws.parameters import Parameters
from infra.aws.vectors import Vectors

STOP_SECONDS = 60
"""A worker finishes or hands back its runs within 30 seconds (app/worker.py), and the load balancer lets a task's requests end
within as many. Fargate waits for 120 at most:
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task_definition_parameters.html#container_definition_timeout"""

_USER = "10001:10001"
_WORKSPACE, _DATA, _TEMPORARY = "/workspace", "/data", "/tmp"  # noqa: S108 (a mount of the task's own memory)
_WORKSPACE_MIB = {"web": 64, "worker": 3072}
_SMALL_MIB = 256


@dataclass(frozen=True, slots=True)
class Size:
    """Of a task. What its file systems in memory hold is of its memory."""

    cpu: int
    memory: int


RUNS_AT_ONCE = 8
"""Of a worker task: most of a run is waiting for a model, and each adds less than 100 MB (`infra/operating/scale.md`)."""

_WEB, _WORKER, _MIGRATION = Size(1024, 3072), Size(2048, 8192), Size(512, 1024)


class Service(Construct):
    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        parameters: Parameters,
        keys: Keys,
        network: Network,
        data: Data,
        door: Door,
        cluster: ecs.Cluster,
        vectors: Vectors | None,
    ) -> None:
        super().__init__(scope, name)
        self._parameters = parameters
        self._keys = keys
        self._network = network
        self._data = data
        self._cluster = cluster
        self._vectors = vectors
        self._image = ecs.ContainerImage.from_ecr_repository(
            ecr.Repository.from_repository_name(self, "Repository", parameters.repository), parameters.digest
        )
        self._measured = log_group(self, "Metrics", keys)
        self._beside = log_group(self, "Collector", keys)
        self.logs: dict[str, logs.LogGroup] = {}
        self.web = self._web(door)
        self.worker = self._worker()
        for installation, count in sorted(parameters.dedicated.items()):
            self._own_worker(installation, count)
        self.migration = self._migration()

    # --- the tasks ---------------------------------------------------------------------------------------------------

    def _web(self, door: Door) -> ecs.FargateService:
        task = self._task("Web", _WEB)
        self._container(
            task,
            "web",
            ["serve"],
            {
                **self._settings(),
                "MAGICODE_WORKER": "false",
                "MAGICODE_HOST": "0.0.0.0",  # noqa: S104 (who may come is the security group's to say)
                "MAGICODE_PORT": str(WEB_PORT),
                "MAGICODE_TRUSTED_PROXIES": ",".join(self._network.proxies),
            },
            WEB_PORT,
        )
        self._data.let_read_exports(task.task_role)
        self._data.let_list_backups(task.task_role)
        service = self._service("WebService", task, self._network.web, self._parameters.web_tasks)
        self.target = target = door.lead_to(service)
        if self._parameters.started:
            scaled = service.auto_scale_task_count(
                min_capacity=self._parameters.web_tasks, max_capacity=max(10, self._parameters.web_tasks)
            )
            scaled.scale_on_cpu_utilization("Cpu", target_utilization_percent=60)
            scaled.scale_on_request_count("Requests", requests_per_target=3000, target_group=target)
        return service

    def _working(self, task: ecs.FargateTaskDefinition, **more: str) -> None:
        settings = {
            **self._settings(),
            "MAGICODE_WORKER_PORT": str(WORKER_PORT),
            "MAGICODE_CONCURRENCY": str(RUNS_AT_ONCE),
            **more,
        }
        self._container(task, "worker", ["worker"], settings, WORKER_PORT)

    def _own_worker(self, installation: int, count: int) -> None:
        """Of one installation: like everybody's in all but whose jobs it takes, and as many as were said."""
        everybodys = self.worker.task_definition
        task = ecs.FargateTaskDefinition(
            self,
            f"Worker{installation}Task",
            cpu=_WORKER.cpu,
            memory_limit_mib=_WORKER.memory,
            runtime_platform=_linux(),
            task_role=everybodys.task_role,
            execution_role=everybodys.obtain_execution_role(),
        )
        self._working(task, MAGICODE_DEDICATED_TO=str(installation))
        self._service(
            f"Worker{installation}Service",
            task,
            self._network.worker,
            count if self._parameters.started else 0,
        )

    def _worker(self) -> ecs.FargateService:
        task = self._task("Worker", _WORKER)
        self._working(task)
        self._data.let_keep_exports(task.task_role)
        self._data.let_keep_backups(task.task_role)
        service = self._service("WorkerService", task, self._network.worker, self._parameters.worker_tasks)
        if self._parameters.started:
            scaled = service.auto_scale_task_count(
                min_capacity=self._parameters.worker_tasks, max_capacity=self._parameters.worker_tasks_most
            )
            # What waits is one figure for all tasks, so no average of theirs can be aimed at: steps, by what waits.
            scaled.scale_on_metric(
                "Waiting",
                metric=waiting("runs"),
                adjustment_type=scaling.AdjustmentType.CHANGE_IN_CAPACITY,
                scaling_steps=[
                    scaling.ScalingInterval(upper=0.5, change=-1),
                    scaling.ScalingInterval(lower=4, change=1),
                    scaling.ScalingInterval(lower=20, change=4),
                ],
                evaluation_periods=2,
                cooldown=Duration.minutes(2),
            )
        return service

    def _migration(self) -> ecs.FargateTaskDefinition:
        """Started by hand before a new version: it alone is told the owner's password."""
        task = ecs.FargateTaskDefinition(
            self,
            "MigrationTask",
            cpu=_MIGRATION.cpu,
            memory_limit_mib=_MIGRATION.memory,
            runtime_platform=_linux(),
        )
        task.add_container(
            "migration",
            image=self._image,
            command=["migrate"],
            user=_USER,
            readonly_root_filesystem=True,
            linux_parameters=self._memory(task, {_TEMPORARY: _SMALL_MIB}),
            logging=self._logging("migration"),
            environment={"MAGICODE_DATABASE_OWNER_URL": self._data.url(OWNER, self._parameters.database_ca)},
            secrets={
                "PGPASSWORD": ecs.Secret.from_secrets_manager(self._data.owner_secret, "password"),
                "MAGICODE_DATABASE_SERVICE_PASSWORD": ecs.Secret.from_secrets_manager(
                    self._data.service_password, "value"
                ),
            },
            stop_timeout=Duration.seconds(120),
        )
        self._explain(task)
        return task

    # --- what they have in common ------------------------------------------------------------------------------------

    def _settings(self) -> dict[str, str]:
        """All that is no secret. What MAGICODE_SECRETS holds besides is in the README."""
        data, parameters = self._data, self._parameters
        return {
            "MAGICODE_DATABASE_URL": data.url(SERVICE_ROLE, parameters.database_ca),
            "MAGICODE_QDRANT_URL": self._vectors.url if self._vectors else parameters.qdrant_url,
            "MAGICODE_MASTER_KEY": f"aws-kms:{self._keys.master.key_arn}",
            "MAGICODE_SECRETS": f"aws-secretsmanager:{data.app_secrets.secret_arn}",
            "MAGICODE_EXPORTS": f"s3://{data.exports.bucket_name}/exports?kms-key={self._keys.data.key_arn}",
            "MAGICODE_BACKUPS": f"s3://{data.backups.bucket_name}/backups?kms-key={self._keys.data.key_arn}",
            "MAGICODE_PUBLIC_URL": f"https://{parameters.domain}",
            "MAGICODE_DATA_DIR": _DATA,
            "MAGICODE_WORKSPACE_DIR": _WORKSPACE,
            "MAGICODE_LOG_FORMAT": "json",
            "AWS_REGION": parameters.region,
        }

    def _container(
        self,
        task: ecs.FargateTaskDefinition,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        port: int,
    ) -> None:
        token = ecs.Secret.from_secrets_manager(self._data.metrics_token, "value")
        secrets = {
            "PGPASSWORD": ecs.Secret.from_secrets_manager(self._data.service_password, "value"),
            "MAGICODE_METRICS_TOKEN": token,
        }
        if self._vectors:
            secrets["MAGICODE_QDRANT_API_KEY"] = ecs.Secret.from_secrets_manager(
                self._vectors.api_key, "value"
            )
        task.add_container(
            name,
            image=self._image,
            command=list(command),
            user=_USER,
            readonly_root_filesystem=True,
            linux_parameters=self._memory(
                task, {_WORKSPACE: _WORKSPACE_MIB[name], _DATA: _SMALL_MIB, _TEMPORARY: _SMALL_MIB}
            ),
            logging=self._logging(name),
            environment=dict(environment),
            secrets=secrets,
            port_mappings=[ecs.PortMapping(container_port=port)],
            health_check=_alive(port),
            stop_timeout=Duration.seconds(STOP_SECONDS),
        )
        add_collector(
            task,
            image=self._parameters.collector_image,
            port=port,
            group=self._measured,
            own_logs=self._beside,
            token=token,
        )
        let_read(self._data.app_secrets, self._keys.data, task.task_role)
        self._keys.let_wrap(task.task_role)
        self._explain(task)

    def _task(self, name: str, size: Size) -> ecs.FargateTaskDefinition:
        return ecs.FargateTaskDefinition(
            self, f"{name}Task", cpu=size.cpu, memory_limit_mib=size.memory, runtime_platform=_linux()
        )

    def _service(
        self, name: str, task: ecs.FargateTaskDefinition, group: ec2.SecurityGroup, count: int
    ) -> ecs.FargateService:
        return ecs.FargateService(
            self,
            name,
            cluster=self._cluster,
            task_definition=task,
            desired_count=count,
            min_healthy_percent=100,
            max_healthy_percent=200,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            vpc_subnets=PRIVATE,
            security_groups=[group],
            enable_execute_command=False,
            enable_ecs_managed_tags=True,
        )

    def _memory(self, task: ecs.FargateTaskDefinition, mounts: Mapping[str, int]) -> ecs.LinuxParameters:
        """File systems in memory, everybody's to write in as /tmp is: the service makes each run's folder its own.
        https://aws.amazon.com/about-aws/whats-new/2026/01/amazon-ecs-tmpfs-mounts-aws-fargate-managed-instances/"""
        parameters = ecs.LinuxParameters(task, "Memory", init_process_enabled=True)
        for path, size in mounts.items():
            parameters.add_tmpfs(
                ecs.Tmpfs(
                    container_path=path,
                    size=size,
                    mount_options=[
                        ecs.TmpfsMountOption.NOSUID,
                        ecs.TmpfsMountOption.NODEV,
                        ecs.TmpfsMountOption.NOEXEC,
                    ],
                )
            )
        parameters.drop_capabilities(ecs.Capability.ALL)
        return parameters

    def _logging(self, name: str) -> ecs.LogDriver:
        if name not in self.logs:
            self.logs[name] = log_group(self, f"{name.title()}Logs", self._keys)
        return ecs.LogDriver.aws_logs(log_group=self.logs[name], stream_prefix=name)

    def _explain(self, task: ecs.FargateTaskDefinition) -> None:
        accept(task, "ECS2", "Addresses and names: each secret is injected by Secrets Manager.")
        accept(
            task.obtain_execution_role(),
            "IAM5[Resource::*]",
            "ecr:GetAuthorizationToken knows no resource: "
            "https://docs.aws.amazon.com/AmazonECR/latest/userguide/security_iam_id-based-policy-examples.html",
        )


def waiting(queue: str) -> cloudwatch.Metric:
    """Each web task and each worker says it, of the same table: the largest is the newest but for seconds."""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name="magicode_queue_jobs",
        dimensions_map={"queue": queue},
        statistic="Maximum",
        period=Duration.minutes(1),
    )


def cluster(scope: Construct, network: Network, keys: Keys) -> ecs.Cluster:
    """Every task is a machine of its own to its neighbours: Fargate shares no kernel between tasks. What a task writes outside its
    memory is under our key.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/security-fargate.html"""
    return ecs.Cluster(
        scope,
        "Cluster",
        vpc=network.vpc,
        container_insights_v2=ecs.ContainerInsights.ENABLED,
        managed_storage_configuration=ecs.ManagedStorageConfiguration(
            fargate_ephemeral_storage_kms_key=keys.data
        ),
    )


def _alive(port: int) -> ecs.HealthCheck:
    """By Python, which the image has: a tool for this alone would be one more to look after."""
    ask = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}/healthz', timeout=4)"
    return ecs.HealthCheck(
        command=["CMD", "python", "-c", ask],
        interval=Duration.seconds(15),
        timeout=Duration.seconds(5),
        retries=4,
        start_period=Duration.seconds(300),  # app/worker.py tries for so long to reach what it needs
    )


def _linux() -> ecs.RuntimePlatform:
    return ecs.RuntimePlatform(
        cpu_architecture=ecs.CpuArchitecture.X86_64, operating_system_family=ecs.OperatingSystemFamily.LINUX
    )
