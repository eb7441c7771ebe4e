"""What the controller does to GPU instances, its mistakes included."""

from __future__ import annotations

import pytest

from nodeagent.apiserver.protocol import Refused
from tests.fakes.pcidevices.log import CREATE_INSTANCE, DESTROY_INSTANCE, SRIOV, traps
from tests.fakes.pcidevices.names import MIG_CONFIGURATIONS, SRIOV_GPUS, VGPUS
from tests.unit.pcidevices.node import FIRST, GPU, Node


async def requested(node: Node, **counts: int) -> None:
    """Disable the configuration, and ask for GPU instances by profile id (``p19=2``)."""
    await node.change(MIG_CONFIGURATIONS, GPU, enabled=False)
    await node.work()
    mig = await node.get(MIG_CONFIGURATIONS, GPU)
    profiles = [
        each | {"requested": counts.get(f"p{each['id']}", 0)} for each in mig["spec"]["profileSpec"]
    ]
    await node.change(MIG_CONFIGURATIONS, GPU, profileSpec=profiles)
    await node.change(MIG_CONFIGURATIONS, GPU, enabled=True)
    await node.work()


async def test_a_neutral_configuration_creates_and_destroys_nothing(node: Node) -> None:
    made = node.cut()

    await node.pass_(3600)

    assert [each.gi_id for each in node.machine.gpu_instances(0)] == [made]
    assert (await node.status(MIG_CONFIGURATIONS, GPU))["status"] == "out-of-sync"
    assert not list(traps(node.cluster.log.entries))


async def test_it_looks_again_only_every_five_minutes(node: Node) -> None:
    node.cut()

    await node.pass_(60)
    early = (await node.status(MIG_CONFIGURATIONS, GPU))["status"]
    await node.pass_(240)

    assert early == ""
    assert (await node.status(MIG_CONFIGURATIONS, GPU))["status"] == "out-of-sync"


async def test_profiles_are_created_smallest_first_and_where_the_driver_likes(node: Node) -> None:
    await requested(node, p19=1, p14=1, p9=1)

    assert [each.detail for each in node.cluster.log.of(CREATE_INSTANCE)] == [
        "profile 19",
        "profile 14",
        "profile 9",
    ]
    starts = {each.profile_id: each.placement.start for each in node.machine.gpu_instances(0)}
    assert starts == {19: 6, 14: 4, 9: 0}
    assert len([each for each in traps(node.cluster.log.entries) if "driver chose" in each]) == 3


async def test_what_fails_leaves_half_a_layout_which_reads_out_of_sync(node: Node) -> None:
    await requested(node, p19=2, p9=2)
    await node.pass_(600)

    profiles = [each.profile_id for each in node.machine.gpu_instances(0)]
    assert profiles.count(9) < 2
    assert (await node.status(MIG_CONFIGURATIONS, GPU))["status"] == "out-of-sync"


async def test_it_never_repairs(node: Node) -> None:
    await requested(node, p19=2)
    (one, _) = node.machine.gpu_instances(0)
    node.machine.destroy_compute_instance(0, one.gi_id, 0)
    node.machine.destroy_gpu_instance(0, one.gi_id)

    await node.pass_(3600)

    assert len(node.machine.gpu_instances(0)) == 1


async def test_disabling_deletes_what_the_status_remembers_and_then_what_it_sees(
    node: Node,
) -> None:
    """The status is written anew after the first deletions, and so tells of the others' too."""
    await requested(node, p19=1)
    (mine,) = node.machine.gpu_instances(0)
    others = node.cut(19, 0)

    await node.change(MIG_CONFIGURATIONS, GPU, enabled=False)
    await node.work()

    deleted = [each.detail for each in node.cluster.log.of(DESTROY_INSTANCE)]
    assert deleted == [str(mine.gi_id), str(others)]
    assert (await node.status(MIG_CONFIGURATIONS, GPU))["status"] == "disabled"
    assert len([each for each in traps(node.cluster.log.entries) if "destroyed" in each]) == 2


async def test_ids_that_are_used_again_are_deleted_in_their_successors_place(node: Node) -> None:
    await requested(node, p19=1)
    (first,) = node.machine.gpu_instances(0)
    node.machine.destroy_compute_instance(0, first.gi_id, 0)
    node.machine.destroy_gpu_instance(0, first.gi_id)
    again = node.cut(9, 0)

    await node.change(MIG_CONFIGURATIONS, GPU, enabled=False)
    await node.work()

    assert again == first.gi_id
    assert node.machine.gpu_instances(0) == []


async def test_a_reboot_ends_functions_and_instances_and_all_is_made_anew(node: Node) -> None:
    await requested(node, p19=1)
    node.host.rebooted()
    node.restart()

    await node.pass_(600)

    assert len(node.host.functions(0)) == 8
    assert len(node.machine.gpu_instances(0)) == 1
    assert node.cluster.log.of(SRIOV)[-1].detail == "-e"


async def test_enabling_functions_ends_instances_that_were_made_before(node: Node) -> None:
    await node.change(SRIOV_GPUS, GPU, enabled=False)
    await node.work()
    node.cut()

    await node.change(SRIOV_GPUS, GPU, enabled=True)
    await node.work()

    assert node.machine.gpu_instances(0) == []
    assert any("sriov-manage ended 1" in each for each in traps(node.cluster.log.entries))


@pytest.mark.parametrize(
    ("counts", "refusal"),
    [({19: 8}, "more than 7"), ({9: 1}, "cannot be modified unless")],
)
async def test_the_webhook_refuses_too_many_and_any_change_once_it_is_synced(
    node: Node, counts: dict[int, int], refusal: str
) -> None:
    node.cut()
    await node.pass_(300)
    mig = await node.get(MIG_CONFIGURATIONS, GPU)
    profiles = [
        each | {"requested": counts.get(each["id"], 0)} for each in mig["spec"]["profileSpec"]
    ]

    with pytest.raises(Refused, match=refusal):
        await node.change(MIG_CONFIGURATIONS, GPU, profileSpec=profiles)


async def test_the_webhook_counts_what_is_available_for_each_profile_alone(node: Node) -> None:
    await node.change(MIG_CONFIGURATIONS, GPU, enabled=False)
    await node.work()
    mig = await node.get(MIG_CONFIGURATIONS, GPU)

    def asking(**counts: int) -> list[object]:
        return [
            each | {"requested": counts.get(f"p{each['id']}", 0)}
            for each in mig["spec"]["profileSpec"]
        ]

    with pytest.raises(Refused, match="exceeds 2"):
        await node.change(MIG_CONFIGURATIONS, GPU, enabled=True, profileSpec=asking(p9=3))
    await node.change(MIG_CONFIGURATIONS, GPU, enabled=True, profileSpec=asking(p9=2, p0=1))


async def test_the_webhook_refuses_to_disable_while_a_vgpu_is_enabled(node: Node) -> None:
    await node.made()

    with pytest.raises(Refused, match=f"vGPU {FIRST} is enabled"):
        await node.change(MIG_CONFIGURATIONS, GPU, enabled=False)
    await node.change(VGPUS, FIRST, enabled=False)
    await node.change(MIG_CONFIGURATIONS, GPU, enabled=False)
