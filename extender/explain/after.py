"""A node as it will be when a VM has left it, or has come to it."""

from __future__ import annotations

import msgspec

from extender.snapshot import NodeView, taken_by
from nodeagent.api.gpunode import Assignment, Instance, Realized


def without(view: NodeView, entry: Assignment) -> NodeView:
    """Return the view of a node that a realized entry of its plan has left."""
    node, status = view.node, view.node.status
    gone = taken_by(entry)
    gpus = tuple(
        msgspec.structs.replace(
            gpu,
            instances=tuple(
                each
                for each in gpu.instances
                if (each.profile_id, each.placement) != (gone.profile_id, gone.placement)
            ),
        )
        if gpu.uuid == gone.gpu
        else gpu
        for gpu in status.gpus
    )
    kept = tuple(each for each in node.spec.assignments if each.id != entry.id)
    realized = tuple(each for each in status.realized if each.id != entry.id)
    return msgspec.structs.replace(
        view,
        node=msgspec.structs.replace(
            node,
            spec=msgspec.structs.replace(node.spec, assignments=kept),
            status=msgspec.structs.replace(status, gpus=gpus, realized=realized),
        ),
    )


def beside(view: NodeView, entry: Assignment) -> NodeView:
    """Return the view of a node on which an entry of its plan has come, and is realized."""
    node, status = view.node, view.node.status
    made = Instance(
        gi_id=0,
        profile_id=entry.profile_id,
        start=entry.start,
        size=entry.size,
        assignment=entry.id,
    )
    gpus = tuple(
        msgspec.structs.replace(gpu, instances=(*gpu.instances, made))
        if gpu.uuid == entry.gpu
        else gpu
        for gpu in status.gpus
    )
    return msgspec.structs.replace(
        view,
        node=msgspec.structs.replace(
            node,
            spec=msgspec.structs.replace(node.spec, assignments=(*node.spec.assignments, entry)),
            status=msgspec.structs.replace(
                status, gpus=gpus, realized=(*status.realized, Realized(entry.id))
            ),
        ),
    )
