"""Which node's plan has a place for a pod, and since when we have seen it there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from extender.service.seam import Call, restores, restoring


class Assigned(Mapping[str, str]):
    """By pod UID the node where the pod was seen last to have a place; *clock* is in seconds.

    It may have one on several nodes for a while: what became of a write was unknown, or another
    extender wrote, too. None of them is lost sight of.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Pairs, for there is nearly always one, and a hundred thousand pods have it.
        self._since: dict[str, tuple[tuple[str, float], ...]] = {}
        self._pods: dict[str, tuple[str, ...]] = {}

    def __getitem__(self, uid: str) -> str:
        return self._since[uid][-1][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._since)

    def __len__(self) -> int:
        return len(self._since)

    def planned(
        self, node: str, pods: Iterable[str], *, since: Mapping[str, float] | None = None
    ) -> None:
        """Take in that the plan of *node* has places for these *pods*, and for no others.

        Those that have their old place again, whose plan was deleted, have had it *since* then.
        """
        had, has = self._pods.pop(node, ()), tuple(pods)
        if has:
            self._pods[node] = has
        if had == has:
            return  # nearly always: a report about something else
        before, now = set(had), set(has)
        for uid in before - now:
            left = tuple(each for each in self._since[uid] if each[0] != node)
            if left:
                self._since[uid] = left
            else:
                del self._since[uid]
        new = ((node, self._clock()),)  # one for all that come together, as at the start
        for uid in now - before:
            place = ((node, since[uid]),) if since and uid in since else new
            self._since[uid] = (*others, *place) if (others := self._since.get(uid)) else place

    def nodes_of(self, uid: str) -> tuple[str, ...]:
        """Return every node where the pod has a place, the one seen last first."""
        return tuple(node for node, _ in reversed(self._since.get(uid, ())))

    def since(self, uid: str, node: str) -> float:
        """Return since when the pod has had the place that it has on *node*."""
        return dict(self._since[uid])[node]

    def seconds(self, uid: str) -> float:
        """Return for how long the pod has had a place, 0 if it has none."""
        now = self._clock()
        return now - min((since for _, since in self._since.get(uid, ())), default=now)

    def restated(self) -> Iterator[Call]:
        """Return what leads here once all plans are known: only the order of several is not."""
        known = self._since.copy()
        return (
            restoring("Assigned.restore", uid, since)
            for uid, since in known.items()
            if len(since) > 1
        )

    @restores
    def restore(self, uid: str, since: tuple[tuple[str, float], ...]) -> None:
        """Take in since when a pod was seen on several nodes, the one seen last at the end."""
        self._since[uid] = since
