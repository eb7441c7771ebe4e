"""The pods that fitted nowhere when they were last asked about, to be woken when room appears."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

import msgspec

from extender.request import Request
from extender.verbs.verdicts import Code


class RefusedPod(msgspec.Struct, frozen=True):
    """A refused pod's request, and the reasons nodes gave."""

    request: Request
    codes: frozenset[Code]


class Refusals:
    """At most *limit* refused pods; the oldest are forgotten first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pods: OrderedDict[str, RefusedPod] = OrderedDict()
        self._by_shape: dict[tuple[str, ...], dict[str, Request]] = {}

    def __bool__(self) -> bool:
        return bool(self._pods)

    def get(self, uid: str) -> RefusedPod | None:
        """Return what is kept of a refused pod."""
        return self._pods.get(uid)

    def add(self, request: Request, codes: Collection[Code]) -> None:
        """Keep a refused pod."""
        uid = request.pod.uid
        self.drop(uid)
        self._pods[uid] = RefusedPod(request, frozenset(codes))
        self._by_shape.setdefault(request.wanted, {})[uid] = request
        while len(self._pods) > self._limit:
            self.drop(next(iter(self._pods)))

    def drop(self, uid: str) -> None:
        """Forget a pod that fits, is bound, or is gone."""
        known = self._pods.pop(uid, None)
        if known is not None:
            alike = self._by_shape[known.request.wanted]
            del alike[uid]
            if not alike:
                del self._by_shape[known.request.wanted]

    def shapes(self) -> Iterable[Request]:
        """Yield one request for each different thing that is asked for in vain."""
        return (next(iter(alike.values())) for alike in self._by_shape.values())
