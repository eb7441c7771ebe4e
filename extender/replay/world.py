"""The recorded fleet under a policy: who is where in it, and where the next one would go.

Every choice is made by the verbs that answer kube-scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import msgspec

from extender.ledger import Ledger
from extender.occupants import namespace_of
from extender.policy import InForce
from extender.policy.selectors import Labels
from extender.replay.recorded import Arrival, Place, Recorded, RecordedNode, Resident
from extender.replay.views import named, places, view_of, with_places
from extender.request import Request
from extender.service.assigned import Assigned
from extender.service.holds import Holds
from extender.service.tenancy import Tenancy
from extender.snapshot import NodeView, Releasing, taken_by
from extender.verbs.bind import assignments
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from extender.verbs.prioritize import prioritize
from extender.verbs.verdicts import UNREPORTED, Code
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import PodRef

NOTHING_PROMISED = Ledger()
"""In a replay a place is in the plan as soon as it is chosen: nothing is promised besides."""


GENERATION = 1
"""Of a plan that agents have yet to answer for, as all they do when they free slices late."""


class World:
    """Nodes, plans and rules while a record is played; *looked_at* is shown each node as it is.

    After every change of it, from the start on.
    """

    def __init__(
        self, recorded: Recorded, policy: InForce, looked_at: Callable[[NodeView], None]
    ) -> None:
        self._recorded = recorded
        self._policy = policy
        self._looked_at = looked_at
        self.views: dict[str, NodeView] = {}
        self._assigned = Assigned(_no_time)
        holds = Holds(0.0, _no_time)
        self.tenancy = Tenancy(self.views, self._assigned, holds, policy.rules)
        self._fleet = Fleet(self.views)
        self._names: tuple[str, ...] = ()
        self._releasing: dict[str, list[tuple[str, tuple[Releasing, ...]]]] = {}
        pods: tuple[Resident | Arrival, ...] = (*recorded.residents, *recorded.arrivals)
        for namespace in dict.fromkeys(each.namespace for each in pods):
            self.tenancy.namespace(namespace, recorded.namespaces.get(namespace, {}))
        for node in recorded.nodes:
            if not node.since:
                self.came(node)
        for resident in recorded.residents:
            ref = PodRef(resident.namespace, resident.name, resident.uid)
            for name in dict.fromkeys(each.node for each in resident.places):
                here = [each for each in resident.places if each.node == name]
                self._replace(with_places(self.views[name], ref, here))

    def came(self, node: RecordedNode) -> None:
        """Take in a node that takes pods from now on."""
        self._replace(view_of(self._recorded, node, self._policy))

    def closed(self, name: str, *, closed: bool = True) -> None:
        """Take in that a node takes nothing new from now on, or does so again."""
        self._replace(msgspec.structs.replace(self.views[name], cordoned=closed))

    def changed(self, node: RecordedNode) -> None:
        """Take in that a node's GPUs or labels are others; who is there stays, and it as closed."""
        before = self.views[node.name]
        view = view_of(self._recorded, node, self._policy)
        view = view.replanned(before.node.spec.assignments)
        self._replace(msgspec.structs.replace(view, cordoned=before.cordoned))

    def takes(self, pod: PodRef, places: Sequence[Place]) -> bool:
        """Give a pod these very places, if all of them are free; tell whether they were."""
        for place in places:
            view = self.views[place.node]
            (gpu,) = [each for each in view.node.status.gpus if each.uuid == place.gpu]
            profile = named(view.node.status.geometries[gpu.geometry], place.profile)
            if profile is None:
                return False
            wanted = Placement(place.start, profile.size).mask
            there = [each for each in view.node.spec.assignments if each.gpu == place.gpu]
            taken = [each.placement for each in there]
            taken += [each.placement for each in gpu.instances]
            if any(each.mask & wanted for each in taken):
                return False
        for name in dict.fromkeys(each.node for each in places):
            here = [each for each in places if each.node == name]
            self._replace(with_places(self.views[name], pod, here))
        return True

    def namespace(self, name: str, labels: Labels) -> None:
        """Take in a namespace: its labels tell whose it is."""
        if self.tenancy.namespace(name, labels):
            self._fleet.begin_anew()

    def namespace_gone(self, name: str) -> None:
        """Take in that a namespace was deleted."""
        self.tenancy.namespace_gone(name)

    def place(
        self, request: Request, nodes: Sequence[str] | None
    ) -> tuple[Place, ...] | Collection[Code]:
        """Give a pod its places among some *nodes* (None: all), or return why it is refused."""
        fleet, asked = self._fleet, self.tenancy.bounded(request, NOTHING_PROMISED)
        names = self._everywhere() if nodes is None else nodes
        # Prioritize ranks the nodes that filter passes, and gives the best its place as bind does;
        # so filter is asked only why none passed.
        ranked = prioritize(fleet, NOTHING_PROMISED, asked, names)
        choice = ranked.choice
        if choice is None:
            refused = filter(fleet, NOTHING_PROMISED, asked, names)
            return refused.codes or {UNREPORTED.code}  # where there is no node it may go to
        view = self.views[ranked.winner]
        ids = (f"{request.pod.uid}/{number}" for number in range(1, 1 + len(choice.placed)))
        entries = assignments(asked, choice, ids=ids, since="")
        self._replace(view.replanned((*view.node.spec.assignments, *entries)))
        return places(view, entries)

    def _everywhere(self) -> tuple[str, ...]:
        """Return the names of all nodes that have come: the same value until another one does."""
        if len(self._names) != len(self.views):
            self._names = tuple(self.views)
        return self._names

    def kin(self, request: Request) -> object:
        """Return what pods have in common of which either all are hopeless or none is."""
        bounds = self.tenancy.bounded(request, NOTHING_PROMISED).bounds
        tenant = self.tenancy.tenant_of(request.pod.namespace)
        return tenant, request.wanted, request.spread, None if bounds is None else bounds.terms

    def hopeless(self, request: Request) -> bool:
        """Tell whether no node at all would take a pod; if not, those it may go to still may not.

        Quicker than to ask node by node, where most who wait still have to.
        """
        asked = self.tenancy.bounded(request, NOTHING_PROMISED)
        return not self._fleet.to(asked.wanted, asked.bounds, asked.spread).order

    def gone(self, uid: str) -> None:
        """Give back the places of a pod, if it has any."""
        for name in self._assigned.nodes_of(uid):
            view = self.views[name]
            kept = tuple(
                each
                for each in view.node.spec.assignments
                if each.pod is None or each.pod.uid != uid
            )
            self._replace(view.replanned(kept))

    def leaves(self, uid: str) -> None:
        """Take a pod's places from the plans, as :meth:`gone`; their slices are not free yet."""
        for name in self._assigned.nodes_of(uid):
            view = self.views[name]
            own = tuple(
                Releasing(taken_by(each), GENERATION, namespace_of(each))
                for each in view.assignments_of(uid)
            )
            self._releasing.setdefault(uid, []).append((name, own))
            self.views[name] = msgspec.structs.replace(view, releasing=(*view.releasing, *own))
        self.gone(uid)

    def freed(self, uid: str) -> None:
        """Let the slices of a pod that left be free."""
        for name, own in self._releasing.pop(uid, ()):
            view = self.views[name]
            left = tuple(each for each in view.releasing if each not in own)
            self._replace(msgspec.structs.replace(view, releasing=left))

    def _replace(self, view: NodeView) -> None:
        name, before = view.name, self.views.get(view.name)
        self._assigned.planned(name, view.pods)
        self.tenancy.changed(name, before, view)
        self.views[name] = view
        self._fleet.changed(name)  # to be judged anew: what changes here always matters
        self._looked_at(view)


def _no_time() -> float:
    return 0.0
