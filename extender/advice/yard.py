"""The GPUs of a cluster as the planner of moves sees them: who may move where, and for what price.

Who may be moved is as for explanations (``explain.board``), and besides somebody must make the pod
anew. A VM goes to GPUs that serve its resource by the same profile, on nodes that take something
new, where the rules let its tenant be and kube-scheduler its pod (``confined``). GPUs that take
nothing are there, too: what is on them may leave.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from extender.advice.asked import Asked
from extender.advice.confined import KeptFrom, confined
from extender.advice.pricing import Price, price
from extender.advice.setting import Guard, Setting, Waiting, lets_go, presumed
from extender.explain.board import bounds_of, why_staying
from extender.moves import (
    Admit,
    Consolidate,
    Drain,
    Goal,
    Headroom,
    Host,
    How,
    Movable,
    Occupant,
    Problem,
    Wanted,
)
from extender.packing.choose import Bin
from extender.packing.tables import tables
from extender.policy.bounds import Bounds
from extender.request import Request
from extender.snapshot import NodeView, Taken, taken_by
from extender.verbs.permitted import forbidden, shut
from nodeagent.api.gpunode import Assignment, Mode

NOBODY_MAKES_IT = "of a pod that nobody makes anew"
OF_A_GANG = "of a gang, whose pods are placed together"
OFF_WITH_ITS_DEVICE = "of a VM that keeps its device with Harvester while it is off"
SEVERAL_BUDGETS = "of a pod with several disruption budgets, which can never be evicted"


class Whose(NamedTuple):
    """What an occupant is: its node, its entry in the plan, if it has one, and a move's price.

    ``kept_from`` tells of nodes that it is kept from, "" where nothing else keeps it from others;
    ``answer`` is what the API server says to its leaving.
    """

    view: NodeView
    taken: Taken
    entry: Assignment | None
    price: Price | None = None
    kept_from: str = ""
    answer: str = ""


class Yard(NamedTuple):
    """The problem, and what its names stand for: occupants, GPUs (node and index), what is wanted.

    ``waiting`` has the pods among what is wanted, ``wanted`` the resource or more of each kind.
    """

    problem: Problem
    whose: Mapping[str, Whose]
    gpus: Mapping[str, tuple[NodeView, int]]
    waiting: Mapping[str, Waiting]
    wanted: Mapping[str, str]


def yard(setting: Setting, asked: Asked) -> Yard:
    """Return the problem that attains what is asked; of pods not known it takes no notice."""
    return _Making(setting, asked).yard()


Kind = tuple[str, str, int, int, frozenset[str]]
"""What moves: a resource, the tenant of those that have it, the profile id; and where to not.

The latter as the number of a set of nodes, and these.
"""


class _Making:
    def __init__(self, setting: Setting, asked: Asked) -> None:
        self._setting, self._asked = setting, asked
        self._whose: dict[str, Whose] = {}
        self._kinds: set[Kind] = set()
        self._budgets: dict[str, int] = {}
        self._of: dict[str, Bounds] = {}
        self._forbidden: dict[tuple[str, Kind], bool] = {}
        self._serves: dict[object, Mapping[str, int]] = {}
        self._groups: dict[object, tuple[str, Waiting]] = {}
        self._confined = confined(setting, asked)

    def yard(self) -> Yard:
        views = [view for view in self._setting.views.values() if view.reported]
        there = [(view, self._occupants(view)) for view in views]
        waiting = {
            f"{namespace}/{name}": each for (namespace, name), each in self._setting.waiting.items()
        }
        goals = tuple(self._goals(waiting))
        hosts: list[Host] = []
        gpus: dict[str, tuple[NodeView, int]] = {}
        for view, occupants in there:
            for at, host in enumerate(self._hosts(view, occupants)):
                if host is not None and host.uuid not in gpus:
                    hosts.append(host)
                    gpus[host.uuid] = view, at
        problem = Problem(hosts, goals, self._budgets, self._asked.most_moves)
        wanted = {name: each.request.wanted[0] for name, each in self._groups.values()}
        return Yard(problem, self._whose, gpus, waiting, wanted)

    def _goals(self, waiting: Mapping[str, Waiting]) -> Iterable[Goal]:
        asked = self._asked
        if waiting:
            yield Admit(tuple(Wanted(name, self._group(each)) for name, each in waiting.items()))
        for profile, count in asked.headroom:
            yield Headroom(_room_for(profile), count)
        if asked.empty_gpus or asked.empty_nodes:
            yield Consolidate(asked.empty_gpus, asked.empty_nodes)
        if asked.drain or asked.drain_gpus:
            of_nodes = {
                gpu.uuid
                for name in asked.drain
                if name in self._setting.views
                for gpu in self._setting.views[name].node.status.gpus
            }
            yield Drain(frozenset(of_nodes.union(asked.drain_gpus)))

    def _group(self, waiting: Waiting) -> str:
        """Return one name for all pods that may go to the same places for the same thing."""
        request = waiting.request
        bounds = request.bounds
        tenant = None if bounds is None else bounds.terms.name
        key = (request.wanted[0], tenant, waiting.nodes)
        name = f"{request.wanted[0]} wanted, {len(self._groups)}"
        return self._groups.setdefault(key, (name, waiting))[0]

    def _occupants(self, view: NodeView) -> Mapping[str, list[Occupant]]:
        """Return what is on each GPU of a node, who may move, and at what cost."""
        entries = {taken_by(each): each for each in view.in_force}
        realized = {each.id for each in view.node.status.realized}
        found: dict[str, list[Occupant]] = defaultdict(list)
        promised = self._setting.ledger.assumed_on(view.name)
        for taken in view.taken.union(promised):
            entry = entries.get(taken)
            stays: str | None = why_staying(
                self._setting.pods, view, taken, entry, realized, self._setting.terms
            )
            leave: Movable | None = None
            paid: Price | None = None
            kind = kept_from = answer = ""
            if stays is None and entry is not None:
                how, budget, stays = self._leave(view, entry)
                if how is not None:
                    paid = self._price(view, how, taken, entry)
                    leave = Movable(how, paid.cost, budget)
                    kind = self._kind(entry)
                kept = self._kept_from(entry)
                kept_from = kept.told if stays == (kept.stays or None) else ""
                answer = self._answer(entry, stays)
            id = entry.id if entry is not None else f"{taken.gpu}/{taken.placement.start}"
            if id in self._whose:  # a plan that two nodes share names it twice
                id = f"{view.name}/{id}"
            self._whose[id] = Whose(view, taken, entry, paid, kept_from, answer)
            found[taken.gpu].append(
                Occupant(id, kind, taken.profile_id, taken.placement, leave, stays or "")
            )
        return found

    def _leave(self, view: NodeView, entry: Assignment) -> tuple[How | None, str, str | None]:
        """Return how a VM may be moved and which budget counts it, or why it may not be."""
        if entry.owner is None or entry.pod is None:
            return None, "", NOBODY_MAKES_IT
        if view.node.status.mode is Mode.HARVESTER:
            return None, "", OFF_WITH_ITS_DEVICE
        uid = entry.pod.uid
        pod = self._setting.pods[uid]  # or it would stay
        if isinstance(pod.asked, Request) and pod.asked.gang is not None:
            return None, "", OF_A_GANG
        if stays := self._kept_from(entry).stays:
            return None, "", stays
        manner = self._setting.manners.get(uid, presumed(pod, entry.owner))
        if manner.why:
            return None, "", manner.why
        if manner.live:
            return How.LIVE, "", None
        guards: tuple[Guard, ...] = self._setting.guards.get(uid, ())
        if not manner.guarded and (manner.denied or not lets_go(guards)):
            return How.RESTART, "", None
        if len(guards) > 1:
            return None, "", SEVERAL_BUDGETS
        for guard in guards:
            self._budgets[guard.name] = guard.allows
        return How.EVICTION, guards[0].name if guards else "", None

    def _answer(self, entry: Assignment, stays: str | None) -> str:
        """Return what the API server says of a VM, if it *stays* for that."""
        manner = None if entry.pod is None else self._setting.manners.get(entry.pod.uid)
        return manner.answer if manner is not None and stays == manner.why else ""

    def _price(self, view: NodeView, how: How, taken: Taken, entry: Assignment) -> Price:
        setting, profile = self._setting, ""
        for gpu in view.node.status.gpus:
            if gpu.uuid == taken.gpu:
                geometry = view.node.status.geometries.get(gpu.geometry)
                known = None if geometry is None else geometry.by_id.get(taken.profile_id)
                profile = "" if known is None else known.name
        return price(setting.costs, how, profile, entry.size, since=entry.since, now=setting.now)

    def _kept_from(self, entry: Assignment) -> KeptFrom:
        assert entry.pod is not None  # or it would stay
        return self._confined.kept_from(entry.pod.uid)

    def _kind(self, entry: Assignment) -> str:
        assert entry.pod is not None  # or it would stay
        tenant, terms = "", self._setting.terms
        if terms is not None:
            tenant = terms.tenants.get(entry.pod.namespace, "")
            if tenant not in self._of:
                self._of[tenant] = bounds_of(terms, tenant)
        kept = self._kept_from(entry)
        kind = (entry.resource, tenant, entry.profile_id, kept.number, kept.nodes)
        self._kinds.add(kind)
        return _moving(kind)

    def _hosts(
        self, view: NodeView, occupants: Mapping[str, list[Occupant]]
    ) -> Iterable[Host | None]:
        """Yield the node's GPUs in their order, None for one whose profiles are not known."""
        bins = {bin.uuid: bin for bin in view.bins()} if view.takes_new else {}
        status = view.node.status
        closed = {tenant: shut(view, bounds) for tenant, bounds in self._of.items()} if bins else {}
        groups = frozenset(
            name
            for name, waiting in self._groups.values()
            if bins and self._may_be_wanted(view, waiting)
        )
        for gpu in status.gpus:
            on = tuple(sorted(occupants.get(gpu.uuid, ()), key=lambda each: each.placement))
            bin = bins.get(gpu.uuid)
            if bin is not None:
                barred = frozenset(
                    kind for kind in self._kinds if self._barred(view, kind, closed, gpu.uuid)
                )
                wanted = frozenset(
                    name
                    for name, waiting in self._groups.values()
                    if name in groups and not self._shut(view, waiting, gpu.uuid)
                )
                serves = self._served(bin, barred, wanted)
                yield Host(gpu.uuid, view.name, bin.tables, serves, on)
            elif (geometry := status.geometries.get(gpu.geometry)) is None or any(
                geometry.malformations()
            ):
                yield None
            else:
                yield Host(gpu.uuid, view.name, tables(geometry, view.policy), {}, on, open=False)

    def _barred(
        self, view: NodeView, kind: Kind, closed: Mapping[str, frozenset[str]], gpu: str
    ) -> bool:
        """Tell whether the rules, kube-scheduler or Harvester keep what moves from a GPU."""
        resource, tenant, _, _, kept_from = kind
        if view.node.status.mode is Mode.HARVESTER or view.name in kept_from:
            return True
        if self._setting.terms is None:
            return False
        if gpu in closed[tenant]:
            return True
        known = self._forbidden.get((view.name, kind))
        if known is None:
            known = forbidden(view, (resource,), self._of[tenant]) is not None
            self._forbidden[view.name, kind] = known
        return known

    def _may_be_wanted(self, view: NodeView, waiting: Waiting) -> bool:
        request = waiting.request
        if waiting.nodes is not None and view.name not in waiting.nodes:
            return False
        return request.bounds is None or forbidden(view, request.wanted, request.bounds) is None

    def _shut(self, view: NodeView, waiting: Waiting, gpu: str) -> bool:
        bounds = waiting.request.bounds
        return bounds is not None and gpu in shut(view, bounds)

    def _served(
        self, bin: Bin, barred: frozenset[Kind], wanted: frozenset[str]
    ) -> Mapping[str, int]:
        """Return what a GPU takes; GPUs that take the same share one mapping: such are alike."""
        key = (id(bin.serves), barred, wanted)
        known = self._serves.get(key)
        if known is None:
            by_id = bin.tables.geometry.by_id
            found = {
                _moving(kind): kind[2]
                for kind in self._kinds - barred
                if bin.serves.get(kind[0]) == kind[2]
            }
            for name, waiting in self._groups.values():
                profile_id = bin.serves.get(waiting.request.wanted[0])
                if name in wanted and profile_id is not None:
                    found[name] = profile_id
            for profile_id in bin.serves.values():
                if profile_id in by_id:
                    found[_room_for(by_id[profile_id].name)] = profile_id
            known = self._serves[key] = found
        return known


def _moving(kind: Kind) -> str:
    """Return one name for all VMs that may move to the same places: the same in each plan."""
    resource, tenant, profile_id, number, _ = kind
    return f"{resource} of {tenant} as {profile_id}, {number:02}"


def _room_for(profile: str) -> str:
    return f"room for {profile}"
