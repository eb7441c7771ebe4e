"""A node of the cluster: machine, driver pod, kubelet, device plugins, controller, the agent."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from nodeagent.apiserver.protocol import ApiError
from nodeagent.apiserver.rest import RestApi
from nodeagent.deviceplugin.places import Places
from tests.e2e.harvester.driver_pod import DriverPod
from tests.e2e.harvester.endings import EndingController, Killed, end_in_calls, ended_in_calls
from tests.e2e.process import Process
from tests.fakes.kubelet import FakeKubelet, temporary_places
from tests.fakes.kubevirt import LauncherNode
from tests.fakes.nvml.machine import Machine
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.admission import Admission
from tests.fakes.pcidevices.controller import Controller
from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.log import Log
from tests.fakes.pcidevices.names import Version
from tests.fakes.pcidevices.plugin import ServedPlugins
from tests.fakes.pcidevices.store import Step


class Node:
    """A node in *home*; Harvester and KubeVirt ask the API server by *kubeconfig* there."""

    def __init__(
        self,
        name: str,
        home: Path,
        machine: Machine,
        log: Log,
        version: Version,
        kubeconfig: Path,
        *,
        scan_seconds: float,
        mig_seconds: float,
        heeds_touches: bool = True,
        functions: int = 8,
    ) -> None:
        self.name = name
        self.host = Host(name, machine, log, version, functions=functions)
        self.step: Step = lambda name: None
        self.crashes = 0
        self.steps: Path | None = None
        """Where agents write down their steps, each of which is the end of one of them."""
        self.agent = Process(home / "agent.log")
        self._home = home
        self._log = log
        self._version = version
        self._kubeconfig = kubeconfig
        self._scan_seconds = scan_seconds
        self._mig_seconds = mig_seconds
        self._heeds_touches = heeds_touches
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []
        self._lives = 0
        home.mkdir(parents=True, exist_ok=True)
        self._boot = home / "proc/sys/kernel/random/boot_id"
        self._boot.parent.mkdir(parents=True, exist_ok=True)
        self._boot.write_text("boot-1\n")

    async def start(self) -> None:
        """Start all but the agent."""
        places: Places = self._stack.enter_context(temporary_places())
        self.kubelet = FakeKubelet(places, seed=_number(self.name))
        await self._stack.enter_async_context(self.kubelet.serving())
        self._api = await self._stack.enter_async_context(
            RestApi(kubeconfig=self._kubeconfig, connections=16)
        )
        self.driver_pod = DriverPod(
            self._api, self.name, self._home / "proc", self.host.machine.library
        )
        await self.driver_pod.start()
        self.plugins = ServedPlugins(places, self._version, self._device_exists)
        self.launchers = LauncherNode(self._api, self.host, self.kubelet)
        self._tasks = [
            asyncio.create_task(_kept(self.launchers.run), name=f"{self.name}-launchers"),
            asyncio.create_task(self._controllers(), name=f"{self.name}-controller"),
        ]

    async def install(self, account: Path, arguments: Sequence[str]) -> None:
        """Start an agent with its container's *arguments*, by the kubeconfig of its *account*."""
        machine, places = self.host.machine, self.kubelet.places
        self.agent = Process(
            self._home / "agent.log",
            *("tests.e2e.harvester.agent", "--node", self.name, "--harvester", self._version),
            *("--library", str(machine.library), "--state", str(machine.state)),
            *("--home", str(self._home), "--kubelet", str(places.device_plugins.parent)),
            *("--kubeconfig", str(account)),
            *(("--steps", str(self.steps)) if self.steps else ()),
            *("--", *arguments),
        )
        await self.agent.start()
        if self.steps:
            self._tasks.append(asyncio.create_task(self._agents(), name=f"{self.name}-agent"))

    def end_controllers(self) -> EndingController:
        """Let this node's controllers end at every step; what is returned counts them."""
        ending = EndingController()
        self.step = ending.step
        return ending

    def end_agents(self) -> None:
        """Let its agents, which are yet to be installed, end at every step, and others follow."""
        self.steps = self._home / "steps"
        end_in_calls(self.host.machine)

    @property
    def taken(self) -> Counter[str]:
        """How often its agents have taken each step; a call of NVML's is one if it ended one."""
        assert self.steps is not None
        written = self.steps.read_text().splitlines() if self.steps.exists() else []
        return Counter(written) + ended_in_calls(self.host.machine)

    def lose_journal(self) -> None:
        """Let go what an agent has kept on the node's disk."""
        shutil.rmtree(self._home / "var/lib/tangram")

    async def stop(self) -> None:
        """Stop everything."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.agent.stop(signal.SIGKILL)
        await self.plugins.close()
        await self._stack.aclose()

    async def reboot(self) -> None:
        """Reboot: of agent, controller, VMs and GPUs nothing survives but what is on disk."""
        await self.agent.stop(signal.SIGKILL)
        self._boot.write_text(f"{self._boot.read_text().strip()}-after\n")
        self.launchers.reboot()
        await self.driver_pod.replace()
        self._tasks[1].cancel()
        await asyncio.wait([self._tasks[1]])
        self._tasks[1] = asyncio.create_task(self._controllers(), name=f"{self.name}-controller")
        await self.launchers.work()
        await self.agent.start()

    async def _controllers(self) -> None:
        """Run a controller, and another whenever one is killed, which begins without a memory."""
        while True:
            await self.plugins.close()
            self._lives += 1
            loop = asyncio.get_running_loop()
            controller = Controller(
                Admission(self._api, self._log, self.name, self._version, judges=False),
                self.host,
                self.plugins,
                loop.time,
                seed=self._lives * 1000 + _number(self.name),
                step=lambda name: self.step(name),
                scan_seconds=self._scan_seconds,
                mig_seconds=self._mig_seconds,
                heeds_touches=self._heeds_touches,
                environment=self.launchers.environment,
            )
            try:
                await controller.run()
            except* Killed:
                self.crashes += 1
                self._log.add(self.name, deeds.ENDED, "controller")
            except* ApiError:
                await asyncio.sleep(0.1)

    async def _agents(self) -> None:
        """Start another agent whenever one has ended, as the kubelet does."""
        while True:
            await self.agent.ended()
            await self.agent.start()

    def _device_exists(self, device: str) -> bool:
        if self._version is Version.V1_7:
            return any(vgpu.uuid == device for vgpu in self.host.kernel.vgpus())
        return any(device in self.host.functions(gpu) for gpu in self.host.gpus.values())


def _number(name: str) -> int:
    return zlib.crc32(name.encode()) % 1000


async def _kept(run: Callable[[], Awaitable[None]]) -> None:
    """Run *run* for ever: what the API server's absence ends is begun again."""
    while True:
        try:
            await run()
        except* ApiError:
            await asyncio.sleep(0.1)
