"""What a reset, a reboot or somebody's hands have ended, nobody can keep: but that alone.

What excuses is tied to the entries that there were at that moment, by their ids. What is promised
afterwards is judged in full, on the same GPU as on any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from tests.chaos.pods import Pod

LINGERS_SECONDS = 15.0  # what an agent has yet to find out is told by then


class Excuses:
    """What was upset by no fault of ours, in seconds of *clock*."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._upset: dict[str, float] = {}
        self._ended: set[str] = set()
        self._unplanned: set[str] = set()

    def upheaval(self, gpus: Collection[str], ids: Collection[str]) -> None:
        """See that what is on these GPUs may be gone, and so what entries of *ids* stand for."""
        self._upset.update(dict.fromkeys(gpus, self._clock()))
        self._ended.update(ids)

    def plan_deleted(self, ids: Collection[str]) -> None:
        """See a plan deleted by hand, with entries of these ids: a Binding may be on its way."""
        self._unplanned.update(ids)

    def restored(self, ids: Collection[str]) -> None:
        """See that entries of these ids are told to be realized, in whatever object."""
        self._unplanned.difference_update(ids)

    def calm(self, gpu: str) -> bool:
        """Tell whether a GPU has been left alone for long enough for its agent to know it."""
        return self._clock() - self._upset.get(gpu, float("-inf")) > LINGERS_SECONDS

    def cover(self, pod: Pod) -> bool:
        """Tell whether what a pod was given may be gone."""
        return any(each.id in self._ended for each in pod.decisions)

    def unplanned(self, pod: Pod) -> bool:
        """Tell whether what a pod is given was in a plan that somebody has deleted meanwhile."""
        return any(each.id in self._unplanned for each in pod.decisions)
