"""What becomes of what is known by what is decided: what is promised, and who is refused."""

from __future__ import annotations

from collections.abc import Set

import structlog

from extender.ledger import Ledger, promise
from extender.packing.choose import Choice
from extender.policy.bounds import Bounds
from extender.request import Request
from extender.service.knowledge.known import Known, told
from extender.verbs.reasons import Code

log = structlog.get_logger()


class Promised(Known):
    """Keeps what is promised beyond the plans, and wakes whom it is room for once it is not."""

    def presume(self, request: Request, node: str, choice: Choice) -> None:
        """Keep the slices chosen on *node* from others until the bind comes, or does not."""
        limits = self.settings
        lasts = (
            limits.presumption_with_volumes_seconds
            if request.waits_for_volumes
            else limits.presumption_seconds
        )
        self.ledger = self.ledger.presume(
            request.pod.uid,
            promise(node, choice.placed, request.pod.namespace),
            until=self.clock() + lasts,
        )

    def release(self, uid: str) -> None:
        """End a pod's presumption: it has gone, or kube-scheduler asks about it anew."""
        self._presume_less(self.ledger.release(uid))

    def refuse(
        self, request: Request, codes: Set[Code], bounds: Bounds | None = None, *, began: float
    ) -> None:
        """Keep a pod that no node takes within its *bounds*, to be woken, and count why.

        It is told of if it is news, with how long it took since the filter call *began*.
        """
        before = self.refused.get(request.pod.uid)
        self.refused.add(request, codes)
        self.work.refused(codes)
        self.causes.refused((request.wanted, bounds), codes)
        if before is None or before.codes != codes:
            log.info(
                "pod_refused",
                pod=request.pod.name,
                namespace=request.pod.namespace,
                uid=request.pod.uid,
                codes=sorted(code.value for code in codes),
                policy_version=self.in_force.version,
                seconds=round(self.clock() - began, 6),
            )

    @told
    def confirm(self, uid: str) -> None:
        """Drop a promise that has been written: the plan has it now."""
        self.ledger = self.ledger.confirm(uid)

    @told
    def forget(self, uid: str) -> None:
        """Drop a promise that was not written; its slices may be room for somebody."""
        self.ledger = self.ledger.forget(uid)
        if self.refused:
            self.room.set()

    def _presume_less(self, ledger: Ledger) -> None:
        """Put a ledger in place of ours that presumes as much for pods, or less."""
        if self.gangs_wait_for_room and len(ledger.presumed) < len(self.ledger.presumed):
            self.room.set()  # alone of all a gang takes nothing that is presumed for others
        self.ledger = ledger
