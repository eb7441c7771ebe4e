"""The installation for trials, run as it is: accounts, roles, certificates, options and policies.

Deployments have nothing to run them here, so their programs run as processes: with the arguments of
their containers, the tokens of their accounts, and certificates of an authority of the test's.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import json
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from extender.kubescheduler.configuration import KIND
from nodeagent.api import gpunode, keys, resources
from nodeagent.apiserver.protocol import GPU_NODES, PODS
from nodeagent.apiserver.rest import RestApi
from tests.e2e.controlplane import identities
from tests.e2e.controlplane.certificates import KeyPair
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.identities import service_account
from tests.e2e.controlplane.processes import held_port
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.installation import Installer, Manifest
from tests.e2e.process import ROOT, Process
from tests.e2e.stack import artifacts
from tests.manifests.calls import Permission
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import overlay
from tests.waiting import until

VMS = 100
CONTROL_PLANE_NODE = "control-plane"
ACCOUNTS = ("tangram-extender", "tangram-simulated-agent", "tangram-scheduler")

RARELY: Mapping[str, frozenset[Permission]] = {
    # After a lost write, for a pod that is not labelled, and when a node's GPUs are gone for good;
    # owners are asked about where there are any; Events tell of policies that are wrong.
    "tangram-extender": frozenset(
        {
            (keys.GROUP, "gpunodes", "get"),
            (keys.GROUP, "gpunodes", "delete"),
            ("", "pods", "get"),
            ("", "events", "create"),
            ("apps", "replicasets", "get"),
            ("apps", "statefulsets", "get"),
            ("kubevirt.io", "virtualmachines", "get"),
        }
    ),
    "tangram-simulated-agent": frozenset(),
}
"""What may stay unused in a run in which nothing goes wrong."""


class Installed:
    """The running installation."""

    def __init__(self, plane: ControlPlane, api: RestApi, audit: Path, hooks: str) -> None:
        self.plane = plane
        self.api = api
        self._audit = audit
        self.hooks = hooks

    async def create_vms(self, count: int) -> None:
        """Create the pod for trials so many times."""
        trial = yaml.safe_load((MANIFESTS / "overlays/dev/pod.yaml").read_text())
        gate = asyncio.Semaphore(8)

        async def create() -> None:
            async with gate:
                await self.api.create(PODS, trial, namespace="default")

        await asyncio.gather(*(create() for _ in range(count)))

    async def pods(self) -> list[dict[str, Any]]:
        """Return the trials."""
        return [json.loads(raw) for raw in (await self.api.list(PODS, namespace="default")).items]

    async def running(self, count: int) -> None:
        """Wait until there are so many trials, all running."""

        async def run() -> bool:
            phases = collections.Counter(pod["status"]["phase"] for pod in await self.pods())
            return phases == {"Running": count}

        await until(run, within=120, every=0.5)

    async def planned(self, count: int) -> None:
        """Wait until there are so many entries in all plans, each of them realized."""

        async def reached() -> bool:
            nodes = [gpunode.decode(raw) for raw in (await self.api.list(GPU_NODES)).items]
            planned = [entry.id for node in nodes for entry in node.spec.assignments]
            realized = [each.id for node in nodes for each in node.status.realized]
            return sorted(planned) == sorted(realized) and len(planned) == count

        await until(reached, within=60, every=0.5)

    def asked(self, account: str) -> Mapping[Permission, set[int]]:
        """Return what an account has asked for, and the statuses of the answers."""
        user = service_account(keys.SYSTEM_NAMESPACE, account)
        found: dict[Permission, set[int]] = collections.defaultdict(set)
        for line in self._audit.read_text().splitlines():
            event = json.loads(line)
            if event["user"]["username"] == user and "objectRef" in event:
                about = event["objectRef"]
                resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
                asked = (about.get("apiGroup", ""), resource, event["verb"])
                found[asked].add(event["responseStatus"]["code"])
        return found


@contextlib.asynccontextmanager
async def installed(directory: Path) -> AsyncIterator[Installed]:
    """Install the overlay for trials, and run it until the block ends."""
    manifests = overlay("dev")
    audit, policy = directory / "audit.log", directory / "audit-policy.yaml"
    rule = {"level": "Metadata", "omitStages": ["RequestReceived"]}
    policy.write_text(
        json.dumps({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [rule]})
    )
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={audit}")
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            control_plane(
                required_binaries(),
                directory=directory / "controlplane",
                options=Options(apiserver_flags=flags),
            )
        )
        session = await stack.enter_async_context(plane.client())
        api = await stack.enter_async_context(RestApi(kubeconfig=plane.kubeconfig("admin")))
        installer = Installer(plane, session)
        await installer.install(manifests)
        async with session.post(
            "/api/v1/nodes", json={"metadata": {"name": CONTROL_PLANE_NODE}}
        ) as answer:
            assert answer.status == 201
        credentials = {
            account: await _credentials(plane, installer, account) for account in ACCOUNTS
        }
        with held_port() as hooks, held_port() as probes:
            ports = (int(hooks.getsockname()[1]), int(probes.getsockname()[1]))
        processes = {
            "extender": _extender(directory, manifests, plane, credentials, ports),
            "agent": _agent(directory, manifests, credentials),
        }
        for process in processes.values():
            stack.push_async_callback(process.stop, signal.SIGKILL)
            await process.start()
        await _ready(f"http://127.0.0.1:{ports[1]}/readyz")
        client = plane.authority.issue("system:kube-scheduler")
        await plane.start_scheduler(
            _scheduler_configuration(manifests, plane, credentials, client, ports[0])
        )
        yield Installed(plane, api, audit, f"https://127.0.0.1:{ports[0]}")


async def _credentials(plane: ControlPlane, installer: Installer, account: str) -> Path:
    """Return a kubeconfig with a token such as the kubelet would mount."""
    pod = f"{account}-0"
    await installer.pod(pod, account, CONTROL_PLANE_NODE)
    file = plane.ca_file.parent / f"{account}.kubeconfig"
    token = await installer.token(account, pod)
    file.write_text(identities.kubeconfig(plane.url, plane.ca_file, token))
    return file


def _arguments(manifests: list[Manifest], name: str) -> list[str]:
    (found,) = (m for m in manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == name)
    (container,) = found["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


def _extender(
    directory: Path,
    manifests: list[Manifest],
    plane: ControlPlane,
    credentials: Mapping[str, Path],
    ports: tuple[int, int],
) -> Process:
    """Return the extender as its Deployment has it, but for where it is."""
    server = plane.authority.issue("tangram-extender")
    here = {
        "--host=$(POD_IP)": "--host=127.0.0.1",
        "--port=8443": f"--port={ports[0]}",
        "--probe-port=8081": f"--probe-port={ports[1]}",
        "--own-pod=$(POD_NAMESPACE)/$(POD_NAME)": (
            f"--own-pod={keys.SYSTEM_NAMESPACE}/tangram-extender-0"
        ),
        "--tls-cert=/etc/tangram/tls/tls.crt": f"--tls-cert={server.public}",
        "--tls-key=/etc/tangram/tls/tls.key": f"--tls-key={server.key}",
        "--client-ca=/etc/tangram/tls/ca.crt": f"--client-ca={plane.ca_file}",
    }
    arguments = _arguments(manifests, "tangram-extender")
    assert here.keys() <= set(arguments)
    return Process(
        directory / "extender.log",
        "extender",
        *(here.get(argument, argument) for argument in arguments),
        *("--leader-elect", f"--kubeconfig={credentials['tangram-extender']}"),
    )


def _agent(directory: Path, manifests: list[Manifest], credentials: Mapping[str, Path]) -> Process:
    return Process(
        directory / "agent.log",
        "nodeagent",
        *_arguments(manifests, "tangram-simulated-agent"),
        f"--kubeconfig={credentials['tangram-simulated-agent']}",
    )


def _scheduler_configuration(
    manifests: list[Manifest],
    plane: ControlPlane,
    credentials: Mapping[str, Path],
    client: KeyPair,
    port: int,
) -> dict[str, Any]:
    """Return the configuration in its ConfigMap, but for where things are."""
    texts = (text for m in manifests if m["kind"] == "ConfigMap" for text in m["data"].values())
    (found,) = (document for text in texts if (document := yaml.safe_load(text))["kind"] == KIND)
    configuration: dict[str, Any] = copy.deepcopy(found)
    (entry,) = configuration["extenders"]
    entry["urlPrefix"] = f"https://127.0.0.1:{port}"
    entry["tlsConfig"] = {
        "caFile": str(plane.ca_file),
        "certFile": str(client.public),
        "keyFile": str(client.key),
    }
    account = {"kubeconfig": str(credentials["tangram-scheduler"])}
    return configuration | {"clientConnection": account}


async def _ready(url: str) -> None:
    async with aiohttp.ClientSession() as http:

        async def answers() -> bool:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    return answer.status == 200
            return False

        await until(answers, within=90, every=0.2)


def _granted(account: str) -> frozenset[Permission]:
    """Return what the roles that are bound to an account allow it."""
    manifests = overlay("dev")
    bound = {
        (m["roleRef"]["kind"], m["roleRef"]["name"])
        for m in manifests
        if m["kind"] in ("RoleBinding", "ClusterRoleBinding")
        and any(subject["name"] == account for subject in m["subjects"])
    }
    return frozenset(
        (group, resource, verb)
        for m in manifests
        if (m["kind"], m["metadata"]["name"]) in bound
        for rule in m["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


async def _tangram(*arguments: str) -> str:
    """Run a command of ``tangram``'s, and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "extender", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def _refused(hooks: str, trust: ssl.SSLContext) -> int:
    """Ask for a bind; return the status of the answer, 0 where the door stays shut."""
    async with aiohttp.ClientSession() as http:
        try:
            async with http.post(f"{hooks}/bind", data=b"{}", ssl=trust) as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0


async def test_the_hooks_are_the_schedulers_alone_and_what_it_is_told_fits_the_gpus(
    tmp_path: Path,
) -> None:
    async with installed(artifacts(tmp_path)) as running:
        authority, ca = running.plane.authority, running.plane.ca_file
        nobody = ssl.create_default_context(cafile=ca)
        another = ssl.create_default_context(cafile=ca)
        pair = authority.issue("somebody-else")
        another.load_cert_chain(pair.public, pair.key)
        assert await _refused(running.hooks, nobody) == 0
        assert await _refused(running.hooks, another) == 403

        kubeconfig = ("--kubeconfig", str(running.plane.kubeconfig("admin")))
        printed = await _tangram("scheduler-config", *kubeconfig)
        (entry,) = yaml.safe_load(printed)["extenders"]
        names = {each["name"] for each in entry["managedResources"]}
        (node, *_) = (await running.api.list(GPU_NODES)).items
        status = gpunode.decode(node).status
        assert names == {
            resource
            for types in status.vgpu_types.values()
            for each in types
            for resource in resources.of_vgpu_type(each.name)
        }
        file = tmp_path / "scheduler.yaml"
        file.write_text(printed)
        assert "nothing is wrong" in await _tangram(
            "scheduler-config", "--check", str(file), *kubeconfig
        )


async def test_a_hundred_vms_come_and_go_under_the_roles_and_policies_that_are_installed(
    tmp_path: Path,
) -> None:
    async with installed(artifacts(tmp_path)) as running:
        await running.create_vms(VMS)
        await running.running(VMS)
        await running.planned(VMS)
        leaving = (await running.pods())[: VMS // 2]
        for pod in leaving:
            await running.api.delete(PODS, pod["metadata"]["name"], namespace="default")
        await running.running(VMS - len(leaving))
        await running.planned(VMS - len(leaving))
        asked = {account: running.asked(account) for account in ACCOUNTS}

    for account in ACCOUNTS:
        refused = {what for what, statuses in asked[account].items() if statuses & {401, 403}}
        assert asked[account]
        assert not refused, account
    for account, rarely in RARELY.items():
        assert _granted(account) - asked[account].keys() - rarely == set(), account
