"""All that is known, and what can be asked of it."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from extender.claims import claims_of, in_the_way
from extender.kubescheduler.eligible import Constraints, Traits
from extender.ledger import Ledger
from extender.metrics import Work
from extender.policy import InForce, Policy, PolicyName
from extender.policy.selectors import Labels
from extender.policy.values import Times
from extender.request import Request
from extender.service.arriving import Arriving
from extender.service.assigned import Assigned
from extender.service.avoidance import Avoidance
from extender.service.causes import Causes
from extender.service.changes import Changes
from extender.service.decided import Decided
from extender.service.demand import Demand
from extender.service.ended import Ended
from extender.service.ending import Ending
from extender.service.enlisted import Enlisted
from extender.service.freshness import Freshness
from extender.service.holds import Holds
from extender.service.pending import Pending
from extender.service.ports import PodFacts
from extender.service.realizing import Realizing
from extender.service.refusals import Refusals
from extender.service.right_of_way import RightOfWay
from extender.service.seam import Seam, told_of
from extender.service.tenancy import Tenancy
from extender.service.tenure import Tenure
from extender.service.unadmitted import Unadmitted
from extender.service.unseen import Unseen
from extender.settings import Settings
from extender.snapshot import NodeView
from extender.verbs.fleet import Fleet
from nodeagent.api.gpunode import Assignment
from nodeagent.api.rivals import Rival

REMEMBERED = 20_000  # requests kept between a pod's hooks, and refused pods; the oldest go first

PROMISES = "Knowledge.ledger"
"""What a change of the ledger that follows from nothing else is told as: before, and after."""

told = told_of("Knowledge")
"""A method is told as that of the whole, whichever part of it has it."""


class Known:
    """What :class:`~extender.service.knowledge.Knowledge` has; the classes made of this change it.

    By pod UID: ``pods`` as the watch has them; ``requests`` as filter read them, for bind names a
    pod without showing it; ``refused``, to be woken; ``assigned``, the node whose plan has a place
    for the pod. ``nodes`` tells which are cordoned, ``rivals`` who else owns a node's GPUs.
    ``lost`` is, by node, what pods had in a plan that was deleted, and since when, if no plan says
    it again; where there is a plan, the ledger has it, too.
    ``unready`` are the pods that are bound and not Ready, with what keeps them from that;
    ``constraints`` is what keeps a pod that is bound from nodes, and ``traits`` by what a node
    keeps pods from it: nothing but moves goes by these, so that they are not told.

    ``pending`` are the pods without a place; ``enlisted`` those in gangs; ``unseen`` those that
    filter asked about and the watch has not shown; ``arriving`` those on their way to a kubelet;
    ``gone`` those of whose end we know, and whether they were in a gang; ``ended`` those of them
    that were read to have ended, ``ending`` those that are about to. ``buried`` are the UIDs of
    GpuNodes that were deleted.

    ``work`` counts and times what is done, ``decided`` is why pods' nodes were chosen; ``causes``
    tells why there was no room, ``realizing`` what agents have yet to do; ``planned_at`` is when
    pods were last planned jointly.

    Events say what there is to do: ``room`` has appeared for a refused pod, a pod has made its
    ``departures`` (``suspects`` are their UIDs), a node has made its ``arrivals``, the ``fleet`` is
    ``behind`` the nodes' changes, a node somebody waits for is ``vacating``. ``ripe_claims`` are
    those of an order of moves, by id, that may be places as soon as nobody is there. ``way`` tells
    what is done here when to wait for an answer.
    """

    def __init__(
        self,
        settings: Settings,
        policy: InForce | Policy | PolicyName,
        *,
        clock: Callable[[], float],
        tenure: Tenure,
        seam: Seam | None = None,
    ) -> None:
        self.seam = seam or Seam(clock)
        self._given = settings
        self.in_force = InForce.of(policy).proven_on(())
        self.settings = timed(settings, self.in_force.times)
        self.clock = self.seam.clock
        self.tenure = tenure
        self.views: dict[str, NodeView] = {}
        self.lost: dict[str, Mapping[Assignment, float]] = {}
        self.fleet = Fleet(self.views)
        self.buried: OrderedDict[str, None] = OrderedDict()
        self.nodes: dict[str, bool] = {}
        self.rivals: dict[str, Rival] = {}
        self._labels: dict[str, Labels] = {}
        self.freshness = Freshness(settings, lambda: self.clock(), self.nodes)
        self._ledger = Ledger()
        self.work = Work()
        self.causes = Causes(self.work)
        self.realizing = Realizing(self.work, lambda: self.clock())
        self.planned_at: float | None = None
        self.pods: dict[str, PodFacts] = {}
        self.unready: dict[str, str] = {}
        self.constraints: dict[str, Constraints] = {}
        self.traits: dict[str, Traits] = {}
        # The oldest of these go first; no OrderedDict, whose copy takes fifteen times as long.
        self.requests: dict[str, Request] = {}
        self.refused = Refusals(REMEMBERED)
        self.assigned = Assigned(lambda: self.clock())
        self.avoidance = Avoidance(settings, lambda: self.clock(), self.seam)
        self.holds = Holds(
            self.settings.restart_hold_seconds,
            lambda: self.clock(),
            claims_last=self.settings.claim_seconds,
        )
        self.tenancy = Tenancy(self.views, self.assigned, self.holds, self.in_force.rules)
        self.pending = Pending(settings, lambda: self.clock(), self.seam)
        self.enlisted = Enlisted(self.seam)
        self.unseen = Unseen(REMEMBERED)
        self.unadmitted = Unadmitted()
        self.arriving = Arriving(lambda: self.clock())
        self.gone: dict[str, bool] = {}
        self.ended = Ended(REMEMBERED)
        self.ending = Ending(lambda: self.clock())
        self.demand = Demand(clock())
        self.decided = Decided(REMEMBERED)
        self.gangs_wait_for_room = False
        self.room = asyncio.Event()
        self.behind = asyncio.Event()
        self.vacating = asyncio.Event()
        self.ripe_claims: frozenset[str] = frozenset()
        self.suspects: set[str] = set()
        self.departures = asyncio.Event()
        self.arrivals = asyncio.Event()
        self.stopping = False
        self.changes = Changes()
        self.way = RightOfWay()

    @property
    def ledger(self) -> Ledger:
        """All promises beyond the plans."""
        return self._ledger

    @ledger.setter
    def ledger(self, ledger: Ledger) -> None:
        before, self._ledger = self._ledger, ledger
        self.seam.note(PROMISES, before, ledger)

    def entries(self) -> Iterable[tuple[NodeView, Assignment]]:
        """Yield every entry of every plan."""
        for view in self.views.values():
            for entry in view.node.spec.assignments:
                yield view, entry

    def _entries_of(self, uid: str) -> Iterable[Assignment]:
        """Yield the entries of all plans for a pod."""
        for node in self.assigned.nodes_of(uid):
            yield from self.views[node].assignments_of(uid)

    def place_of(self, uid: str) -> str:
        """Return the node where a pod has its place, "" if it has none worth coming back for.

        One that a silent agent has not realized is not: it would keep the pod from every other
        node until the reservation ends.
        """
        for node in self.assigned.nodes_of(uid):
            view = self.views[node]
            if not view.stale or view.realized(each.id for each in view.assignments_of(uid)):
                return node
        return ""

    def in_the_way(self, view: NodeView, uid: str) -> frozenset[str]:
        """Return who must go before what a pod has claimed on a node is its place, by UID."""
        facts = self.pods.get(uid)
        asked = None if facts is None else facts.asked
        bounds = self.bounded(asked).bounds if isinstance(asked, Request) else None
        return in_the_way(view, claims_of(view, uid), None if bounds is None else bounds.terms)

    def reservation_over(self, uid: str) -> bool:
        """Tell whether a pod has had its place for longer than it may without being bound."""
        return self.assigned.seconds(uid) > self.settings.reservation_seconds

    def lost_reservation_over(self, node: str, uid: str) -> bool:
        """Tell the same of a pod's place on a node whose plan was deleted."""
        lost = self.lost.get(node, {}).items()
        since = min((at for each, at in lost if each.pod and each.pod.uid == uid), default=math.inf)
        return self.clock() - since > self.settings.reservation_seconds

    def bounded(self, request: Request, *, leaving: Collection[str] = ()) -> Request:
        """Return a request with what the rules leave it at this moment.

        To be asked for anew after every await: others are promised things meanwhile.
        """
        return self.tenancy.bounded(request, self.ledger, leaving=leaving)


def timed(settings: Settings, times: Times) -> Settings:
    """Return the settings with the times a policy has for them."""
    said = {name: each for name, each in msgspec.structs.asdict(times).items() if each is not None}
    return msgspec.structs.replace(settings, **said)
