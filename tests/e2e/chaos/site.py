"""The cluster that things go wrong in, and the handles by which they do."""

from __future__ import annotations

import contextlib
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from nodeagent.api import keys
from nodeagent.apiserver.protocol import VIRTUAL_MACHINES
from nodeagent.apiserver.rest import RestApi
from tests.e2e.accounts import confine
from tests.e2e.audit import audited, never_granted
from tests.e2e.chaos import machines
from tests.e2e.chaos.link import Link
from tests.e2e.chaos.spots import Spot
from tests.e2e.controlplane.binaries import Binaries
from tests.e2e.controlplane.cluster import ControlPlane, control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.deployed import EXTENDER, credentials
from tests.e2e.installation import Installer
from tests.e2e.process import Process
from tests.e2e.service import LeaderService
from tests.e2e.stack import (
    AGENTS,
    ELECTION,
    MODEL,
    NODE,
    Stack,
    free_port,
    prepare,
    reported,
    scheduler_config,
)
from tests.waiting import until

EXTENDERS = ("extender-0", "extender-1")
HTTP_TIMEOUT_SECONDS = 15.0
FOREIGN_PROFILE_ID = 20  # 1g.10gb+me, which the load never asks for
HOLD_SECONDS = 8.0  # for VMs that restart; less than a round takes to come to rest
CREATE_SECONDS = 0.05  # of each GPU instance; real ones take longer, and are made side by side


class Site(Stack):
    """A :class:`~tests.e2e.stack.Stack` whose connections are links, and whose GPUs last.

    *links* are by what they carry: each extender's and the agents' requests to the API server,
    and the scheduler's calls of the hooks.
    """

    def __init__(
        self,
        plane: ControlPlane,
        api: RestApi,
        extenders: dict[str, Process],
        agents: Process,
        url: str,
        trust: ssl.SSLContext,
        *,
        links: dict[str, Link],
        directory: Path,
        nodes: list[str],
        gpus: int,
        foreign: frozenset[Spot],
    ) -> None:
        super().__init__(plane, api, extenders, agents, url, trust)
        self.trust = trust
        self.links = links
        self.nodes = nodes
        self.gpus = gpus
        self.foreign = foreign
        self._directory = directory

    @property
    def slices(self) -> int:
        """How many memory slices the cluster has for VMs."""
        total = len(self.nodes) * self.gpus * MODEL.geometry.memory_slices
        return total - sum(each.size for each in self.foreign)

    def machines(self) -> dict[str, machines.Machine]:
        """Return what is on the GPUs now, by node, from where these keep it."""
        return {node: machines.machine(self._directory, node, self.gpus) for node in self.nodes}


async def install_virtual_machines(plane: ControlPlane) -> None:
    """Let the API server keep VirtualMachines, as KubeVirt's own definition does."""
    kind = VIRTUAL_MACHINES
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": kind.version, "served": True, "storage": True}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": {"plural": kind.plural, "kind": "VirtualMachine"},
            "versions": [version | {"schema": {"openAPIV3Schema": schema}}],
        },
    }
    async with plane.client() as http:
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        async with http.post(path, json=definition) as answer:
            assert answer.status == 201, await answer.text()

        async def served() -> bool:
            async with http.get(f"/apis/{kind.group}/{kind.version}/{kind.plural}") as answer:
                return answer.status == 200

        await until(served, within=30, every=0.1)


@contextlib.asynccontextmanager
async def site(
    directory: Path, binaries: Binaries, *, nodes: int, gpus: int
) -> AsyncIterator[Site]:
    """Run everything until the block ends; *directory*, an empty one, keeps logs and GPUs.

    The first GPU of each node has a GPU instance that nobody of ours made. In the end, extenders
    and agents must have been granted whatever they asked for, though not each time: the API server
    is restarted, too.
    """
    names = [NODE.format(index) for index in range(nodes)]
    kept = directory / "machines"
    foreign = frozenset(
        machines.plant(kept, name, gpus, 0, FOREIGN_PROFILE_ID, start=6) for name in names
    )
    (directory / "controlplane").mkdir(exist_ok=True)
    audit, flags = audited(directory)
    options = Options(apiserver_flags=("--storage-media-type=application/json", *flags))
    async with contextlib.AsyncExitStack() as stack:
        plane = await stack.enter_async_context(
            control_plane(binaries, directory=directory / "controlplane", options=options)
        )
        api = await stack.enter_async_context(RestApi(kubeconfig=plane.kubeconfig("admin")))
        installer = Installer(plane, await stack.enter_async_context(plane.client()))
        await prepare(plane, api, names)
        await install_virtual_machines(plane)
        await confine(installer)
        ports = {pod: free_port() for pod in EXTENDERS}
        behind = free_port()
        await stack.enter_async_context(LeaderService(api, ports).serving(behind))
        at_apiserver = int(plane.url.rpartition(":")[2])
        links = {name: Link(at_apiserver) for name in (*EXTENDERS, "agents")}
        links["hooks"] = Link(behind)
        for link in links.values():
            await stack.enter_async_context(link.serving())
        kubeconfigs = {
            name: await credentials(
                *(plane, installer, account, names[0], name), by_way_of=links[name].port
            )
            for name, account in (*((pod, EXTENDER) for pod in EXTENDERS), ("agents", AGENTS))
        }
        server = plane.authority.issue("tangram-extender")
        client = plane.authority.issue("tangram-client")
        extenders = {
            pod: Process(
                directory / f"{pod}.log",
                *("extender", "serve", "--kubeconfig", str(kubeconfigs[pod])),
                *("--port", str(port), "--http-timeout", str(HTTP_TIMEOUT_SECONDS)),
                *("--own-pod", f"{keys.SYSTEM_NAMESPACE}/{pod}"),
                *("--tls-cert", str(server.public), "--tls-key", str(server.key)),
                *("--client-ca", str(plane.ca_file)),
                *("--restart-hold", str(HOLD_SECONDS)),
                *ELECTION,
            )
            for pod, port in ports.items()
        }
        agents = Process(
            directory / "agents.log",
            *("tests.e2e.chaos.machines", "--kubeconfig", str(kubeconfigs["agents"])),
            *("--machines", str(kept), "--gpus", str(gpus)),
            *("--create-latency", str(CREATE_SECONDS)),
            *(f"--node={name}" for name in names),
        )
        url = f"https://127.0.0.1:{links['hooks'].port}"
        trust = ssl.create_default_context(cafile=plane.ca_file)
        trust.load_cert_chain(client.public, client.key)
        running = Site(
            *(plane, api, extenders, agents, url, trust),
            links=links,
            directory=kept,
            nodes=names,
            gpus=gpus,
            foreign=foreign,
        )
        for process in (*extenders.values(), agents):
            stack.push_async_callback(process.stop, signal.SIGKILL)
            await process.start()
        await running.ready()
        await reported(running, nodes)
        await plane.start_scheduler(
            scheduler_config(
                url, http_timeout=HTTP_TIMEOUT_SECONDS, ca=plane.ca_file, client=client
            )
        )
        yield running
        assert never_granted(audit, (EXTENDER, AGENTS)) == {}
