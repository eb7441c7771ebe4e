"""The nodes as they are live and as they would be by now, side by side.

What happens to nodes live happens to them in imagination: they come and go, are closed and opened,
and their GPUs turn unhealthy and well. Who is on them is another matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import msgspec

from extender.policy import InForce
from extender.replay.meter import Meter
from extender.replay.recorded import Resident
from extender.replay.views import profiles
from extender.replay.world import World
from extender.request import Wanted
from extender.shadow import news
from extender.shadow.mirror import Mirror

NO_PROFILE = "(none)"
"""Of a resource that no node hands out."""

MOST_WISHES = 10_000  # whose words are remembered


class Ground:
    """What VMs stand on; the ``mirror`` is live, the ``world``, once there is one, imagined.

    ``meter`` watches the latter. Times are in seconds.
    """

    def __init__(self, at: float) -> None:
        self.mirror = Mirror()
        self.meter = Meter()
        self.turn_to(at)
        self.world: World | None = None
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._words: dict[Wanted, str] = {}

    def turn_to(self, at: float) -> None:
        """Let it be later."""
        self.mirror.meter.now = self.meter.now = at

    def begin(self, policy: InForce, residents: Iterable[Resident]) -> World:
        """Begin to imagine, with the nodes as they are, and who is on them."""
        record = msgspec.structs.replace(
            self.mirror.as_record(), residents=tuple(residents), namespaces=self._namespaces
        )
        self.world = world = World(record, policy, self.meter.look_at)
        for name, labels in self._namespaces.items():
            world.namespace(name, labels)
        for name in self.mirror.nodes:
            if self.mirror.closed(name):
                world.closed(name)
        return world

    # What happens; whether there may be room by it that was not there before.

    def namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Take in a namespace."""
        self._namespaces[name] = labels
        if self.world is not None:
            self.world.namespace(name, labels)

    def namespace_gone(self, name: str) -> None:
        """Take in that a namespace was deleted."""
        self._namespaces.pop(name, None)
        if self.world is not None:
            self.world.namespace_gone(name)

    def met(self, namespace: str) -> None:
        """Take in that somebody is of a namespace, which may not have been told of."""
        if namespace not in self._namespaces:
            self.namespace(namespace, {})

    def about(self, item: news.Node) -> bool:
        """Take in a Node; return whether there may be more room."""
        name, was_closed = item.name, self.mirror.closed(item.name)
        changed = self.mirror.about(name, item.labels, closed=item.closed)
        if self.world is None or name not in self.world.views:
            return False
        if changed is not None:
            self.world.changed(changed)
        return self._open_or_close(name, was_closed=was_closed) or changed is not None

    def gone(self, item: news.Gone) -> None:
        """Take in that a GpuNode is there no more."""
        if self.mirror.gone(item.name, item.uid, deleted=item.deleted):
            self._closes(item.name)

    def listed(self, item: news.Listed) -> None:
        """Take in which GpuNodes there are."""
        for name in self.mirror.listed(item.uids, item.version):
            self._closes(name)

    def _closes(self, name: str) -> None:
        if self.world is not None:
            self.world.closed(name)

    def reported(self, item: news.Gpus) -> bool:
        """Take in a node's GPUs; return whether there may be more room.

        Raises:
            TooMany: more nodes have come and gone than are kept.
        """
        name, was_closed = item.node.name, self.mirror.closed(item.node.name)
        changed = self.mirror.reported(item.node, listed=item.listed)
        world = self.world
        if world is None or name not in self.mirror.nodes:
            return False
        if name not in world.views:
            world.came(self.mirror.nodes[name])
            self._open_or_close(name, was_closed=False)
            return True
        if changed is not None:
            world.changed(changed)
        return self._open_or_close(name, was_closed=was_closed) or changed is not None

    def _open_or_close(self, name: str, *, was_closed: bool) -> bool:
        """Have a node as closed in imagination as live; return whether it has been opened."""
        closed = self.mirror.closed(name)
        if closed != was_closed and self.world is not None:
            self.world.closed(name, closed=closed)
        return was_closed and not closed

    # What is asked.

    def where(self, names: Collection[str]) -> tuple[str, ...] | None:
        """Return those of the nodes that have GPUs, None if these are all; no names: all."""
        there = {name for name in self.mirror.nodes if self.mirror.is_there(name)}
        offered = set(names)
        if not offered or there <= offered:
            return None
        return tuple(name for name in names if name in there)

    def profiles_of(self, wanted: Wanted) -> str:
        """Return the profiles that a request comes to, in words."""
        known = self._words.get(wanted)
        if known is not None:
            return known
        of = {} if self.world is None else profiles(self.world.views.values())
        counts = Counter(of.get(each, NO_PROFILE) for each in wanted)
        said = " + ".join(
            name if count == 1 else f"{count} x {name}" for name, count in sorted(counts.items())
        )
        if NO_PROFILE not in counts:
            if len(self._words) >= MOST_WISHES:
                self._words.clear()
            self._words[wanted] = said
        return said
