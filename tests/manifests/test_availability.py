"""What keeps Tangram at work, and others out: budgets, spread, priorities, network policies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from extender.cli import desk
from tests.manifests.kustomize import OVERLAYS, Manifest, overlay
from tests.manifests.roles import granted, permissions

each_overlay = pytest.mark.parametrize("name", OVERLAYS)


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, dict[str, Any]]:
    """Return the specs of a kind, by name."""
    return {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == kind}


def workloads(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield names, specs and pod labels of what runs pods."""
    for kind in ("Deployment", "DaemonSet"):
        for name, spec in of_kind(manifests, kind).items():
            yield name, spec, spec["template"]["metadata"]["labels"]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Tell whether a label selector as ours are selects a pod."""
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


@each_overlay
def test_whoever_has_replicas_is_drained_one_by_one_and_they_are_spread(name: str) -> None:
    manifests = overlay(name)
    budgets = of_kind(manifests, "PodDisruptionBudget").values()
    replicated = {
        workload: (spec["template"]["spec"], labels)
        for workload, spec, labels in workloads(manifests)
        if spec.get("replicas", 1) > 1
    }

    assert replicated.keys() == {"tangram-extender", "tangram-scheduler"}
    for pod, labels in replicated.values():
        (budget,) = (each for each in budgets if selects(each["selector"], labels))
        assert budget["maxUnavailable"] == 1
        assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
        (spread,) = pod["topologySpreadConstraints"]
        assert spread["topologyKey"] == "kubernetes.io/hostname"
        assert selects(spread["labelSelector"], labels)
        assert pod["priorityClassName"] == "tangram"


@each_overlay
def test_nobody_without_a_replica_has_a_budget_that_would_hold_drains_up(name: str) -> None:
    manifests = overlay(name)
    for budget in of_kind(manifests, "PodDisruptionBudget").values():
        assert [
            spec["replicas"] > 1
            for _, spec, labels in workloads(manifests)
            if selects(budget["selector"], labels)
        ] == [True]


@each_overlay
def test_what_goes_before_others_in_the_api_server_is_what_the_accounts_may_do(name: str) -> None:
    manifests = overlay(name)
    levels = of_kind(manifests, "PriorityLevelConfiguration")
    (schema,) = of_kind(manifests, "FlowSchema").values()

    assert schema["priorityLevelConfiguration"]["name"] in levels
    for rule in schema["rules"]:
        for subject in rule["subjects"]:
            account = subject["serviceAccount"]["name"]
            assert permissions(rule["resourceRules"]) <= granted(manifests, account)


@each_overlay
def test_the_network_lets_in_hooks_and_webhook_and_the_desk_and_nothing_else(name: str) -> None:
    manifests = overlay(name)
    policies = of_kind(manifests, "NetworkPolicy").values()
    for workload, spec, labels in workloads(manifests):
        (container,) = spec["template"]["spec"]["containers"]
        ours = [each for each in policies if selects(each["podSelector"], labels)]
        let_in = {
            port["port"]
            for each in ours
            for rule in each.get("ingress", ())
            for port in rule["ports"]
        }
        assert any("Ingress" in each["policyTypes"] for each in ours)  # all else is shut
        if workload == "tangram-extender":
            assert let_in == {each["name"] for each in container["ports"]} - {"probes"}
        else:
            assert let_in == set()


@each_overlay
def test_what_people_and_programs_call_is_reached_from_where_an_api_server_is(name: str) -> None:
    policies = of_kind(overlay(name), "NetworkPolicy").values()
    (rule,) = (rule for each in policies for rule in each.get("ingress", ()))

    assert {each["port"] for each in rule["ports"]} == {"hooks", "admission", "desk"}
    assert "from" not in rule  # it is on its node's network, which no selector can name


@each_overlay
def test_the_command_line_asks_at_a_service_that_there_is(name: str) -> None:
    services = of_kind(overlay(name), "Service")
    _, service, port = desk.SERVICE.split(":")

    assert port in {each["name"] for each in services[service]["ports"]}


@each_overlay
def test_out_of_a_pod_go_calls_of_the_api_server_and_of_names_and_of_the_hooks(name: str) -> None:
    manifests = overlay(name)
    policies = of_kind(manifests, "NetworkPolicy").values()
    extender = of_kind(manifests, "Deployment")["tangram-extender"]["template"]["metadata"]
    for workload, _, labels in workloads(manifests):
        ours = [each for each in policies if selects(each["podSelector"], labels)]
        rules = [rule for each in ours for rule in each.get("egress", ())]
        assert any("Egress" in each["policyTypes"] for each in ours)
        ports = {port["port"] for rule in rules for port in rule["ports"]}
        hooks = {"hooks"} if workload == "tangram-scheduler" else set()
        assert ports == {443, 6443, 53} | hooks
        for rule in rules:
            if any(port["port"] == 53 for port in rule["ports"]):
                (to,) = rule["to"]
                assert selects(
                    to["namespaceSelector"], {"kubernetes.io/metadata.name": "kube-system"}
                )
                assert to["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
            if {"port": "hooks"} in rule["ports"]:
                (to,) = rule["to"]
                assert selects(to["podSelector"], extender["labels"])


@each_overlay
def test_whatever_is_tangrams_goes_before_vms_where_room_is_short(name: str) -> None:
    manifests = overlay(name)
    (priority,) = (m for m in manifests if m["kind"] == "PriorityClass")
    classes = {
        workload: spec["template"]["spec"].get("priorityClassName")
        for workload, spec, _ in workloads(manifests)
    }

    assert priority["value"] == 1_000_000_000  # the highest that is not the system's own
    assert not priority.get("globalDefault")
    assert classes.pop("tangram-simulated-agent", None) is None  # a trial displaces nobody
    assert set(classes.values()) == {priority["metadata"]["name"]}


@each_overlay
def test_whoever_runs_is_asked_whether_it_lives_and_who_is_called_whether_it_is_ready(
    name: str,
) -> None:
    manifests = overlay(name)
    for workload, spec, _ in workloads(manifests):
        (container,) = spec["template"]["spec"]["containers"]
        ports = {each["name"] for each in container.get("ports", ())}
        probes = {
            probe: container[probe]
            for probe in ("startupProbe", "livenessProbe", "readinessProbe")
            if probe in container
        }
        # An agent listens nowhere, so nobody need know whether it is ready.
        assert len(probes) == (3 if ports else 2), workload
        assert {
            asked["httpGet"]["port"] for asked in probes.values() if "httpGet" in asked
        } <= ports
        assert all(("exec" in asked) == (not ports) for asked in probes.values())
        started = probes["startupProbe"]
        # A start takes seconds, and more on a busy machine.
        assert started["periodSeconds"] * started["failureThreshold"] >= 60
