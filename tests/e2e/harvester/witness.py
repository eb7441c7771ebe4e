"""Who watches: where each launcher was decided to be, what VMs kept then, and what became of it.

Decisions are those of the Bindings, which stay in the pods' annotations. Plans are rewritten where
the kubelet has picked another kept device, so what a plan says in the end proves nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import Any

import msgspec

from nodeagent.api import gpunode
from nodeagent.apiserver.protocol import GPU_NODES, PODS, ApiServer, Kind
from nodeagent.apiserver.reflector import Deleted, Pace, Replaced, Upserted, reflect
from tests.e2e.harvester.place import Place, decided
from tests.fakes.kubevirt.launcher import LAUNCHER
from tests.fakes.pcidevices.names import VMS
from tests.fakes.pcidevices.webhooks import allocated

Devices = Callable[[str, Collection[str], str], frozenset[Place]]
"""Returns where, on a node, the devices of these names are that the pod of a UID may be given."""

SOON = Pace(longest_pause=1.0)
"""How patient a watch is with an API server that does not serve the kind yet, or any more."""


class Launcher(msgspec.Struct):
    """A launcher that was bound: of which VM, to which node, ``decided`` to be where.

    ``kept`` are the devices there that VMs named as theirs at that moment and that no other VM had
    open, so those of VMs that were off. ``planned`` is what the plan says, or said last. A VM that
    somebody else has bound was ``decided`` by nobody.
    """

    name: str
    node: str
    kept: frozenset[Place]
    decided: Counter[Place] | None = None
    planned: Counter[Place] = msgspec.field(default_factory=Counter)

    @property
    def strayed(self) -> Counter[Place]:
        """Where it was planned to be in the end, and not decided to be."""
        return self.planned - (self.decided or self.planned)


class Rejected(msgspec.Struct, frozen=True):
    """A launcher that has failed, and why its node said so."""

    name: str
    node: str
    reason: str
    message: str


class Witness:
    """Watches *api*; *devices* tells where devices are. By UID are the ``launchers``."""

    def __init__(self, api: ApiServer, devices: Devices) -> None:
        self._api = api
        self._devices = devices
        self._named: dict[str, Collection[str]] = {}
        self._rejected: dict[str, Rejected] = {}
        self._planned: dict[str, Counter[Place]] = {}
        self.launchers: dict[str, Launcher] = {}

    @property
    def rejected(self) -> list[Rejected]:
        """The launchers that have failed."""
        return list(self._rejected.values())

    @property
    def rewritten(self) -> list[str]:
        """The VMs for which the plan came to say another place than was decided."""
        return [each.name for each in self.launchers.values() if each.strayed]

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch until the block ends."""
        watches = [
            asyncio.create_task(self._follow(VMS, self._on_vm), name="witness-vms"),
            asyncio.create_task(self._follow(GPU_NODES, self._on_plan), name="witness-plans"),
            asyncio.create_task(
                self._follow(PODS, self._on_pod, LAUNCHER), name="witness-launchers"
            ),
        ]
        try:
            yield
        finally:
            for each in watches:
                each.cancel()
            ended = await asyncio.gather(*watches, return_exceptions=True)
        for error in ended:
            if not isinstance(error, asyncio.CancelledError):
                raise AssertionError("the witness has not seen everything") from error

    def may_have(self, uid: str) -> Collection[Place]:
        """Return where a launcher may be besides where it was decided to be.

        That is any device that some VM kept when it was bound; and what was meant for another one
        that was given such a device, for the kubelet makes no difference between free devices.
        """
        node = self.launchers[uid].node
        there = {uid: each for uid, each in self.launchers.items() if each.node == node}
        found = {uid: set(each.kept) for uid, each in there.items()}
        grown = True
        while grown:
            grown = False
            for other, each in there.items():
                if not each.strayed or not each.strayed.keys() <= found[other]:
                    continue
                left = (each.decided or Counter()) - each.planned
                for one, places in found.items():
                    if one != other and not left.keys() <= places:
                        places.update(left)
                        grown = True
        return found[uid]

    def unfounded(self) -> Iterator[str]:
        """Yield what is wrong with plans that were rewritten, of launchers that are gone, too."""
        for uid, each in self.launchers.items():
            wrong = each.strayed.keys() - self.may_have(uid)
            if wrong:
                yield (
                    f"{each.name}: decided to be at {sorted(each.decided or ())}, the plan was"
                    f" rewritten to {sorted(wrong)}, which no VM kept"
                )

    async def _follow(self, kind: Kind, heard: Callable[[Any], None], labels: str = "") -> None:
        changes = reflect(self._api, kind, label_selector=labels, pace=SOON)
        async with contextlib.aclosing(changes):
            async for change in changes:
                match change:
                    case Replaced(objects=objects):
                        for each in objects:
                            heard(msgspec.json.decode(each.raw))
                    case Upserted(object=each):
                        heard(msgspec.json.decode(each.raw))
                    case Deleted(object=each) if kind == VMS:
                        self._named.pop(each.name, None)
                    case _:
                        pass

    def _on_vm(self, vm: Mapping[str, Any]) -> None:
        self._named[vm["metadata"]["name"]] = frozenset(allocated(vm))

    def _on_plan(self, raw: Mapping[str, Any]) -> None:
        found: dict[str, Counter[Place]] = {}
        for each in gpunode.decode(msgspec.json.encode(raw)).spec.assignments:
            if each.pod:
                place = (each.gpu, each.profile_id, each.start)
                found.setdefault(each.pod.uid, Counter())[place] += 1
        self._planned |= found
        for uid, places in found.items():
            if uid in self.launchers:
                self.launchers[uid].planned = places

    def _on_pod(self, pod: Mapping[str, Any]) -> None:
        metadata, node = pod["metadata"], pod["spec"].get("nodeName", "")
        uid, name = metadata["uid"], metadata["labels"]["vm.kubevirt.io/name"]
        if node and uid not in self.launchers:
            named = {device for devices in self._named.values() for device in devices}
            self.launchers[uid] = Launcher(
                name,
                node,
                self._devices(node, named, uid),
                decided(pod),
                self._planned.get(uid, Counter()),
            )
        status = pod["status"]
        if status.get("phase") == "Failed":
            reason, message = status.get("reason", ""), status.get("message", "")
            self._rejected[uid] = Rejected(name, node, reason, message)
