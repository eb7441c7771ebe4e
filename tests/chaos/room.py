"""What would still fit, by what is on the GPUs and what the plans have promised."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from nodeagent.api.gpunode import Assignment
from nodeagent.simulated.hardware import Hardware

Taken = Mapping[str, int]
"""By GPU, the memory slices that are gone, as bits."""


class Room:
    """The GPUs of every node; *foreign* are the instances (GPU, id) that are not ours.

    Nothing more is placed on those that are *closed*.
    """

    def __init__(
        self,
        hardware: Mapping[str, Hardware],
        foreign: Collection[tuple[str, int]],
        *,
        closed: Collection[str] = (),
    ) -> None:
        self._hardware = hardware
        self._foreign = foreign
        self._closed = closed

    def taken(self, planned: Callable[[str], Sequence[Assignment]], nodes: Collection[str]) -> Any:
        """Return what is taken on each of *nodes*, of which *planned* tells what counts."""
        found: dict[str, dict[str, int]] = {}
        for name in nodes:
            entries = planned(name)
            masks = found[name] = {}
            for gpu in self._hardware[name].gpus:
                mask = 0
                for instance in gpu.instances.values():
                    mask |= instance.placement.mask
                for entry in entries:
                    if entry.gpu == gpu.uuid:
                        mask |= entry.placement.mask
                masks[gpu.uuid] = mask
        return found

    def fit(self, pods: Sequence[tuple[str, ...]], taken: Mapping[str, Taken]) -> bool:
        """Tell whether all of *pods* could be placed at once, each whole on one node."""
        if not pods:
            return True
        for name, masks in taken.items():
            for left in self._placed(self._hardware[name], pods[0], masks):
                if self.fit(pods[1:], {**taken, name: left}):
                    return True
        return False

    def _placed(self, node: Hardware, wants: tuple[str, ...], taken: Taken) -> Any:
        """Yield what is taken on a node when *wants* are placed there, for each way to do so."""
        if not wants:
            yield taken
            return
        for gpu in node.gpus:
            seen = gpu.seen(node.mode)
            profile_id = seen.served(node.mode).get(wants[0])
            if profile_id is None or gpu.uuid in self._closed or self._shut(gpu, profile_id):
                continue
            for place in gpu.geometry.by_id[profile_id].placements:
                if not place.mask & taken[gpu.uuid]:
                    left = {**taken, gpu.uuid: taken[gpu.uuid] | place.mask}
                    yield from self._placed(node, wants[1:], left)

    def _shut(self, gpu: Any, profile_id: int) -> bool:
        """Tell whether a profile is used up, or a free foreign one would be mistaken for ours."""
        alike = [i for i, there in gpu.instances.items() if there.profile_id == profile_id]
        return len(alike) >= gpu.geometry.by_id[profile_id].max_instances or any(
            (gpu.uuid, gi_id) in self._foreign for gi_id in alike
        )
