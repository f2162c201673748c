"""The network: subnets by what may reach them, and security groups that say who speaks to whom."""

from __future__ import annotations

from aws_cdk import Stack
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from constructs import Construct

from infra.aws.accepted import accept
from infra.aws.keys import Keys
from infra.aws.logs import log_group

WEB_PORT = 8646
WORKER_PORT = 8647
QDRANT_PORT = 6333
DATABASE_PORT = 5432

PUBLIC = ec2.SubnetSelection(subnet_group_name="public")
PRIVATE = ec2.SubnetSelection(subnet_group_name="private")
ISOLATED = ec2.SubnetSelection(subnet_group_name="isolated")

_ENDPOINTS = {
    "Secrets": ec2.InterfaceVpcEndpointAwsService.SECRETS_MANAGER,
    "Kms": ec2.InterfaceVpcEndpointAwsService.KMS,
    "Logs": ec2.InterfaceVpcEndpointAwsService.CLOUDWATCH_LOGS,
    "EcrApi": ec2.InterfaceVpcEndpointAwsService.ECR,
    "EcrDocker": ec2.InterfaceVpcEndpointAwsService.ECR_DOCKER,
}


class Network(Construct):
    """Two zones. A load balancer and the way out are public, tasks are private, the database has no way out at all."""

    def __init__(self, scope: Construct, name: str, *, cidr: str, keys: Keys) -> None:
        super().__init__(scope, name)
        self.vpc = ec2.Vpc(
            self,
            "Vpc",
            ip_addresses=ec2.IpAddresses.cidr(cidr),
            max_azs=2,
            nat_gateways=2,
            restrict_default_security_group=False,  # done by a function of Lambda otherwise; nothing is in that group
            subnet_configuration=[
                _subnets("public", ec2.SubnetType.PUBLIC),
                _subnets("private", ec2.SubnetType.PRIVATE_WITH_EGRESS),
                _subnets("isolated", ec2.SubnetType.PRIVATE_ISOLATED),
            ],
            gateway_endpoints={
                "S3": ec2.GatewayVpcEndpointOptions(service=ec2.GatewayVpcEndpointAwsService.S3)
            },
        )
        self._flows(keys)
        self.door = self._group("Door", "The load balancer")
        self.web = self._group("Web", "Tasks that take webhooks and show pages")
        self.worker = self._group("Worker", "Tasks that work the jobs")
        self.migration = self._group("Migration", "The task that brings the schema up to date")
        self.database = self._group("Database", "PostgreSQL")
        self.qdrant = self._group("Qdrant", "The vectors")
        self.endpoints = self._group("Endpoints", "AWS, from inside")
        self._ways()
        self._endpoints()

    def _ways(self) -> None:
        """All that may be spoken. Answers need no rule: security groups remember who asked."""
        for port, why in ((443, "HTTPS"), (80, "HTTP, which is answered with a redirect")):
            self.door.add_ingress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(port), why)
        _way(self.door, self.web, WEB_PORT)
        for task in (self.web, self.worker, self.migration):
            _way(task, self.database, DATABASE_PORT)
        for task in (self.web, self.worker):
            _way(task, self.qdrant, QDRANT_PORT)
        for task in (self.web, self.worker, self.migration, self.qdrant):
            # GitHub, models, customers' own addresses, package indexes, registries: none has addresses to list.
            task.add_egress_rule(ec2.Peer.any_ipv4(), ec2.Port.tcp(443), "HTTPS")
            self.endpoints.add_ingress_rule(task, ec2.Port.tcp(443), "AWS")
        accept(
            self.door,
            "EC23",
            "GitHub delivers and people read from anywhere; a web ACL stands before the load balancer.",
        )

    def _endpoints(self) -> None:
        for name, service in _ENDPOINTS.items():
            self.vpc.add_interface_endpoint(
                name, service=service, subnets=PRIVATE, security_groups=[self.endpoints], open=False
            )

    def _flows(self, keys: Keys) -> None:
        group = log_group(self, "Flows", keys)
        role = iam.Role(self, "FlowsRole", assumed_by=iam.ServicePrincipal("vpc-flow-logs.amazonaws.com"))
        ec2.FlowLog(
            self,
            "FlowLog",
            resource_type=ec2.FlowLogResourceType.from_vpc(self.vpc),
            destination=ec2.FlowLogDestination.to_cloud_watch_logs(group, role),
        )

    def _group(self, name: str, what: str) -> ec2.SecurityGroup:
        return ec2.SecurityGroup(
            self, name, vpc=self.vpc, description=what, allow_all_outbound=False, disable_inline_rules=True
        )

    @property
    def proxies(self) -> list[str]:
        """The networks that the load balancer speaks from: whose X-Forwarded-For is believed."""
        return [subnet.ipv4_cidr_block for subnet in self.vpc.public_subnets]

    @property
    def zone(self) -> str:
        return f"{Stack.of(self).stack_name.lower()}.internal"


def _way(source: ec2.SecurityGroup, target: ec2.SecurityGroup, port: int) -> None:
    """Both ends say it: neither lets out nor in what the other does not know of."""
    source.add_egress_rule(target, ec2.Port.tcp(port), "Asks")
    target.add_ingress_rule(source, ec2.Port.tcp(port), "Is asked")


def _subnets(name: str, kind: ec2.SubnetType) -> ec2.SubnetConfiguration:
    return ec2.SubnetConfiguration(
        name=name, subnet_type=kind, cidr_mask=22, map_public_ip_on_launch=False if name == "public" else None
    )
