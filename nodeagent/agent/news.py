"""What is news: when an inventory is worth a write of the GpuNode."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from nodeagent.api.gpunode import Inventory, Summary


class Told(msgspec.Struct, frozen=True):
    """What readers of a GpuNode were told last: an inventory, and the plan it took account of.

    ``planned`` are the ids of that plan and of every one seen since: readers wait to be told of
    each of them that it is gone. ``behind_since`` is when a newer plan was first left untold.
    ``version`` is the object's after that write.
    """

    uid: str
    inventory: Inventory
    planned: frozenset[str]
    behind_since: float | None = None
    version: int = 0


def news(told: Told, now: Inventory, planned: Collection[str], *, overdue: bool = False) -> bool:
    """Tell whether *now* is worth a write of the GpuNode; *planned* are the assignments' ids.

    Readers count as taken what is planned, and what has left the plan until they are told that it
    is gone. So a GPU instance whose assignment is planned but neither realized nor failed need not
    be told, nor a removal from the plan before nothing is left of it; both will be news soon. A
    newer generation of the plan is news where nothing else will be: what came and went between two
    looks has left no other trace. Where something else will be, it is news once it is *overdue*:
    an assignment may queue, or a GPU instance be held, for ever. Who has been given what was meant
    for another is news, whatever is said of the assignment: it may wait for the plan to follow.
    """
    newer = now.observed_generation > told.inventory.observed_generation
    if newer and overdue:
        return True
    left = told.planned.difference(planned)
    existing = {i.assignment for gpu in now.gpus for i in gpu.instances}
    if not left <= existing:
        return True
    realized, failed = {r.id for r in now.realized}, {f.id for f in now.failed}
    unsaid = frozenset(planned) - realized - failed
    if newer and not left and not unsaid:
        return True
    return _essence(told.inventory, unsaid) != _essence(now, unsaid)


def _essence(inventory: Inventory, unsaid: Collection[str]) -> Inventory:
    gpus = tuple(
        msgspec.structs.replace(
            gpu,
            instances=tuple(
                each for each in gpu.instances if each.holder or each.assignment not in unsaid
            ),
        )
        for gpu in inventory.gpus
    )
    return msgspec.structs.replace(
        inventory, sequence=0, observed_generation=0, summary=Summary(), gpus=gpus
    )
