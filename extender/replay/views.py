"""Recorded nodes as decisions see them: inventories, and the places of who was there already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from extender.policy import InForce
from extender.replay.recorded import Place, Recorded, RecordedGpu, RecordedModel, RecordedNode
from extender.snapshot import NodeView
from nodeagent.api import resources
from nodeagent.api.geometry import Geometry, Profile
from nodeagent.api.gpunode import (
    Assignment,
    Gpu,
    GpuNode,
    Instance,
    Inventory,
    Layout,
    Metadata,
    PodRef,
)


def view_of(recorded: Recorded, node: RecordedNode, policy: InForce) -> NodeView:
    """Return a node with nothing of ours on it, as a policy has it."""
    models = {gpu.model: recorded.model(gpu.model) for gpu in node.gpus}
    known = {name: model for name, model in models.items() if model is not None}
    status = Inventory(
        agent_epoch="recorded",
        mode=node.mode,
        geometries={model.geometry.hash: model.geometry for model in known.values()},
        vgpu_types={name: model.vgpu_types for name, model in known.items()},
        gpus=tuple(_gpu(gpu, known[gpu.model]) for gpu in node.gpus),
        resources=node.resources,
    )
    wanted = policy.rules.node_keys
    labels = {key: value for key, value in node.labels.items() if key in wanted}
    return NodeView(
        GpuNode(Metadata(node.name), status=status), policy.policy, stale=False, labels=labels
    )


def _gpu(gpu: RecordedGpu, model: RecordedModel) -> Gpu:
    return Gpu(
        uuid=gpu.uuid,
        pci_address="",
        model=gpu.model,
        geometry=model.geometry.hash,
        vgpu_types=gpu.model,
        layout=Layout.DYNAMIC if gpu.managed else Layout.UNMANAGED,
        instances=tuple(
            Instance(number, _like(model.geometry, each.size), each.start, each.size)
            for number, each in enumerate(gpu.occupied)
        ),
    )


def _like(geometry: Geometry, size: int) -> int:
    """Return the id of a profile of that size: of a stranger it matters which slices it takes.

    One without a limit where there is any, so that it uses up none.
    """
    of_size = [profile for profile in geometry.profiles if profile.size == size]
    return min(of_size or geometry.profiles, key=lambda profile: profile.limited).id


def with_places(view: NodeView, pod: PodRef, places: Iterable[Place]) -> NodeView:
    """Return a node whose plan has these recorded places of a pod besides."""
    added = tuple(_entry(view, pod, place, number) for number, place in enumerate(places, start=1))
    return view.replanned((*view.node.spec.assignments, *added))


def _entry(view: NodeView, pod: PodRef, place: Place, number: int) -> Assignment:
    (gpu,) = [each for each in view.node.status.gpus if each.uuid == place.gpu]
    geometry = view.node.status.geometries[gpu.geometry]
    profile = named(geometry, place.profile)
    assert profile is not None  # a record in which it is not known is not played
    return Assignment(
        id=f"{pod.uid}/{number}",
        gpu=place.gpu,
        profile_id=profile.id,
        start=place.start,
        size=profile.size,
        resource=resources.of_profile(profile.name),
        since="",
        pod=pod,
    )


def named(geometry: Geometry, profile: str) -> Profile | None:
    """Return the profile of a name."""
    return next((each for each in geometry.profiles if each.name == profile), None)


def places(view: NodeView, entries: Iterable[Assignment]) -> tuple[Place, ...]:
    """Return where a plan's entries are, as a record tells it."""
    return tuple(
        Place(view.name, each.gpu, view.profile_named(each.gpu, each.profile_id), each.start)
        for each in entries
    )


def profiles(views: Iterable[NodeView]) -> Mapping[str, str]:
    """Return what profile each resource comes to, on the first node that offers it."""
    found: dict[str, str] = {}
    kinds: set[object] = set()
    for view in views:
        if view.kind not in kinds:
            kinds.add(view.kind)
            for resource, profile, _ in sorted(view.sizes):
                found.setdefault(resource, profile)
    return found
