"""The kubelet whose devices Harvester's own plugin serves: here it is only read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from nodeagent.deviceplugin.accounts import Accounts, GpuPods
from nodeagent.deviceplugin.places import Places, Timing
from nodeagent.kubelet import Holder, KubeletError, Offer

log = structlog.get_logger()


class HarvesterPlugin:
    """A :class:`~nodeagent.kubelet.Kubelet` that nothing is offered to; *pods* are who is there."""

    def __init__(
        self, *, pods: GpuPods, places: Places | None = None, timing: Timing | None = None
    ) -> None:
        self._timing = timing or Timing()
        self._accounts = Accounts(places or Places(), self._timing, pods)

    async def run(self, changed: Callable[[], None]) -> None:
        """Look until cancelled; call *changed* when other devices are there, or are taken."""
        known: object = None
        complaint = ""
        while True:
            try:
                moved = await self._accounts.moved()
                devices = await self._accounts.devices()
                if moved or devices != known:
                    known = devices
                    changed()
                complaint = ""
            except KubeletError as error:
                if complaint != str(error):
                    complaint = str(error)
                    log.warning("kubelet_unusable", error=complaint)
            await asyncio.sleep(self._timing.poll_seconds)

    async def offer(self, offer: Offer) -> None:
        """Do nothing: Harvester offers."""

    async def claims(self) -> Mapping[str, str]:
        """Return nothing: there are no slots of ours."""
        return {}

    async def holders(self) -> Sequence[Holder]:
        """Return the running pods that have devices for our resources."""
        return await self._accounts.holders()

    async def rivals(self) -> Mapping[str, str]:
        """Return nothing: Harvester's plugin is the one that is wanted."""
        return {}

    async def devices(self) -> Mapping[str, Collection[str]]:
        """Return every healthy device of each resource that the kubelet knows."""
        return await self._accounts.devices()
