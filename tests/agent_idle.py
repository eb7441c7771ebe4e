"""What an agent costs that has nothing to do: memory and processor time of ``tangram-agent run``.

The node has 8 fake GPUs with 7 GPU instances each, all held by pods; the API server is a real one,
the kubelet speaks real gRPC, and every interval is the default.

    python -m tests.agent_idle --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from nodeagent.api import gpunode, keys
from nodeagent.api.gpunode import Assignment, Inventory
from nodeagent.api.resources import of_profile
from nodeagent.apiserver.protocol import GPU_NODES, NODES, PODS, PatchType
from nodeagent.apiserver.rest import RestApi
from nodeagent.deviceplugin import Places
from tests.contracts.apiserver.conftest import NAMESPACES, serve_gpu_nodes
from tests.e2e.controlplane.binaries import Missing, locate
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.identities import ADMIN
from tests.fakes.kubelet import Container, FakeKubelet, Pod
from tests.fakes.nvml.capabilities import write_mig_minors
from tests.fakes.nvml.library import build
from tests.fakes.nvml.machine import Machine
from tests.waiting import until

NODE, MODEL, PROFILE, RESOURCE = "n1", "H100-80GB", 19, of_profile("1g.10gb")
STARTS = range(7)
SERVED_WITHIN_SECONDS = 120.0
CALM_SECONDS = 15.0
"""An agent that has just been busy is left alone so long before it is measured."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.agent_idle", description=__doc__)
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    for name, value in asyncio.run(measure(options.gpus, options.seconds)).items():
        print(f"{name:24}{value:12.2f}")


async def measure(gpus: int, seconds: float, *, calm: float = CALM_SECONDS) -> Mapping[str, float]:
    """Return what an idle agent takes, in MiB and seconds, and how often it asks NVML."""
    with tempfile.TemporaryDirectory(prefix="idle-") as directory:
        async with _agent(Path(directory), gpus) as (machine, pid):
            await asyncio.sleep(calm)
            machine.forget_calls()
            before, begun = _processor_seconds(pid), time.monotonic()
            await asyncio.sleep(seconds)
            return {
                "instances": float(sum(len(machine.gpu_instances(n)) for n in range(gpus))),
                "rss_mib": _resident_mib(pid),
                "cpu_seconds": _processor_seconds(pid) - before,
                "wall_seconds": time.monotonic() - begun,
                "nvml_calls": float(len(machine.calls())),
            }


@contextlib.asynccontextmanager
async def _agent(root: Path, gpus: int) -> AsyncIterator[tuple[Machine, int]]:
    """Run the agent of a node that is full, and yield its machine and its process id."""
    machine = Machine.create(build(root / "build"), root / "machine", MODEL, gpus=gpus)
    boot_id = root / "proc/sys/kernel/random/boot_id"
    boot_id.parent.mkdir(parents=True)
    boot_id.write_text("boot-1\n")
    write_mig_minors(root)
    places = Places(root / "plugins", root / "pod-resources.sock", root / "cdi")
    binaries = locate()
    if isinstance(binaries, Missing):
        sys.exit(binaries.reason)
    async with (
        control_plane(binaries, options=Options(authorization="AlwaysAllow")) as plane,
        RestApi(kubeconfig=plane.kubeconfig(ADMIN)) as api,
        FakeKubelet(places).serving() as kubelet,
    ):
        await serve_gpu_nodes(plane.kubeconfig(ADMIN))
        await api.create(NAMESPACES, {"metadata": {"name": keys.SYSTEM_NAMESPACE}})
        await api.create(NODES, {"metadata": {"name": NODE}})
        head = {"apiVersion": keys.API_VERSION, "kind": keys.GPU_NODE_KIND}
        await api.create(GPU_NODES, {**head, "metadata": {"name": NODE}, "spec": {}})
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nodeagent", "--log-level", "warning", "run"),
            *("--node", NODE, "--mode", "container", "--state-dir", root / "agent"),
            *("--kubeconfig", plane.kubeconfig(ADMIN), "--library", machine.library),
            *("--host-root", root, "--kubelet-dir", places.device_plugins),
            *("--pod-resources", places.pod_resources, "--cdi-dir", places.cdi),
            env=machine.environment(),
        )
        try:
            await _fill(api, kubelet, machine, gpus)
            yield machine, process.pid
        finally:
            process.kill()
            await process.wait()


async def _fill(api: RestApi, kubelet: FakeKubelet, machine: Machine, gpus: int) -> None:
    """Plan a pod for every place, and have each admitted when its turn has come."""
    pods: dict[str, Pod] = {}
    plan = []
    for number in range(gpus * len(STARTS)):
        name, (gpu, start) = f"pod-{number}", divmod(number, len(STARTS))
        pods[name] = await _create(api, name)
        since = f"2026-01-01T00:00:{number:02}Z"
        uuid = machine.uuids[gpu]
        plan.append(Assignment(name, uuid, PROFILE, start, 1, RESOURCE, since, pods[name].ref))
    patch = [{"op": "add", "path": "/spec/assignments", "value": plan}]
    await api.patch(GPU_NODES, NODE, patch, patch_type=PatchType.JSON)
    served: set[str] = set()

    async def all_served() -> bool:
        for name in {each.id for each in (await _status(api)).realized} - served:
            if kubelet.allocatable.get(RESOURCE):
                await _bind(api, name)
                await kubelet.admit(pods[name])
                served.add(name)
        return len(served) == len(pods)

    await until(all_served, within=SERVED_WITHIN_SECONDS, every=0.02)


async def _create(api: RestApi, name: str) -> Pod:
    limits = {"limits": {RESOURCE: "1"}}
    body = {
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "cuda", "resources": limits}]},
    }
    made = msgspec.json.decode(await api.create(PODS, body, namespace="default"))
    container = Container("c", {RESOURCE: 1})
    return Pod(name, (container,), namespace="default", uid=made["metadata"]["uid"])


async def _bind(api: RestApi, name: str) -> None:
    binding = {"metadata": {"name": name}, "target": {"name": NODE}}
    await api.create(PODS, binding, namespace="default", name=name, subresource="binding")


async def _status(api: RestApi) -> Inventory:
    return gpunode.decode(await api.get(GPU_NODES, NODE)).status


def _processor_seconds(pid: int) -> float:
    """Return user and system time of a process (proc(5), fields 14 and 15 of ``stat``)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (each for each in status.splitlines() if each.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
