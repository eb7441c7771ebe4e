"""What the mover needs of a cluster: where its order is kept, and who moves VMs."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

import msgspec

from extender.moving import Order
from nodeagent.api.gpunode import OwnerRef, PodRef


class Kept(msgspec.Struct, frozen=True):
    """An order as it is kept; ``version`` is the object's."""

    order: Order
    version: str


class OrderChanged(Exception):
    """Somebody else has written the order; read it again."""


class Orders(Protocol):
    """Where the last order is kept, whether it is over or not.

    Every call may raise :class:`~extender.service.ports.ClusterUnavailable`.
    """

    async def read(self) -> Kept | None:
        """Return the order as it is kept, None if there has been none."""

    async def write(self, order: Order, before: Kept | None) -> Kept:
        """Keep an order in the place of the one *before*.

        Raises:
            OrderChanged: another is kept by now.
        """


class Migration(StrEnum):
    """How far a live migration has come."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


class Prospect(msgspec.Struct, frozen=True):
    """Whether a VM can migrate while it runs, and its ``evictionStrategy``, "" for none.

    Where it has none, KubeVirt goes by the cluster's, which is not known here.
    """

    migratable: bool = False
    strategy: str = ""


class Leaving(StrEnum):
    """Whether a pod leaves by now, and by what."""

    NOT = "not"
    ENDING = "ending"
    """It is deleted, or has gone."""
    STOPPING = "stopping"
    """The VM that it runs is being stopped; its pod may stay for as long as that takes."""
    MIGRATING = "migrating"
    """Its VM has a migration that has not failed."""


class Relocator(Protocol):
    """Who moves VMs, and knows what becomes of one whose pod is ended.

    Every call may raise :class:`~extender.service.ports.ClusterUnavailable`.
    """

    async def comes_back(self, owner: OwnerRef) -> bool:
        """Tell whether an owner makes another pod when one of its is ended."""

    async def movable(self, owner: OwnerRef) -> bool:
        """Tell whether what makes an owner's pods lets its VM be moved.

        A running VM's pod does not have an annotation that its VirtualMachine is given meanwhile.
        """

    async def prospect(self, owner: OwnerRef) -> Prospect:
        """Return what KubeVirt says of how a VM may leave its place; of other owners, nothing."""

    async def migrate(self, owner: OwnerRef, name: str) -> Migration:
        """Begin a migration of that *name*, if there is none yet; tell how far it has come."""

    async def cancel(self, owner: OwnerRef, name: str) -> None:
        """Have the migration of that *name* taken back, if there is one; that takes a while."""

    async def leaves(self, owner: OwnerRef, pod: PodRef, name: str) -> Leaving:
        """Tell whether a pod is leaving by now, or has; a migration is that of that *name*."""

    async def instance(self, owner: OwnerRef, pod: PodRef) -> str:
        """Return what a VM is while it runs in that very *pod*, "" for one that runs no VM."""

    async def restart(self, owner: OwnerRef, instance: str) -> None:
        """Stop a VM so that it starts again, as long as it is that *instance*."""
