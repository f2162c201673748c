"""Qdrant as one task with a block device of its own, where no other Qdrant is named."""

from __future__ import annotations

import json

from aws_cdk import Duration, RemovalPolicy, Size
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from aws_cdk import aws_servicediscovery as servicediscovery
from constructs import Construct

from infra.aws.accepted import accept
from infra.aws.keys import Keys
from infra.aws.logs import log_group
from infra.aws.network import PRIVATE, QDRANT_PORT, Network

_STORAGE = "/qdrant/storage"
_NAME = "qdrant"
_VOLUMES = "service-role/AmazonECSInfrastructureRolePolicyForVolumes"


class Vectors(Construct):
    """A file system of the network, such as EFS, is no place for it: "Qdrant won't work with Network file systems such as NFS".
    https://qdrant.tech/documentation/guides/installation/#storage

    The volume that ECS makes for a service's task goes with the task, so a Qdrant that is replaced begins empty. The vectors
    are derived: each run brings its repository's index up to date before it asks.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ebs-volumes.html
    """

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        keys: Keys,
        network: Network,
        cluster: ecs.Cluster,
        image: str,
        started: bool,
    ) -> None:
        super().__init__(scope, name)
        self.api_key = self._api_key(keys)
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=1024,
            memory_limit_mib=4096,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.X86_64,
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
        )
        container = task.add_container(
            "qdrant",
            image=ecs.ContainerImage.from_registry(image),
            readonly_root_filesystem=True,
            logging=ecs.LogDriver.aws_logs(log_group=log_group(self, "Logs", keys), stream_prefix="qdrant"),
            environment={
                "QDRANT__SERVICE__HTTP_PORT": str(QDRANT_PORT),
                "QDRANT__STORAGE__SNAPSHOTS_PATH": f"{_STORAGE}/snapshots",
                "QDRANT__STORAGE__TEMP_PATH": f"{_STORAGE}/temporary",
                "QDRANT_INIT_FILE_PATH": f"{_STORAGE}/.initialized",
                "QDRANT__TELEMETRY_DISABLED": "true",
            },
            secrets={
                "QDRANT__SERVICE__API_KEY": ecs.Secret.from_secrets_manager(self.api_key, "value"),
            },
            port_mappings=[ecs.PortMapping(container_port=QDRANT_PORT)],
            stop_timeout=Duration.seconds(60),
        )
        volume = self._volume(keys)
        volume.mount_in(container, container_path=_STORAGE, read_only=False)
        task.add_volume(name=volume.name, configured_at_launch=True)
        self._service(network, cluster, task, started).add_volume(volume)
        accept(task, "ECS2", "Which port and which folder: no secret.")
        self.url = f"http://{_NAME}.{network.zone}:{QDRANT_PORT}"

    def _service(
        self, network: Network, cluster: ecs.Cluster, task: ecs.FargateTaskDefinition, started: bool
    ) -> ecs.FargateService:
        namespace = servicediscovery.PrivateDnsNamespace(self, "Names", name=network.zone, vpc=network.vpc)
        return ecs.FargateService(
            self,
            "Service",
            cluster=cluster,
            task_definition=task,
            desired_count=1 if started else 0,
            min_healthy_percent=0,  # one at a time: two would answer in turns, each with half
            max_healthy_percent=100,
            circuit_breaker=ecs.DeploymentCircuitBreaker(rollback=True),
            vpc_subnets=PRIVATE,
            security_groups=[network.qdrant],
            cloud_map_options=ecs.CloudMapOptions(
                cloud_map_namespace=namespace, name=_NAME, dns_ttl=Duration.seconds(10)
            ),
        )

    def _volume(self, keys: Keys) -> ecs.ServiceManagedVolume:
        role = iam.Role(
            self,
            "VolumeRole",
            assumed_by=iam.ServicePrincipal("ecs.amazonaws.com"),
            managed_policies=[iam.ManagedPolicy.from_aws_managed_policy_name(_VOLUMES)],
        )
        _let_encrypt(role, keys)
        accept(
            role,
            f"IAM4[Policy::arn:<AWS::Partition>:iam::aws:policy/{_VOLUMES}]",
            "AWS's own for this one purpose: it makes, attaches and deletes the volumes of ECS alone.",
        )
        return ecs.ServiceManagedVolume(
            self,
            "Volume",
            name="storage",
            managed_ebs_volume=ecs.ServiceManagedEBSVolumeConfiguration(
                role=role,
                encrypted=True,
                kms_key_id=keys.data,
                size=Size.gibibytes(50),
                volume_type=ec2.EbsDeviceVolumeType.GP3,
                file_system_type=ecs.FileSystemType.EXT4,
            ),
        )

    def _api_key(self, keys: Keys) -> secretsmanager.Secret:
        secret = secretsmanager.Secret(
            self,
            "ApiKey",
            description="MagiCode: what Qdrant asks of whoever speaks to it",
            encryption_key=keys.data,
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template=json.dumps({}),
                generate_string_key="value",
                password_length=48,
                exclude_punctuation=True,
            ),
            removal_policy=RemovalPolicy.RETAIN,
        )
        accept(secret, "SMG4", "Qdrant reads its key at the start: a new one takes a restart of all tasks.")
        return secret


def _let_encrypt(role: iam.Role, keys: Keys) -> None:
    """https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ebs-kms-encryption.html"""
    add = role.add_to_principal_policy
    key = [keys.data.key_arn]
    add(iam.PolicyStatement(actions=["kms:DescribeKey"], resources=key))
    add(
        iam.PolicyStatement(
            actions=["kms:GenerateDataKeyWithoutPlaintext"],
            resources=key,
            conditions={"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:ebs:id"}},
        )
    )
    add(
        iam.PolicyStatement(
            actions=["kms:CreateGrant"],
            resources=key,
            conditions={
                "Bool": {"kms:GrantIsForAWSResource": True},
                "ForAllValues:StringEquals": {"kms:GrantOperations": ["Decrypt"]},
            },
        )
    )
