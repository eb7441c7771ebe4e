"""A node as decisions see it: what it offers, what is taken of it, and whether it takes more."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec
from propcache.api import cached_property

from extender.packing.choose import Bin
from extender.snapshot.offer import WHATEVER_IS_PLANNED
from extender.snapshot.taken import NodeTaken, Taken
from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Condition, Gpu, Plan
from nodeagent.api.rivals import Rival


class NodeView(NodeTaken, frozen=True, dict=True):
    """One node as decisions see it. ``stale``: its agent has not renewed its Lease in time.

    ``agent`` names the process that renewed it last, "" where that is not known.
    ``failing``: it could not realize one assignment after the other. ``rival``: who else makes and
    destroys GPU instances there.
    ``unanswered`` is a generation of the plan that came about unseen: what was taken back on the
    way there may still be on the GPUs, and nobody knows what it was, before the agent has seen it.
    ``labels`` are the Node's, as far as rules look at them.
    """

    stale: bool = True
    agent: str = ""
    cordoned: bool = False
    failing: bool = False
    rival: Rival | None = None
    unanswered: int = 0
    labels: Mapping[str, str] = {}

    @property
    def reported(self) -> bool:
        """Whether an agent has ever reported an inventory."""
        return bool(self.node.status.agent_epoch)

    @property
    def takes_new(self) -> bool:
        """Whether anything new may be placed on the node at all."""
        refuses = self.stale or self.cordoned or self.failing or self.unsettled
        return self.reported and not refuses and self.rival is None

    @property
    def unsettled(self) -> bool:
        """Whether the agent has yet to answer for a plan that came about unseen."""
        return self.node.status.observed_generation < self.unanswered

    def bins(
        self, promised: Collection[Taken] = (), *, leaving: Collection[Taken] = ()
    ) -> tuple[Bin, ...]:
        """Return the usable GPUs as bins, with *promised* taken besides and *leaving* free."""
        if not promised and not leaving:
            return self._bins
        changed = {each.gpu for each in (*promised, *leaving)}
        taken = self._taken(changed)
        taken -= frozenset(leaving)
        taken |= frozenset(promised)
        return tuple(
            self._bin(gpu, (t for t in taken if t.gpu == gpu.uuid)) if gpu.uuid in changed else bin
            for gpu, bin in zip(self.usable, self._bins, strict=True)
        )

    def replanned(self, assignments: tuple[Assignment, ...]) -> NodeView:
        """Return the node with another plan, and what was worked out of it as far as that holds.

        GPUs of which the plan says the same as before are as they were.
        """
        node = msgspec.structs.replace(self.node, spec=Plan(assignments))
        now = msgspec.structs.replace(self, node=node)
        here, there = self.node.spec.assignments, assignments
        before, after = set(map(id, here)), set(map(id, there))  # what stays is the very same
        changed = {each.gpu for each in here if id(each) not in after}
        changed.update([each.gpu for each in there if id(each) not in before])
        bins, known = list(self._bins), self.__dict__
        now.__dict__.update([(name, known[name]) for name in WHATEVER_IS_PLANNED if name in known])
        taken = now._taken(changed)
        for at, gpu in enumerate(now.usable):
            if gpu.uuid in changed:
                bins[at] = now._bin(gpu, [t for t in taken if t.gpu == gpu.uuid])
        now.__dict__["_bins"] = tuple(bins)
        return now

    @cached_property
    def _bins(self) -> tuple[Bin, ...]:
        held: dict[str, list[Taken]] = {}
        for each in self._taken():
            held.setdefault(each.gpu, []).append(each)
        return tuple(self._bin(gpu, held.get(gpu.uuid, ())) for gpu in self.usable)

    def _bin(self, gpu: Gpu, held: Iterable[Taken]) -> Bin:
        scores = self._tables[gpu.geometry]
        state = scores.holding({(each.profile_id, each.placement) for each in held})
        return Bin(gpu.uuid, scores, state, self._serves_now(gpu))

    @cached_property
    def fullness(self) -> int:
        """How many memory slices of the node are taken."""
        return sum(bin.occupancy.mask.bit_count() for bin in self.bins())

    @cached_property
    def memo(self) -> dict[object, object]:
        """What decisions have worked out about this view; gone with it."""
        return {}

    @property
    def succeeded(self) -> bool:
        """Whether the agent is another process than the one that told the inventory.

        What that one had realized may be gone: the node may have rebooted in between, and nobody
        would answer for it before the new one has told its own.
        """
        return bool(self.agent) and self.agent != self.node.status.agent_epoch

    @property
    def unsure(self) -> bool:
        """Whether nobody knows what is on the GPUs now: no driver answers the agent that lives."""
        return self.succeeded or _driver_unavailable(self.node.status.conditions)

    def realized(self, ids: Iterable[str]) -> bool:
        """Tell whether the agent that lives reports every one of these assignments realized.

        While its driver does not answer it says what it knew before: what has become of that since,
        by a reset, say, nobody knows.
        """
        told = () if self.unsure else self.node.status.realized
        return set(ids) <= {each.id for each in told}

    def failure(self, ids: Iterable[str]) -> str:
        """Return why the agent cannot realize one of these assignments, "" if it can."""
        wanted = set(ids)
        return next((f.reason for f in self.node.status.failed if f.id in wanted), "")

    def failed_on(self, ids: Iterable[str]) -> Mapping[str, Taken]:
        """Return each usable GPU that cannot realize one of these assignments, taken as a whole."""
        failed = set(ids) & {each.id for each in self.node.status.failed}
        profiles = {a.gpu: a.profile_id for a in self.node.spec.assignments if a.id in failed}
        geometries = self.node.status.geometries
        return {
            gpu.uuid: Taken(
                gpu.uuid,
                profiles[gpu.uuid],
                Placement(0, geometries[gpu.geometry].memory_slices),
            )
            for gpu in self.usable
            if gpu.uuid in profiles
        }


def _driver_unavailable(conditions: Iterable[Condition]) -> bool:
    return any(each.reason == keys.DRIVER_UNAVAILABLE for each in conditions)
