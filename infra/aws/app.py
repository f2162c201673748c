"""The CDK app: `python -m infra.aws.app` writes the template of one region; the cdk program starts it the same way."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import App, CfnOutput, DefaultStackSynthesizer, Environment, Stack, Tags, Validations
from aws_cdk.cx_api import CloudAssembly
from cdk_nag import AwsSolutionsChecks
from constructs import Construct

from infra.aws.data import Data
from infra.aws.door import Door
from infra.aws.keys import Keys
from infra.aws.network import Network
from infra.aws.parameters import ParameterError, Parameters, read
from infra.aws.service import Service, cluster
from infra.aws.vectors import Vectors
from infra.aws.watch import Watch

_FLAGS = {
    "@aws-cdk/aws-iam:minimizePolicies": True,
    "@aws-cdk/core:checkSecretUsage": True,
    "@aws-cdk/aws-kms:reduceCrossAccountRegionPolicyScope": True,
    "@aws-cdk/aws-s3:createDefaultLoggingPolicy": True,
    "@aws-cdk/aws-s3:serverAccessLogsUseBucketPolicy": True,
    "@aws-cdk/aws-ecs:arnFormatIncludesClusterName": True,
}
"""https://docs.aws.amazon.com/cdk/v2/guide/featureflags.html"""


class MagiCode(Stack):
    """One region's service, whole: it imports nothing of another stack and exports nothing to one."""

    def __init__(self, scope: Construct, parameters: Parameters) -> None:
        super().__init__(
            scope,
            f"MagiCode-{parameters.region}",
            env=Environment(region=parameters.region),
            description="MagiCode: one region's service",
            termination_protection=True,
            # There is nothing to upload but the template, so it needs no bootstrapped account.
            synthesizer=DefaultStackSynthesizer(generate_bootstrap_version_rule=False),
        )
        Tags.of(self).add("service", "magicode")
        keys = Keys(self, "Keys")
        network = Network(self, "Network", cidr=parameters.cidr, keys=keys)
        data = Data(self, "Data", keys=keys, network=network, database_class=parameters.database_class)
        door = Door(self, "Door", network=network, data=data, certificate=parameters.certificate)
        tasks = cluster(self, network, keys)
        vectors = (
            Vectors(
                self,
                "Vectors",
                keys=keys,
                network=network,
                cluster=tasks,
                image=parameters.qdrant_image,
                started=parameters.started,
            )
            if parameters.own_qdrant
            else None
        )
        service = Service(
            self,
            "Service",
            parameters=parameters,
            keys=keys,
            network=network,
            data=data,
            door=door,
            cluster=tasks,
            vectors=vectors,
        )
        watch = Watch(self, "Watch", keys=keys, data=data, door=door, email=parameters.alarm_email)
        if parameters.dedicated:
            watch.watch_own_workers()
        watch.watch_target(service.target)
        for name, value in {
            "BalancerAddress": door.balancer.load_balancer_dns_name,
            "AppSecretsArn": data.app_secrets.secret_arn,
            "ClusterName": tasks.cluster_name,
            "MigrationTask": service.migration.task_definition_arn,
            "WorkerTask": service.worker.task_definition.task_definition_arn,
            "WorkerGroup": network.worker.security_group_id,
            "TaskSubnets": ",".join(subnet.subnet_id for subnet in network.vpc.private_subnets),
            "MigrationGroup": network.migration.security_group_id,
        }.items():
            CfnOutput(self, name, value=value)


def build(context: Mapping[str, str] | None = None, *, out: Path | None = None) -> App:
    """Raises ParameterError. None: what the cdk program says is the context."""
    app = App(
        context={**_FLAGS, **(context or {})}, outdir=str(out) if out else None, analytics_reporting=False
    )
    MagiCode(app, read(app.node.try_get_context))
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    return app


def synthesize(context: Mapping[str, str], out: Path) -> CloudAssembly:
    """Raises ParameterError, and jsii.errors.JavaScriptError where cdk-nag finds what nobody accepted."""
    return build(context, out=out).synth()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m infra.aws.app", description=__doc__)
    parser.add_argument("-c", "--context", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--out", type=Path, default=None)
    read_in = parser.parse_args(arguments)
    try:
        build(dict(one.split("=", 1) for one in read_in.context), out=read_in.out).synth()
    except ParameterError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
