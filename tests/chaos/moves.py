"""The judge's part for orders of moves: seen through the order that is kept, plans and pods alone.

* ``wrong move``: a pod is made to leave that no order has leave then, or whose order is stopped, or
  though the policy lets nobody be moved, or without a place held for its VM.
* ``order broken``: what is kept of an order changes as it may not: a second one beside it, more
  pods leave than it has moves, a move counts as made that is not, it goes on after its end.
* ``held for nobody``: something is held, or claimed, that belongs to no order as it is kept.
* ``hold broken``: the place of a VM under way is given away before it comes, or the order ends.
* ``left nowhere``: an order is over whose VM has left and come nowhere, and nothing was held for it
  though its place was free.

What a process did is judged by what was kept when it sent it: requests may be long on their way. A
write of the order that was so itself may have been given up by who sent it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from extender.policy.moving import Mode
from extender.policy.moving import Moving as Rules
from nodeagent.api import keys
from nodeagent.api.gpunode import Assignment, GpuNode, OwnerRef, PodRef
from tests.chaos.pods import Pod
from tests.chaos.wire import LATENCY_SECONDS

LATE_SECONDS = 12.0
"""For so long, what was sent before may still arrive, or what was read before be acted on."""

BACK_PREFIX = "back-"

GONE = "gone"
"""How a move is said to have been made whose VM was no more when its turn came."""


class Seat(msgspec.Struct, frozen=True, rename="camel"):
    """A place on a GPU."""

    node: str
    gpu: str
    profile_id: int
    start: int
    size: int

    def of(self, entry: Assignment) -> bool:
        """Tell whether an entry is for that very place."""
        return (entry.gpu, entry.profile_id, entry.start) == (self.gpu, self.profile_id, self.start)

    def overlaps(self, entry: Assignment) -> bool:
        """Tell whether an entry takes slices of it."""
        mask = ((1 << self.size) - 1) << self.start
        return entry.gpu == self.gpu and bool(entry.placement.mask & mask)


class Leg(msgspec.Struct, frozen=True):
    """One move."""

    owner: OwnerRef
    resource: str
    source: Seat
    target: Seat


class Place(msgspec.Struct, frozen=True):
    """Where a waiting pod is to go."""

    pod: PodRef
    seat: Seat


class Departure(msgspec.Struct, frozen=True):
    """Which pod is made to leave, and how."""

    pod: PodRef
    kind: str
    others: tuple[str, ...] = ()
    unready: bool = False


class Order(msgspec.Struct, frozen=True):
    """An order as it is kept."""

    id: str
    legs: tuple[Leg, ...]
    places: tuple[Place, ...] = ()
    made: tuple[Mapping[str, str], ...] = ()
    departed: Departure | None = None
    stopping: str = ""
    ending: str | None = None
    over: bool = False

    @property
    def at(self) -> int:
        """The index of the move that is under way, or next."""
        return len(self.made)

    def awaits(self, entry: Assignment) -> bool:
        """Tell whether an entry is held for a VM that has yet to come for it."""
        return entry.id in {
            f"{keys.MOVE_PREFIX}{self.id}-{leg}" for leg in range(self.at, len(self.legs))
        }

    @property
    def vm(self) -> str:
        """The name of the VM that is under way, or next; there is one."""
        return self.legs[self.at].owner.name

    @property
    def lets_go(self) -> bool:
        """Whether anybody may be made to leave for it."""
        return not (self.stopping or self.ending or self.over)


class Running(NamedTuple):
    """A VM as it runs: by its name, and the UID of its VirtualMachineInstance."""

    vm: str
    uid: str


Leaves = PodRef | Running | str
"""Whom somebody makes leave: a pod, a VM as it runs, or, by its name, however it does."""


class _ConfigMap(msgspec.Struct, frozen=True):
    data: dict[str, str]


_MAP = msgspec.json.Decoder(_ConfigMap)
_ORDER = msgspec.json.Decoder(Order)


class _Kept(msgspec.Struct, frozen=True):
    """An order as it was kept from a time on; one that was ``slow`` may have been unexpected."""

    order: Order | None
    since: float
    slow: bool = False


class Moves:
    """Follows orders of moves; *pods* are all there are, by UID, and *plans* by node."""

    def __init__(
        self, pods: Mapping[str, Pod], plans: Mapping[str, GpuNode], clock: Callable[[], float]
    ) -> None:
        self._pods = pods
        self._plans = plans
        self._clock = clock
        self._kept = [_Kept(None, 0.0)]
        self._rules: dict[str, list[tuple[float, Rules]]] = {}
        self._gone: dict[str, tuple[Pod, float]] = {}
        self._held_at: dict[str, float] = {}
        self._came: set[str] = set()
        self._provided = False
        self._was_ready = False
        self._ways_back: dict[str, Assignment] = {}
        self.orders = 0
        self.made = 0
        self.left: dict[str, str] = {}
        """How pods were made to leave, by UID."""

    # What is seen.

    def adopted(self, process: str, rules: Rules) -> None:
        """See a process go by the rules of another policy."""
        self._rules.setdefault(process, []).append((self._clock(), rules))

    def ended(self, pod: Pod) -> None:
        """See a pod go."""
        self._gone[pod.uid] = pod, self._clock()

    def kept(self, raw: bytes, sent: float) -> Iterator[str]:
        """See an order written; yield what is wrong about that."""
        after, before = _ORDER.decode(_MAP.decode(raw).data["order.json"]), self.order
        now = self._clock()
        slow = now - sent > LATENCY_SECONDS
        self._kept = [each for each in self._kept if each.since > now - 10 * LATE_SECONDS]
        self._kept = [*self._kept, _Kept(after, now, slow)]
        if before is None or before.id != after.id:
            self.orders += 1
            if before is not None and not before.over:
                yield f"order broken: {after.id} is given, and {before.id} is not over"
            if after.made or after.departed or after.ending or after.over:
                yield f"order broken: {after.id} does not begin at its beginning"
            self._came.clear()
        elif before != after:
            yield from self._changed(before, after)

    def _changed(self, before: Order, after: Order) -> Iterator[str]:
        name, leg = after.id, before.legs[before.at] if before.at < len(before.legs) else None
        if before.over:
            yield f"order broken: {name} goes on after it was over"
        if (before.legs, before.places) != (after.legs, after.places):
            yield f"order broken: {name} has other moves than it had"
        if before.ending and (not after.ending or after.made != before.made):
            yield f"order broken: {name} goes on after its end"
        if after.at > before.at:
            self.made += 1
            if leg is None or after.at > before.at + 1 or after.departed is not None:
                yield f"order broken: {name} has made more than it had to"
            elif after.made[-1].get("kind") == GONE:
                yield from self._passed_over(before, leg)
            else:
                yield from self._arrived(before, leg)
        elif before.departed is not None and (
            after.departed is None or after.departed.pod != before.departed.pod
        ):
            yield f"order broken: {name} has another pod leave for the same move"
        if after.departed is not None and before.departed is None:
            yield from self._departs_as_it_is(after, after.departed)
        if after.departed is not None and before.departed is None and not before.lets_go:
            yield f"order broken: {name} has a pod leave though it is stopped"
        if after.ending and not before.ending:
            self._provided = False
            self._look_for_provision(after)
        if after.over and not before.over and leg is not None and before.departed is not None:
            yield from self._provided_for(before, before.departed, leg)

    def _departs_as_it_is(self, order: Order, departure: Departure) -> Iterator[str]:
        """Note whether the pod that is to leave is Ready; yield it if the order has that wrong.

        One that is Ready for a moment only, the order need not know of.
        """
        gone, _ = self._gone.get(departure.pod.uid, (None, 0.0))
        pod = self._pods.get(departure.pod.uid) or gone
        late = self._clock() - LATE_SECONDS
        self._was_ready = pod is not None and pod.ready and not pod.over and pod.ready_at < late
        if self._was_ready and departure.unready:
            yield f"order broken: {order.id} has it that {departure.pod.name} is not Ready: it is"

    def _arrived(self, before: Order, leg: Leg) -> Iterator[str]:
        """Yield what is wrong about a move that counts as made."""
        name = f"{before.id}, move {before.at}"
        self._look_at_target(leg)
        came = [self._pods[uid] for uid in self._came if uid in self._pods]
        if not self._came or any(pod.node != leg.target.node for pod in came):
            yield f"order broken: {name} counts as made, and its VM has not come"
        left = None if before.departed is None else self._pods.get(before.departed.pod.uid)
        if left is not None and not left.over:
            yield f"order broken: {name} counts as made, and {left.name} still runs"
        departed = before.departed
        was = departed is None or self._was_ready or not departed.unready
        if was and came and not any(pod.ready for pod in came):
            yield f"order broken: {name} counts as made, and its VM has never been Ready there"
        self._came.clear()

    def _passed_over(self, before: Order, leg: Leg) -> Iterator[str]:
        """Yield what is wrong about a move that counts as made for its VM is no more."""
        name, source = f"{before.id}, move {before.at}", self._plans.get(leg.source.node)
        if before.departed is not None:
            last = before.departed.pod.name
            yield f"order broken: {name} is passed over, and {last} was to leave for it"
        for entry in () if source is None else source.spec.assignments:
            pod = None if entry.pod is None else self._pods.get(entry.pod.uid)
            if pod is not None and pod.alive and entry.owner == leg.owner and leg.source.of(entry):
                yield f"order broken: {name} is passed over, and {pod.name} is where it was"

    def _look_at_target(self, leg: Leg) -> None:
        """Note which pods of the owner have had the place where its VM is to go."""
        target = self._plans.get(leg.target.node)
        self._came |= {
            entry.pod.uid
            for entry in (() if target is None else target.spec.assignments)
            if entry.pod is not None and entry.owner == leg.owner and leg.target.of(entry)
        }

    def _provided_for(self, order: Order, departure: Departure, leg: Leg) -> Iterator[str]:
        gone, at = self._gone.get(departure.pod.uid, (None, 0.0))
        if self._provided or gone is None or self._clock() - at < LATE_SECONDS:
            return
        target = self._plans.get(leg.target.node)
        if target is not None and not any(map(leg.target.overlaps, target.spec.assignments)):
            yield f"left nowhere: {departure.pod.name} has left for {order.id}, nothing is held"

    def _look_for_provision(self, order: Order) -> None:
        """Note whether a VM that has left has a place, or one held for it."""
        if order.departed is None:
            return
        owner, last = order.legs[order.at].owner, order.departed.pod.uid
        self._provided |= any(
            entry.owner == owner
            and (entry.pod is None or entry.pod.uid != last)
            and not self.owns(order, entry)
            for plan in self._plans.values()
            for entry in plan.spec.assignments
        )

    def wrote(self, before: GpuNode | None, after: GpuNode, sent: float) -> Iterator[str]:
        """See a plan written; yield what is wrong about that."""
        known = {e.id: e for e in before.spec.assignments} if before else {}
        now = {e.id: e for e in after.spec.assignments}
        order = self.order
        for id in known:
            if id.startswith(keys.MOVE_PREFIX):
                self._held_at[id] = self._clock()
        for entry in (now[id] for id in now if id not in known):
            if self.answers_for(entry) and not self._is_ordered(after.name, entry):
                yield f"held for nobody: {entry.id} is of no order as it is kept"
            if self.answers_for(entry) and entry.id.startswith(BACK_PREFIX):
                self._ways_back[entry.id] = entry
        for last in (known[id] for id in known if id not in now):
            if self._ways_back.pop(last.id, None) is not None:
                heirs = (e for e in now.values() if e.owner == last.owner and _overlap(e, last))
                self._ways_back.update({each.id: each for each in heirs})
            if last.id.startswith(keys.MOVE_PREFIX):
                yield from self._given_back(last, now.values(), sent)
        if order is None or order.over:
            return
        if order.at < len(order.legs):
            self._look_at_target(order.legs[order.at])
        if order.ending:
            self._look_for_provision(order)

    def _given_back(
        self, last: Assignment, now: Iterable[Assignment], sent: float
    ) -> Iterator[str]:
        """Yield what is wrong about something held that leaves a plan."""
        if any(
            e.owner == last.owner and e.pod is not None and _overlap(e, last) for e in now
        ) or self._is_claim(last):
            return
        in_force = [o for o in self._at(sent) if o is not None and self.owns(o, last)]
        goes_on = [o for o in in_force if not (o.ending or o.over)]
        if goes_on and len(goes_on) == len([*self._at(sent)]):
            yield f"hold broken: {last.id} left before its order ended"

    # What is asked.

    @property
    def order(self) -> Order | None:
        """The order as it is kept."""
        return self._kept[-1].order

    @property
    def under_way(self) -> bool:
        """Whether an order is not over."""
        return self.order is not None and not self.order.over

    @staticmethod
    def owns(order: Order, entry: Assignment) -> bool:
        """Tell whether an entry is held for an order."""
        return entry.pod is None and entry.id.startswith(f"{keys.MOVE_PREFIX}{order.id}-")

    @staticmethod
    def answers_for(entry: Assignment) -> bool:
        """Tell whether an entry is held, or claimed, by an order: then this is its judge."""
        prefixes = (keys.MOVE_PREFIX, BACK_PREFIX)
        return entry.pod is None and entry.id.startswith(prefixes)

    def leads_back(self, entry: Assignment) -> bool:
        """Tell whether an entry is held for a VM that has left, or for its pod that comes back.

        To be asked before the plan that has the entry is seen: then what it has been held for it
        counts for the last time.
        """
        return (entry.pod is None and entry.id.startswith(BACK_PREFIX)) or any(
            entry.owner == each.owner and _overlap(entry, each) for each in self._ways_back.values()
        )

    @staticmethod
    def lasts(entry: Assignment) -> bool:
        """Tell whether an entry is held for as long as its order is under way."""
        return entry.pod is None and entry.id.startswith(keys.MOVE_PREFIX)

    def stray(self, entry: Assignment) -> bool:
        """Tell whether something is held for an order that is not under way."""
        order = self.order
        return self.lasts(entry) and (order is None or order.over or not self.owns(order, entry))

    def waits_for(self, claim: Assignment, other: Assignment) -> bool:
        """Tell whether a claim of an order may lie over an entry: over who is to leave for it."""
        if other.pod is None:
            return any(
                self.owns(order, claim) and self.owns(order, other) and not order.awaits(other)
                for order in self._lately()
                if order is not None
            )
        pod = self._pods.get(other.pod.uid)
        if pod is None or pod.over:
            return True
        return any(
            leg.owner == other.owner and leg.source.of(other)
            for order in self._lately()
            if order is not None and self.owns(order, claim)
            for leg in order.legs[order.at :]
        )

    # Who is made to leave.

    def concerns(self, uid: str) -> bool:
        """Tell whether an order has, or had lately, that pod leave."""
        return any(
            each.order is not None and each.order.departed and each.order.departed.pod.uid == uid
            for each in self._kept
        )

    def departs(self, pod: Leaves, kind: str, process: str, sent: float) -> Iterator[str]:
        """See a pod, or a VM, made to leave; yield what is wrong about that."""
        meant = [
            order
            for order in self._at(sent)
            if order is not None and order.departed is not None and order.departed.kind == kind
            if pod in (order.departed.pod, order.vm, self._run_by(order.departed.pod))
        ]
        if not meant:
            yield f"wrong move: {pod} is made to leave by {kind}, and no order has it leave"
            return
        for order in meant:
            assert order.departed is not None
            self.left[order.departed.pod.uid] = kind
        if not any(order.lets_go for order in meant):
            yield f"wrong move: {pod} is made to leave though its order is stopped"
        if not self._let(process, sent):
            yield f"wrong move: {pod} is made to leave though {process} knows that nobody may be"
        ids = [f"{keys.MOVE_PREFIX}{order.id}-{order.at}" for order in meant]
        there = {e.id for plan in self._plans.values() for e in plan.spec.assignments}
        late = self._clock() - LATE_SECONDS
        if not any(id in there or self._held_at.get(id, late) > late for id in ids):
            yield f"wrong move: {pod} is made to leave, and no place is held for its VM"

    def _run_by(self, pod: PodRef) -> Running | None:
        """Return what runs, or ran, in a pod."""
        gone, _ = self._gone.get(pod.uid, (None, 0.0))
        last = self._pods.get(pod.uid) or gone
        return None if last is None else Running(last.vm, last.runs)

    def _let(self, process: str, sent: float) -> bool:
        """Tell whether a process went by a policy then that lets pods be told to leave."""
        told = self._rules.get(process, ())
        known = [rules for at, rules in told if at < sent] or [rules for _, rules in told[:1]]
        also = [rules for at, rules in told if at == sent]
        return not told or any(_lets(rules) for rules in (*known[-1:], *also))

    def _at(self, time: float) -> Iterator[Order | None]:
        """Yield the order as it was kept at a time, or may have seemed to be."""
        for at, each in enumerate(self._kept):
            last = at + 1 == len(self._kept)
            until = float("inf") if last else self._kept[at + 1].since
            if not last and self._kept[at + 1].slow:
                until += LATE_SECONDS
            if each.since <= time <= until:
                yield each.order

    def _lately(self) -> Iterator[Order | None]:
        since = self._clock() - LATE_SECONDS
        for at, each in enumerate(self._kept):
            if at + 1 == len(self._kept) or self._kept[at + 1].since >= since:
                yield each.order

    def _is_ordered(self, node: str, entry: Assignment) -> bool:
        """Tell whether an order has it that this is held there."""
        return any(order is not None and _has(order, node, entry) for order in self._lately())

    @staticmethod
    def _is_claim(entry: Assignment) -> bool:
        return entry.owner is not None and entry.owner.kind == keys.PREEMPTOR


def _has(order: Order, node: str, entry: Assignment) -> bool:
    for at, leg in enumerate(order.legs):
        seat = leg.target
        if entry.id == f"{keys.MOVE_PREFIX}{order.id}-{at}":
            return seat.node == node and seat.of(entry) and entry.owner == leg.owner
        if entry.id == f"{keys.MOVE_PREFIX}{order.id}-{at}{keys.AHEAD_SUFFIX}":
            return seat.node == node and seat.of(entry) and at > order.at
        if entry.id == f"{BACK_PREFIX}{order.id}-{at}":
            there = any(each.node == node and each.of(entry) for each in (leg.source, seat))
            return there and entry.owner == leg.owner and at == order.at
    for at, place in enumerate(order.places):
        if entry.id == f"{keys.MOVE_PREFIX}{order.id}-to-{at}":
            ours = entry.owner is not None and entry.owner.name == place.pod.uid
            return ours and place.seat.node == node and place.seat.of(entry)
    return False


def _lets(rules: Rules) -> bool:
    return rules.mode is Mode.APPLY and not rules.paused and not rules.windows


def _overlap(one: Assignment, other: Assignment) -> bool:
    return one.gpu == other.gpu and bool(one.placement.mask & other.placement.mask)
