"""From a plan's names to those that people know: nodes, GPUs by index, VMs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from extender.advice.confined import TOO_MANY, UNTOLD
from extender.advice.document import Cell, Map, Obstacle, Otherwise, Placed, Step, Who
from extender.advice.setting import EVICTION_REFUSED
from extender.advice.yard import Yard
from extender.explain.explanation import Spot
from extender.moves import Infeasible, Instead, Occupant, Place, Plan
from nodeagent.api.geometry import Placement

MOST_KEPT = 3
"""Sets of nodes on which VMs may not run, that are told of."""


class Teller:
    """Tells of what is in a yard; *tenants* names each namespace's tenant, where it has one."""

    def __init__(self, there: Yard, tenants: Mapping[str, str]) -> None:
        self._there = there
        self._tenants = tenants
        self._hosts = {host.uuid: host for host in there.problem.hosts}

    def moves(self, found: Plan, reasons: Mapping[str, Instead]) -> Iterator[Step]:
        """Yield the moves, each with why its occupant moves, where that is known."""
        numbers = _numbers(found)
        for move in found.moves:
            whose = self._there.whose[move.occupant]
            reason = reasons.get(move.occupant)
            profile_id = whose.taken.profile_id
            yield Step(
                numbers[move.occupant],
                self._who(move.occupant),
                self._profile(move.source, profile_id),
                self._spot(move.source, move.left),
                self._spot(move.target, move.placement),
                move.how.value,
                move.cost,
                whose.price,
                None if reason is None else self._otherwise(reason),
            )

    def _otherwise(self, reason: Instead) -> Otherwise:
        others = tuple(self._who(each) for each in reason.others)
        return Otherwise(reason.attained, reason.moves, reason.cost, others)

    def places(self, found: Plan) -> Iterator[Placed]:
        """Yield where what is wanted goes."""
        for number, place in enumerate(found.places, len(_numbers(found)) + 1):
            on = self._spot(place.gpu, place.placement)
            profile = self._profile(place.gpu, place.profile_id)
            yield Placed(number, self._wanted(place), profile, on)

    def obstacles(self, found: Infeasible) -> Iterator[Obstacle]:
        """Yield what keeps the goals from being attained."""
        for each in found.obstacles:
            if each.occupant:
                whose = self._there.whose[each.occupant]
                on = self._spot(whose.taken.gpu, whose.taken.placement)
                why, who = self._why(each.occupant, each.why), self._who(each.occupant)
                yield Obstacle(why, who, on, answer=whose.answer)
            else:
                what = self._there.wanted.get(each.kind, each.kind)
                yield Obstacle(each.why, what=what, missing=each.missing)

    def _why(self, occupant: str, why: str) -> str:
        """Return why somebody cannot go; of who may, besides, which nodes would not have them."""
        whose = self._there.whose[occupant]
        if whose.price is None or not whose.kept_from:
            return why
        return f"{why}; its pod may not run on all nodes ({whose.kept_from})"

    def kept(self) -> Iterator[Obstacle]:
        """Yield, of VMs that might be moved, how many may not run on which nodes, and why."""
        told = Counter(each.kept_from for each in self._there.whose.values() if each.kept_from)
        for kept_from, many in told.most_common(MOST_KEPT):
            vms = "a VM that might be moved" if many == 1 else f"{many} VMs that might be moved"
            yield Obstacle(f"{vms} may not run on all nodes ({kept_from})")

    def left_out(self) -> Iterator[Obstacle]:
        """Yield how many VMs are taken to stay, for their kinds are not told apart."""
        many = sum(
            each.stays == TOO_MANY for host in self._hosts.values() for each in host.occupants
        )
        if many:
            vms = (
                "a VM that might be moved is"
                if many == 1
                else f"{many} VMs that might be moved are"
            )
            yield Obstacle(f"{vms} taken to stay: {UNTOLD}")

    def refused(self) -> Iterator[Obstacle]:
        """Yield of how many VMs an eviction is refused that would make room."""
        stay = (each.stays for host in self._hosts.values() for each in host.occupants)
        yield from refused(sum(why == EVICTION_REFUSED for why in stay))

    def maps(self, found: Plan) -> Iterator[Map]:
        """Yield the GPUs that change, node by node."""
        numbers = _numbers(found)
        placed: dict[str, list[Cell]] = {}
        for number, place in enumerate(found.places, len(numbers) + 1):
            cell = self._cell(place.gpu, place.profile_id, place.placement, number)
            placed.setdefault(place.gpu, []).append(cell)
        after = {gpu.uuid: gpu.occupants for gpu in found.after}
        maps = []
        for gpu in found.before:
            view, at = self._there.gpus[gpu.uuid]
            then = [*self._cells(gpu.uuid, after[gpu.uuid], numbers), *placed.get(gpu.uuid, ())]
            maps.append(
                Map(
                    view.name,
                    at,
                    gpu.uuid,
                    self._hosts[gpu.uuid].tables.geometry.memory_slices,
                    tuple(self._cells(gpu.uuid, gpu.occupants, numbers)),
                    tuple(sorted(then, key=lambda cell: cell.start)),
                )
            )
        yield from sorted(maps, key=lambda each: (each.node, each.gpu))

    def _cells(
        self, uuid: str, occupants: Iterable[Occupant], numbers: dict[str, int]
    ) -> Iterator[Cell]:
        for each in occupants:
            yield self._cell(uuid, each.profile_id, each.placement, numbers.get(each.id, 0))

    def _cell(self, uuid: str, profile_id: int, at: Placement, number: int) -> Cell:
        return Cell(self._profile(uuid, profile_id), at.start, at.size, number)

    def _wanted(self, place: Place) -> Who:
        waiting = self._there.waiting.get(place.wanted)
        if waiting is None:
            return Who()
        pod, owner = waiting.request.pod, waiting.request.owner
        if owner is not None:
            return self._named(pod.namespace, owner.kind, owner.name)
        return self._named(pod.namespace, "Pod", pod.name)

    def _who(self, id: str) -> Who:
        entry = self._there.whose[id].entry
        if entry is None:
            return Who()
        about = entry.owner or entry.pod
        if about is None:
            return Who()
        kind = entry.owner.kind if entry.owner is not None else "Pod"
        return self._named(about.namespace, kind, about.name)

    def _named(self, namespace: str, kind: str, name: str) -> Who:
        return Who(namespace, kind, name, self._tenants.get(namespace, ""))

    def _profile(self, uuid: str, profile_id: int) -> str:
        profile = self._hosts[uuid].tables.geometry.by_id.get(profile_id)
        return f"profile {profile_id}" if profile is None else profile.name

    def _spot(self, uuid: str, at: Placement) -> Spot:
        view, number = self._there.gpus[uuid]
        return Spot(view.name, number, uuid, at.start, at.size)


def refused(many: int) -> Iterator[Obstacle]:
    """Yield of how *many* VMs an eviction is refused that would make room, if it is any."""
    if many:
        vms = "a VM that might be moved" if many == 1 else f"{many} VMs that might be moved"
        yield Obstacle(f"{vms} may not be evicted, as a dry run has shown")


def _numbers(found: Plan) -> dict[str, int]:
    """Number those that move, from 1, in the order in which they first do."""
    return {id: at for at, id in enumerate(dict.fromkeys(m.occupant for m in found.moves), 1)}
