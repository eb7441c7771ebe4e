"""A pod as its kubelet needs to see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.api import resources


class _Resources(msgspec.Struct):
    limits: dict[str, str] | None = None


class _Container(msgspec.Struct, rename="camel"):
    resources: _Resources | None = None
    restart_policy: str | None = None

    @property
    def devices(self) -> Counter[str]:
        limits = self.resources.limits if self.resources else None
        return Counter(
            {
                name: int(amount)
                for name, amount in (limits or {}).items()
                if resources.ours(name) and amount.isdecimal()
            }
        )


class _Metadata(msgspec.Struct, rename="camel"):
    namespace: str
    name: str
    uid: str
    resource_version: str = ""
    deletion_timestamp: str | None = None


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container] = []
    init_containers: list[_Container] = []


class _Status(msgspec.Struct):
    phase: str = "Pending"
    conditions: list[dict[str, Any]] = []


class Pod(msgspec.Struct):
    """A pod that is bound to the node."""

    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)

    @property
    def uid(self) -> str:
        """What tells it from another pod of the same name."""
        return self.metadata.uid

    @property
    def deleting(self) -> bool:
        """Whether it has been told to end."""
        return bool(self.metadata.deletion_timestamp)

    @property
    def over(self) -> bool:
        """Whether it has ended by itself."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def devices(self) -> Mapping[str, int]:
        """How many slots of each resource it gets; init containers hand theirs on."""
        lasting: Counter[str] = Counter()
        most: Counter[str] = Counter()
        for container in self.spec.init_containers:
            if container.restart_policy == "Always":
                lasting += container.devices
            else:
                most |= lasting + container.devices
        for container in self.spec.containers:
            lasting += container.devices
        return most | lasting


decoder = msgspec.json.Decoder(Pod)
