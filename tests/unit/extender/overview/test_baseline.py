"""From the nodes as decisions see them to the baseline of a what-if."""

from __future__ import annotations

import msgspec
import pytest

from extender.overview.baseline import baseline
from extender.simulation.baseline import Baseline, Held, NoBaseline, Requests, parsed
from extender.simulation.history import History
from extender.snapshot import NodeView
from nodeagent.api.gpunode import Layout
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, view

AT = "2026-01-05T00:00:00Z"
REQUESTS = Requests({"1g.10gb": 3.5}, {"7g.80gb": 1}, History().noted(3, {"1g.10gb": 2}))


def drawn(*views: NodeView) -> Baseline:
    return baseline(views, REQUESTS, policy="default", at=AT)


def test_what_is_planned_and_what_stands_there_is_held_each_once() -> None:
    planned = assignment("a", 19, 0)
    realized = instance(19, 0, assignment="a")
    foreign = instance(14, 4)
    node = gpu_node(gpus=[gpu(instances=(realized, foreign))], plan=[planned])

    (found,) = drawn(view(node)).nodes

    assert found.why == ""
    assert set(found.gpus[0].held) == {Held(19, 0), Held(14, 4, fixed=True)}


def test_nodes_of_a_kind_share_what_is_told_of_it() -> None:
    found = drawn(
        view(gpu_node("b", gpus=2)), view(gpu_node("a")), view(gpu_node("c", model="A30-24GB"))
    )

    assert [node.name for node in found.nodes] == ["a", "b", "c"]
    assert [kin.model for kin in found.kin] == ["H100-80GB", "A30-24GB"]
    assert [gpu.kin for node in found.nodes for gpu in node.gpus] == [0, 0, 0, 1]


def test_only_what_vgpu_types_offer_is_served() -> None:
    node = gpu_node(resources=(VGPU + "1-10C", VGPU + "7-80C"))

    (kin,) = drawn(view(node)).kin

    assert set(kin.serves) == {19, 0}


def test_a_node_that_takes_nothing_new_says_why() -> None:
    (found,) = drawn(view(gpu_node(), cordoned=True)).nodes

    assert found.why == "the node is cordoned"


def test_what_pods_have_on_a_gpu_that_is_not_in_use_is_counted() -> None:
    node = gpu_node(
        gpus=[gpu(0, unhealthy="row remap failure"), gpu(1)], plan=[assignment("a", 9, 0)]
    )

    (found,) = drawn(view(node)).nodes

    assert len(found.gpus) == 1
    assert found.elsewhere == {"3g.40gb": 1}


@pytest.mark.parametrize("layout", [Layout.STATIC, Layout.UNMANAGED])
def test_gpus_that_are_not_placed_on_are_left_out(layout: Layout) -> None:
    (found,) = drawn(view(gpu_node(gpus=[gpu(layout=layout)]))).nodes

    assert found.gpus == ()


def test_it_can_be_kept_and_read_again() -> None:
    node = gpu_node(gpus=[gpu(instances=(instance(14, 4),))], plan=[assignment("a", 19, 0)])
    said = drawn(view(node), view(gpu_node("b"), stale=True))

    assert parsed(msgspec.json.encode(said), "kept.json") == said


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"at": "noon"}, "noon"),
        ({"kin": []}, "no kin 0, there are 0"),
        ({"nodes": [{"name": "a", "gpus": [{"kin": 0, "held": [[99, 0]]}]}]}, "no profile 99"),
        ({"nodes": [{"name": "a", "gpus": [{"kin": 0, "held": [[19, 99]]}]}]}, "held"),
        ({"requests": {"lately": {"1g": -1}}}, "lately"),
        ({"requests": {"history": {"periods": [1], "wanted": {"1g": []}}}}, "history"),
        ({"nodes": None}, "nodes"),
    ],
)
def test_one_that_makes_no_sense_is_refused_with_what_is_wrong(
    change: dict[str, object], says: str
) -> None:
    said = msgspec.json.decode(msgspec.json.encode(drawn(view(gpu_node()))))

    with pytest.raises(NoBaseline, match=says) as refused:
        parsed(msgspec.json.encode({**said, **change}), "kept.json")

    assert str(refused.value).startswith("kept.json: ")
