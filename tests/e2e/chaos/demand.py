"""Who comes: VMs with one vGPU or several, gangs of them, and whether they come back."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from extender.demo.pods import launcher
from extender.simulation.mixes import mix
from nodeagent.api import keys
from tests.e2e.stack import MODEL, RESOURCES

MIX = mix("mid", MODEL.geometry, frozenset(RESOURCES))


class Vm(msgspec.Struct, frozen=True):
    """A VM with a vGPU of each of these profiles (ids), by itself or in a ``gang`` of ``size``.

    One that is ``kept`` up has a VirtualMachine, by which Tangram knows that its pod comes back.
    """

    name: str
    profiles: tuple[int, ...]
    gang: str = ""
    size: int = 0
    kept: bool = False

    def pod(self) -> dict[str, Any]:
        """Return its next virt-launcher pod."""
        made = launcher(self.name, "default", RESOURCES[self.profiles[0]])
        amounts = {RESOURCES[each]: str(self.profiles.count(each)) for each in self.profiles}
        made["spec"]["containers"][0]["resources"] = {"requests": amounts, "limits": amounts}
        if self.gang:
            made["metadata"]["annotations"] |= {
                keys.GANG: self.gang,
                keys.GANG_SIZE: str(self.size),
            }
        return made

    def virtual_machine(self) -> dict[str, Any]:
        """Return what KubeVirt makes its pods from, as far as Tangram reads it."""
        return {
            "apiVersion": "kubevirt.io/v1",
            "kind": "VirtualMachine",
            "metadata": {"name": self.name},
            "spec": {"runStrategy": "Always"},
        }


class Demand:
    """Draws who comes next; the shares are of arrivals, of which a gang is one."""

    def __init__(self, chance: random.Random, *, several: float, gangs: float, kept: float) -> None:
        self._chance = chance
        self._several, self._gangs, self._kept = several, gangs, kept
        self._numbers = itertools.count(1)

    def arrival(self) -> Sequence[Vm]:
        """Return one VM, or all members of one gang."""
        number, kind = next(self._numbers), self._chance.random()
        if kind < self._gangs:
            size = self._chance.choice((2, 2, 3))
            gang = f"gang-{number:05}"
            return [
                Vm(f"{gang}-{at}", (profile,), gang, size)
                for at, profile in enumerate(self._profiles(size))
            ]
        count = self._chance.choice((2, 2, 3)) if kind < self._gangs + self._several else 1
        kept = self._chance.random() < self._kept
        return [Vm(f"vm-{number:05}", tuple(self._profiles(count)), kept=kept)]

    def _profiles(self, count: int) -> Sequence[int]:
        return self._chance.choices(list(MIX), list(MIX.values()), k=count)
