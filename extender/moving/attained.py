"""Whether what was asked for holds once all moves are made: others may have come meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from extender.advice.asked import Asked
from extender.moving.claiming import Obstacle
from extender.moving.there import There
from extender.packing.choose import Bin
from extender.packing.headroom import room
from extender.snapshot import NodeView
from nodeagent.api.gpunode import Gpu


def lacking(asked: Asked, there: There) -> Obstacle | None:
    """Return what is still in the way of the goals, the worst of it; None if they are attained.

    The pods to be admitted are looked at elsewhere. What is drained as far as possible may have
    somebody left on it: then it is enough that all moves are made.
    """
    if asked.as_far:
        return None
    found = [*_on_drained_nodes(asked, there), *_on_drained_gpus(asked, there)]
    views = there.views.values()
    for profile, count in asked.headroom:
        if room(_open(there), profile) < count:
            found.append(Obstacle(f"there is no room for {count} x {profile} by now", passes=True))
    if sum(not bin.occupancy.mask for bin in _open(there)) < asked.empty_gpus:
        found.append(Obstacle(f"not {asked.empty_gpus} GPUs are empty by now", passes=True))
    if sum(view.takes_new and _empty(view) for view in views) < asked.empty_nodes:
        found.append(Obstacle(f"not {asked.empty_nodes} nodes are empty by now", passes=True))
    return min(found, key=lambda each: each.passes, default=None)


def _on_drained_nodes(asked: Asked, there: There) -> Iterator[Obstacle]:
    for name in asked.drain:
        view = there.views.get(name)
        if view is not None:
            yield from _on(name, view, view.node.status.gpus, there)


def _on_drained_gpus(asked: Asked, there: There) -> Iterator[Obstacle]:
    for view in there.views.values():
        for gpu in view.node.status.gpus:
            if gpu.uuid in asked.drain_gpus:
                yield from _on(gpu.uuid, view, (gpu,), there)


def _on(what: str, view: NodeView, gpus: Iterable[Gpu], there: There) -> Iterator[Obstacle]:
    """Yield what is on GPUs that were to be drained; what has left is soon gone."""
    uuids = {gpu.uuid for gpu in gpus}
    for entry in view.in_force:
        if entry.gpu in uuids:
            pod = None if entry.pod is None else there.pods.get(entry.pod.uid)
            stays = pod is not None and not (pod.over or pod.deleting)
            why = f"{what} is not empty: a VM is there" if stays else f"{what} is yet to be empty"
            yield Obstacle(why, passes=not stays)
    if any(gpu.instances for gpu in gpus):
        yield Obstacle(f"{what} is yet to be empty", passes=True)


def _open(there: There) -> Iterator[Bin]:
    """Yield the GPUs that something new may come to."""
    for name, view in there.views.items():
        if view.takes_new:
            yield from view.bins(there.ledger.assumed_on(name))


def _empty(view: NodeView) -> bool:
    return not any(bin.occupancy.mask for bin in view.bins())
