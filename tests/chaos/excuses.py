"""What a reset, a reboot or somebody's hands have ended, nobody can keep."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.pods import Pod

LINGERS_SECONDS = 15.0  # what was decided before an upheaval may be written this long after it


class Excuses:
    """When each GPU (UUID) was last upset by no fault of ours, in seconds of *clock*."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._upset: dict[str, float] = {}

    def upheaval(self, *gpus: str) -> None:
        """See that what is on these GPUs may be gone."""
        self._upset.update(dict.fromkeys(gpus, self._clock()))

    def calm(self, gpu: str) -> bool:
        """Tell whether a GPU has been left alone for long enough."""
        return self._clock() - self._upset.get(gpu, float("-inf")) > LINGERS_SECONDS

    def cover(self, pod: Pod) -> bool:
        """Tell whether what a pod was given may be gone."""
        return any(
            self._upset.get(each.gpu, float("-inf")) > pod.bound_at - LINGERS_SECONDS
            for each in pod.decisions
        )
