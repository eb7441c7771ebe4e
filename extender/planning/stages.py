"""The joint plan under the rules of a policy: a stage for each set of pods that may share.

Pods of a tenant that shares nothing, and pods to which other headroom is released, are planned by
themselves, the most urgent first, each stage on what the ones before leave. A gang is as urgent as
its most urgent member, whom :func:`~extender.planning.joint.bounded` puts first of it. In a stage,
GPUs that are not to be shared are full, and so is the headroom that is kept from its pods, or from
those planned before who lessen it. Nodes to be avoided are planned with in a second pass, for those
alone whom the first one found no place.

A plan is followed in any order, and some of it may never be. Headroom that is there in full when
all is bound is so at every moment before. Where those to whom it is released lessen it below what
is kept, the others are planned only where they cost nothing of it as things are now: their place
may not rest on somebody else's having spoiled a GPU before them.

So every plan keeps the rules, and that of one stage is as good as without them; what one stage
takes from another is not weighed against it. Without rules there is a single stage.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

import msgspec

from extender.ledger import Ledger, Promise, promise
from extender.packing.choose import Bin, Placed
from extender.packing.headroom import lost, room
from extender.packing.solve import Status
from extender.planning.joint import JointPlan, Limits, Waiting, bounded, joint_plan, largest_gaps
from extender.policy.bounds import Bounds, Terms
from extender.policy.rules import Headroom, Rules
from extender.snapshot import NodeView, Taken
from extender.verbs.permitted import avoided, forbidden, shut
from nodeagent.api.geometry import Placement


class Left(msgspec.Struct, frozen=True):
    """What tenants with caps may still have: memory slices, and instances by profile."""

    slices: Mapping[str, int] = {}
    counts: Mapping[str, Mapping[str, int]] = {}

    def without(self, tenant: str, slices: int, profiles: Counter[str]) -> Left | None:
        """Return what is left after that much, None if there is not so much."""
        left = self.slices.get(tenant, slices) - slices
        counts = {
            profile: most - profiles[profile]
            for profile, most in self.counts.get(tenant, {}).items()
        }
        if left < 0 or any(most < 0 and profiles[name] for name, most in counts.items()):
            return None
        return Left(
            {**self.slices, tenant: left} if tenant in self.slices else self.slices,
            {**self.counts, tenant: counts} if tenant in self.counts else self.counts,
        )


def staged_plan(
    views: Mapping[str, NodeView],
    ledger: Ledger,
    waiting: Sequence[Waiting],
    limits: Limits,
    left: Left,
    *,
    clock: Callable[[], float],
) -> JointPlan:
    """Plan *waiting* as :func:`joint_plan` does, within the bounds of each request."""
    if all(each.request.bounds is None for each in waiting):
        return joint_plan(views, ledger, waiting, limits, clock=clock)
    until = clock() + limits.seconds
    considered = bounded(waiting, limits.pods)
    work = _Work(views, ledger.plan({}), left)
    stages = tuple(_stages(considered))
    for at, stage in enumerate(stages):
        for final in (False, True):
            passes = 2 * (len(stages) - at) - final
            seconds = max(0.0, until - clock()) / passes
            work.plan(stage, seconds, clock, avoiding=not final)
    return JointPlan(work.places, tuple(each.uid for each in considered), work.status, work.gaps)


def _stages(considered: Sequence[Waiting]) -> Iterator[Sequence[Waiting]]:
    """Yield the pods that may share everything with each other, the most urgent first.

    A gang is never taken apart: to all of it is released what is to each of its pods.
    """
    stages: dict[tuple[str, tuple[int, ...]], list[Waiting]] = defaultdict(list)
    for together in _groups(considered):
        terms = [_terms(each) for each in together]
        rooms = {id(kept) for each in terms for kept in each.kept}
        at = tuple(n for n, kept in enumerate(terms[0].rules.headroom) if id(kept) in rooms)
        apart = terms[0].tenant is not None and terms[0].tenant.apart
        stages[terms[0].name if apart else "", at] += together
    yield from stages.values()


def _groups(waiting: Iterable[Waiting]) -> Sequence[Sequence[Waiting]]:
    """Return gangs, and pods by themselves, in their order."""
    groups: dict[object, list[Waiting]] = defaultdict(list)
    for each in waiting:
        groups[each.request.gang or each.uid].append(each)
    return tuple(groups.values())


def _terms(waiting: Waiting) -> Terms:
    assert waiting.request.bounds is not None  # as all have, or none
    return waiting.request.bounds.terms


class _Work:
    """A plan in the making: what is promised by now, and what is left of caps."""

    def __init__(self, views: Mapping[str, NodeView], ledger: Ledger, left: Left) -> None:
        self._views = views
        self._now = ledger
        self._ledger = ledger
        self._left = left
        self._owed: dict[int, Headroom] = {}
        self.places: dict[str, tuple[str, tuple[Placed, ...]]] = {}
        self.status = Status.OPTIMAL
        self.gaps: Mapping[str, float] = {}

    def plan(
        self,
        stage: Sequence[Waiting],
        seconds: float,
        clock: Callable[[], float],
        *,
        avoiding: bool,
    ) -> None:
        """Plan those of a stage that have no place yet; *avoiding* what is to be avoided."""
        rest = [each for each in stage if each.uid not in self.places]
        if not rest or not (avoiding or _terms(rest[0]).rules.avoid):
            return
        asking = list(self._within_counts(self._allowed(rest, avoiding=avoiding)))
        if not asking:
            return
        found = joint_plan(
            self._views,
            self._closed(asking),
            asking,
            Limits(len(asking), seconds, self._left.slices),
            clock=clock,
        )
        self.status = self.status.beside(found.status)
        self.gaps = largest_gaps(self.gaps, found.gaps)
        for together in _groups(asking):
            if all(each.uid in found.places for each in together):
                self._take(together, found)

    def _take(self, together: Sequence[Waiting], found: JointPlan) -> None:
        """Follow the plan for a gang or a pod, if its tenant's caps allow what it comes to.

        The solver counts what is asked for by the smallest profile that serves it.
        """
        slices, profiles = 0, Counter[str]()
        for each in together:
            node, placed = found.places[each.uid]
            slices += sum(place.placement.size for place in placed)
            profiles.update(
                self._views[node].profile_named(place.uuid, place.profile_id) for place in placed
            )
        left = self._left.without(_terms(together[0]).name, slices, profiles)
        if left is None:
            return
        self._left = left
        taken = {}
        for each in together:
            node, placed = self.places[each.uid] = found.places[each.uid]
            taken[each.uid] = promise(node, placed, each.request.pod.namespace)
            # Nor does a later stage take what must stay free beside these: whoever of it was bound
            # first would else have them refused what is planned for them.
            bins = self._views[node].bins(self._now.assumed_on(node))
            for kept in _terms(each).kept:
                if lost(bins, placed, kept.profile):
                    self._owed[id(kept)] = kept
        self._promise(taken)

    def _promise(self, promises: Mapping[str, Promise]) -> None:
        assumed = {**self._ledger.assumed, **promises}
        self._ledger = msgspec.structs.replace(self._ledger, assumed=assumed)

    def _bounds(self, terms: Terms, node: str) -> Bounds:
        return Bounds(terms, beside=self._ledger.beside(node, presumed=True))

    def _allowed(self, waiting: Iterable[Waiting], *, avoiding: bool) -> Iterator[Waiting]:
        """Yield the pods with the nodes on which the rules allow them."""
        known: dict[object, frozenset[str]] = {}
        for each in waiting:
            terms, wanted = _terms(each), each.request.wanted
            key = (each.nodes, wanted, id(terms))
            if key not in known:
                there = [name for name in each.nodes if name in self._views]
                known[key] = frozenset(
                    name
                    for name in there
                    if (bounds := self._bounds(terms, name))
                    and forbidden(self._views[name], wanted, bounds) is None
                    and not (avoiding and avoided(self._views[name], wanted, bounds))
                )
            yield msgspec.structs.replace(each, candidates=known[key])

    def _within_counts(self, waiting: Iterable[Waiting]) -> Iterator[Waiting]:
        """Yield the pods that caps by profile allow, one after the other; gangs whole."""
        left = Left(counts=self._left.counts)
        for together in _groups(waiting):
            tenant = _terms(together[0]).name
            profiles = Counter[str]()
            for each in together if tenant in left.counts else ():
                views = [self._views[name] for name in each.nodes]
                for resource in each.request.wanted:
                    profiles.update({view.profile_of(resource) for view in views})
            rest = left.without(tenant, 0, profiles)
            if rest is not None:
                left = rest
                yield from together

    def _closed(self, waiting: Sequence[Waiting]) -> Ledger:
        """Return the ledger with everything taken that the pods of a stage may not have."""
        terms = _terms(waiting[0])
        nodes = {name for each in waiting for name in each.nodes}
        shut_to: dict[str, frozenset[str]] = {}
        for name in nodes if terms.isolating else ():
            shut_to[name] = shut(self._views[name], self._bounds(terms, name))
        found = {
            f"shut/{name}": Promise(name, tuple(_whole(self._views[name], gpus)))
            for name, gpus in shut_to.items()
            if gpus
        }
        rooms = {id(kept): kept for each in waiting for kept in _terms(each).kept} | self._owed
        for at, kept in enumerate(rooms.values()):
            # Each by itself: a free GPU is room for one large instance as well as for two smaller.
            for name, taken in self._kept(kept, terms.rules, nodes, shut_to).items():
                found[f"kept/{at}/{name}"] = Promise(name, taken)
        return msgspec.structs.replace(self._ledger, assumed={**self._ledger.assumed, **found})

    def _kept(
        self,
        kept: Headroom,
        rules: Rules,
        nodes: Container[str],
        shut_to: Mapping[str, frozenset[str]],
    ) -> Mapping[str, tuple[Taken, ...]]:
        """Choose places for headroom: where this stage may not go anyway, then on fuller GPUs.

        All there are as of now, if too few of them are left by the stages before.
        """
        concerned = {
            name: view
            for name, view in self._views.items()
            if view.takes_new and rules.concerns(kept, view.labels)
        }
        there = []
        for name, view in concerned.items():
            for bin in view.bins(self._ledger.assumed_on(name) + self._ledger.presumed_on(name)):
                usable = name in nodes and bin.uuid not in shut_to.get(name, ())
                free = bin.tables.geometry.memory_slices - bin.occupancy.mask.bit_count()
                there.append((usable, free, name, bin))
        there.sort(key=lambda each: each[:3])
        chosen: dict[str, tuple[Taken, ...]] = {}
        missing = kept.keep
        for _, _, name, bin in there:
            if missing <= 0:
                break
            places = _places(bin, kept.profile)[:missing]
            missing -= len(places)
            chosen[name] = (*chosen.get(name, ()), *places)
        if missing <= 0:
            return chosen
        return {
            name: tuple(
                place
                for bin in view.bins(self._now.assumed_on(name))
                for place in _legal(bin, kept.profile)
            )
            for name, view in concerned.items()
            if name in nodes
        }


def _legal(bin: Bin, name: str) -> tuple[Taken, ...]:
    """Return every place an instance of a profile may have on a GPU."""
    geometry = bin.tables.geometry
    return tuple(
        Taken(bin.uuid, profile.id, placement)
        for profile in geometry.profiles
        if profile.name == name
        for placement in sorted(geometry.legal(bin.occupancy, profile))
    )


def _places(bin: Bin, name: str) -> tuple[Taken, ...]:
    """Return places for as many instances of a profile as fit on a GPU at once."""
    places: list[Taken] = []
    for each in _legal(bin, name):
        if not places or each.placement.start >= places[-1].placement.end:
            places.append(each)
    return tuple(places[: room((bin,), name)])


def _whole(view: NodeView, gpus: Iterable[str]) -> Iterator[Taken]:
    """Yield each of the usable GPUs as taken from end to end."""
    for gpu in view.usable:
        if gpu.uuid in gpus:
            geometry = view.node.status.geometries[gpu.geometry]
            whole = Placement(0, geometry.memory_slices)
            yield Taken(gpu.uuid, geometry.profiles[0].id, whole)
