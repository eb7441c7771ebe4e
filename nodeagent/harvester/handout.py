"""Handing out what Harvester's device plugin serves.

A device is its own slot: an mdev's UUID (1.7) or a virtual function's address (1.8), as the kubelet
knows it. A pod may come when it is its turn (``turns``), all its devices are there and told to the
kubelet, and nothing else is there that it might be given and that is on its way out. What it was
really given, the kubelet tells afterwards.

It is the kubelet's own list that is waited for, and not the Node's status, which follows seconds
later: that a kubelet admits pods by the former is inferred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

import structlog

from nodeagent.actuate import Outcome
from nodeagent.adoption import stands
from nodeagent.api.gpunode import Assignment, Realized
from nodeagent.driver import DriverError, Host
from nodeagent.harvester.making import Making, Unfinished
from nodeagent.harvester.turns import Turn, expected, may_come, turns, unsafe
from nodeagent.journal import Made
from nodeagent.kubelet import Holder, KubeletError
from nodeagent.ownership import Observed
from nodeagent.purview import Purview

log = structlog.get_logger()

RETRY_SECONDS = 2.0
"""How soon a write that Harvester refused is tried again."""

_T = TypeVar("_T")


class Serving(Protocol):
    """What the kubelet tells."""

    async def holders(self) -> Sequence[Holder]:
        """Return the running pods that have devices for our resources."""

    async def devices(self) -> Mapping[str, Collection[str]]:
        """Return every healthy device of each resource."""


class HarvesterHandout:
    """Says which pods may come; *within* is the kubelet's time for each answer, in seconds."""

    def __init__(self, kubelet: Serving, making: Making, *, within: float) -> None:
        self._kubelet = kubelet
        self._making = making
        self._within = within
        self._devices: Mapping[str, Collection[str]] = {}
        self._realized: dict[str, str] | None = None
        self._had: set[str] = set()
        self._meant: dict[str, str] = {}
        self._used: set[str] | None = None
        self._plan: Sequence[Assignment] = ()
        self._turn = Turn()
        self._waiting: Mapping[str, str] = {}
        self._refused = False
        self._draining = False
        self.holders: Sequence[Holder] = ()
        self.rivals: Mapping[str, str] = {}

    @property
    def realized(self) -> tuple[Realized, ...]:
        """The assignments whose pods may come, or have."""
        return tuple(Realized(id, device) for id, device in (self._realized or {}).items())

    @property
    def had(self) -> Collection[str]:
        """The assignments whose device their pod has, or has had."""
        return self._had

    @property
    def unused(self) -> Collection[str]:
        """The assignments whose device nobody has had since it was first theirs.

        What was made for an assignment before this process began may have been had.
        """
        return self._meant.keys() - (self._used or ())

    @property
    def claimed_by(self) -> Mapping[str, str]:
        """The UID of the pod that has the device of each assignment."""
        owners = {each.device: each.pod.uid for each in self.holders}
        told = self._realized or {}
        return {id: owners[device] for id, device in told.items() if device in owners}

    @property
    def awaited(self) -> Mapping[str, str]:
        """Nobody: who comes for a resource is told from the plan alone."""
        return {}

    @property
    def drained(self) -> bool:
        """Whether no pod is expected that has yet to be given what it may come for."""
        coming = expected(self._plan, (self._realized or {}).keys(), self._turn)
        return self._draining and not coming

    @property
    def due_in(self) -> float:
        """In how many seconds to look again, at the latest; the rest is told of as it happens."""
        return RETRY_SECONDS if self._refused else float("inf")

    def drain(self) -> None:
        """Let nothing more be made."""
        self._draining = True

    async def withdraw(
        self,
        realized: Iterable[Realized],
        plan: Sequence[Assignment],
        host: Host,
        *,
        awaited: Mapping[str, str],
    ) -> None:
        """Learn who has what. Nothing can be withdrawn from a kubelet that others serve.

        Raises:
            KubeletError: it is not known, so nothing may be taken away.
        """
        # Devices first: one given away in between shows among both.
        self._devices = await self._answer(self._kubelet.devices())
        self.holders = await self._answer(self._kubelet.holders())
        planned = {each.id for each in plan}
        told = {each.id: each.slot for each in realized if each.slot}
        known = told if self._realized is None else self._realized
        self._realized = {id: device for id, device in known.items() if id in planned}
        pods = {each.id: each.pod.uid for each in plan if each.pod}
        self._had &= planned
        self._had |= {id for id, uid in self.claimed_by.items() if pods.get(id) == uid}
        held = {each.device for each in self.holders}
        if self._used is not None:
            self._used |= {id for id, device in self._meant.items() if device in held}

    async def narrow(self, plan: Sequence[Assignment], host: Host) -> None:
        """Do nothing: nothing can be withdrawn, and no device is ever taken for another."""

    def later(self, plan: Sequence[Assignment], host: Host, made: Iterable[Made]) -> frozenset[str]:
        """Return the assignments of *plan* for which nothing is to be made yet."""
        there = {(gpu.uuid, each.placement): each for gpu in host.gpus for each in gpu.instances}
        begun = {each.assignment for each in made if (each.gpu, each.placement) in there}
        self._used = begun if self._used is None else self._used & begun
        self._meant = {id: device for id, device in self._meant.items() if id in begun}
        self._plan, self._turn = plan, turns(plan, self.holders, begun)
        return self._turn.later(plan)

    def claimed(self, host: Host, made: Iterable[Made]) -> frozenset[str]:
        """Return the assignments whose GPU instance a pod may have, or may be about to be given.

        A pod that may come for a resource may be given any free device for it.
        """
        held = {each.device for each in self.holders}
        planned = {each.id for each in self._plan}
        coming = expected(self._plan, (self._realized or {}).keys(), self._turn)
        tempting = {id for resource in coming for id in self._devices.get(resource, ())}
        there = {(gpu.uuid, live.placement): live for gpu in host.gpus for live in gpu.instances}
        found = set(self.claimed_by)
        for each in made:
            live = there.get((each.gpu, each.placement))
            if live is None or live.device is None:
                continue
            leaves = each.assignment not in planned and not stands(live, ours=not each.lent)
            if live.device.id in held or (leaves and live.device.id in tempting):
                found.add(each.assignment)
        return frozenset(found)

    async def hand_out(
        self,
        plan: Sequence[Assignment],
        outcome: Outcome,
        *,
        purview: Purview,
        in_vain: Iterable[Assignment] = (),
    ) -> None:
        """Have devices made for those whose turn it is, and say which pods may come.

        Nobody can be kept from a device here, so who comes *in_vain* is not looked at.

        Raises:
            KubeletError: never; others hand out.
        """
        observed = {
            each.assignment: (gpu, each)
            for gpu, every in outcome.observed.items()
            for each in every
            if each.assignment
        }
        self._say(plan, outcome, {id: each for id, (_, each) in observed.items()})
        unfinished = [
            Unfinished(observed[each.id][0], observed[each.id][1].gi_id, each)
            for each in plan
            if each.id in self._turn.now
            and each.id in observed
            and observed[each.id][1].unfinished
            and purview.hands_out(each.resource)
        ]
        await self._go_on([] if self._draining else unfinished, outcome, observed)

    async def _go_on(
        self,
        unfinished: Sequence[Unfinished],
        outcome: Outcome,
        observed: Mapping[str, tuple[str, Observed]],
    ) -> None:
        try:
            further = await self._making.further(
                unfinished,
                planned={each.id for each in self._plan},
                ours={gpu for gpu, _ in observed.values()},
                host=outcome.host,
                held={each.device for each in self.holders},
            )
        except DriverError as error:
            log.warning("devices_not_made", error=str(error))
            self._refused = True
            return
        self._refused = further.refused
        if further.waiting != self._waiting:
            self._waiting = further.waiting
            log.info("devices_awaited", waiting=further.waiting)

    def _say(
        self, plan: Sequence[Assignment], outcome: Outcome, observed: Mapping[str, Observed]
    ) -> None:
        """Find out whose pods may come: those once told of still, while what they had is there."""
        devices = {
            id: each.device.id
            for id, each in observed.items()
            if each.device is not None and id in outcome.live
        }
        self._meant |= devices
        held = {each.device for each in self.holders}
        standing = {
            each.device.id
            for every in outcome.observed.values()
            for each in every
            if each.standing and each.device is not None
        }
        # What is meant for a pod whose turn comes later is well, too: if this one is given it, the
        # two change places.
        risky = unsafe(self._devices, held.union(standing, devices.values()))
        advertised = {id for ids in self._devices.values() for id in ids}
        # A pod whose device another one has been given is told to come only once the plan says
        # which it is to have instead: there may be none for it.
        owners = {each.device: each.pod.uid for each in self.holders}
        ready = {
            each.id
            for each in plan
            if each.pod is not None
            and (device := devices.get(each.id)) in advertised
            and owners.get(device, each.pod.uid) == each.pod.uid
        }
        told = {
            *(self._realized or ()),
            *self._turn.served,
            *may_come(plan, self._turn, ready=ready, risky=risky),
        }
        told &= devices.keys()
        self._realized = {each.id: devices[each.id] for each in plan if each.id in told}

    async def _answer(self, answer: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._within):
                return await answer
        except TimeoutError as error:
            raise KubeletError(f"the kubelet did not answer in {self._within:g} s") from error
