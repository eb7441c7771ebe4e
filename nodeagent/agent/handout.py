"""Handing GPU instances out: ties, the kubelet's claims, and what is offered to it.

What another plugin has handed out before us is no slot: those who hold it are only read here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from nodeagent import slots
from nodeagent.actuate import Outcome
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Realized
from nodeagent.driver import Host, LiveInstance
from nodeagent.journal import Made
from nodeagent.kubelet import Device, Holder, Kubelet, KubeletError, Offer
from nodeagent.ownership import Observed
from nodeagent.purview import Purview

_T = TypeVar("_T")


class Handout:
    """Ties assignments to slots and offers them; *within* is each call's time in seconds."""

    def __init__(self, kubelet: Kubelet, *, within: float) -> None:
        self._kubelet = kubelet
        self._within = within
        self._known: slots.Ties | None = None
        self._claims: slots.Claims = {}
        self._offered: Offer | None = None
        self._unanswered = False
        self._behind: Mapping[str, _Place] = {}
        self._draining = False
        self.holders: Sequence[Holder] = ()
        self.rivals: Mapping[str, str] = {}

    @property
    def ties(self) -> slots.Ties:
        """The ties as of the last call."""
        return self._known or slots.Ties()

    @property
    def realized(self) -> Sequence[Realized]:
        """The ties, as the inventory tells them."""
        return self.ties.realized

    @property
    def had(self) -> Collection[str]:
        """The assignments whose slot a pod has, or has had."""
        return self.ties.had

    @property
    def unused(self) -> Collection[str]:
        """None: a slot is nobody else's."""
        return ()

    @property
    def due_in(self) -> float:
        """No hurry: whatever changes is told of."""
        return float("inf")

    @property
    def claimed_by(self) -> Mapping[str, str]:
        """The UID of the pod that has the slot of each assignment."""
        return self.ties.claimed_by(self._claims)

    @property
    def awaited(self) -> Mapping[str, str]:
        """The UID of the pod that comes next for each resource, though there is nothing for it."""
        return self.ties.awaited

    @property
    def drained(self) -> bool:
        """Whether no pod is waiting for a slot, and none will be."""
        return self._draining and not self.ties.waiting()

    def drain(self) -> None:
        """Tie no more pods."""
        self._draining = True

    async def withdraw(
        self,
        realized: Iterable[Realized],
        plan: Sequence[Assignment],
        host: Host,
        *,
        awaited: Mapping[str, str],
    ) -> None:
        """Untie what has left the plan and is not claimed, in the kubelet's eyes too.

        Nor is the kubelet to hand out a GPU instance that a reset, or somebody, has ended: the next
        that is made may have its id. A pod that asks meanwhile fails. The first time, the ties are
        those that an earlier agent told as *realized*, and kept who was *awaited*.

        Raises:
            KubeletError: the claims are not known, so nothing may be destroyed.
        """
        self.rivals = await self._answer(self._kubelet.rivals())
        self.holders = await self._answer(self._kubelet.holders())
        self._claims = await self._answer(self._kubelet.claims())
        before = self._known or slots.recovered(realized, plan, self._claims, awaited)
        self._known = await self._narrowed(before, plan, host)

    async def narrow(self, plan: Sequence[Assignment], host: Host) -> None:
        """Withdraw what has gone since :meth:`withdraw`, before something else is made.

        Raises:
            KubeletError: it may not have been told, or the claims are not known.
        """
        self._known = await self._narrowed(self.ties, plan, host)

    async def _narrowed(
        self, before: slots.Ties, plan: Sequence[Assignment], host: Host
    ) -> slots.Ties:
        """Have no more offered than what is left of the ties *before*; return these."""
        left = slots.kept(before, plan, self._claims)
        if self._offered is not None:
            offer = self._only(self._offered, left, host)
            if self._unanswered or offer != self._offered:
                await self._offer(offer)
                # A pod may have been given one of them just before.
                self._claims = await self._answer(self._kubelet.claims())
                left = slots.kept(before, plan, self._claims)
        return left

    def later(self, plan: Sequence[Assignment], host: Host, made: Iterable[Made]) -> frozenset[str]:
        """Return none: what is made is nobody's before its slot is tied."""
        return frozenset()

    def claimed(self, host: Host, made: Iterable[Made]) -> frozenset[str]:
        """Return the assignments whose GPU instance a pod may have.

        Behind a claimed slot without a tie may be any of ours that serves its resource; whose
        device was handed out by another plugin is known.
        """
        tied = {tie.slot for tie in self.ties.ties}
        unexplained = {slots.resource_of(slot) for slot in self._claims.keys() - tied}
        suspect = {
            (gpu.uuid, profile_id)
            for gpu in host.gpus
            for resource, profile_id in gpu.served(host.mode).items()
            if resource in unexplained
        }
        devices = {each.device for each in self.holders}
        held = {
            (gpu.uuid, live.placement)
            for gpu in host.gpus
            for live in gpu.instances
            if live.device is not None and live.device.id in devices
        }
        return self.ties.claimed_assignments(self._claims) | {
            each.assignment
            for each in made
            if (each.gpu, each.profile_id) in suspect or (each.gpu, each.placement) in held
        }

    async def hand_out(
        self,
        plan: Sequence[Assignment],
        outcome: Outcome,
        *,
        purview: Purview,
        in_vain: Iterable[Assignment] = (),
    ) -> None:
        """Tie those whose turn it is, and offer the kubelet what is behind their slots.

        For those *in_vain* see :func:`nodeagent.slots.tied`.

        Raises:
            KubeletError: it may not know of them.
        """
        existing = {it.assignment for observed in outcome.observed.values() for it in observed}
        useless = slots.without_instance(self.ties, self._claims, existing)
        room = {
            resource: count + useless[resource]
            for resource, count in slots.capacity(outcome.host).items()
            if purview.hands_out(resource)
        }
        self._known = slots.tied(
            self.ties,
            plan,
            self._claims,
            live=outcome.live,
            capacity={} if self._draining else room,
            in_vain=in_vain,
        )
        live = {
            each.assignment: (gpu, each, each.device)
            for gpu, observed in outcome.observed.items()
            for each in observed
            if each.device is not None and each.assignment in outcome.live
        }
        behind = {
            tie.slot: live[tie.assignment] for tie in self._known.ties if tie.assignment in live
        }
        self._behind = {slot: _place(gpu, each) for slot, (gpu, each, _) in behind.items()}
        await self._offer(
            Offer(
                slots=_advertised(room, self._known),
                waiting=self._known.waiting(),
                devices={
                    slot: Device(each.assignment, gpu, each.gi_id, device.id, device.nodes)
                    for slot, (gpu, each, device) in behind.items()
                },
            )
        )

    def _only(self, offer: Offer, ties: slots.Ties, host: Host) -> Offer:
        """Return *offer* without what is not tied, and without what is not there as it was.

        The slots of a pod that is waited for stay the next to be given, be there nothing behind
        them: it is to get no other pod's.
        """
        tied = {tie.slot for tie in ties.ties}
        there = {_place(gpu.uuid, each) for gpu in host.gpus for each in gpu.instances}
        return Offer(
            slots=offer.slots,
            waiting={
                resource: left
                for resource, names in offer.waiting.items()
                if (left := tuple(slot for slot in names if slot in tied))
            },
            devices={
                slot: device
                for slot, device in offer.devices.items()
                if slot in tied and self._behind[slot] in there
            },
        )

    async def _offer(self, offer: Offer) -> None:
        self._offered, self._unanswered = offer, True
        await self._answer(self._kubelet.offer(offer))
        self._unanswered = False

    async def _answer(self, answer: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(self._within):
                return await answer
        except TimeoutError as error:
            raise KubeletError(f"the kubelet did not answer in {self._within:g} s") from error


def _advertised(room: Mapping[str, int], ties: slots.Ties) -> dict[str, tuple[str, ...]]:
    """Return each resource's slots: what there is room for, and what is tied beyond that.

    A GPU may have been handed back, or be lost, while pods still have slots from when it counted.
    """
    names = {
        resource: dict.fromkeys(slots.slot_name(resource, n) for n in range(count))
        for resource, count in room.items()
    }
    for tie in ties.ties:
        names.setdefault(tie.resource, {})[tie.slot] = None
    return {resource: tuple(each) for resource, each in names.items()}


_Place = tuple[str, int, int, Placement, str]
"""A GPU's UUID, and on it a GPU instance: its id, profile, placement and its device's id."""


def _place(gpu: str, there: Observed | LiveInstance) -> _Place:
    device = "" if there.device is None else there.device.id
    return gpu, there.gi_id, there.profile_id, there.placement, device
