"""What the agent asks of a kubelet, and how a kubelet says no.

The agent offers; the kubelet takes, in its own time. A device plugin fits it so: ``slots`` is what
ListAndWatch advertises, GetPreferredAllocation answers with :meth:`Offer.preferred`, and Allocate
looks its ids up in ``devices``. Claims come from the pod-resources API and the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from nodeagent.api.gpunode import PodRef


class KubeletError(Exception):
    """The kubelet did not answer, or did not do what was asked."""


class Device(msgspec.Struct, frozen=True):
    """What stands behind a tied slot; ``id`` and ``nodes`` are those of the driver's device."""

    assignment: str
    gpu: str
    gi_id: int
    id: str
    nodes: tuple[str, ...] = ()


class Holder(msgspec.Struct, frozen=True):
    """A pod that has been given a ``device`` which is no slot, by whoever served it before us."""

    resource: str
    device: str
    pod: PodRef


class Offer(msgspec.Struct, frozen=True):
    """All that a kubelet may hand out.

    ``slots`` are the ids advertised for each resource. ``waiting`` are, for each resource, the
    slots of the one pod expected next. ``devices`` has an entry for each tied slot that has a GPU
    instance; any other slot must be refused.
    """

    slots: Mapping[str, tuple[str, ...]] = {}
    waiting: Mapping[str, tuple[str, ...]] = {}
    devices: Mapping[str, Device] = {}

    def preferred(self, resource: str, available: Iterable[str], size: int) -> tuple[str, ...]:
        """Return which *size* of the *available* slots a container should get; perhaps fewer."""
        free = set(available)
        return tuple(slot for slot in self.waiting.get(resource, ()) if slot in free)[:size]


class Kubelet(Protocol):
    """The kubelet of one node. Each call but :meth:`run` may raise :class:`KubeletError`."""

    async def run(self, changed: Callable[[], None]) -> None:
        """Serve until cancelled; call *changed* whenever the claims have changed."""

    async def offer(self, offer: Offer) -> None:
        """Put *offer* in place of the one before; when this returns, that one is not served."""

    async def claims(self) -> Mapping[str, str]:
        """Return the UID of the pod to which each slot has been given.

        Pods that have ended, or are gone, do not count.
        """

    async def holders(self) -> Sequence[Holder]:
        """Return the running pods that have devices for our resources which are no slots."""

    async def rivals(self) -> Mapping[str, str]:
        """Say, for each of our resources that somebody else advertises too, how that shows."""
