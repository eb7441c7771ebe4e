"""Nodes added to a fleet, and taken from it, before anything is bought or drained."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from extender.simulation.baseline import Baseline, Gpu, Kin, Node
from nodeagent.api import resources
from nodeagent.api.catalog import MODELS, Model
from nodeagent.api.gpunode import Mode

MOST_ADDED = 10_000
"""Nodes in all, and GPUs in one of them 16: more is a slip of a finger."""

MOST_GPUS_IN_A_NODE = 16

_ADDED = re.compile(r"(?P<model>[^:\s]+):(?P<gpus>[0-9]{1,2})(?:x(?P<nodes>[0-9]{1,5}))?")


class Unchangeable(Exception):
    """What is to be added or removed cannot be; the message says why, and what could."""


class Added(msgspec.Struct, frozen=True):
    """So many nodes with so many GPUs each of a model from the catalog."""

    model: str
    gpus: int
    nodes: int


class Changed(msgspec.Struct, frozen=True):
    """A baseline after the changes, and what has to find another place, by profile name."""

    baseline: Baseline
    displaced: Mapping[str, int]


def added(text: str) -> Added:
    """Read such as ``H200-141GB:8x4``: four nodes with eight H200 each; ``x1`` may be left out.

    Raises:
        Unchangeable: saying how it is written, or which models there are.
    """
    match = _ADDED.fullmatch(text.strip())
    if match is None:
        raise Unchangeable(
            f"{text!r} is not MODEL:GPUSxNODES, such as H200-141GB:8x4 for four nodes of eight GPUs"
        )
    model, gpus, nodes = match["model"], int(match["gpus"]), int(match["nodes"] or 1)
    if model not in MODELS:
        raise Unchangeable(f"{text!r}: no model {model}; there are {', '.join(MODELS)}")
    if not 1 <= gpus <= MOST_GPUS_IN_A_NODE:
        raise Unchangeable(f"{text!r}: a node has 1 to {MOST_GPUS_IN_A_NODE} GPUs, not {gpus}")
    if not 1 <= nodes <= MOST_ADDED:
        raise Unchangeable(f"{text!r}: add 1 to {MOST_ADDED} nodes, not {nodes}")
    return Added(model, gpus, nodes)


def changed(before: Baseline, adding: Sequence[Added], removing: Sequence[str]) -> Changed:
    """Return the fleet with nodes added, empty, and others removed.

    What pods have on the removed is displaced; what Tangram did not make there goes with them.

    Raises:
        Unchangeable: a node to be removed is not there.
    """
    names = [node.name for node in before.nodes]
    for name in removing:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=3) or sorted(names)[:3]
            raise Unchangeable(f"{name!r}: no such node; did you mean {' or '.join(near)}?")
    displaced: Counter[str] = Counter()
    for node in before.nodes:
        if node.name in removing:
            displaced.update(held_on(before, node))
    kin, nodes = list(before.kin), [n for n in before.nodes if n.name not in removing]
    for number, each in enumerate(adding, start=1):
        at = _kin(each.model, kin, before)
        gpus = (Gpu(at),) * each.gpus
        nodes += [Node(f"added-{number}-{each.model}-{i}", gpus=gpus) for i in range(each.nodes)]
    after = msgspec.structs.replace(before, kin=tuple(kin), nodes=tuple(nodes))
    return Changed(after, dict(displaced))


def held_on(baseline: Baseline, node: Node) -> Counter[str]:
    """Return what pods have on a node, by profile name."""
    found = Counter(node.elsewhere)
    for gpu in node.gpus:
        by_id = baseline.kin[gpu.kin].geometry.by_id
        found.update(by_id[held.profile_id].name for held in gpu.held if not held.fixed)
    return found


def _kin(name: str, kin: list[Kin], before: Baseline) -> int:
    """Return which kin a model of the catalog is, a new one where the fleet has none like it.

    A driver may report a known model with profiles named otherwise: those of the fleet count.
    """
    model = MODELS[name]
    for at, each in enumerate(kin):
        if each.model in (name, *model.nvml_names):
            return at
    mode = _mode(before, model)
    types = model.vgpu_types if mode is not Mode.CONTAINER else ()
    served = resources.served(mode, model.geometry, types)
    kin.append(Kin(name, model.geometry, tuple(sorted(set(served.values()))), mode))
    return len(kin) - 1


def _mode(before: Baseline, model: Model) -> Mode:
    """Return how new nodes would hand out their GPUs: as most do, if the model can."""
    modes = Counter(before.kin[gpu.kin].mode for node in before.nodes for gpu in node.gpus)
    usual = modes.most_common(1)[0][0] if modes else Mode.VGPU_VFIO
    return usual if model.vgpu_types else Mode.CONTAINER
