"""A node with a fake kubelet, and the device plugins that serve it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.deviceplugin import DevicePlugins, Places, Timing, rpc
from nodeagent.kubelet import Device, Offer
from tests.fakes.kubelet import Container, FakeKubelet, Pod
from tests.waiting import until

SMALL, HALF = "nvidia.com/NVIDIA_H100XM-1-10C", "nvidia.com/NVIDIA_H100XM-3-40C"
MIG = "nvidia.com/mig-1g.10gb"

SOON = Timing(poll_seconds=0.02, audit_seconds=0.1, settle_seconds=0.3, quiet_seconds=0.1)


class Node:
    """Its plugins are in *mode*, and watch it with *timing*."""

    def __init__(
        self,
        places: Places,
        *,
        mode: Mode = Mode.VGPU_VFIO,
        timing: Timing = SOON,
        wipes: bool = True,
    ) -> None:
        self.places = places
        self.mode = mode
        self.timing = timing
        self.kubelet = FakeKubelet(places, wipes=wipes)
        self.changes = 0
        self.plugins = self.new()
        self._task: asyncio.Task[None] | None = None

    def new(self) -> DevicePlugins:
        return DevicePlugins(self.mode, pods=self._pods, places=self.places, timing=self.timing)

    def run(self) -> None:
        self._task = asyncio.create_task(self.plugins.run(self._changed))

    async def end(self) -> None:
        """Let the agent end as it does when told to."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def offer(self, offer: Offer) -> None:
        """Make *offer*, and wait until the Node shows its slots."""
        await self.plugins.offer(offer)
        shown = {resource: len(slots) for resource, slots in offer.slots.items()}
        await until(lambda: shown.items() <= self.kubelet.allocatable.items())

    @property
    def sockets(self) -> list[str]:
        """The names of our sockets in the kubelet's directory."""
        return [path.name for path in self.places.device_plugins.glob("tangram-*")]

    async def ask(self, method: str, request: Any, answer: Any) -> Any:
        """Call the plugin of the only resource, as a kubelet would."""
        (name,) = self.sockets
        async with rpc.connected(self.places.device_plugins / name) as channel:
            call = channel.unary_unary(
                f"/{rpc.DEVICE_PLUGIN}/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            return await call(request, timeout=5.0)

    async def _pods(self) -> Collection[PodRef]:
        return self.kubelet.active_pods()

    def _changed(self) -> None:
        self.changes += 1


def slot(number: int, resource: str = SMALL) -> str:
    return f"{resource.partition('/')[2]}-{number}"


def device(number: int, *nodes: str) -> Device:
    return Device(f"a{number}", "GPU-0", number, f"0000:41:00.{number}", nodes)


def offer(
    *tied: int, waiting: Sequence[int] | None = None, resource: str = SMALL, count: int = 7
) -> Offer:
    """Return an offer of *count* slots: those *tied* have devices, those *waiting* are next."""
    return together({resource: (tied, tied if waiting is None else waiting)}, count=count)


def together(
    resources: Mapping[str, tuple[Sequence[int], Sequence[int]]], *, count: int = 7
) -> Offer:
    """Return an offer of several resources: the slots tied, and the slots waiting, of each."""
    return Offer(
        slots={each: tuple(slot(n, each) for n in range(count)) for each in resources},
        waiting={
            each: tuple(slot(n, each) for n in waiting) for each, (_, waiting) in resources.items()
        },
        devices={slot(n, each): device(n) for each, (tied, _) in resources.items() for n in tied},
    )


def pod(name: str, *counts: int, init: Sequence[int] = (), resource: str = SMALL) -> Pod:
    """Return a pod of one container for each of *counts*, after an init container for each."""
    return Pod(
        name,
        tuple(Container(f"c{n}", {resource: count}) for n, count in enumerate(counts)),
        tuple(Container(f"i{n}", {resource: count}) for n, count in enumerate(init)),
    )
