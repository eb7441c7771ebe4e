"""Bugs in the node agent; each function returns what plants one until it is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import patch

import msgspec

import nodeagent.actuate.work as work
import nodeagent.ownership as ownership
from nodeagent import slots
from nodeagent.actuate import Actuator
from nodeagent.agent.handout import Handout
from nodeagent.agent.passes import Passes
from nodeagent.api.gpunode import Realized


def use_unchecked() -> Any:
    whole = ownership.observe

    def observe(*args: Any, **named: Any) -> tuple[Any, ...]:
        found = whole(*args, **named)
        return tuple(msgspec.structs.replace(each, held="") for each in found)

    return patch.object(work, "observe", observe)


def claims_ignored() -> Any:
    return patch.object(Handout, "claimed", lambda self, host, made: frozenset())


def gi_id_as_identity() -> Any:
    """Remember for which assignment an id was given out, and believe it for ever."""
    known: dict[tuple[str, int], Any] = {}
    whole = ownership._is

    def same(live: Any, gpu: Any, made: Any) -> bool:
        key = (gpu.uuid, live.gi_id)
        if whole(live, gpu, made):
            known[key] = made.assignment
        return bool(known.get(key) == made.assignment)

    @contextlib.contextmanager
    def planted() -> Iterator[None]:
        with patch.object(ownership, "_is", same):
            yield

    return planted()


def all_is_ours() -> Any:
    def same(live: Any, gpu: Any, made: Any) -> bool:
        return bool(gpu.uuid == made.gpu and live.placement.mask & made.placement.mask)

    return patch.object(ownership, "_is", same)


def journal_afterwards() -> Any:
    saved = Actuator._saved

    async def late(self: Any, made: Any) -> bool:
        new = set(made) - set(self._journal.made)
        if new and not self.__dict__.pop("_put_off", False):
            self.__dict__["_put_off"] = True  # the save after the creation will do
            return True
        return bool(await saved(self, made))

    return patch.object(Actuator, "_saved", late)


def old_boot() -> Any:
    """Take what the journal has for ours, whichever boot it is from, and never forget it."""

    def remembered(made: Any, host: Any, **_: Any) -> Any:
        return tuple(msgspec.structs.replace(each, boot_id=host.boot_id) for each in made)

    return patch.object(work, "remembered", remembered)


def two_at_once() -> Any:
    def tied(ties: Any, plan: Any, claims: Any, *, live: Any, capacity: Any, **_: Any) -> Any:
        made, last = list(ties.ties), dict(ties.last)
        have = {tie.assignment for tie in made}
        for uid, entries in slots._pods(plan):
            missing = [e for e in entries if e.id not in have and e.id in live]
            taken = {tie.slot for tie in made} | claims.keys()
            for each, slot in slots._chosen(missing, taken, last, capacity):
                made.insert(0, slots.Tie(each.id, uid, each.resource, slot))
        return slots.Ties(tuple(made), last)

    return patch.object(slots, "tied", tied)


def told_too_soon() -> Any:
    def realized(self: Any, planned: Any) -> list[Realized]:
        return [Realized(id) for id in sorted(planned)]

    return patch.object(Passes, "_realized", realized)


def no_withdrawal() -> Any:
    """Destroy while the kubelet may still hand the slot out."""

    async def withdraw(self: Any, realized: Any, plan: Any, host: Any, *, awaited: Any) -> None:
        self.rivals = await self._answer(self._kubelet.rivals())
        self.holders = await self._answer(self._kubelet.holders())
        claims: Mapping[str, str] = await self._answer(self._kubelet.claims())
        before = self._known or slots.recovered(realized, plan, claims, awaited)
        self._claims = claims
        self._known = before

    async def narrow(self: Any, plan: Any, host: Any) -> None:
        """Do no more after destroying."""

    return patch.multiple(Handout, withdraw=withdraw, narrow=narrow)
