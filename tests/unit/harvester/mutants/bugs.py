"""The bugs; each function returns what plants one until it is left."""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import msgspec

from nodeagent import adoption, reconcile
from nodeagent.agent import passes
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Layout
from nodeagent.driver import DriverError
from nodeagent.harvester import decide, handout, join, making
from nodeagent.harvester.courtesy import Courtesy
from nodeagent.harvester.decide import Configure, Touch, Wait
from nodeagent.harvester.door import ClusterObjects
from nodeagent.harvester.driver import HarvesterDriver
from nodeagent.harvester.giving_way import GiveWay
from nodeagent.harvester.join import NOT_ENABLED, Joined
from nodeagent.harvester.turns import Turn
from nodeagent.nvml import NvmlDriver
from nodeagent.vgpu.sysfs import MDEV_BUS


@contextlib.contextmanager
def _all(*plantings: Any) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for each in plantings:
            stack.enter_context(each)
        yield


async def _nothing(*_: object, **__: object) -> None:
    """Do nothing."""


def never_shut() -> Any:
    return _all(
        patch.object(Courtesy, "heeded", lambda self, needs, *, now: {}),
        patch.object(GiveWay, "leave_alone", _nothing),
    )


def enabled_is_taken_for_done() -> Any:
    """Take a GPU that was enabled before this agent began to have its functions."""
    whole = GiveWay.settle

    async def settle(self: Any) -> None:
        seen = self.__dict__.setdefault("_seen_disabled", set())
        gpus = self._objects.now().gpus
        seen.update(each.head.name for each in gpus if not each.enabled)
        if any(each.head.name in seen for each in gpus):
            await whole(self)
        else:
            self._gpus.reopen()

    return patch.object(GiveWay, "settle", settle)


class _Whatever(tuple[int, ...]):
    """GPU instances that are never in the way."""

    __hash__ = tuple.__hash__

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False


def two_candidates() -> Any:
    return _all(
        patch.object(reconcile, "_may_take_its_vgpu", lambda observed, wanted: False),
        patch.object(Joined, "vacant", lambda self, profile_id: _Whatever()),
    )


def arrivals_overlooked() -> Any:
    """Take a vGPU away as if Harvester had no other one to make."""
    whole = HarvesterDriver._empty

    async def empty(self: Any, found: Joined, instance: Any) -> None:
        devices = tuple(e for e in found.devices if not e.enabled or e.address in found.vgpus)
        await whole(self, msgspec.structs.replace(found, devices=devices), instance)

    return patch.object(HarvesterDriver, "_empty", empty)


def device_first() -> Any:
    whole = HarvesterDriver.create

    async def create(self: Any, gpu: Any, profile_id: int, place: Any, purpose: Any = None) -> int:
        found = (await self.joined())[gpu]
        kind = next(each for each in found.gpu.vgpu_types if each.profile_id == profile_id)
        with contextlib.suppress(DriverError):
            await self._objects.enable(found.devices[0], kind.name, purpose.assignment)
        return await whole(self, gpu, profile_id, place, purpose)

    return patch.object(HarvesterDriver, "create", create)


def another_place() -> Any:
    whole = NvmlDriver.create

    async def create(self: Any, gpu: Any, profile_id: int, place: Any, purpose: Any = None) -> int:
        moved = Placement((place.start + place.size) % 6, place.size)
        return await whole(self, gpu, profile_id, moved, purpose)

    return patch.object(NvmlDriver, "create", create)


def destroy_first() -> Any:
    async def destroy(self: Any, gpu: str, gi_id: int) -> None:
        await self._gpus.destroy(gpu, gi_id)

    return patch.object(HarvesterDriver, "destroy", destroy)


def never_disabled() -> Any:
    return patch.object(ClusterObjects, "disable", _nothing)


def keepers_ignored() -> Any:
    whole = ClusterObjects.now

    def now(self: Any) -> Any:
        return msgspec.structs.replace(whole(self), keepers={}, named=frozenset())

    return patch.object(ClusterObjects, "now", now)


def without_uuid() -> Any:
    """Take what a VGPUDevice is for to be what there is."""

    def declared(device: Any, vgpu: Any) -> bool:
        return device is not None and bool(device.enabled)

    return _all(
        patch.object(join, "is_declared", declared), patch.object(decide, "is_declared", declared)
    )


def without_version() -> Any:
    whole = ClusterObjects._write

    async def write(self: Any, call: Any, kind: Any, head: Any, *rest: Any) -> bytes:
        api = self._api

        class Careless:
            async def patch(self, kind: Any, name: str, body: Any, **options: Any) -> bytes:
                metadata = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
                return bytes(await api.patch(kind, name, body | {"metadata": metadata}, **options))

        self._api = Careless()
        try:
            return await whole(self, call, kind, head, *rest)
        finally:
            self._api = api

    return patch.object(ClusterObjects, "_write", write)


def asking() -> Any:
    whole = ClusterObjects._write

    async def write(
        self: Any, call: Any, kind: Any, head: Any, spec: Any, annotations: Any
    ) -> bytes:
        if kind.plural == "migconfigurations" and spec.get("enabled"):
            spec = spec | {"profileSpec": [{"name": "MIG 1g.5gb", "id": 19, "requested": 1}]}
        return await whole(self, call, kind, head, spec, annotations)

    return patch.object(ClusterObjects, "_write", write)


def cut_while_disabled() -> Any:
    whole = join.unready

    def unready(*args: Any) -> str:
        return "" if (said := whole(*args)) == NOT_ENABLED else said

    return _all(
        patch.object(join, "unready", unready),
        patch.object(
            making,
            "layout",
            lambda *args, **named: (
                None if isinstance(it := decide.layout(*args, **named), Configure) else it
            ),
        ),
    )


def layout_given_up() -> Any:
    whole = decide.layout

    def layout(gpu: Any, objects: Any, **named: Any) -> Any:
        ours = msgspec.structs.replace(gpu, layout=Layout.DYNAMIC, cut_by_hand=True)
        return whole(ours, objects, **named)

    return patch.object(making, "layout", layout)


def lent_is_ours() -> Any:
    """Take what was cut by hand to be ours from then on that a VM of ours has it."""
    whole = adoption.adoptions

    def adoptions(*args: Any, **named: Any) -> Any:
        return tuple(msgspec.structs.replace(each, lent=False) for each in whole(*args, **named))

    return patch.object(passes, "adoptions", adoptions)


def overruled() -> Any:
    """Enable functions whoever has disabled them."""
    whole = decide.layout

    def layout(gpu: Any, objects: Any, **named: Any) -> Any:
        fresh = tuple(msgspec.structs.replace(each, as_made=True) for each in objects.gpus)
        return whole(gpu, msgspec.structs.replace(objects, gpus=fresh), **named)

    return patch.object(making, "layout", layout)


def never_thawed() -> Any:
    return patch.object(
        decide, "_handed_back", lambda mig: Configure(mig, enabled=False, ours=False)
    )


def own_mdev() -> Any:
    whole = HarvesterDriver.create

    async def create(self: Any, gpu: Any, profile_id: int, place: Any, purpose: Any = None) -> int:
        gi_id = await whole(self, gpu, profile_id, place, purpose)
        device = (await self.joined())[gpu].devices[0]
        types = MDEV_BUS / device.address / "mdev_supported_types"
        sysfs = self._kernel._sysfs
        for name in sysfs.names(types):
            if sysfs.read(types / name / "available_instances") == "1":
                sysfs.write(types / name / "create", str(uuid.uuid4()))
                break
        return gi_id

    return patch.object(HarvesterDriver, "create", create)


def told_early() -> Any:
    """Say that a pod may come as soon as its device is there, told to the kubelet or not."""
    return patch.object(handout, "may_come", lambda plan, turn, *, ready, risky: turn.now)


def all_at_once() -> Any:
    def turns(plan: Any, holders: Any, begun: Any) -> Turn:
        return Turn(frozenset(each.id for each in plan))

    return patch.object(handout, "turns", turns)


def never_touched() -> Any:
    whole = making._next

    @functools.wraps(whole)
    def waiting(*args: Any) -> Any:
        step = whole(*args)
        return Wait("for ever") if isinstance(step, Touch) else step

    return patch.object(making, "_next", waiting)
