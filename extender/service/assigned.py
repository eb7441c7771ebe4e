"""Which node's plan has a place for a pod, and since when we have seen it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping


class Assigned(Mapping[str, str]):
    """By pod UID the node where the pod was seen last to have a place; *clock* is in seconds.

    It may have one on several nodes for a while: what became of a write was unknown, or another
    extender wrote, too. None of them is lost sight of.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since: dict[str, dict[str, float]] = {}
        self._pods: dict[str, frozenset[str]] = {}

    def __getitem__(self, uid: str) -> str:
        return next(reversed(self._since[uid]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def __len__(self) -> int:
        return len(self._since)

    def planned(self, node: str, pods: Iterable[str]) -> None:
        """Take in that the plan of *node* has places for these *pods*, and for no others."""
        before, now = self._pods.pop(node, frozenset()), frozenset(pods)
        for uid in before - now:
            del self._since[uid][node]
            if not self._since[uid]:
                del self._since[uid]
        for uid in now - before:
            self._since.setdefault(uid, {})[node] = self._clock()
        if now:
            self._pods[node] = now

    def nodes_of(self, uid: str) -> tuple[str, ...]:
        """Return every node where the pod has a place, the one seen last first."""
        return tuple(reversed(self._since.get(uid, {})))

    def seconds(self, uid: str) -> float:
        """Return for how long the pod has had a place, 0 if it has none."""
        now = self._clock()
        return now - min(self._since.get(uid, {}).values(), default=now)
