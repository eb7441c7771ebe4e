"""The GPUs of a cluster as those who make room see them: who is on them, and who may move where.

A VM may be moved if it is bound and runs, has a single vGPU, and nobody has said otherwise by the
annotation ``tangram.dev/movable``, nor the policy of its tenant. It goes to GPUs that serve its
resource by the same profile, and where the rules let its tenant be. What was made for no pod, is
held for one that comes back, or is on its way out, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from enum import StrEnum
from itertools import compress
from typing import NamedTuple

from extender.claims import claimed
from extender.explain.census import Census
from extender.explain.situation import Judged, PodState, Situation
from extender.occupants import namespace_of
from extender.packing.choose import Bin
from extender.packing.relocation import Host, Occupant
from extender.policy.bounds import Bounds, Terms
from extender.policy.rules import Apart
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.permitted import forbidden, shut
from extender.verbs.reasons import Code
from nodeagent.api.gpunode import Assignment

MOST_GPUS = 4096
"""GPUs all of which are looked at; where there are more, of each kind only some are."""

SOME_GPUS = 1024
OF_EACH_KIND = 16
"""GPUs looked at where there are more than are all looked at, and of each kind of them."""

NODES_TRIED = 4
"""For a VM with several vGPUs: the emptiest of the nodes that lack nothing but room for it."""

CHANGED_BY_MOVES = frozenset({Code.NO_ROOM, Code.HEADROOM, Code.NOT_SHARED, Code.OVER_CAP})
"""Refusals by a node that moves may change; a cap where another of its GPUs would do with less."""

Kinds = frozenset[tuple[str, str]]
"""Resources that VMs have, each with the tenant of those that have it."""


class Stays(StrEnum):
    """Why something is not moved."""

    NOT_A_PODS = "made for no pod of Tangram's, or on its way out"
    HELD = "held for a VM that comes back"
    NOT_RUNNING = "of a pod that is starting, ending or not known"
    FORBIDDEN = "of a VM with tangram.dev/movable: false, or with a value that is not known"
    TENANTS = "of a VM whose tenant the policy has as movable: false"
    SEVERAL = "of a VM with several vGPUs"


class Mover(NamedTuple):
    """A VM's GPU instance that may be moved, and where it is."""

    view: NodeView
    entry: Assignment


class Where(NamedTuple):
    """The GPU that a host stands for; ``number`` is its index among all of the node's."""

    view: NodeView
    number: int
    uuid: str


class Board(NamedTuple):
    """GPUs as hosts, each with ``where`` it is; who may move, by occupant; who stays, and why.

    ``whole``: no GPU was left out.
    """

    hosts: Sequence[Host]
    where: Sequence[Where]
    movers: Mapping[str, Mover]
    staying: Mapping[Stays, int]
    whole: bool


def wanted_there(resource: str) -> str:
    """Return what a resource is called where the pod asked about may have it."""
    return f"{resource} for the pod"


def board(situation: Situation, census: Census, *, loose: bool = False) -> Board:
    """Return the board; on nodes that lack nothing but room, GPUs serve what is wanted.

    A *loose* one keeps nobody from a GPU for what moves may change: who is there, and headroom. But
    what is wanted keeps apart from whom it may not share a GPU with. So whatever moves help under
    the rules help there, too, and there is no plan of fewer moves than there.
    """
    whole = len(census.kind_of) <= MOST_GPUS
    setting = _Setting(situation, loose=loose)
    if whole:
        return setting.board([(each, each.view.bins()) for each in census.nodes], whole)
    several = NODES_TRIED if len(situation.request.wanted) > 1 else 0
    chosen = census.some(SOME_GPUS, of_each=OF_EACH_KIND, first=several).tolist()
    some = []
    for each, first, gpus in zip(
        census.nodes, census.first.tolist(), census.gpus.tolist(), strict=True
    ):
        of_node = chosen[first : first + gpus]
        if any(of_node):
            some.append((each, tuple(compress(each.view.bins(), of_node))))
    return setting.board(some, whole)


class _Setting:
    """Sets up a board; GPUs that serve the same share one mapping, for such are alike."""

    def __init__(self, situation: Situation, *, loose: bool) -> None:
        self._situation = situation
        self._loose = loose
        self._staying: Counter[Stays] = Counter()
        self._movers: dict[str, Mover] = {}
        self._kinds: Kinds = frozenset()
        self._serves: dict[object, Mapping[str, int]] = {}
        bounds = situation.request.bounds
        self._really = None if bounds is None else bounds.terms
        self._terms = self._really.sharing if loose and self._really else self._really
        self._of: dict[str, Bounds] = {}

    def board(self, nodes: Sequence[tuple[Judged, Sequence[Bin]]], whole: bool) -> Board:
        there = [
            (each, bins, self._occupants(each.view, {bin.uuid for bin in bins}))
            for each, bins in nodes
        ]
        hosts, where = [], []
        for each, bins, occupants in there:
            view = each.view
            index = {gpu.uuid: at for at, gpu in enumerate(view.node.status.gpus)}
            closed, barred = self._closed(each), self._barred(view)
            for bin in bins:
                serves = self._served(bin, barred[bin.uuid], wanted=bin.uuid not in closed)
                on = tuple(sorted(occupants.get(bin.uuid, ()), key=lambda it: it.placement))
                hosts.append(Host(bin.uuid, bin.tables, serves, on))
                where.append(Where(view, index[bin.uuid], bin.uuid))
        return Board(hosts, where, self._movers, self._staying, whole)

    def _closed(self, judged: Judged) -> frozenset[str]:
        """Return the GPUs on which what is wanted may not be, whatever room there is."""
        view = judged.view
        if self._loose and judged.refused_for(CHANGED_BY_MOVES):
            return frozenset()
        if not judged.lacks_room:
            return frozenset(bin.uuid for bin in view.bins())
        bounds = self._situation.bounds(view)
        return frozenset() if bounds is None else shut(view, bounds)

    def _occupants(self, view: NodeView, gpus: Set[str]) -> Mapping[str, list[Occupant]]:
        """Return what is on some GPUs of a node, and whether it may move."""
        own = {*self._situation.own(view)}
        entries = {taken_by(each): each for each in view.in_force if each.gpu in gpus}
        realized = {each.id for each in view.node.status.realized}
        found: dict[str, list[Occupant]] = {}
        for taken in view.taken.union(self._situation.promised(view)) - own:
            if taken.gpu not in gpus:
                continue
            entry = entries.get(taken)
            apart = self._apart(entry)
            stays = why_staying(self._situation.pods, view, taken, entry, realized, self._terms)
            if entry is None or stays is not None:
                if stays is not None:
                    self._staying[stays] += 1
                id = f"{taken.gpu}/{taken.placement.start}"
                occupant = Occupant(
                    id, "", taken.profile_id, taken.placement, movable=False, apart=apart
                )
            else:
                self._movers[entry.id] = Mover(view, entry)
                kind = self._kind(view, entry)
                occupant = Occupant(entry.id, kind, entry.profile_id, entry.placement, apart=apart)
            found.setdefault(taken.gpu, []).append(occupant)
        return found

    def _apart(self, entry: Assignment | None) -> bool:
        """Tell whether what is wanted may not share a GPU with what is there by an entry."""
        terms = self._really
        if not self._loose or entry is None or terms is None or not terms.isolating:
            return False
        return terms.apart(namespace_of(entry)) is not Apart.NOTHING

    def _kind(self, view: NodeView, entry: Assignment) -> str:
        """Return the name under which GPUs serve a VM that may move."""
        assert entry.pod is not None  # or it would stay
        tenant = ""
        if self._terms is not None:
            tenant = self._terms.tenants.get(entry.pod.namespace, "")
            if tenant not in self._of:
                self._of[tenant] = bounds_of(self._terms, tenant)
        self._kinds |= {(entry.resource, tenant)}
        return _moving(entry.resource, tenant, entry.profile_id)

    def _served(self, bin: Bin, barred: Kinds, *, wanted: bool) -> Mapping[str, int]:
        """Return what a GPU serves: for the pod asked about, and for those that may move here."""
        key = (id(bin.serves), wanted, barred)
        known = self._serves.get(key)
        if known is None:
            found = {
                _moving(resource, tenant, bin.serves[resource]): bin.serves[resource]
                for resource, tenant in self._kinds - barred
                if resource in bin.serves
            }
            if wanted:
                found |= {
                    wanted_there(resource): bin.serves[resource]
                    for resource in self._situation.request.wanted
                    if resource in bin.serves
                }
            known = self._serves[key] = found
        return known

    def _barred(self, view: NodeView) -> Mapping[str, Kinds]:
        """Return what the rules keep from each GPU of a node."""
        if self._terms is None:
            return dict.fromkeys((bin.uuid for bin in view.bins()), frozenset())
        closed = {tenant: shut(view, bounds) for tenant, bounds in self._of.items()}
        nowhere = {
            (resource, tenant)
            for resource, tenant in self._kinds
            if forbidden(view, (resource,), self._of[tenant]) is not None
        }
        return {
            bin.uuid: frozenset(
                kind for kind in self._kinds if kind in nowhere or bin.uuid in closed[kind[1]]
            )
            for bin in view.bins()
        }


def why_staying(
    pods: Mapping[str, PodState],
    view: NodeView,
    taken: Taken,
    entry: Assignment | None,
    realized: Set[str],
    terms: Terms | None,
) -> Stays | None:
    """Return why what is taken on a node, by an *entry* of its plan or without, is not moved.

    *terms* are anybody's, None where the policy has no rules.
    """
    if entry is None or any(taken == each.taken for each in view.releasing):
        return Stays.NOT_A_PODS
    if entry.pod is None or claimed(view, entry):
        return Stays.HELD
    pod = pods.get(entry.pod.uid)
    if pod is None or pod.node != view.name or pod.deleting or pod.over:
        return Stays.NOT_RUNNING
    if not pod.movable:
        return Stays.FORBIDDEN
    if terms is not None and not terms.movable(entry.pod.namespace):
        return Stays.TENANTS
    if len(view.assignments_of(entry.pod.uid)) > 1:
        return Stays.SEVERAL
    return None if entry.id in realized else Stays.NOT_RUNNING


def bounds_of(terms: Terms, tenant: str) -> Bounds:
    """Return the rules' bounds for a VM of a tenant that moves: it takes no more than it has."""
    by_name = {each.name: each for each in terms.rules.tenants}
    return Bounds(Terms(terms.rules, by_name.get(tenant), (), terms.tenants))


def _moving(resource: str, tenant: str, profile_id: int) -> str:
    return f"{resource} of {tenant} as {profile_id}"


def settled(staying: Mapping[Stays, int]) -> Iterator[tuple[str, int]]:
    """Yield why things stay, with how many, the most frequent first."""
    yield from sorted(((w.value, n) for w, n in staying.items()), key=lambda it: (-it[1], it[0]))
