"""The fleet as it would be by now, had the shadow's policy decided since the stretch began.

VMs come as they do live. Each is placed, or waits, as the policy and the fleet as imagined have it.
It stays as long as it does live; one that live was refused stays as long as another like it
(``twins``). What only happens live is left out, as it is in replays (:mod:`extender.replay.play`):
plans of the pending queue as one, evictions for higher priority, and places held for VMs that
restart.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Collection
from typing import assert_never

import msgspec

from extender.decision_log.demand import WAITING
from extender.replay.meter import Meter
from extender.replay.played import Fate
from extender.replay.recorded import Place, Resident
from extender.replay.seating import Guest, Seating
from extender.replay.views import profiles
from extender.replay.world import World
from extender.request import Gang, Request
from extender.shadow import news
from extender.shadow.document import Evidence
from extender.shadow.evidence import Decided, Ledger
from extender.shadow.mirror import Mirror
from extender.shadow.news import News
from extender.shadow.twins import Twins
from extender.verbs.reasons import Code
from nodeagent.api.gpunode import PodRef

CLOSE_SECONDS = 60.0
"""A VM that has its place live so soon after it has it in imagination stays as long as it does
live: the live extender wakes who waits, and kube-scheduler asks again, when there is room."""

MOST_LINGERING = 2_000
"""VMs that still wait in imagination though they are over live; who has done so longest gives up.

They would have waited: they had their places live, and left in their time."""

REMEMBERED = 20_000
"""VMs that have left: what they had is given back live within seconds."""

MOST_WISHES = 10_000  # whose words are remembered

_WAITING = {code.value for code in WAITING}


class _Vm(msgspec.Struct):
    """A VM: what becomes of it live, and in which way it leaves in imagination.

    ``refused`` is the first that is known of it live: why not, "" if it had its place, None if
    nothing is known yet. It has its ``places`` ``since`` then, and left at ``left``. ``leaves`` is
    when it does so in imagination, if that is known; a ``twin`` decides if another VM does.
    """

    number: int
    uid: str
    guest: Guest
    counts: bool
    refused: str | None = None
    places: tuple[Place, ...] = ()
    since: float | None = None
    left: float | None = None
    leaves: float | None = None
    twin: bool = False
    told: bool = False

    @property
    def stay(self) -> float:
        """How long it had its place live."""
        assert self.left is not None
        assert self.since is not None
        return self.left - self.since


class Imagined:
    """Plays the news of one stretch."""

    def __init__(self, begins: news.Begins) -> None:
        self._begins = begins
        self._now = begins.at
        self._mirror = Mirror()
        self._mirror.meter.now = begins.at
        self._meter = Meter()
        self._meter.now = begins.at
        self._ledger = Ledger(begins.at, self._mirror.meter, self._meter)
        self._namespaces: dict[str, dict[str, str]] = {}
        self._residents: dict[str, Resident] = {}
        self._known: Collection[str] = ()
        self._world: World | None = None
        self._vms: dict[int, _Vm] = {}
        self._numbers: dict[str, int] = {}
        self._guests: dict[int, Guest] = {}
        self._next = 0
        self._twins = Twins()
        self._leaving: list[tuple[float, int]] = []
        self._lingering: OrderedDict[int, None] = OrderedDict()
        self._departed: OrderedDict[str, None] = OrderedDict()
        self._gangs: dict[Gang, set[int]] = {}
        self._roomier = False
        self._words: dict[tuple[str, ...], str] = {}

    def take(self, item: News) -> None:
        """Take the next in.

        Raises:
            TooMany: more nodes have come and gone than are kept.
        """
        self._until(item.at)
        match item:
            case news.Begins():
                raise ValueError("a stretch begins once")
            case news.Namespace(name=name, labels=labels):
                self._namespaces[name] = dict(labels)
                if self._world is not None:
                    self._world.namespace(name, labels)
            case news.Node():
                self._node(item)
            case news.Gone(name=name):
                if self._mirror.gone(name) and self._world is not None:
                    self._world.closed(name)
            case news.Gpus():
                self._gpus(item)
            case news.Ready(known=known):
                self._ready(known)
            case news.Asked():
                self._asked(item)
            case news.Left(uid=uid):
                self._left(uid)
            case unexpected:
                assert_never(unexpected)
        self._until(self._now)

    def evidence(self) -> Evidence:
        """Return what the stretch shows so far."""
        return self._ledger.evidence(
            policy=self._begins.policy.version,
            live_policy=self._begins.live,
            now=self._now,
            waiting=0 if self._world is None else len(self._seating),
        )

    # Time.

    def _until(self, at: float) -> None:
        """Let all happen that does up to a time: who leaves, and who has waited for that."""
        while self._leaving and self._leaving[0][0] <= at:
            moment, number = heapq.heappop(self._leaving)
            vm = self._vms.get(number)
            if vm is None or vm.leaves != moment:
                continue
            self._turn_to(moment)
            self._ends(vm)
        self._turn_to(at)

    def _turn_to(self, at: float) -> None:
        """Let time pass; before that those have their turn who wait for the room there is."""
        if at <= self._now:
            return
        self._try_again()
        self._now = self._mirror.meter.now = self._meter.now = at

    def _try_again(self) -> None:
        if self._roomier and self._world is not None:
            self._roomier = False
            self._seating.again(self._now)

    # Nodes.

    def _node(self, item: news.Node) -> None:
        name = item.name
        before = self._mirror.closed(name)
        changed = self._mirror.about(name, item.labels, closed=item.closed)
        if self._world is None or name not in self._world.views:
            return
        if changed is not None:
            self._world.changed(changed)
        now = self._mirror.closed(name)
        if now != before:
            self._world.closed(name, closed=now)
            self._roomier |= before

    def _gpus(self, item: news.Gpus) -> None:
        before = self._mirror.closed(item.node.name)
        changed = self._mirror.reported(item.node, listed=item.listed)
        name, world = item.node.name, self._world
        if name not in self._mirror.nodes:
            return
        now = self._mirror.closed(name)
        if world is None:
            for pod, _, places in self._mirror.places(item.node):
                self._resides(pod, places)
            return
        if name not in world.views:
            world.came(self._mirror.nodes[name])
            self._roomier = True
            if now:
                world.closed(name)
        else:
            if changed is not None:
                world.changed(changed)
                self._roomier = True
            if now != before:
                world.closed(name, closed=now)
                self._roomier |= before
        for pod, wanted, places in self._mirror.places(item.node):
            self._placed(pod, wanted, places)

    # The beginning.

    def _resides(self, pod: PodRef, places: tuple[Place, ...]) -> None:
        before = self._residents.get(pod.uid)
        had = () if before is None else before.places
        of = Resident(pod.uid, pod.namespace, pod.name, tuple(sorted({*had, *places})))
        self._residents[pod.uid] = of

    def _ready(self, known: Collection[str]) -> None:
        self._known = set(known)
        mirror = self._mirror
        record = msgspec.structs.replace(
            mirror.as_record(),
            residents=tuple(self._residents.values()),
            namespaces=self._namespaces,
        )
        self._world = world = World(record, self._begins.policy, self._meter.look_at)
        for name, labels in self._namespaces.items():
            world.namespace(name, labels)
        for name in mirror.nodes:
            if mirror.closed(name):
                world.closed(name)
        self._seating = Seating(world, self._guests, self._seated)
        self._ledger.uncounted = len(self._residents)

    # VMs, as they fare live.

    def _asked(self, item: news.Asked) -> None:
        uid = item.request.pod.uid
        if self._world is None or uid in self._residents or uid in self._departed:
            return
        number = self._numbers.get(uid)
        reasons = [code for code in item.codes if code not in _WAITING]
        if number is None:
            vm = self._comes(item.request, self._where(item.names), counts=uid not in self._known)
        else:
            vm = self._vms[number]
        if reasons and vm.refused is None:
            no_room = Code.NO_ROOM.value
            vm.refused = no_room if no_room in reasons else reasons[0]
        if number is None:
            self._try_again()
            self._seating.comes(vm.number, self._now)
            self._compare_gang(item.request.gang)
        self._compare(vm)

    def _placed(self, pod: PodRef, wanted: tuple[str, ...], places: tuple[Place, ...]) -> None:
        """Take in that a pod has its places live, unless it is only yet to be given back."""
        if pod.uid in self._residents or pod.uid in self._departed:
            return
        number = self._numbers.get(pod.uid)
        if number is None:  # it was asked about before the stretch began
            if self._world is not None and self._world.takes(pod, places):
                vm = self._comes(Request(pod, wanted), None, counts=False)
                fate = vm.guest.fate
                fate.asked_at = fate.placed_at = self._now
                fate.places = places
                self._now_placed(vm, places)
            return
        vm = self._vms[number]
        if vm.since is None and vm.left is None:
            self._now_placed(vm, places)
            self._compare(vm)

    def _now_placed(self, vm: _Vm, places: tuple[Place, ...]) -> None:
        vm.since, vm.places = self._now, places
        if vm.refused is None:
            vm.refused = ""
        self._twins.placed(vm.guest.request.wanted, vm.uid)
        had = vm.guest.fate.placed_at
        if vm.twin and had is not None and self._now - had <= CLOSE_SECONDS:
            vm.twin, vm.leaves = False, None

    def _left(self, uid: str) -> None:
        self._departed[uid] = None
        while len(self._departed) > REMEMBERED:
            self._departed.popitem(last=False)
        if uid in self._residents:
            del self._residents[uid]
            if self._world is not None:
                self._world.gone(uid)
                self._roomier = True
            return
        number = self._numbers.get(uid)
        vm = None if number is None else self._vms[number]
        if vm is None or vm.left is not None:
            return
        vm.left, fate = self._now, vm.guest.fate
        if vm.since is not None:
            for follower, leaves in self._twins.left(uid, vm.stay):
                other = self._vms.get(follower)
                if other is not None and other.twin:
                    self._leaves(other, leaves)
        if fate.ended_at is not None:
            self._forget(vm)
        elif fate.placed_at is None:
            self._over_while_waiting(vm)
        elif not vm.twin:
            longer = vm.since is not None and fate.placed_at > vm.since
            self._leaves(vm, fate.placed_at + vm.stay if longer else self._now)

    def _over_while_waiting(self, vm: _Vm) -> None:
        """Let a VM give up, or wait on if it had its place live and left in its time."""
        if vm.since is None:
            self._gives_up(vm)
            return
        self._lingering[vm.number] = None
        if len(self._lingering) > MOST_LINGERING:
            oldest, _ = self._lingering.popitem(last=False)
            self._gives_up(self._vms[oldest])

    # VMs, in imagination.

    def _comes(self, request: Request, where: tuple[str, ...] | None, *, counts: bool) -> _Vm:
        number, self._next = self._next, self._next + 1
        namespace = request.pod.namespace
        if self._world is not None and namespace not in self._namespaces:
            self._namespaces[namespace] = {}
            self._world.namespace(namespace, {})
        guest = self._guests[number] = Guest(request, where, Fate())
        vm = self._vms[number] = _Vm(number, request.pod.uid, guest, counts)
        self._numbers[vm.uid] = number
        if request.gang is not None:
            self._gangs.setdefault(request.gang, set()).add(number)
        self._ledger.uncounted += not counts
        return vm

    def _where(self, names: Collection[str]) -> tuple[str, ...] | None:
        """Return the nodes that a pod may go to, None for all there are."""
        there = {name for name in self._mirror.nodes if self._mirror.is_there(name)}
        offered = set(names)
        if not offered or there <= offered:
            return None
        return tuple(name for name in names if name in there)

    def _seated(self, number: int, at: float) -> None:
        """Foresee when a VM leaves that has its place."""
        vm = self._vms[number]
        self._lingering.pop(number, None)
        if vm.left is not None:
            self._leaves(vm, at + vm.stay)
        elif vm.since is None and vm.refused:
            vm.twin, leaves = self._twins.follow(vm.guest.request.wanted, number, at)
            if leaves is not None:
                self._leaves(vm, leaves)

    def _leaves(self, vm: _Vm, at: float) -> None:
        vm.leaves = max(at, self._now)
        heapq.heappush(self._leaving, (vm.leaves, vm.number))

    def _ends(self, vm: _Vm) -> None:
        assert self._world is not None
        vm.guest.fate.ended_at = self._now
        self._world.gone(vm.uid)
        self._roomier = True
        if vm.left is not None:
            self._forget(vm)

    def _gives_up(self, vm: _Vm) -> None:
        self._seating.gives_up(vm.number, self._now)
        self._forget(vm)
        self._compare_gang(vm.guest.request.gang)

    def _forget(self, vm: _Vm) -> None:
        self._seating.forget(vm.number)
        del self._vms[vm.number], self._guests[vm.number], self._numbers[vm.uid]
        gang = vm.guest.request.gang
        if gang is not None and gang in self._gangs:
            self._gangs[gang].discard(vm.number)
            if not self._gangs[gang]:
                del self._gangs[gang]

    # What comes of both.

    def _compare_gang(self, gang: Gang | None) -> None:
        """Compare the members of a gang: with the last that comes, all are decided about."""
        for number in tuple(self._gangs.get(gang, ())) if gang is not None else ():
            self._compare(self._vms[number])

    def _compare(self, vm: _Vm) -> None:
        """Count a VM once both have decided about it."""
        fate = vm.guest.fate
        if vm.told or not vm.counts or vm.refused is None or fate.asked_at is None:
            return
        if not vm.refused and vm.since is None:
            return
        vm.told = True
        self._ledger.add(
            Decided(
                self._profile(vm.guest.request.wanted),
                self._tenant(vm.guest.request.pod.namespace),
                vm.refused or vm.places,
                fate.refused or fate.places,
            ),
            self._now,
        )

    def _profile(self, wanted: tuple[str, ...]) -> str:
        """Return the profiles that a request comes to, in words."""
        known = self._words.get(wanted)
        if known is None:
            assert self._world is not None
            of = profiles(self._world.views.values())
            counts = Counter(of.get(each, "(none)") for each in wanted)
            known = " + ".join(
                name if count == 1 else f"{count} x {name}"
                for name, count in sorted(counts.items())
            )
            if len(self._words) >= MOST_WISHES:
                self._words.clear()
            if "(none)" not in counts:
                self._words[wanted] = known
        return known

    def _tenant(self, namespace: str) -> str:
        """Return whose a namespace is: by the policy, if it has tenants; else it is its own."""
        if not self._begins.policy.rules.tenants:
            return namespace
        assert self._world is not None
        return self._world.tenancy.tenant_of(namespace) or "(none)"
