"""``--policy`` of demo and serve: a name, or a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from extender.cli.policies import beside, in_force, policy
from extender.packing.choose import Choice, choose
from extender.packing.states import Layout
from extender.packing.tables import tables
from extender.policy import Policy, PolicyName
from extender.policy.file import parsed
from extender.snapshot import NodeView
from tests.builders import H100, VGPU, gpu_node, instance
from tests.builders import gpu as gpu_with

STORED = Path(__file__).parents[3] / "extender" / "policy" / "weights"


@pytest.mark.parametrize("name", PolicyName)
def test_every_name_is_a_policy(name: PolicyName) -> None:
    assert policy(name.value) == Policy(name)


def test_a_path_is_a_policy_file() -> None:
    found = policy(str(STORED / "eight-slices-uniform.yaml"))

    assert found.effective is PolicyName.LEARNED


@pytest.mark.parametrize(
    ("text", "says"),
    [("best", "neither a policy"), ("absent.yaml", "absent.yaml: cannot be read")],
)
def test_neither_is_an_error_that_says_so(text: str, says: str) -> None:
    with pytest.raises(typer.BadParameter, match=says):
        policy(text)


def test_a_policy_beside_may_come_later_but_a_name_that_is_misspelt_is_none(tmp_path: Path) -> None:
    assert parsed(beside("first-fit").read(), "x").policy == Policy(PolicyName.FIRST_FIT)
    with pytest.raises(FileNotFoundError):
        beside(str(tmp_path / "shadow.yaml")).read()
    with pytest.raises(typer.BadParameter, match="neither a policy"):
        beside("frist-fit")


def test_learned_weights_decide_on_a_node_by_the_layout_of_its_gpus() -> None:
    learned = policy(str(STORED / "eight-slices-uniform.yaml"))
    node = gpu_node(gpus=[gpu_with(0, instances=(instance(19, 0), instance(19, 1, gi_id=2)))])

    (bin,) = NodeView(node, learned, stale=False).bins()

    assert isinstance(bin.occupancy, Layout)
    assert [p.start for p in bin.occupancy.placements] == [0, 1]
    choice = choose([bin], [VGPU + "1-10C"])
    assert isinstance(choice, Choice)
    (best, *_) = tables(H100.geometry, learned).options(bin.occupancy, H100.geometry.by_id[19])
    assert (choice.cost, choice.placed[0].placement) == (best.cost, best.placement)


def test_rules_are_read_for_those_who_keep_them_and_refused_for_the_others(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
        "headroom: [{profile: 1g.10gb, keep: 1}]\n"
    )

    found, source = in_force(str(path))

    assert [kept.profile for kept in found.rules.headroom] == ["1g.10gb"]
    assert source is not None
    assert source.seen == path.read_bytes()
    with pytest.raises(
        typer.BadParameter, match="kept by `tangram serve` and `tangram demo` alone"
    ):
        policy(str(path))
