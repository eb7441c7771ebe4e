"""What a pass asks of whatever hands devices out: our own plugin's slots, or others' devices."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from nodeagent.actuate import Outcome
from nodeagent.api.gpunode import Assignment, Realized
from nodeagent.driver import Host
from nodeagent.journal import Made
from nodeagent.kubelet import Holder
from nodeagent.purview import Purview


class Handing(Protocol):
    """Hands devices out. What awaits may raise :class:`~nodeagent.kubelet.KubeletError`."""

    @property
    def holders(self) -> Sequence[Holder]:
        """The pods that have devices which are no slots of ours."""

    @property
    def rivals(self) -> Mapping[str, str]:
        """How a rival plugin shows, by resource."""

    @property
    def realized(self) -> Sequence[Realized]:
        """The assignments whose pods may come, or have."""

    @property
    def had(self) -> Collection[str]:
        """The assignments whose device a pod has, or has had."""

    @property
    def unused(self) -> Collection[str]:
        """The assignments whose device nobody has had: another may have it instead."""

    @property
    def claimed_by(self) -> Mapping[str, str]:
        """The UID of the pod that has the device of each assignment."""

    @property
    def awaited(self) -> Mapping[str, str]:
        """The UID of the pod that comes next for each resource, though there is nothing for it."""

    @property
    def drained(self) -> bool:
        """Whether no pod is waiting for a device, and none will be."""

    @property
    def due_in(self) -> float:
        """In how many seconds to look again at the latest, infinite if there is no hurry."""

    def drain(self) -> None:
        """Let no more pods come."""

    async def withdraw(
        self,
        realized: Iterable[Realized],
        plan: Sequence[Assignment],
        host: Host,
        *,
        awaited: Mapping[str, str],
    ) -> None:
        """Withdraw what has left the plan, or is not there any more, and learn who has what.

        The first time, an earlier agent has told what is *realized*, and kept who is *awaited*.
        """

    async def narrow(self, plan: Sequence[Assignment], host: Host) -> None:
        """Withdraw what is not there any more, for something else is about to be made."""

    def later(self, plan: Sequence[Assignment], host: Host, made: Iterable[Made]) -> frozenset[str]:
        """Return the assignments of *plan* for which nothing is to be made yet."""

    def claimed(self, host: Host, made: Iterable[Made]) -> frozenset[str]:
        """Return the assignments whose GPU instance a pod may have."""

    async def hand_out(
        self,
        plan: Sequence[Assignment],
        outcome: Outcome,
        *,
        purview: Purview,
        in_vain: Iterable[Assignment] = (),
    ) -> None:
        """Let pods come for what is there; who comes *in_vain* is to have nobody else's."""
