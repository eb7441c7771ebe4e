"""Pods as a device manager needs to see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from nodeagent.api.gpunode import PodRef


class Container(msgspec.Struct, frozen=True):
    """A container and how many devices of each resource it is limited to.

    ``lasting`` is for an init container that keeps running beside the others.
    """

    name: str
    limits: Mapping[str, int] = {}
    lasting: bool = False


class Pod(msgspec.Struct, frozen=True):
    """A pod that is bound to the node."""

    name: str
    containers: tuple[Container, ...]
    init: tuple[Container, ...] = ()
    namespace: str = "default"
    uid: str = ""

    @property
    def ref(self) -> PodRef:
        """The pod as the API server names it; its UID is made of its name unless it has one."""
        return PodRef(self.namespace, self.name, self.uid or f"uid-{self.name}")

    @property
    def ordered(self) -> Iterator[tuple[Container, bool]]:
        """Every container in the order a kubelet allocates, and whether it ends before others."""
        yield from ((each, not each.lasting) for each in self.init)
        yield from ((each, False) for each in self.containers)
