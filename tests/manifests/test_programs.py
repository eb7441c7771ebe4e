"""What the manifests say of the programs is what these have: options, ports, routes, times."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from extender.cli.scheduler_config import SERVICE
from extender.cluster.door import PLAN_TIMEOUT_SECONDS
from extender.cluster.replica import LAST_BINDS_SECONDS
from extender.cluster.signpost import TAKE_DOWN_SECONDS
from extender.server import Limits
from extender.server.admitting import PARTING_SECONDS
from extender.server.description import describe
from extender.settings import LeaseTiming
from nodeagent.__main__ import app as tangram_agent
from nodeagent.api import keys
from nodeagent.api.gpunode import Mode
from nodeagent.serving import ALIVE_SECONDS
from nodeagent.settings import Settings as AgentSettings
from tests.manifests.kustomize import overlay
from tests.manifests.parts import (
    AGENT,
    EXTENDER,
    container,
    each_overlay,
    find,
    parsed,
    pod,
    serve_options,
)

SIMULATED = "tangram-simulated-agent"


@each_overlay
def test_the_extenders_options_are_those_it_has(name: str) -> None:
    options = serve_options(overlay(name))

    assert options["host"] == "10.0.0.7"
    assert options["own_pod"] == f"{keys.SYSTEM_NAMESPACE}/extender-0"
    assert options["leader_elect"] is None  # which is yes, in a cluster


@each_overlay
def test_the_extenders_ports_and_probes_are_served(name: str) -> None:
    manifests = overlay(name)
    options, extender = serve_options(manifests), container(manifests, "Deployment", EXTENDER)
    ports = {port["name"]: port["containerPort"] for port in extender["ports"]}
    routes = describe(options["prefix"])["paths"]

    assert ports == {
        "hooks": options["port"],
        "probes": options["probe_port"],
        "admission": options["admission_port"],
        "desk": options["desk_port"],
    }
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = extender[probe]["httpGet"]
        assert asked["port"] == "probes"
        assert "get" in routes[asked["path"].partition("?")[0]]
    assert extender["readinessProbe"]["httpGet"]["path"] == "/readyz?standby=ok"


@each_overlay
def test_the_service_leads_to_the_leader(name: str) -> None:
    manifests = overlay(name)
    service = find(manifests, "Service", EXTENDER)
    template = find(manifests, "Deployment", EXTENDER)["spec"]["template"]
    selector = dict(service["spec"]["selector"])

    assert selector.pop(keys.LEADER_LABEL) == "true"
    assert selector.items() <= template["metadata"]["labels"].items()
    assert keys.LEADER_LABEL not in template["metadata"]["labels"]
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] == "hooks"
    assert f"{EXTENDER}.{service['metadata']['namespace']}.svc" == SERVICE


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("default", Mode.CONTAINER),
        ("kubevirt", Mode.VGPU_VFIO),
        ("harvester", Mode.HARVESTER),
    ],
)
def test_the_agents_options_are_those_it_has(
    name: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = container(overlay(name), "DaemonSet", AGENT)
    monkeypatch.setenv("NODE_NAME", "node-7")

    options = parsed(tangram_agent, agent)

    assert [each["name"] for each in agent["env"]] == ["NODE_NAME"]
    assert options["node"] == ["node-7"]
    assert options["mode"] is mode
    mounted = {Path(each["mountPath"]) for each in agent["volumeMounts"]}
    assert {
        options["state_dir"],
        options["kubelet_dir"],
        options["pod_resources"].parent,
    } <= mounted
    if mode is Mode.HARVESTER:  # its driver is in a pod, found by the node's processes
        assert options["host_root"] == Path("/")
        assert options["root"] is None or options["root"] == Path("/")
        assert options["enable_sriov"]
        assert pod(overlay(name), "DaemonSet", AGENT)["hostPID"]
    else:
        assert options["cdi_dir"] in mounted
        assert options["root"] / "usr" in mounted


@each_overlay
def test_an_agents_probe_fails_when_its_file_is_old_or_was_never_there(
    name: str, tmp_path: Path
) -> None:
    manifests, file = overlay(name), tmp_path / "alive"
    kind, agent_name = ("Deployment", SIMULATED) if name == "dev" else ("DaemonSet", AGENT)
    agent = container(manifests, kind, agent_name)
    volumes = {each["name"]: each for each in pod(manifests, kind, agent_name)["volumes"]}
    (there,) = (arg.partition("=")[2] for arg in agent["args"] if arg.startswith("--alive-file="))
    (mounted,) = (m for m in agent["volumeMounts"] if Path(m["mountPath"]) == Path(there).parent)
    assert "emptyDir" in volumes[mounted["name"]]

    def passes(probe: str, *, age_seconds: float) -> bool:
        now = time.time()
        os.utime(file, (now - age_seconds, now - age_seconds))
        command = [each.replace(there, str(file)) for each in agent[probe]["exec"]["command"]]
        assert str(file) in command[-1]
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0

    for probe in ("startupProbe", "livenessProbe"):
        file.touch()
        assert passes(probe, age_seconds=3 * ALIVE_SECONDS)
        assert not passes(probe, age_seconds=15 * ALIVE_SECONDS)
        file.unlink()
        command = [each.replace(there, str(file)) for each in agent[probe]["exec"]["command"]]
        assert subprocess.run(command, capture_output=True, timeout=30).returncode != 0


@each_overlay
def test_a_pod_that_is_told_to_end_has_the_time_it_takes(name: str) -> None:
    manifests = overlay(name)

    extender = pod(manifests, "Deployment", EXTENDER)
    (only,) = extender["containers"]
    lame_seconds = only["lifecycle"]["preStop"]["sleep"]["seconds"]
    # Hidden, binds answered, writes settled, the lead given back, and each of its doors closed.
    takes_seconds = (
        TAKE_DOWN_SECONDS
        + LAST_BINDS_SECONDS
        + PLAN_TIMEOUT_SECONDS
        + LeaseTiming().attempt_seconds
        + PARTING_SECONDS
        + len(only["ports"]) * Limits().shutdown_seconds
    )
    assert lame_seconds + takes_seconds <= extender["terminationGracePeriodSeconds"]
    if name != "dev":
        agent = pod(manifests, "DaemonSet", AGENT)
        assert agent["terminationGracePeriodSeconds"] > AgentSettings().drain_seconds
