"""Whose is a vGPU: the rules, as values."""

from __future__ import annotations

import msgspec
import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.driver import SRIOV_DISABLED, LiveDevice, LiveGpu, LiveInstance
from nodeagent.vgpu.interface import Vgpu
from nodeagent.vgpu.join import Joined, Seen, join, settled
from nodeagent.vgpu.record import Entry, Named, of_gpu

P14, P5 = 14, 5
OURS = LiveInstance(1, P14, Placement(0, 1))
THEIRS = LiveInstance(2, P14, Placement(1, 1))
VGPU = Vgpu("0000:10:00.4", "0000:10:00.4", type_id=7, gi_id=1, group=101)
ENTRY = Entry("a1", "GPU-1", P14, Placement(0, 1), "boot", Named(VGPU.id, VGPU.type_id))
UNNAMED = msgspec.structs.replace(ENTRY, vgpu=None)


def gpu(*instances: LiveInstance, unhealthy: str = "", mig_enabled: bool = True) -> LiveGpu:
    return LiveGpu(
        uuid="GPU-1",
        pci_address="0000:10:00.0",
        model="A30",
        geometry=MODELS["A30-24GB"].geometry,
        unhealthy=unhealthy,
        mig_enabled=mig_enabled,
        instances=instances,
    )


def seen(*vgpus: Vgpu, trouble: str = "") -> Seen:
    return Seen(functions=8, vgpus=vgpus, trouble=trouble)


def moved(gi_id: int | None) -> Vgpu:
    return msgspec.structs.replace(VGPU, gi_id=gi_id)


def instances(joined: Joined) -> list[tuple[int, bool, str]]:
    """Return each GPU instance's id, whether it is in use, and its device."""
    return [(i.gi_id, i.in_use, i.device.id if i.device else "") for i in joined.gpu.instances]


def test_a_gpu_instance_has_the_vgpu_of_its_entry() -> None:
    joined = join(gpu(OURS, THEIRS), seen(VGPU), [ENTRY])

    assert instances(joined) == [(1, False, VGPU.id), (2, False, "")]
    assert joined.gpu.instances[0].device == LiveDevice(VGPU.id, VGPU.nodes)
    assert joined.strays == ()


@pytest.mark.parametrize("node", ["/dev/vfio/101", "/dev/vfio/devices/vfio5"])
def test_it_is_in_use_while_its_file_is_open(node: str) -> None:
    vgpu = msgspec.structs.replace(VGPU, cdev="vfio5")

    assert instances(join(gpu(OURS), seen(vgpu), [ENTRY], frozenset({node}))) == [
        (1, True, VGPU.id)
    ]


@pytest.mark.parametrize(
    "entry",
    [
        UNNAMED,
        msgspec.structs.replace(ENTRY, vgpu=Named(VGPU.id, 8)),
        msgspec.structs.replace(ENTRY, vgpu=Named("0000:10:00.5", 7)),
    ],
)
def test_another_vgpu_in_it_is_somebodys_and_no_device(entry: Entry) -> None:
    joined = join(gpu(OURS), seen(VGPU), [entry])

    assert instances(joined) == [(1, True, "")]
    assert joined.strays == ()


def test_with_a_vgpu_beside_its_own_nothing_is_handed_out() -> None:
    other = Vgpu("0000:10:00.5", "0000:10:00.5", type_id=7, gi_id=1, group=102)

    assert instances(join(gpu(OURS), seen(VGPU, other), [ENTRY])) == [(1, True, "")]
    assert instances(join(gpu(OURS), seen(VGPU, other), [])) == [(1, True, "")]


def test_without_an_entry_a_gpu_instance_has_what_is_in_it() -> None:
    assert instances(join(gpu(OURS), seen(VGPU), [])) == [(1, False, VGPU.id)]


def test_a_vgpu_of_ours_in_another_gpu_instance_is_a_stray_and_nobodys_device() -> None:
    stray = moved(2)

    joined = join(gpu(OURS, THEIRS), seen(stray), [ENTRY])

    assert instances(joined) == [(1, False, ""), (2, True, "")]
    assert joined.strays == (stray,)


def test_a_vgpu_of_ours_is_a_stray_once_its_gpu_instance_has_gone() -> None:
    assert join(gpu(THEIRS), seen(moved(2)), [ENTRY]).strays == (moved(2),)
    assert join(gpu(), seen(moved(None)), [ENTRY]).strays == (moved(None),)


def test_where_the_driver_does_not_say_it_is_no_stray() -> None:
    joined = join(gpu(OURS), seen(moved(None)), [ENTRY])

    assert joined.strays == ()
    assert instances(joined) == [(1, False, "")]


def test_a_vgpu_of_others_is_never_a_stray() -> None:
    assert join(gpu(OURS), seen(moved(2), moved(None)), [UNNAMED]).strays == ()


def test_of_two_entries_for_a_place_the_older_is_of_one_that_has_gone() -> None:
    older = msgspec.structs.replace(ENTRY, assignment="a0", vgpu=Named("0000:10:00.5", 7))
    stray = Vgpu("0000:10:00.5", "0000:10:00.5", type_id=7, gi_id=2, group=102)

    joined = join(gpu(OURS, THEIRS), seen(VGPU, stray), [older, ENTRY])

    assert instances(joined) == [(1, False, VGPU.id), (2, True, "")]
    assert joined.strays == (stray,)
    assert joined.owners == {1: ENTRY}


def test_the_driver_may_take_what_holds_no_vgpu() -> None:
    assert join(gpu(OURS), seen(), []).may_take(P14)
    assert not join(gpu(OURS), seen(), []).may_take(P5)
    assert not join(gpu(OURS), seen(VGPU), []).may_take(P14)
    assert join(gpu(OURS), seen(moved(None)), []).may_take(P14)


def test_files_that_cannot_be_read_make_the_gpu_unhealthy_and_all_on_it_in_use() -> None:
    joined = join(gpu(OURS), seen(trouble="read /x: garbled"), [ENTRY])

    assert joined.gpu.unhealthy == "read /x: garbled"
    assert instances(joined) == [(1, True, "")]


def test_the_gpus_own_ailment_comes_first() -> None:
    joined = join(gpu(unhealthy="lost"), Seen(), [])

    assert joined.gpu.unhealthy == "lost"


def test_virtual_functions_are_missed_only_where_mig_mode_is_on() -> None:
    assert join(gpu(), Seen(), []).gpu.unhealthy == SRIOV_DISABLED
    assert join(gpu(mig_enabled=False), Seen(), []).gpu.unhealthy == ""


def test_an_entry_goes_when_both_are_gone() -> None:
    assert settled(gpu(), seen(), [ENTRY]) == {ENTRY: None}
    assert settled(gpu(), seen(moved(2)), [ENTRY]) == {}
    assert settled(gpu(THEIRS), seen(), [UNNAMED]) == {UNNAMED: None}


def test_an_entry_names_no_vgpu_that_is_gone() -> None:
    assert settled(gpu(OURS), seen(), [ENTRY]) == {ENTRY: UNNAMED}
    assert settled(gpu(OURS), seen(VGPU), [ENTRY]) == {}
    assert settled(gpu(OURS), seen(), [UNNAMED]) == {}


def test_nothing_is_concluded_from_what_could_not_be_seen() -> None:
    assert settled(gpu(unhealthy="lost"), seen(), [ENTRY]) == {}
    assert settled(gpu(mig_enabled=False), seen(), [ENTRY]) == {}
    assert settled(gpu(), seen(trouble="garbled"), [ENTRY]) == {}


def test_entries_are_those_of_the_gpu_and_of_this_boot() -> None:
    elsewhere = msgspec.structs.replace(ENTRY, gpu="GPU-2")
    earlier = msgspec.structs.replace(ENTRY, boot_id="before")

    assert of_gpu([ENTRY, elsewhere, earlier], "GPU-1", "boot") == (ENTRY,)
