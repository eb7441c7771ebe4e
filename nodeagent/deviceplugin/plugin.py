"""The kubelet of a real node, as the agent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import structlog

from nodeagent.api.gpunode import Mode, PodRef
from nodeagent.deviceplugin import cdi, checkpoint, holdings, rpc, sockets
from nodeagent.deviceplugin.checkpoint import Entry
from nodeagent.deviceplugin.desk import Desk
from nodeagent.deviceplugin.holdings import Listed
from nodeagent.deviceplugin.places import Places, Timing
from nodeagent.deviceplugin.registry import Registry
from nodeagent.kubelet import Device, Holder, KubeletError, Offer

log = structlog.get_logger()

GpuPods = Callable[[], Awaitable[Collection[PodRef]]]
"""The pods of this node that ask for GPU instances and have not ended, from the API server.

May raise :class:`~nodeagent.kubelet.KubeletError`.
"""

SOON_SECONDS = 0.02
"""How soon to look again for a claim that must show at any moment."""


class DevicePlugins:
    """A :class:`~nodeagent.kubelet.Kubelet`: the one whose directories *places* names.

    *pods* tells which pods are there at all. Nothing is served before the first offer.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        pods: GpuPods,
        places: Places | None = None,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if mode is Mode.HARVESTER:
            raise ValueError("Harvester serves its devices itself")
        self._mode = mode
        self._pods = pods
        self._places = places or Places()
        self._timing = timing or Timing()
        self._clock = clock
        self._given = asyncio.Event()
        self._desk = Desk(mode, clock=clock)
        self._registry = Registry(
            self._desk, self._places, self._timing, allocated=self._given.set, clock=clock
        )

    async def run(self, changed: Callable[[], None]) -> None:
        """Stay registered until cancelled; call *changed* whenever the kubelet's account has."""
        watch = _Watch(self._places)
        audit = self._clock()
        complaint = ""
        try:
            while True:
                lost: Collection[str] = ()
                try:
                    if self._clock() >= audit:
                        audit = self._clock() + self._timing.audit_seconds
                        lost = await self._lost()
                    await self._registry.keep(lost)
                    complaint = ""
                except KubeletError as error:
                    if str(error) != complaint:
                        log.warning("resources_not_registered", error=str(error))
                    complaint = str(error)
                if await watch.moved():
                    changed()
                await self._pause()
        finally:
            await self._registry.close()

    async def offer(self, offer: Offer) -> None:
        """Put *offer* in place of the one before.

        Raises:
            KubeletError: the one before may still be served, or this one is not known to the
                kubelet.
        """
        if self._mode is Mode.CONTAINER:
            before = self._desk.offer.devices if self._desk.offer else {}
            await self._describe({**before, **offer.devices})
        self._desk.offer = offer
        self._registry.offered()
        await self._registry.keep()
        if self._mode is Mode.CONTAINER:
            await self._describe(offer.devices)

    async def claims(self) -> Mapping[str, str]:
        """Return the UID of the pod to which each slot has been given.

        Slots given out just now may be in neither of the kubelet's accounts; so long as they may
        still come, they are waited for.

        Raises:
            KubeletError: it is not known who has what.
        """
        while True:
            entries, listed, pods = await self._held()
            found = holdings.claims(entries, listed, pods)
            if not self._desk.open(found, within=self._timing.settle_seconds):
                return found
            await asyncio.sleep(SOON_SECONDS)

    async def holders(self) -> Sequence[Holder]:
        """Return the running pods that have devices for our resources which are no slots.

        Raises:
            KubeletError: it is not known who has what.
        """
        return holdings.holders(*await self._held())

    async def rivals(self) -> Mapping[str, str]:
        """Say, for each of our resources that somebody else advertises too, how that shows.

        Raises:
            KubeletError: the kubelet does not tell.
        """
        return holdings.rivals(await self._listed_devices())

    async def _held(self) -> tuple[Sequence[Entry], Sequence[Listed], Collection[PodRef]]:
        """Return both of the kubelet's accounts, and then the pods that have not ended."""
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
        if entries is None:
            # A kubelet writes its checkpoint as soon as any plugin has registered.
            if pods:
                named = ", ".join(sorted(f"{each.namespace}/{each.name}" for each in pods)[:3])
                raise KubeletError(
                    f"there is no {self._places.checkpoint}, so it is not known what the pods"
                    f" that ask for GPU instances have been given: end them first ({named}, …)"
                )
            entries = []
        return entries, listed, pods

    async def _listed_devices(self) -> Mapping[str, Collection[str]]:
        answer = await rpc.allocatable(
            self._places.pod_resources, timeout=self._timing.call_seconds
        )
        devices: dict[str, set[str]] = {}
        for each in answer.devices:
            devices.setdefault(each.resource_name, set()).update(each.device_ids)
        return devices

    async def _lost(self) -> Collection[str]:
        """Return the resources whose endpoint the kubelet has dropped, though it follows its list.

        Where another plugin has taken the resource over, nothing is gained by taking it back.
        """
        settled = self._registry.settled
        if not settled:
            return ()
        listed = await self._listed_devices()
        return [each for each in settled if not listed.get(each)]

    async def _describe(self, devices: Mapping[str, Device]) -> None:
        await asyncio.to_thread(cdi.publish, self._places.cdi, devices)

    async def _pause(self) -> None:
        """Wait for the next look: a short time while a claim is about to show."""
        soon = self._given.is_set()
        self._given.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON_SECONDS if soon else self._timing.poll_seconds):
                await self._given.wait()


class _Watch:
    """Notices when what the checkpoint says of our resources has changed."""

    def __init__(self, places: Places) -> None:
        self._path = places.checkpoint
        self._seen: sockets.Identity | None = None
        self._said: object = None

    async def moved(self) -> bool:
        """Tell whether there may be other claims than at the last call."""
        seen = sockets.identity(self._path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            entries = await asyncio.to_thread(checkpoint.read, self._path)
            said: object = frozenset(entries or ())
        except KubeletError as error:
            said = str(error)
        moved = said != self._said
        self._said = said
        return moved
