"""What went on in threads while each answer was made, and so beside the slowest of them."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping

SLOWEST = 0.01
"""The share of the samples that a p99 leaves out."""


class Beside:
    """Notes what is *doing*, and what was beside each sample."""

    def __init__(self) -> None:
        self._now = Counter[str]()
        self._begun = Counter[str]()
        self._samples: list[tuple[float, frozenset[str]]] = []

    @contextlib.contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Something goes on during the block."""
        self._now[what] += 1
        self._begun[what] += 1
        try:
            yield
        finally:
            self._now[what] -= 1

    @contextlib.contextmanager
    def sample(self, seconds: list[float]) -> Iterator[None]:
        """An answer is made during the block; how long it took is the last of the *seconds* then.

        What goes on as it begins, and what begins before it ends, is beside it.
        """
        there, begun = {what for what, count in self._now.items() if count}, self._begun.copy()
        yield
        there.update(what for what, count in self._begun.items() if count > begun[what])
        self._samples.append((seconds[-1], frozenset(there)))

    def forget(self) -> None:
        """Count from here."""
        self._samples.clear()

    def told(self) -> Mapping[str, Mapping[str, int]]:
        """Return how many samples each was beside, of all and of the slowest in a hundred."""
        slowest = sorted(self._samples, key=lambda sample: -sample[0])
        some = slowest[: max(1, round(len(slowest) * SLOWEST))]
        return {"all": _counted(slowest), "slowest": _counted(some)}


def _counted(samples: list[tuple[float, frozenset[str]]]) -> Mapping[str, int]:
    found = Counter({"samples": len(samples)})
    found.update(what for _, there in samples for what in there)
    return dict(found)
