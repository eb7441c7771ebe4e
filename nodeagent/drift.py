"""What differs from what we left on the node, and not by our doing.

It is reported and never corrected behind anybody's back. The texts are stable: no counts, no times.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Layout
from nodeagent.driver import Host, LiveGpu
from nodeagent.ownership import Observed

MOST_TOLD = 8
"""How much of it a condition lists; a node full of it would swell the inventory."""

_LEFT = (
    "an enabled vGPU that nobody has, and that Tangram does not know to be its own (was its journal"
    " lost?): disable its VGPUDevice if nobody wants it"
)


def drift(
    host: Host,
    observed: Mapping[str, Sequence[Observed]],
    *,
    gone: Iterable[Assignment],
    claimed: Collection[str],
) -> tuple[str, ...]:
    """Return one sentence for each difference; *gone* lost their GPU instance under their pod.

    *claimed* are the assignments whose device a pod has.
    """
    gpus = {gpu.uuid: gpu for gpu in host.gpus}
    lost = [
        f"{_place(gpus[each.gpu], each.profile_id, each.placement)}:"
        f" the GPU instance of assignment {each.id} is gone, a pod had it"
        for each in gone
        if each.gpu in gpus
    ]
    found = [
        sentence
        for gpu in host.gpus
        if gpu.layout is Layout.DYNAMIC and not gpu.unhealthy
        for sentence in _on(gpu, observed.get(gpu.uuid, ()), claimed)
    ]
    return (*lost, *found)


def told(drift: Sequence[str]) -> str:
    """Return how a condition tells it."""
    more = ("and more",) if len(drift) > MOST_TOLD else ()
    return "; ".join((*drift[:MOST_TOLD], *more))


def _on(gpu: LiveGpu, observed: Iterable[Observed], claimed: Collection[str]) -> Iterator[str]:
    for each in observed:
        place = _place(gpu, each.profile_id, each.placement)
        if not each.assignment and each.holder is None and not each.standing:
            yield f"{place}: a GPU instance that Tangram did not create"
        elif each.standing and not each.assignment and not each.keepers:
            yield f"{place}: {_LEFT}"
        elif each.device is None and each.assignment in claimed:
            yield f"{place}: the device of assignment {each.assignment} is gone, a pod had it"


def _place(gpu: LiveGpu, profile_id: int, placement: Placement) -> str:
    profile = gpu.geometry.by_id.get(profile_id)
    name = profile.name if profile else f"profile {profile_id}"
    return f"{gpu.uuid} {name} {{{placement.start}}}:{placement.size}"
