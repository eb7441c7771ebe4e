"""What the service needs of a cluster, and how a cluster says no."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from extender.kubescheduler.eligible import Taint
from extender.request import Asked, Request
from extender.service.leadership import Claim, Record
from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef, PodRef
from nodeagent.api.rivals import Rival


class PlanConflict(Exception):
    """The plan is not what the writer thought it was; read it again and decide anew.

    If reading it again shows that it is, the change itself may have been *refused*: to try that
    again is no use.
    """

    def __init__(self, message: str = "", *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class BindingRefused(Exception):
    """The API server will not bind the pod as it is now: bound already, deleted, or another UID."""


class EvictionRefused(Exception):
    """The API server does not let the pod be evicted now: its disruption budget, or a webhook.

    Or others wrote the pod or its budget at that moment. It may later; ``retry_after`` is in how
    many seconds at the soonest; ``status`` is the answer's.
    """

    def __init__(self, message: str = "", *, retry_after: float = 0.0, status: int = 0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.status = status


PLAN_TIMEOUT_SECONDS = 5.0
"""So long after it has come to the API server a plan's write is made or never will be; it takes
about 2 ms (measured)."""

TRANSIT_SECONDS = 0.5
"""How long a request may be on its way before the API server counts its time."""


class ClusterUnavailable(Exception):
    """No usable answer from the cluster: what became of a write is unknown.

    Unless ``undone``: then it was certainly not made. ``passing`` is whether another try may fare
    better, ``retry_after`` in how many seconds at the soonest.
    """

    def __init__(
        self,
        message: str = "",
        *,
        undone: bool = False,
        passing: bool = True,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.undone = undone
        self.passing = passing
        self.retry_after = retry_after


class LeaseTaken(Exception):
    """The Lease is not what the claim was made upon; look again."""


class PodFacts(msgspec.Struct, frozen=True, gc=False):
    """What the service keeps of a pod.

    ``version`` is that (``resourceVersion``) as of which it is bound to no node, "" if it is to
    one; ``giving_back`` are the ids of entries that somebody has been about to take back since.
    ``grace_seconds`` is how long the pod may take to end, from when that was asked for.
    ``not_admitted`` is whether its node's kubelet has refused it, for want of a device;
    ``movable``, whether it may be moved to make room for others; ``evictable``, whether its owner
    says nothing against its eviction; ``restartable``, whether its VM may be stopped to be moved,
    though its eviction is refused.
    """

    ref: PodRef
    asked: Asked
    node: str = ""
    phase: str = ""
    deleting: bool = False
    grace_seconds: int = 0
    not_admitted: bool = False
    movable: bool = True
    evictable: bool = True
    restartable: bool = False
    version: str = ""
    giving_back: tuple[str, ...] = ()

    @property
    def priority(self) -> int:
        """The pod's priority, 0 where it asks for nothing of ours."""
        return self.asked.priority if isinstance(self.asked, Request) else 0

    @property
    def over(self) -> bool:
        """Whether the pod has ended and will never use a device again."""
        return self.phase in ("Succeeded", "Failed")


class NodeFacts(msgspec.Struct, frozen=True):
    """What the service keeps of a Node; ``rival`` is who else owns its GPUs."""

    name: str
    cordoned: bool = False
    rival: Rival | None = None
    labels: Mapping[str, str] = {}
    taints: tuple[Taint, ...] = ()


class Feed(StrEnum):
    """What the cluster reports, each by a watch of its own."""

    GPU_NODES = "gpunodes"
    NODES = "nodes"
    PODS = "pods"
    LEASES = "leases"
    NAMESPACES = "namespaces"


class Cluster(Protocol):
    """The cluster as the service acts on it. Every call may raise :class:`ClusterUnavailable`."""

    @property
    def can_wake(self) -> bool:
        """Whether :meth:`wake` reaches anybody."""

    async def write_plan(
        self,
        node: GpuNode,
        *,
        add: Collection[Assignment] = (),
        remove: Collection[str] = (),
        hold: Collection[str] = (),
    ) -> GpuNode:
        """Change the plan of *node*, if it still is the plan given; return the object after it.

        Entries to *hold* (by id) lose their pod and stay for their owner.

        Raises:
            PlanConflict: the object has another UID or generation, or is gone.
        """

    async def read_gpu_node(self, name: str) -> GpuNode | None:
        """Return a GpuNode as it is now, None if there is none."""

    async def create_gpu_node(self, name: str, plan: Collection[Assignment] = ()) -> None:
        """Create a GpuNode whose plan has these entries; one that exists is left alone."""

    async def delete_gpu_node(self, node: GpuNode) -> None:
        """Delete a GpuNode, if it is still the one given."""

    async def read_pod(self, namespace: str, name: str) -> PodFacts | None:
        """Return a pod as it is now, None if there is none."""

    async def pods_wanted(self, owner: OwnerRef) -> int:
        """Return how many pods an owner keeps up, 0 if it makes none again or is not known to."""

    async def mark_managed(self, pod: PodRef) -> bool:
        """Label that very pod as ours, so that it is watched; tell whether it is still there."""

    async def bind(
        self,
        pod: PodRef,
        node: str,
        annotations: Mapping[str, str],
        *,
        version: str,
        timeout: float,
    ) -> None:
        """Bind the pod to *node* with *annotations*, if it still is as it was in that *version*.

        The API server takes *timeout* seconds for it or does not do it at all; but on its way to
        there it may be for longer.

        Raises:
            BindingRefused: the pod is bound, deleted, another pod by now, or has changed.
        """

    async def void_bindings(self, pod: PodFacts, ids: Collection[str]) -> PodFacts | None:
        """Have no Binding come through that was posted for that version of a pod, or one before.

        It is said with it that its entries of these *ids* are about to be taken back, besides those
        of which that was said before. Return the pod as it is then, None if it is gone.

        Raises:
            ClusterUnavailable: also if it has changed meanwhile: read it again.
        """

    async def wake(self, stamp: str) -> None:
        """Make kube-scheduler retry the pods it rejected."""


class Budget(msgspec.Struct, frozen=True):
    """A disruption budget: UIDs of the ``pods`` of ours it is about, how many of all may go now."""

    namespace: str
    name: str
    pods: frozenset[str]
    allows: int


class Budgets(Protocol):
    """Who knows of disruption budgets. Every call may raise :class:`ClusterUnavailable`."""

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        """Return the budgets of these namespaces that are about pods of ours, with which of them.

        A pod that several are about can never be evicted.
        """


class Evictor(Budgets, Protocol):
    """Who ends pods to make room for others. Every call may raise :class:`ClusterUnavailable`."""

    async def rehearse(self, pod: PodRef) -> None:
        """Ask all who may refuse that very pod's eviction, and evict nobody.

        Raises:
            EvictionRefused: it would be, now.
        """

    async def evict(self, pod: PodRef) -> None:
        """Have that very pod end, in the time it asks for; one that is gone is left at that.

        Raises:
            EvictionRefused: not now.
        """


class LeaseLock(Protocol):
    """The Lease that decides who leads. *timeout* is in seconds.

    Every call may raise :class:`ClusterUnavailable`.
    """

    async def read(self, *, timeout: float) -> Record | None:
        """Return the Lease as it is now, None if there is none."""

    async def write(self, claim: Claim, *, timeout: float) -> Record:
        """Write a claim, and return the Lease after it.

        Raises:
            LeaseTaken: somebody else has written it, or it is gone.
        """

    def releases(self) -> AsyncGenerator[None, None]:
        """Yield whenever the Lease is seen released, for ever; close it."""


class Signpost(Protocol):
    """What leads the scheduler's calls to this replica.

    Every call may raise :class:`ClusterUnavailable`.
    """

    async def point_here(self) -> None:
        """Let calls come to this replica, and to no other."""

    async def take_down(self) -> None:
        """Let no calls come to this replica."""
