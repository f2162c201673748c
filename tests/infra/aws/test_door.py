"""What the load balancer and its web ACL let through."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from infra.aws.door import METRICS, WEBHOOKS
from tests.infra.aws.reading import Template, of, only

MANAGED = {
    "AWSManagedRulesCommonRuleSet",
    "AWSManagedRulesKnownBadInputsRuleSet",
    "AWSManagedRulesAmazonIpReputationList",
}


def listener(template: Template, port: int) -> dict[str, Any]:
    (found,) = (
        one for one in of(template, "ElasticLoadBalancingV2::Listener").values() if one["Port"] == port
    )
    return found


def attributes(template: Template) -> dict[str, Any]:
    balancer = only(template, "ElasticLoadBalancingV2::LoadBalancer")
    return {one["Key"]: one["Value"] for one in balancer["LoadBalancerAttributes"]}


def test_it_speaks_tls_and_sends_everybody_there(template: Template) -> None:
    https = listener(template, 443)
    assert https["Protocol"] == "HTTPS"
    assert https["SslPolicy"].startswith("ELBSecurityPolicy-TLS13-1-2-")
    (redirect,) = listener(template, 80)["DefaultActions"]
    assert redirect["Type"] == "redirect"
    assert redirect["RedirectConfig"]["Protocol"] == "HTTPS"
    assert len(of(template, "ElasticLoadBalancingV2::Listener")) == 2


def test_bent_requests_are_dropped_and_the_rest_is_written_down(template: Template) -> None:
    found = attributes(template)
    assert found["routing.http.drop_invalid_header_fields.enabled"] == "true"
    assert found["routing.http.desync_mitigation_mode"] == "strictest"
    assert found["deletion_protection.enabled"] == "true"
    assert found["access_logs.s3.enabled"] == "true"


def test_a_connection_is_kept_for_less_long_here_than_by_the_service(template: Template, root: Path) -> None:
    source = (root / "app/web/patience.py").read_text()
    (kept,) = re.findall(r"^KEPT_ALIVE_SECONDS = (\d+)", source, re.MULTILINE)
    assert int(attributes(template)["idle_timeout.timeout_seconds"]) < int(kept)


def rules(template: Template) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = only(template, "WAFv2::WebACL")["Rules"]
    return sorted(found, key=lambda one: int(one["Priority"]))


def test_metrics_are_turned_away_before_anything_else_is_asked(template: Template) -> None:
    found = of(template, "ElasticLoadBalancingV2::ListenerRule").values()
    first = min(found, key=lambda one: int(one["Priority"]))
    (condition,) = first["Conditions"]
    assert METRICS in condition["PathPatternConfig"]["Values"]
    (action,) = first["Actions"]
    assert action["Type"] == "fixed-response"
    assert action["FixedResponseConfig"]["StatusCode"] == "403"


def test_metrics_by_another_spelling_are_turned_away_too(template: Template) -> None:
    """Starlette reads /%6detrics as /metrics, and a listener's rule does not."""
    first = rules(template)[0]
    assert first["Action"] == {"Block": {}}
    match = first["Statement"]["ByteMatchStatement"]
    assert match["FieldToMatch"] == {"UriPath": {}}
    assert (match["PositionalConstraint"], match["SearchString"]) == ("STARTS_WITH", METRICS)
    assert [one["Type"] for one in match["TextTransformations"]] == ["URL_DECODE"]


def test_the_paths_are_those_of_the_service(root: Path) -> None:
    source = ast.parse((root / "app/main.py").read_text())
    posted = {
        ast.literal_eval(node.args[0])
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"web.post", "web.add_route"}
    }
    assert posted == {WEBHOOKS}


def test_a_webhook_is_never_judged_by_how_long_it_is_or_what_its_text_looks_like(template: Template) -> None:
    """Each rule that looks at bodies looks at everything but exactly this path, and none that looks at this path blocks but by
    how many come."""
    apart = {
        "NotStatement": {
            "Statement": {
                "ByteMatchStatement": {
                    "FieldToMatch": {"UriPath": {}},
                    "PositionalConstraint": "EXACTLY",
                    "SearchString": WEBHOOKS,
                    "TextTransformations": [{"Priority": 0, "Type": "NONE"}],
                }
            }
        }
    }
    seen = set()
    for rule in rules(template):
        statement = rule["Statement"]
        if managed := statement.get("ManagedRuleGroupStatement"):
            seen.add(managed["Name"])
            assert managed["ScopeDownStatement"] == apart
        elif rate := statement.get("RateBasedStatement"):
            if rate["ScopeDownStatement"] != apart:
                assert rate["ScopeDownStatement"] == apart["NotStatement"]["Statement"]
                assert rate["Limit"] >= 10_000
        else:
            assert statement["ByteMatchStatement"]["SearchString"] == METRICS
    assert seen == MANAGED


def test_the_managed_rules_block_and_do_not_only_count(template: Template) -> None:
    for rule in rules(template):
        assert rule.get("OverrideAction", {"None": {}}) == {"None": {}}
        assert rule.get("Action", {"Block": {}}) == {"Block": {}}
        managed = rule["Statement"].get("ManagedRuleGroupStatement", {})
        assert not managed.get("ExcludedRules")
        assert not managed.get("RuleActionOverrides")


def test_the_rules_stand_before_the_load_balancer(template: Template) -> None:
    found = only(template, "WAFv2::WebACLAssociation")
    (balancer,) = of(template, "ElasticLoadBalancingV2::LoadBalancer")
    (acl,) = of(template, "WAFv2::WebACL")
    assert found["ResourceArn"] == {"Ref": balancer}
    assert found["WebACLArn"] == {"Fn::GetAtt": [acl, "Arn"]}


def test_no_request_is_kept_as_a_sample(template: Template) -> None:
    acl = only(template, "WAFv2::WebACL")
    for one in [acl, *acl["Rules"]]:
        assert one["VisibilityConfig"]["SampledRequestsEnabled"] is False


def test_a_task_that_waits_for_the_database_is_not_replaced(template: Template) -> None:
    (target,) = of(template, "ElasticLoadBalancingV2::TargetGroup").values()
    assert target["HealthCheckPath"] == "/healthz"
