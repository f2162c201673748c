"""Who can speak to whom."""

from __future__ import annotations

import copy
import ipaddress

import pytest

from tests.infra.aws.reading import Template, Way, listed, of, only, ways_in

ANYBODY = "0.0.0.0/0"
NOBODY = "255.255.255.255/32"
"""What CDK writes where nothing is let out: a group with no rule at all would let out everything."""


def allowed(template: Template) -> set[Way]:
    """All that may be let in, by what the groups are called in infra/aws/network.py."""
    names = {
        part: next(name for name in of(template, "EC2::SecurityGroup") if name.startswith(f"Network{part}"))
        for part in ("Door", "Web", "Worker", "Migration", "Database", "Qdrant", "Endpoints")
    }
    pairs = [
        ("Door", "Web", 8646),
        *((task, "Database", 5432) for task in ("Web", "Worker", "Migration")),
        *((task, "Qdrant", 6333) for task in ("Web", "Worker")),
        *((task, "Endpoints", 443) for task in ("Web", "Worker", "Migration", "Qdrant")),
    ]
    ways = {Way(names[source], names[target], port, port) for source, target, port in pairs}
    return ways | {Way(ANYBODY, names["Door"], port, port) for port in (80, 443)}


def test_nothing_is_let_in_but_what_is_listed(template: Template) -> None:
    assert ways_in(template) == allowed(template)


@pytest.mark.parametrize(
    "beside", [True, False], ids=["by a rule beside the group", "by a rule of the group"]
)
def test_a_database_that_is_open_to_all_would_be_noticed(eu: Template, beside: bool) -> None:
    open_ = copy.deepcopy(dict(eu))
    database = next(name for name in of(eu, "EC2::SecurityGroup") if name.startswith("NetworkDatabase"))
    rule = {"CidrIp": ANYBODY, "IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432}
    if beside:
        rule["GroupId"] = {"Fn::GetAtt": [database, "GroupId"]}
        open_["Resources"]["Hole"] = {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": rule}
    else:
        open_["Resources"][database]["Properties"]["SecurityGroupIngress"] = [rule]
    assert ways_in(open_) - allowed(open_) == {Way(ANYBODY, database, 5432, 5432)}


def test_a_group_asks_whom_the_others_let_it_ask_and_https_outside(template: Template) -> None:
    outside, inside = set(), set()
    for rule in of(template, "EC2::SecurityGroupEgress").values():
        if rule.get("CidrIp") == NOBODY:
            continue
        ports = (rule["FromPort"], rule["ToPort"])
        if "CidrIp" in rule:
            outside.add((rule["GroupId"]["Fn::GetAtt"][0], rule["CidrIp"], *ports))
        else:
            target = rule["DestinationSecurityGroupId"]["Fn::GetAtt"][0]
            inside.add(Way(rule["GroupId"]["Fn::GetAtt"][0], target, *ports))
    tasks = {one.source for one in allowed(template) if "Endpoints" in one.target}
    assert outside == {(task, ANYBODY, 443, 443) for task in tasks}
    assert inside <= allowed(template)
    assert not [one for one in of(template, "EC2::SecurityGroup").values() if one.get("SecurityGroupEgress")]


def test_the_database_has_neither_an_address_outside_nor_a_way_out(template: Template) -> None:
    assert only(template, "RDS::DBInstance")["PubliclyAccessible"] is False
    subnets = {one["Ref"] for one in only(template, "RDS::DBSubnetGroup")["SubnetIds"]}
    assert len(subnets) == 2
    tables = {
        one["RouteTableId"]["Ref"]
        for one in of(template, "EC2::SubnetRouteTableAssociation").values()
        if one["SubnetId"]["Ref"] in subnets
    }
    assert len(tables) == 2
    assert not [one for one in of(template, "EC2::Route").values() if one["RouteTableId"]["Ref"] in tables]


def test_tasks_have_no_address_outside(template: Template) -> None:
    public = {
        name
        for name, one in of(template, "EC2::Subnet").items()
        if {"Key": "aws-cdk:subnet-type", "Value": "Public"} in one["Tags"]
    }
    assert len(public) == 2
    for service in of(template, "ECS::Service").values():
        where = service["NetworkConfiguration"]["AwsvpcConfiguration"]
        assert where["AssignPublicIp"] == "DISABLED"
        assert not {one["Ref"] for one in where["Subnets"]} & public
    assert not [name for name, one in of(template, "EC2::Subnet").items() if one["MapPublicIpOnLaunch"]]


def test_there_are_two_zones_and_a_way_out_in_each(template: Template) -> None:
    zones = {str(one["AvailabilityZone"]) for one in of(template, "EC2::Subnet").values()}
    assert len(zones) == 2
    assert len(of(template, "EC2::NatGateway")) == 2
    assert only(template, "RDS::DBInstance")["MultiAZ"] is True


def test_what_goes_through_the_network_is_written_down(template: Template) -> None:
    flows = only(template, "EC2::FlowLog")
    assert flows["TrafficType"] == "ALL"
    assert flows["ResourceId"] == {"Ref": next(iter(of(template, "EC2::VPC")))}


def test_keys_secrets_logs_and_images_are_reached_from_inside(template: Template) -> None:
    found = {
        "".join(one["ServiceName"]["Fn::Join"][1][-1:])
        if isinstance(one["ServiceName"], dict)
        else one["ServiceName"]
        for one in of(template, "EC2::VPCEndpoint").values()
    }
    for service in (".s3", ".kms", ".secretsmanager", ".logs", ".ecr.api", ".ecr.dkr"):
        assert any(name.endswith(service) for name in found), (service, found)


def test_the_load_balancer_alone_is_believed_about_addresses(template: Template) -> None:
    task = only(template, "ECS::TaskDefinition", "ServiceWeb")
    (web,) = (one for one in task["ContainerDefinitions"] if one["Name"] == "web")
    (trusted,) = (one["Value"] for one in web["Environment"] if one["Name"] == "MAGICODE_TRUSTED_PROXIES")
    networks = [ipaddress.ip_network(one) for one in trusted.split(",")]
    balancer = only(template, "ElasticLoadBalancingV2::LoadBalancer")
    subnets = of(template, "EC2::Subnet")
    assert {str(one) for one in networks} == {
        subnets[one["Ref"]]["CidrBlock"] for one in listed(balancer["Subnets"])
    }
