"""Whether what is known is still current: the feeds we hear, and the agents that show they live.

Judged by our own monotonic clock at receipt. What time an agent's Lease bears is never looked at,
and while we are deaf ourselves nobody is called silent: neither when the watch is interrupted, nor
when all agents fall silent at once, for then it is the API server that does not speak.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Mapping, Set
from itertools import chain

import msgspec

from extender.service.ports import Feed
from extender.service.seam import Call, restores, restoring
from extender.settings import Settings


class Lease(msgspec.Struct, frozen=True):
    """An agent's Lease as it was last heard, and when; ``agent`` is the process that holds it."""

    version: str
    agent: str
    at: float


class Freshness:
    """When each feed and each agent was last heard; ``clock`` is monotonic, in seconds.

    *nodes* are those that exist: a Lease outlives its node, and that one's silence tells nothing.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float], nodes: Container[str]
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._nodes = nodes
        self._leases: OrderedDict[str, Lease] = OrderedDict()  # who was heard last comes last
        self._silent_since: dict[Feed, float | None] = {}

    def synced(self, feed: Feed) -> None:
        """Note that *feed* is complete and being watched; after a silence all agents start anew."""
        if feed is Feed.LEASES and self._silent_since.get(feed) is not None:
            now = self._clock()
            for node, lease in self._leases.items():
                self._leases[node] = msgspec.structs.replace(lease, at=now)
        self._silent_since[feed] = None

    def interrupted(self, feed: Feed) -> None:
        """Note that *feed* brings nothing new at present."""
        if feed in self._silent_since and self._silent_since[feed] is None:
            self._silent_since[feed] = self._clock()

    def renewed(self, node: str, version: str, agent: str = "") -> bool:
        """Take in an agent's Lease, and tell whether it is a sign of life: only a change is."""
        known = self._leases.get(node)
        if known is not None and known.version == version:
            return False
        self._leases[node] = Lease(version, agent, self._clock())
        self._leases.move_to_end(node)
        return True

    def agent(self, node: str) -> str:
        """Return which process was heard last as the agent of *node*, "" if that is not known."""
        lease = self._leases.get(node)
        return "" if lease is None else lease.agent

    def withdrawn(self, node: str) -> None:
        """Note that an agent's Lease was deleted."""
        self._leases.pop(node, None)

    @property
    def announced(self) -> Set[str]:
        """The nodes whose agents have announced themselves."""
        return self._leases.keys()

    @property
    def deaf(self) -> bool:
        """Whether we do not hear the agents ourselves."""
        return self._silent_since.get(Feed.LEASES, 0.0) is not None

    def stale(self, node: str) -> bool:
        """Tell whether the agent of *node* has been silent for too long."""
        lease = self._leases.get(node)
        return lease is None or self._clock() - lease.at > self._settings.lease_missed_seconds

    def silent(self) -> Iterator[str]:
        """Yield the nodes whose agents have announced themselves and been silent for too long."""
        for node in self._leases:
            if not self.stale(node):
                return
            yield node

    def silences(self) -> Mapping[Feed, float]:
        """Return for how long nothing could be heard of each feed; 0 of one that is watched."""
        now = self._clock()
        return {
            feed: 0.0 if since is None else now - since
            for feed, since in self._silent_since.items()
        }

    def oldest_renewal(self) -> float | None:
        """Return the seconds since the most silent agent was heard; None if there is none."""
        heard = [lease.at for node, lease in self._leases.items() if node in self._nodes]
        return self._clock() - min(heard) if heard else None

    def not_ready(self) -> str:
        """Return why no decision can be made now, "" if all is well."""
        if len(self._silent_since) < len(Feed):
            return "vGPU: the inventory is not loaded yet"
        silences = [since for since in self._silent_since.values() if since is not None]
        if silences and self._clock() - min(silences) > self._settings.snapshot_age_seconds:
            return "vGPU: the inventory is out of date, the API server does not answer"
        if self._all_silent():
            return "vGPU: no agent is heard any more, the API server may not answer"
        return ""

    def _all_silent(self) -> bool:
        """Tell whether none of several agents is heard; the first that is ends the search."""
        expected = 0
        for node in self._leases:
            if node in self._nodes:
                if not self.stale(node):
                    return False
                expected += 1
        return expected > 1

    def restated(self) -> Iterator[Call]:
        """Return what leads here."""
        feeds, leases = self._silent_since.copy(), tuple(self._leases.items())
        return chain(
            (restoring("Freshness.restore", feeds),),
            (restoring("Freshness.restore_lease", node, lease) for node, lease in leases),
        )

    @restores
    def restore(self, silent_since: Mapping[Feed, float | None]) -> None:
        """Take in which feeds are watched, and since when the others are silent."""
        self._silent_since = dict(silent_since)

    @restores
    def restore_lease(self, node: str, lease: Lease) -> None:
        """Take in how an agent was last heard; who was heard last comes last."""
        self._leases[node] = lease
