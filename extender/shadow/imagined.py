"""The fleet as it would be by now, had the shadow's policy decided since the stretch began.

VMs come as they do live. Each is placed, or waits, as the policy and the fleet as imagined have it.
It stays as long as it does live; one that live was refused stays as long as another like it
(``twins``). One that waits in imagination only gives up as those do that wait live
(``patience``). What only happens live is left out, as it is in replays
(:mod:`extender.replay.play`): plans of the pending queue as one, evictions for higher priority, and
places held for VMs that restart.
"""

from __future__ import annotations

import heapq
import math
from collections import OrderedDict
from collections.abc import Collection
from typing import assert_never

import msgspec

from extender.decision_log.demand import WAITING
from extender.metrics.tenants import NO_TENANT
from extender.replay.played import Fate
from extender.replay.recorded import Place, Resident
from extender.replay.seating import Guest, Seating
from extender.request import Gang, Request, Wanted
from extender.shadow import news
from extender.shadow.document import Evidence
from extender.shadow.evidence import Decided, Ledger
from extender.shadow.ground import Ground
from extender.shadow.news import News
from extender.shadow.patience import Patience
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
    came: float
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
        self._ground = Ground(begins.at)
        self._ledger = Ledger(begins.at, self._ground.mirror.meter, self._ground.meter)
        self._residents: dict[str, Resident] = {}
        self._known: Collection[str] = ()
        self._vms: dict[int, _Vm] = {}
        self._numbers: dict[str, int] = {}
        self._guests: dict[int, Guest] = {}
        self._seating: Seating | None = None
        self._next = 0
        self._twins = Twins()
        self._patience = Patience()
        self._leaving: list[tuple[float, int]] = []
        self._lingering: OrderedDict[int, None] = OrderedDict()
        self._departed: OrderedDict[str, None] = OrderedDict()
        self._gangs: dict[Gang, set[int]] = {}
        self._roomier = False
        self._taken = 1

    def take(self, item: News) -> None:
        """Take the next in.

        Raises:
            TooMany: more nodes have come and gone than are kept.
        """
        self._taken += 1
        self._until(item.at)
        match item:
            case news.Begins():
                raise ValueError("a stretch begins once")
            case news.Namespace(name=name, labels=labels):
                self._ground.namespace(name, labels)
            case news.NamespaceGone(name=name):
                self._ground.namespace_gone(name)
            case news.Node():
                self._roomier |= self._ground.about(item)
            case news.Gone():
                self._ground.gone(item)
            case news.Listed():
                self._ground.listed(item)
            case news.Gpus():
                self._roomier |= self._ground.reported(item)
                for pod, wanted, places in self._ground.mirror.places(item.node):
                    self._has(pod, wanted, places)
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
            taken=self._taken,
            waiting=0 if self._seating is None else len(self._seating),
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
            if vm.leaves == moment:  # in its turn it may have had a place by now
                self._ends(vm)
        self._turn_to(at)

    def _turn_to(self, at: float) -> None:
        """Let time pass; before that those have their turn who wait for the room there is."""
        if at <= self._now:
            return
        self._try_again()
        self._now = at
        self._ground.turn_to(at)

    def _try_again(self) -> None:
        if self._roomier and self._seating is not None:
            self._roomier = False
            self._seating.again(self._now)

    # The beginning.

    def _has(self, pod: PodRef, wanted: Wanted, places: tuple[Place, ...]) -> None:
        """Take in that a pod has places live."""
        if self._seating is not None:
            self._placed(pod, wanted, places)
            return
        before = self._residents.get(pod.uid)
        had = () if before is None else before.places
        of = Resident(pod.uid, pod.namespace, pod.name, tuple(sorted({*had, *places})))
        self._residents[pod.uid] = of

    def _ready(self, known: Collection[str]) -> None:
        self._known = set(known)
        world = self._ground.begin(self._begins.policy, self._residents.values())
        self._seating = Seating(world, self._guests, self._seated)
        self._ledger.uncounted = len(self._residents)

    # VMs, as they fare live.

    def _asked(self, item: news.Asked) -> None:
        uid = item.request.pod.uid
        seating = self._seating
        if seating is None or uid in self._residents or uid in self._departed:
            return
        number = self._numbers.get(uid)
        reasons = [code for code in item.codes if code not in _WAITING]
        if number is None:
            vm = self._comes(
                item.request, self._ground.where(item.names), counts=uid not in self._known
            )
        else:
            vm = self._vms[number]
            if item.names:
                self._may_go(vm, self._ground.where(item.names))
        if reasons and vm.refused is None:
            no_room = Code.NO_ROOM.value
            vm.refused = no_room if no_room in reasons else reasons[0]
            self._patience.waits(uid, vm.came)
        if number is None:
            self._try_again()
            seating.comes(vm.number, self._now)
            self._compare_gang(item.request.gang)
        self._compare(vm)

    def _may_go(self, vm: _Vm, where: tuple[str, ...] | None) -> None:
        """Take in where a VM may go by now that another node has joined."""
        if where == vm.guest.nodes or self._seating is None:
            return
        vm.guest = self._guests[vm.number] = msgspec.structs.replace(vm.guest, nodes=where)
        self._seating.elsewhere(vm.number)
        self._roomier = True

    def _placed(self, pod: PodRef, wanted: Wanted, places: tuple[Place, ...]) -> None:
        """Take in that a pod has its places live, unless it is only yet to be given back."""
        if pod.uid in self._residents or pod.uid in self._departed:
            return
        number = self._numbers.get(pod.uid)
        if number is None:  # it was asked about before the stretch began
            world = self._ground.world
            if world is not None and world.takes(pod, places):
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
        if vm.refused:
            self._patience.waited(vm.uid, self._now - vm.came, gave_up=False)
        self._twins.placed(vm.guest.request.wanted, vm.uid)
        fate = vm.guest.fate
        if fate.placed_at is None and fate.asked_at is not None:
            waited = self._now - fate.asked_at
            self._leaves(vm, fate.asked_at + self._patience.lasts(waited, self._now))
        had = fate.placed_at
        if vm.twin and had is not None and self._now - had <= CLOSE_SECONDS:
            vm.twin, vm.leaves = False, None
            self._twins.follows_no_more(vm.number)

    def _left(self, uid: str) -> None:
        self._departed[uid] = None
        while len(self._departed) > REMEMBERED:
            self._departed.popitem(last=False)
        if uid in self._residents:
            del self._residents[uid]
            self._gives_back(uid)
            return
        number = self._numbers.get(uid)
        vm = None if number is None else self._vms[number]
        if vm is None or vm.left is not None:
            return
        vm.left, fate = self._now, vm.guest.fate
        if vm.refused and vm.since is None:
            self._patience.waited(vm.uid, self._now - vm.came, gave_up=True)
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
        self._ground.met(request.pod.namespace)
        guest = self._guests[number] = Guest(request, where, Fate())
        vm = self._vms[number] = _Vm(number, request.pod.uid, guest, counts, self._now)
        self._numbers[vm.uid] = number
        if request.gang is not None:
            self._gangs.setdefault(request.gang, set()).add(number)
        self._ledger.uncounted += not counts
        return vm

    def _seated(self, number: int, at: float) -> None:
        """Foresee when a VM leaves that has its place."""
        vm = self._vms[number]
        vm.leaves = None  # it was to give up, if it waited for long
        self._lingering.pop(number, None)
        if vm.left is not None:
            self._leaves(vm, at + vm.stay)
        elif vm.since is None and vm.refused:
            vm.twin, leaves = self._twins.follow(vm.guest.request.wanted, number, at)
            if leaves is not None:
                self._leaves(vm, leaves)

    def _leaves(self, vm: _Vm, at: float) -> None:
        """Foresee when a VM leaves, or gives up if it waits."""
        if math.isinf(at):
            return
        vm.leaves = max(at, self._now)
        heapq.heappush(self._leaving, (vm.leaves, vm.number))

    def _ends(self, vm: _Vm) -> None:
        if vm.guest.fate.placed_at is None:
            self._over_in_vain(vm)
            return
        vm.guest.fate.ended_at = self._now
        self._gives_back(vm.uid)
        if vm.left is not None:
            self._forget(vm)

    def _over_in_vain(self, vm: _Vm) -> None:
        """Let a VM give up that live had its place."""
        assert self._seating is not None
        self._lingering.pop(vm.number, None)
        if vm.left is not None:
            self._gives_up(vm)
            return
        self._seating.gives_up(vm.number, self._now)
        self._compare_gang(vm.guest.request.gang)

    def _gives_back(self, uid: str) -> None:
        if self._ground.world is not None:
            self._ground.world.gone(uid)
            self._roomier = True

    def _gives_up(self, vm: _Vm) -> None:
        assert self._seating is not None
        self._seating.gives_up(vm.number, self._now)
        self._forget(vm)
        self._compare_gang(vm.guest.request.gang)

    def _forget(self, vm: _Vm) -> None:
        assert self._seating is not None
        self._seating.forget(vm.number)
        self._twins.follows_no_more(vm.number)
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
                self._ground.profiles_of(vm.guest.request.wanted),
                self._tenant(vm.guest.request.pod.namespace),
                vm.refused or vm.places,
                fate.refused or fate.places,
            ),
            self._now,
        )

    def _tenant(self, namespace: str) -> str:
        """Return whose a namespace is: by the policy, if it has tenants; else it is its own."""
        if not self._begins.policy.rules.tenants:
            return namespace
        assert self._ground.world is not None
        return self._ground.world.tenancy.tenant_of(namespace) or NO_TENANT
