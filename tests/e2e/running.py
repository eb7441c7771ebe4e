"""Runs the installation for trials as it is: accounts, roles, certificates, options, policies.

Deployments have nothing to run them here, so their programs run as processes: with the arguments of
their containers, the tokens of their accounts, and certificates of an authority of the test's. The
API server calls the webhook where it is, for Services lead nowhere here either.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import json
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml

from extender.kubescheduler.configuration import KIND
from nodeagent.api import gpunode, keys
from nodeagent.apiserver.protocol import GPU_NODES, PODS
from nodeagent.apiserver.rest import RestApi
from tests.e2e.audit import REFUSED, asked, audited
from tests.e2e.chaos.link import Link
from tests.e2e.controlplane import identities
from tests.e2e.controlplane.certificates import KeyPair
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.processes import held_port
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.installation import Installer, Manifest, point_webhook
from tests.e2e.process import Process
from tests.manifests.calls import Permission
from tests.manifests.generate import MANIFESTS
from tests.manifests.kustomize import overlay
from tests.waiting import until

CLIENT = "system:kube-scheduler"
CONTROL_PLANE_NODE = "control-plane"
ACCOUNTS = ("tangram-extender", "tangram-simulated-agent", "tangram-scheduler")


class Installed:
    """The running installation."""

    def __init__(
        self,
        plane: ControlPlane,
        api: RestApi,
        session: aiohttp.ClientSession,
        audit: Path,
        ports: Ports,
        ways: Ways,
        secrets: Secrets,
        policy: Path,
        processes: Mapping[str, Process],
    ) -> None:
        self.plane = plane
        self.api = api
        self.session = session
        """With the API server, as its administrator."""
        self._audit = audit
        self.hooks = f"https://127.0.0.1:{ports.hooks}"
        self.webhook = f"https://127.0.0.1:{ports.admission}"
        self.desk = f"https://127.0.0.1:{ports.desk}"
        self.ways = ways
        self.secrets = secrets
        self.policy = policy
        """The file of it, as components/policy mounts one."""
        self.processes = processes

    async def create_vms(self, count: int) -> None:
        """Create the pod for trials so many times, as of somebody who knows nothing of Tangram."""
        trial = vm()
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

    async def create(self, pod: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Try to create a pod as an administrator; return the status and the answer."""
        async with self.session.post("/api/v1/namespaces/default/pods", json=pod) as answer:
            return answer.status, await answer.json()

    async def in_force(self) -> None:
        """Wait until the API server has taken the webhook up, some time after it was applied."""
        trial = vm() | {"metadata": {"name": "probe"}}
        path = "/api/v1/namespaces/default/pods?dryRun=All"

        async def labelled() -> bool:
            async with self.session.post(path, json=trial) as answer:
                return keys.MANAGED_LABEL in (await answer.json())["metadata"].get("labels", {})

        await until(labelled, within=60, every=0.2)

    def asked(self, account: str) -> Mapping[Permission, set[int]]:
        """Return what an account has asked for, and the statuses of the answers."""
        return asked(self._audit, account)

    def refusals(self) -> dict[str, set[Permission]]:
        """Return what the accounts asked for and were refused; nothing, if their roles fit."""
        found = {
            account: {what for what, codes in self.asked(account).items() if codes & REFUSED}
            for account in ACCOUNTS
        }
        return {account: refused for account, refused in found.items() if refused}


def vm() -> dict[str, Any]:
    """Return the pod for trials without what says that it is Tangram's: its label and scheduler."""
    trial: dict[str, Any] = yaml.safe_load((MANIFESTS / "overlays/dev/pod.yaml").read_text())
    del trial["metadata"]["labels"][keys.MANAGED_LABEL], trial["spec"]["schedulerName"]
    return trial


class Ports(NamedTuple):
    """Where the extender listens."""

    hooks: int
    probes: int
    admission: int
    desk: int


class Ways(NamedTuple):
    """From kube-scheduler to the hooks, and from the API server to the webhook."""

    hooks: Link
    admission: Link


class Secret:
    """The files of a mounted Secret with a certificate."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.ca, self.cert, self.key = (directory / n for n in ("ca.crt", "tls.crt", "tls.key"))

    def put(self, pair: KeyPair, *authorities: Path) -> None:
        """Replace what is in it, as the kubelet does some time after the Secret was changed."""
        trusted = b"".join(each.read_bytes() for each in authorities)
        for file, content in (
            (self.ca, trusted),
            (self.cert, pair.public.read_bytes()),
            (self.key, pair.key.read_bytes()),
        ):
            new = file.with_suffix(".new")
            new.write_bytes(content)
            new.replace(file)


class Secrets(NamedTuple):
    """Those of the installation."""

    extender: Secret
    scheduler: Secret


@contextlib.asynccontextmanager
async def installed(directory: Path) -> AsyncIterator[Installed]:
    """Install the overlay for trials, and run it until the block ends."""
    manifests = copy.deepcopy(overlay("dev"))
    audit, flags = audited(directory)
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
        with contextlib.ExitStack() as held:
            sockets = [held.enter_context(held_port()) for _ in Ports._fields]
            ports = Ports(*(int(each.getsockname()[1]) for each in sockets))
        secrets = Secrets(Secret(directory / "extender-tls"), Secret(directory / "scheduler-tls"))
        for secret, name in ((secrets.extender, "tangram-extender"), (secrets.scheduler, CLIENT)):
            secret.put(plane.authority.issue(name), plane.ca_file)
        ways = Ways(
            await stack.enter_async_context(Link(ports.hooks).serving()),
            await stack.enter_async_context(Link(ports.admission).serving()),
        )
        point_webhook(manifests, ways.admission.port, plane.ca_file)
        await installer.install(manifests)
        async with session.post(
            "/api/v1/nodes", json={"metadata": {"name": CONTROL_PLANE_NODE}}
        ) as answer:
            assert answer.status == 201
        policy = Path(shutil.copy(MANIFESTS / "components/policy/policy.yaml", directory))
        credentials = {
            account: await _credentials(plane, installer, account) for account in ACCOUNTS
        }
        processes = {
            "extender": _extender(
                directory, manifests, credentials, ports, secrets.extender, policy
            ),
            "agent": _agent(directory, manifests, credentials),
        }
        for process in processes.values():
            stack.push_async_callback(process.stop, signal.SIGKILL)
            await process.start()
        await _ready(f"http://127.0.0.1:{ports.probes}/readyz")
        await plane.start_scheduler(
            _scheduler_configuration(manifests, credentials, secrets.scheduler, ways.hooks.port)
        )
        running = Installed(plane, api, session, audit, ports, ways, secrets, policy, processes)
        await running.in_force()
        yield running


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
    credentials: Mapping[str, Path],
    ports: Ports,
    secret: Secret,
    policy: Path,
) -> Process:
    """Return the extender as its Deployment has it, but for where it is, with a policy's file."""
    here = {
        "--host=$(POD_IP)": "--host=127.0.0.1",
        "--port=8443": f"--port={ports.hooks}",
        "--probe-port=8081": f"--probe-port={ports.probes}",
        "--admission-port=9443": f"--admission-port={ports.admission}",
        "--desk-port=8444": f"--desk-port={ports.desk}",
        "--own-pod=$(POD_NAMESPACE)/$(POD_NAME)": (
            f"--own-pod={keys.SYSTEM_NAMESPACE}/tangram-extender-0"
        ),
        "--tls-cert=/etc/tangram/tls/tls.crt": f"--tls-cert={secret.cert}",
        "--tls-key=/etc/tangram/tls/tls.key": f"--tls-key={secret.key}",
        "--client-ca=/etc/tangram/tls/ca.crt": f"--client-ca={secret.ca}",
    }
    arguments = _arguments(manifests, "tangram-extender")
    assert here.keys() <= set(arguments)
    return Process(
        directory / "extender.log",
        "extender",
        *(here.get(argument, argument) for argument in arguments),
        f"--policy={policy}",
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
    credentials: Mapping[str, Path],
    secret: Secret,
    port: int,
) -> dict[str, Any]:
    """Return the configuration in its ConfigMap, but for where things are."""
    texts = (text for m in manifests if m["kind"] == "ConfigMap" for text in m["data"].values())
    (found,) = (document for text in texts if (document := yaml.safe_load(text))["kind"] == KIND)
    configuration: dict[str, Any] = copy.deepcopy(found)
    (entry,) = configuration["extenders"]
    entry["urlPrefix"] = f"https://127.0.0.1:{port}"
    entry["tlsConfig"] = {
        "caFile": str(secret.ca),
        "certFile": str(secret.cert),
        "keyFile": str(secret.key),
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
