"""The kubelet's accounts of its devices, read where it keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from nodeagent.api.gpunode import PodRef
from nodeagent.deviceplugin import checkpoint, holdings, rpc, sockets
from nodeagent.deviceplugin.checkpoint import Entry
from nodeagent.deviceplugin.holdings import Listed
from nodeagent.deviceplugin.places import Places, Timing
from nodeagent.kubelet import Holder, KubeletError

GpuPods = Callable[[], Awaitable[Collection[PodRef]]]
"""The pods of this node that ask for GPU instances and have not ended, from the API server.

May raise :class:`~nodeagent.kubelet.KubeletError`.
"""


class Accounts:
    """Who has what, and what there is; *pods* tells which pods are there at all.

    Every call may raise :class:`~nodeagent.kubelet.KubeletError`: then nothing is known, which is
    not the same as nothing.
    """

    def __init__(self, places: Places, timing: Timing, pods: GpuPods) -> None:
        self._places = places
        self._timing = timing
        self._pods = pods
        self._seen: sockets.Identity | None = None
        self._said: object = frozenset()

    async def claims(self) -> Mapping[str, str]:
        """Return the UID of the pod that has each slot."""
        return holdings.claims(*await self._held())

    async def holders(self) -> Sequence[Holder]:
        """Return the pods that have devices for our resources which are no slots."""
        return holdings.holders(*await self._held())

    async def devices(self) -> Mapping[str, Collection[str]]:
        """Return every healthy device of each resource, whoever serves it."""
        answer = await rpc.allocatable(
            self._places.pod_resources, timeout=self._timing.call_seconds
        )
        found: dict[str, set[str]] = {}
        for each in answer.devices:
            found.setdefault(each.resource_name, set()).update(each.device_ids)
        return found

    async def rivals(self) -> Mapping[str, str]:
        """Say, for each of our resources that somebody else serves, how that shows."""
        return holdings.rivals(await self.devices())

    async def moved(self) -> bool:
        """Tell whether the checkpoint says something else than at the last call.

        That it has become unreadable counts; why is told to whoever asks for claims.
        """
        seen = sockets.identity(self._places.checkpoint)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            entries = await asyncio.to_thread(checkpoint.read, self._places.checkpoint)
            said: object = frozenset(entries or ())
        except KubeletError as error:
            said = str(error)
        before, self._said = self._said, said
        return said != before

    async def _held(self) -> tuple[Sequence[Entry], Sequence[Listed], Collection[PodRef]]:
        """Return both accounts of the kubelet, and the pods that had not ended after these."""
        entries = await asyncio.to_thread(checkpoint.read, self._places.checkpoint)
        answer = await rpc.pod_resources(
            self._places.pod_resources, timeout=self._timing.call_seconds
        )
        listed = [
            Listed(pod.namespace, pod.name, devices.resource_name, tuple(devices.device_ids))
            for pod in answer.pod_resources
            for container in pod.containers
            for devices in container.devices
        ]
        pods = await self._pods()
        # A kubelet writes its checkpoint as soon as any plugin has registered: where there is none
        # there can be no claims, unless somebody has removed it.
        if entries is None and pods:
            some = ", ".join(sorted(f"{each.namespace}/{each.name}" for each in pods)[:3])
            raise KubeletError(
                f"there is no {self._places.checkpoint}, so it is not known which devices the"
                f" pods have that ask for GPU instances, such as {some}: end these pods"
            )
        return entries or (), listed, pods
