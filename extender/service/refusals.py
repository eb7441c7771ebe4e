"""The pods that fitted nowhere when they were last asked about, to be woken when room appears."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Set

import msgspec

from extender.packing.spread import Spread
from extender.request import Request, Wanted
from extender.snapshot import NodeView, Taken
from extender.verbs.verdicts import Code, Fits, verdict
from nodeagent.api.gpunode import OwnerRef


class RefusedPod(msgspec.Struct, frozen=True):
    """A refused pod's request, and the reasons nodes gave."""

    request: Request
    codes: frozenset[Code]


class Refusals:
    """At most *limit* refused pods; the oldest are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pods: OrderedDict[str, RefusedPod] = OrderedDict()
        self._by_shape: dict[tuple[Wanted, Spread], dict[str, Request]] = {}
        self._owners: Counter[OwnerRef] = Counter()

    def __len__(self) -> int:
        return len(self._pods)

    @property
    def uids(self) -> Collection[str]:
        """The pods' UIDs, those refused longest ago first."""
        return self._pods.keys()

    def get(self, uid: str) -> RefusedPod | None:
        """Return what is kept of a refused pod."""
        return self._pods.get(uid)

    def add(self, request: Request, codes: Set[Code]) -> None:
        """Keep a refused pod."""
        uid = request.pod.uid
        self.drop(uid)
        self._pods[uid] = RefusedPod(request, frozenset(codes))
        self._by_shape.setdefault((request.wanted, request.spread), {})[uid] = request
        if request.owner is not None:
            self._owners[request.owner] += 1
        while len(self._pods) > self._limit:
            self.drop(next(iter(self._pods)))

    def drop(self, uid: str) -> None:
        """Forget a pod that fits, is bound, or is gone."""
        known = self._pods.pop(uid, None)
        if known is not None:
            shape = (known.request.wanted, known.request.spread)
            alike = self._by_shape[shape]
            del alike[uid]
            if not alike:
                del self._by_shape[shape]
            owner = known.request.owner
            if owner is not None:
                self._owners[owner] -= 1
                if not self._owners[owner]:
                    del self._owners[owner]

    def fit_now(self, before: NodeView | None, view: NodeView, promised: tuple[Taken, ...]) -> bool:
        """Tell whether a refused pod fits a node now, with *promised* taken, and did not before.

        Or is held a place there now.
        """
        if before is not None and any(
            each in self._owners for each in view.held.keys() - before.held
        ):
            return True
        return any(
            isinstance(verdict(view, wanted, promised, spread=spread), Fits)
            and (
                before is None
                or not isinstance(verdict(before, wanted, promised, spread=spread), Fits)
            )
            for wanted, spread in self._by_shape
        )

    def shapes(self) -> Iterable[Request]:
        """Yield one request for each different thing that is asked for in vain."""
        return (next(iter(alike.values())) for alike in self._by_shape.values())


def improved(before: NodeView, view: NodeView) -> bool:
    """Tell whether a node may have room it had not: something left, or the node came back."""
    return (
        not view.taken >= before.taken
        or (view.takes_new and not before.takes_new)
        or len(view.usable) > len(before.usable)
    )
