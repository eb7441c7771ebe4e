"""Prometheus finds each replica, trusts who answers, and may read metrics and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.manifests.kustomize import OVERLAYS, Manifest, combined, overlay
from tests.manifests.parts import EXTENDER, find, serve_options
from tests.monitoring.component import DASHBOARD, RULES, alerts

READER, SERVICE = "tangram-metrics-reader", "tangram-metrics"


@pytest.fixture
def manifests(copy: Path) -> list[Manifest]:
    """The base with monitoring."""
    return combined(copy, "mtls-cert-manager", "monitoring")


def test_the_monitor_selects_the_service_of_the_desks_and_no_other(
    manifests: list[Manifest],
) -> None:
    monitor = find(manifests, "ServiceMonitor", EXTENDER)
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    selected = [
        m for m in manifests if m["kind"] == "Service" and wanted <= m["metadata"]["labels"].items()
    ]

    (service,) = selected
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = service["spec"]["ports"]
    assert service["metadata"]["namespace"] == monitor["metadata"]["namespace"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")


@pytest.mark.parametrize("name", OVERLAYS)
def test_each_replica_is_asked_at_its_desk(name: str) -> None:
    manifests = overlay(name)
    service = find(manifests, "Service", SERVICE)["spec"]
    template = find(manifests, "Deployment", EXTENDER)["spec"]["template"]
    (port,) = service["ports"]

    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= template["metadata"]["labels"].items()  # no leader's
    assert (port["targetPort"], port["port"]) == ("desk", serve_options(manifests)["desk_port"])


def test_it_trusts_the_certificate_that_the_desk_shows(manifests: list[Manifest]) -> None:
    (endpoint,) = find(manifests, "ServiceMonitor", EXTENDER)["spec"]["endpoints"]
    certificate = find(manifests, "Certificate", EXTENDER)
    secret = endpoint["tlsConfig"]["ca"]["secret"]

    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["serverName"] in certificate["spec"]["dnsNames"]
    assert secret == {"name": certificate["spec"]["secretName"], "key": "ca.crt"}
    namespace = find(manifests, "ServiceMonitor", EXTENDER)["metadata"]["namespace"]
    assert namespace == certificate["metadata"]["namespace"]  # where it looks for the Secret


def test_who_reads_may_read_the_metrics_and_nothing_else(manifests: list[Manifest]) -> None:
    role = find(manifests, "ClusterRole", READER)
    binding = find(manifests, "ClusterRoleBinding", READER)

    assert role["rules"] == [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    assert binding["roleRef"]["name"] == READER
    (account,) = binding["subjects"]
    assert account["namespace"] != "tangram-system"  # none of ours reads them


@pytest.mark.parametrize("name", OVERLAYS)
def test_nobody_reads_them_unless_somebody_says_so(name: str) -> None:
    assert not any(m["roleRef"]["name"] == READER for m in overlay(name) if "roleRef" in m)


def test_the_operator_finds_the_rules_and_grafana_the_dashboard(manifests: list[Manifest]) -> None:
    rules = find(manifests, "PrometheusRule", "tangram")
    dashboard = find(manifests, "ConfigMap", "tangram-dashboard")

    assert rules["metadata"]["namespace"] == dashboard["metadata"]["namespace"] == "tangram-system"
    assert rules["spec"] == RULES["spec"]
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(dashboard["data"]["tangram.json"]) == DASHBOARD


def test_alerts_link_to_the_runbooks_where_one_annotation_says_they_are(copy: Path) -> None:
    file = copy / "components/monitoring/prometheusrule.yaml"
    here, elsewhere = "manifests/RUNBOOKS.md", "https://wiki.test/gpus/RUNBOOKS.md"
    file.write_text(file.read_text().replace(f"runbooks: {here}", f"runbooks: {elsewhere}"))

    groups = find(combined(copy, "monitoring"), "PrometheusRule", "tangram")["spec"]["groups"]

    links = {each["annotations"]["runbook_url"] for group in groups for each in group["rules"]}
    assert links == {f"{elsewhere}#{each['alert'].lower()}" for each in alerts()}
