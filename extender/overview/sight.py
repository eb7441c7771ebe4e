"""Who may know of whom: a tenant sees that slices are in use, not by whom."""

from __future__ import annotations

import msgspec

from extender.overview.documents import Instance, Node, Occupied

_NOBODYS = (Occupied.FOREIGN, Occupied.STANDING)


class Sight(msgspec.Struct, frozen=True):
    """What a reader may know; ``namespaces`` are those whose VMs they see, None for every one."""

    namespaces: frozenset[str] | None

    def of(self, node: Node) -> Node:
        """Return a node as this reader may see it: other tenants' VMs are slices in use."""
        if self.namespaces is None:
            return node
        gpus = tuple(
            msgspec.structs.replace(gpu, instances=tuple(map(self._veiled, gpu.instances)))
            for gpu in node.gpus
        )
        return msgspec.structs.replace(node, gpus=gpus)

    def knows(self, namespace: str) -> bool:
        """Tell whether this reader may know of the pods of a namespace that wait."""
        return self.namespaces is None or namespace in self.namespaces

    def _veiled(self, there: Instance) -> Instance:
        assert self.namespaces is not None
        if there.namespace in self.namespaces or there.state in _NOBODYS:
            return there
        return Instance(there.profile, there.start, there.size, Occupied.HIDDEN)


EVERYTHING = Sight(None)
