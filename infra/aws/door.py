"""The door: a load balancer that speaks TLS alone, and what it turns away before a task hears of it."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_certificatemanager as acm
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_wafv2 as waf
from constructs import Construct

from infra.aws.data import Data
from infra.aws.network import PUBLIC, WEB_PORT, Network

WEBHOOKS = "/webhooks/github"
METRICS = "/metrics"

_EACH_FIVE_MINUTES = 2_000
_DELIVERIES_EACH_FIVE_MINUTES = 30_000
"""GitHub delivers from few addresses for everybody: a hundred deliveries a second from one of them are no attack. What passes is
still turned away by its signature."""

_MANAGED = {
    "Common": "AWSManagedRulesCommonRuleSet",
    "KnownBadInputs": "AWSManagedRulesKnownBadInputsRuleSet",
    "IpReputation": "AWSManagedRulesAmazonIpReputationList",
}


class Door(Construct):
    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        network: Network,
        data: Data,
        certificate: str,
    ) -> None:
        super().__init__(scope, name)
        self.balancer = elb.ApplicationLoadBalancer(
            self,
            "Balancer",
            vpc=network.vpc,
            vpc_subnets=PUBLIC,
            internet_facing=True,
            security_group=network.door,
            drop_invalid_header_fields=True,
            desync_mitigation_mode=elb.DesyncMitigationMode.STRICTEST,
            deletion_protection=True,
            idle_timeout=Duration.seconds(60),
        )
        self.balancer.log_access_logs(data.access_logs, "balancer")
        self._redirect()
        self.listener = self.balancer.add_listener(
            "Https",
            port=443,
            protocol=elb.ApplicationProtocol.HTTPS,
            open=False,  # the security group says so already
            certificates=[acm.Certificate.from_certificate_arn(self, "Certificate", certificate)],
            ssl_policy=elb.SslPolicy.TLS13_12_RES_PQ,
            default_action=_turned_away(404),
        )
        self.listener.add_action(
            "Metrics",
            priority=1,
            conditions=[elb.ListenerCondition.path_patterns([METRICS, f"{METRICS}/*"])],
            action=_turned_away(403),
        )
        self.rules = self._rules()
        waf.CfnWebACLAssociation(
            self, "Rules", resource_arn=self.balancer.load_balancer_arn, web_acl_arn=self.rules.attr_arn
        )

    def lead_to(self, service: elb.IApplicationLoadBalancerTarget) -> elb.ApplicationTargetGroup:
        """Health is being alive, and not being ready: tasks that wait for the database would be replaced by others that wait for
        it, and a load balancer with no healthy target asks all of them anyway."""
        return self.listener.add_targets(
            "Web",
            priority=2,
            conditions=[elb.ListenerCondition.path_patterns(["/*"])],
            port=WEB_PORT,
            protocol=elb.ApplicationProtocol.HTTP,
            targets=[service],
            deregistration_delay=Duration.seconds(30),
            health_check=elb.HealthCheck(
                path="/healthz",
                interval=Duration.seconds(15),
                timeout=Duration.seconds(5),
                healthy_threshold_count=2,
                unhealthy_threshold_count=4,
            ),
        )

    def _redirect(self) -> None:
        self.balancer.add_listener(
            "Http",
            port=80,
            open=False,
            default_action=elb.ListenerAction.redirect(protocol="HTTPS", port="443", permanent=True),
        )

    def _rules(self) -> waf.CfnWebACL:
        """A load balancer shows the first 8 KB of a body, and the common set turns away what is longer, and what looks like
        code: every second delivery of GitHub's. So what goes to exactly that path is judged by its signature, and counted.
        https://docs.aws.amazon.com/waf/latest/developerguide/web-acl-setting-body-inspection-limit.html
        https://docs.aws.amazon.com/waf/latest/developerguide/aws-managed-rule-groups-baseline.html
        """
        rules = [
            _rule("Metrics", 0, _shows_metrics()),
            _rule("Deliveries", 1, _rate(_DELIVERIES_EACH_FIVE_MINUTES, _is_webhook())),
            _rule("Rate", 2, _rate(_EACH_FIVE_MINUTES, _no_webhook())),
            *(
                _managed(name, number, which)
                for number, (name, which) in enumerate(_MANAGED.items(), start=3)
            ),
        ]
        return waf.CfnWebACL(
            self,
            "WebAcl",
            scope="REGIONAL",
            default_action=waf.CfnWebACL.DefaultActionProperty(allow=waf.CfnWebACL.AllowActionProperty()),
            rules=rules,
            visibility_config=_seen("All"),
        )


def _turned_away(status: int) -> elb.ListenerAction:
    return elb.ListenerAction.fixed_response(status, content_type="text/plain", message_body="")


def _rule(name: str, priority: int, statement: waf.CfnWebACL.StatementProperty) -> waf.CfnWebACL.RuleProperty:
    return waf.CfnWebACL.RuleProperty(
        name=name,
        priority=priority,
        statement=statement,
        action=waf.CfnWebACL.RuleActionProperty(block=waf.CfnWebACL.BlockActionProperty()),
        visibility_config=_seen(name),
    )


def _managed(name: str, priority: int, which: str) -> waf.CfnWebACL.RuleProperty:
    return waf.CfnWebACL.RuleProperty(
        name=name,
        priority=priority,
        statement=waf.CfnWebACL.StatementProperty(
            managed_rule_group_statement=waf.CfnWebACL.ManagedRuleGroupStatementProperty(
                vendor_name="AWS", name=which, scope_down_statement=_no_webhook()
            )
        ),
        override_action=waf.CfnWebACL.OverrideActionProperty(none={}),
        visibility_config=_seen(name),
    )


def _rate(most: int, of: waf.CfnWebACL.StatementProperty) -> waf.CfnWebACL.StatementProperty:
    return waf.CfnWebACL.StatementProperty(
        rate_based_statement=waf.CfnWebACL.RateBasedStatementProperty(
            aggregate_key_type="IP", limit=most, scope_down_statement=of
        )
    )


def _is_webhook() -> waf.CfnWebACL.StatementProperty:
    """The path as it came, to the letter: whoever writes it otherwise is looked at like everybody."""
    return _path(WEBHOOKS, "EXACTLY", "NONE")


def _no_webhook() -> waf.CfnWebACL.StatementProperty:
    return waf.CfnWebACL.StatementProperty(
        not_statement=waf.CfnWebACL.NotStatementProperty(statement=_is_webhook())
    )


def _shows_metrics() -> waf.CfnWebACL.StatementProperty:
    """Also where a letter of it is written as %6d, which the service reads and a listener's rule does not."""
    return _path(METRICS, "STARTS_WITH", "URL_DECODE")


def _path(text: str, how: str, made_plain: str) -> waf.CfnWebACL.StatementProperty:
    return waf.CfnWebACL.StatementProperty(
        byte_match_statement=waf.CfnWebACL.ByteMatchStatementProperty(
            field_to_match=waf.CfnWebACL.FieldToMatchProperty(uri_path={}),
            positional_constraint=how,
            search_string=text,
            text_transformations=[waf.CfnWebACL.TextTransformationProperty(priority=0, type=made_plain)],
        )
    )


def _seen(name: str) -> waf.CfnWebACL.VisibilityConfigProperty:
    """No request is kept: one may carry a token."""
    return waf.CfnWebACL.VisibilityConfigProperty(
        cloud_watch_metrics_enabled=True, metric_name=name, sampled_requests_enabled=False
    )
