"""What is written next: from values, one safe write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Layout
from nodeagent.api.resources import of_vgpu_type
from nodeagent.driver import LiveGpu, LiveInstance
from nodeagent.harvester.decide import (
    ASTRAY,
    LEAVING,
    MAKING,
    NO_TYPE,
    NOT_OFFERED,
    RIVAL,
    Configure,
    Disable,
    Enable,
    EnableFunctions,
    Touch,
    TouchLayout,
    Wait,
    further,
    layout,
    leftovers,
)
from nodeagent.harvester.join import (
    NO_FUNCTIONS,
    NO_LAYOUT,
    NOT_ENABLED,
    NOT_NEUTRAL,
    STILL_FROZEN,
    TURNED_OFF,
    UNKNOWN_GPU,
    Joined,
    join,
    unready,
)
from nodeagent.harvester.objects import (
    Head,
    MigConfiguration,
    Objects,
    Requested,
    SriovGpuDevice,
    VgpuDevice,
)
from nodeagent.nvml.profiles import NOT_MIG_CAPABLE
from nodeagent.vgpu.interface import Vgpu
from nodeagent.vgpu.join import Seen

MODEL = MODELS["H100-80GB"]
ONE, THREE = 19, 9
KIND = next(each.name for each in MODEL.vgpu_types if each.profile_id == ONE)
RESOURCE = of_vgpu_type(KIND)[0]
ADDRESS = "0000:10:00.0"
UUID = "00000000-0000-4000-8000-000000000001"


def gpu(*instances: LiveInstance, **fields: Any) -> LiveGpu:
    return LiveGpu(
        **{
            "uuid": "GPU-0",
            "pci_address": ADDRESS,
            "model": "H100",
            "geometry": MODEL.geometry,
            "vgpu_types": MODEL.vgpu_types,
            "instances": instances,
            **fields,
        }
    )


def small(gi_id: int = 1, start: int = 0, **fields: Any) -> LiveInstance:
    return LiveInstance(gi_id, ONE, Placement(start, 1), **fields)


def device(number: int = 1, *, offers: bool = False, **fields: Any) -> VgpuDevice:
    name = f"n1-{number}"
    available = frozenset({KIND} if offers else ())
    return VgpuDevice(
        Head(name, f"uid-{name}", "1"),
        f"0000:10:00.{number}",
        ADDRESS,
        **{"available": available, **fields},
    )


def made(number: int = 1, *, assignment: str = "a1", **fields: Any) -> VgpuDevice:
    """Return a device with a vGPU, as Harvester tells of it."""
    known = {"enabled": True, "type_name": KIND, "configured": True, "uuid": UUID}
    return device(number, **{**known, "assignment": assignment, **fields})


def vgpu(number: int = 1, gi_id: int | None = 1, **fields: Any) -> Vgpu:
    return Vgpu(
        **{"id": UUID, "function": f"0000:10:00.{number}", "type_id": 1, "group": 7, **fields},
        gi_id=gi_id,
    )


def joined(instances: Any, devices: Any, vgpus: Any = ()) -> Joined:
    return Joined(gpu(*instances), tuple(devices), {each.function: each for each in vgpus})


def next_for(found: Joined, gi_id: int = 1, **options: Any) -> object:
    return further(found, gi_id, "a1", RESOURCE, **{"named": (), **options})


def test_the_first_device_that_offers_the_type_is_enabled() -> None:
    devices = [device(1), device(2, offers=True), device(3, offers=True)]

    assert next_for(joined([small()], devices)) == Enable(devices[1], KIND, "a1")


def test_where_none_offers_it_one_is_touched_once() -> None:
    assert next_for(joined([small()], [device(1)])) == Touch(device(1), "a1")
    touched = device(1, assignment="a1")
    assert next_for(joined([small()], [touched, device(2)])) == Wait(NOT_OFFERED)


@pytest.mark.parametrize(
    "busy",
    [
        {"enabled": True, "type_name": KIND},
        {"configured": True, "uuid": UUID},
    ],
)
def test_one_that_is_in_use_or_not_yet_clean_is_not_enabled(busy: dict[str, Any]) -> None:
    found = joined([small()], [device(1, offers=True, **busy)])

    assert not isinstance(next_for(found), Enable | Touch)


def test_while_one_is_being_made_no_other_is() -> None:
    found = joined([small()], [device(1, enabled=True, type_name=KIND), device(2, offers=True)])

    assert next_for(found) == Wait(MAKING)


def test_one_kept_through_a_reboot_is_waited_for_though_harvester_calls_it_made() -> None:
    assert next_for(joined([small()], [made(assignment=""), device(2, offers=True)])) == Wait(
        MAKING
    )


def test_nothing_is_made_while_another_instance_could_take_it() -> None:
    found = joined([small(1), small(2, 3)], [device(offers=True)])

    assert next_for(found) == Wait(RIVAL)


@pytest.mark.parametrize("gi_id", [2, None])
def test_nothing_is_made_while_another_is_taken_away_whose_instance_could_take_it(
    gi_id: int | None,
) -> None:
    leaving = made(1, enabled=False, assignment="")
    instances, devices = [small(1), small(2, 3)], [leaving, device(2, offers=True)]

    assert next_for(joined(instances, devices, [vgpu(1, gi_id=gi_id)])) == Wait(LEAVING)
    other = LiveInstance(2, THREE, Placement(4, 4))
    kind = next(each.name for each in MODEL.vgpu_types if each.profile_id == THREE)
    devices[0] = made(1, enabled=False, assignment="", type_name=kind)
    found = joined([small(1), other], devices, [vgpu(1, gi_id=gi_id)])
    assert next_for(found) == Enable(devices[1], KIND, "a1")


def test_one_astray_stays_while_another_is_being_made_beside_it() -> None:
    awaited = device(2, enabled=True, type_name=KIND)
    found = joined([small(1), small(2, 3)], [made(), awaited], [vgpu(gi_id=2)])

    assert next_for(found) == Wait(ASTRAY)


def test_a_vgpu_that_went_astray_is_taken_away_unless_somebody_has_it_or_keeps_it() -> None:
    found = joined([small(1), small(2, 3)], [made(), device(2, offers=True)], [vgpu(gi_id=2)])

    assert next_for(found) == Disable(made())
    assert next_for(found, held={UUID}) == Wait(ASTRAY)
    assert next_for(found, named={"n1-1"}) == Wait(ASTRAY)


def test_an_unknown_type_is_waited_for() -> None:
    assert further(joined([small()], []), 1, "a1", "nvidia.com/X-1-5C", named=()) == Wait(NO_TYPE)


# -- never disabled without a uuid -----------------------------------------------------------------

flags = st.booleans()
devices_drawn = st.builds(
    lambda number, enabled, configured, uuid, assignment: device(
        number,
        enabled=enabled,
        type_name=KIND,
        configured=configured,
        uuid=uuid,
        assignment=assignment,
        offers=True,
    ),
    st.integers(1, 4),
    flags,
    flags,
    st.sampled_from(["", UUID, "another"]),
    st.sampled_from(["", "a1", "a2"]),
)
vgpus_drawn = st.builds(
    vgpu, st.integers(1, 4), st.sampled_from([None, 1, 2]), id=st.sampled_from([UUID, "another"])
)


@given(
    st.lists(devices_drawn, max_size=4, unique_by=lambda each: each.address),
    st.lists(vgpus_drawn, max_size=4, unique_by=lambda each: each.function),
    st.sets(st.sampled_from(["n1-1", "n1-2"])),
)
def test_whatever_is_there_nothing_is_disabled_that_has_no_uuid_or_is_kept(
    devices: list[VgpuDevice], vgpus: list[Vgpu], named: set[str]
) -> None:
    found = joined([small(1), small(2, 3)], devices, vgpus)
    writes = [
        next_for(found, named=named),
        *leftovers(found, planned={"a1"}, named=named),
    ]
    for write in writes:
        if isinstance(write, Disable):
            assert write.device.uuid
            assert write.device.enabled
            assert write.device.head.name not in named
        if isinstance(write, Enable):
            assert write.device.address not in found.vgpus
            assert not write.device.enabled


def test_what_a_reboot_left_of_ours_is_cleared_and_of_nobody_elses() -> None:
    mine, planned, theirs = made(1, assignment="old"), made(2), made(3, assignment="")
    found = joined([], [mine, planned, theirs])

    assert leftovers(found, planned={"a1"}, named=()) == (Disable(mine),)
    assert leftovers(found, planned={"a1"}, named={"n1-1"}) == ()


def test_what_a_reboot_left_on_a_gpu_cut_by_hand_is_the_administrators_whatever_we_noted() -> None:
    touched = made(1, assignment="old")
    found = Joined(gpu(cut_by_hand=True), (touched,), {})

    assert leftovers(found, planned=(), named=()) == ()


# -- the layout ------------------------------------------------------------------------------------


def sriov(*, enabled: bool = True, as_made: bool = True) -> SriovGpuDevice:
    return SriovGpuDevice(Head("n1-gpu", "uid", "1"), ADDRESS, enabled, as_made)


def mig(*, enabled: bool = True, asks: int = 0, **fields: Any) -> MigConfiguration:
    requested = (Requested("MIG 1g.10gb", ONE, asks),)
    return MigConfiguration(Head("n1-gpu", "uid", "1"), ADDRESS, enabled, requested, **fields)


def step(
    *, of: LiveGpu | None = None, ours: bool = False, functions: bool = False, **objects: Any
) -> EnableFunctions | Configure | TouchLayout | None:
    known = {"gpus": (sriov(),), "migs": (mig(),), **objects}
    return layout(of or gpu(), Objects(**known), ours=ours, functions=functions)


def test_functions_are_enabled_only_when_told_and_on_an_empty_gpu() -> None:
    off: dict[str, Any] = {"gpus": (sriov(enabled=False),), "migs": ()}

    assert step(functions=True, **off) == EnableFunctions(sriov(enabled=False))
    assert step(functions=False, **off) is None
    assert step(functions=True, of=gpu(small()), **off) is None


def test_functions_are_enabled_without_mig_mode_only_where_the_gpu_knows_it() -> None:
    off: dict[str, Any] = {"gpus": (sriov(enabled=False),), "migs": ()}
    capable = gpu(mig_enabled=False)
    other = gpu(mig_enabled=False, geometry=NOT_MIG_CAPABLE)

    assert step(functions=True, of=capable, **off) == EnableFunctions(sriov(enabled=False))
    assert step(functions=True, of=other, **off) is None
    assert step(functions=True, of=capable, migs=(mig(asks=2),)) is None


def test_functions_that_somebody_has_disabled_stay_so() -> None:
    off = sriov(enabled=False, as_made=False)

    assert step(functions=True, gpus=(off,), migs=()) is None
    assert not sriov(as_made=False).turned_off
    for mig_enabled in (True, False):
        seen = join(gpu(mig_enabled=mig_enabled), Seen(), Objects((off,)), frozenset())
        assert (seen.gpu.unhealthy, seen.gpu.unready) == (TURNED_OFF, True)
    other = gpu(mig_enabled=False, geometry=NOT_MIG_CAPABLE)
    assert unready(other, Seen(), Objects((off,))) == ""


def test_a_layout_is_made_neutral_and_one_that_is_stays() -> None:
    assert step() is None
    disabled = mig(enabled=False, asks=3)
    assert step(migs=(disabled,)) == Configure(disabled, enabled=True, ours=True)


def test_one_that_was_disabled_is_made_neutral_once_harvester_has_said_that_it_is() -> None:
    emptied = mig(enabled=False, asks=3, status="disabled")

    assert step(migs=(emptied,)) == Configure(emptied, enabled=True, ours=True)
    for status in ("synced", "out-of-sync"):
        assert step(migs=(mig(enabled=False, asks=3, status=status),)) is None
        neutral = mig(enabled=False, status=status)
        assert step(migs=(neutral,)) == Configure(neutral, enabled=True, ours=True)


def test_one_that_asks_for_instances_is_disabled_first_once_nobody_uses_any() -> None:
    asking, cut = mig(asks=2), gpu(small(), cut_by_hand=True)
    used = gpu(small(in_use=True), cut_by_hand=True)

    assert step(migs=(asking,), of=cut) == Configure(asking, enabled=False, ours=False)
    assert step(migs=(asking,), of=used) is None
    assert step(migs=(asking,), of=cut, vgpus=(made(),)) is None
    assert step(migs=(asking,), of=cut, ours=True) is None


def test_what_was_cut_by_hand_since_the_gpu_was_found_to_be_ours_stays() -> None:
    assert step(migs=(mig(asks=2),), of=gpu(small())) is None


def test_a_gpu_handed_back_is_disabled_when_empty_if_it_was_us_who_enabled_it() -> None:
    static, marked = gpu(layout=Layout.STATIC), mig(ours=True)

    assert step(of=static, migs=(marked,)) == Configure(marked, enabled=False, ours=False)
    assert step(of=static, migs=(mig(),)) is None
    assert step(of=static, migs=(marked,), ours=True) is None
    assert step(of=static, migs=(marked,), vgpus=(made(),)) is None
    assert step(of=gpu(small(), layout=Layout.STATIC), migs=(marked,)) is None
    assert step(of=static, migs=(mig(ours=True, asks=2),)) is None  # somebody has it already


@pytest.mark.parametrize("status", ["synced", "out-of-sync"])
def test_one_whose_counts_are_frozen_is_handed_back_once_harvester_has_thawed_them(
    status: str,
) -> None:
    static, frozen = gpu(layout=Layout.STATIC), mig(ours=True, status=status)

    assert step(of=static, migs=(frozen,)) == TouchLayout(frozen)
    assert step(of=static, migs=(frozen,), ours=True) is None
    touched = mig(ours=True, status=status, leaving=True)
    assert step(of=static, migs=(touched,)) is None  # once is enough: Harvester looks by itself
    thawed = mig(ours=True, leaving=True)
    assert step(of=static, migs=(thawed,)) == Configure(thawed, enabled=False, ours=False)


def test_a_gpu_opted_in_again_before_it_was_handed_back_is_marked_as_before() -> None:
    leaving = mig(ours=True, leaving=True)

    assert step(migs=(leaving,)) == Configure(leaving, enabled=True, ours=True)


def test_one_that_asks_stays_enabled_until_harvester_has_made_what_a_reboot_took() -> None:
    lost = mig(asks=2, status="synced")

    assert step(migs=(lost,), of=gpu(cut_by_hand=True)) is None
    made_anew = gpu(small(), cut_by_hand=True)
    assert step(migs=(lost,), of=made_anew) == Configure(lost, enabled=False, ours=False)


@given(
    st.builds(
        mig,
        enabled=flags,
        asks=st.integers(0, 2),
        status=st.sampled_from(["", "synced", "out-of-sync", "disabled"]),
        ours=flags,
        leaving=flags,
    ),
    st.builds(
        gpu,
        layout=st.sampled_from(Layout),
        cut_by_hand=flags,
        instances=st.sampled_from([(), (small(),)]),
    ),
    flags,
)
def test_whatever_is_there_none_is_disabled_whose_counts_would_stay_frozen(
    found: MigConfiguration, of: LiveGpu, ours: bool
) -> None:
    write = step(migs=(found,), of=of, ours=ours)

    if isinstance(write, Configure) and not write.enabled:
        assert of.instances or not found.frozen


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (Objects(), UNKNOWN_GPU),
        (Objects((sriov(),)), NO_LAYOUT),
        (Objects((sriov(),), migs=(mig(enabled=False),)), NOT_ENABLED),
        (Objects((sriov(),), migs=(mig(enabled=False, asks=1),)), NOT_ENABLED),
        (
            Objects((sriov(),), migs=(mig(enabled=False, asks=1, status="synced"),)),
            STILL_FROZEN,
        ),
        (Objects((sriov(),), migs=(mig(asks=1),)), NOT_NEUTRAL),
        (Objects((sriov(),), migs=(mig(),)), NO_FUNCTIONS),
        (Objects((sriov(),), (device(),), (mig(),)), ""),
    ],
)
def test_why_nothing_is_made_yet_is_said(objects: Objects, reason: str) -> None:
    assert unready(gpu(), Seen(8), objects) == reason
    told = join(gpu(), Seen(8), objects, frozenset()).gpu
    assert (told.unhealthy, told.unready) == (reason, bool(reason))


# -- what a GPU instance holds ---------------------------------------------------------------------


def seen(*vgpus: Vgpu, devices: Any) -> LiveInstance:
    objects = Objects((sriov(),), tuple(devices), (mig(),))
    (found,) = join(gpu(small()), Seen(8, vgpus), objects, frozenset()).gpu.instances
    return found


@pytest.mark.parametrize("uuid", [UUID, "1"])  # 1.7 tells the mdev's, 1.8 the type's number
def test_a_declared_vgpu_is_its_device(uuid: str) -> None:
    found = seen(vgpu(), devices=[made(uuid=uuid)])

    assert found.device is not None
    assert (found.device.id, found.serves, found.in_use) == (UUID, (RESOURCE,), False)


@pytest.mark.parametrize(
    "devices",
    [
        [],
        [made(enabled=False)],
        [made(uuid="")],
        [made(uuid="another")],
        [made(configured=False)],
    ],
)
def test_one_that_is_not_declared_or_half_done_makes_it_used_and_no_device(devices: Any) -> None:
    found = seen(vgpu(), devices=devices)

    assert (found.device, found.in_use) == (None, True)


def test_two_vgpus_in_one_instance_are_nobodys_device() -> None:
    found = seen(vgpu(1), vgpu(2, id="another"), devices=[made(1), made(2, uuid="another")])

    assert (found.device, found.in_use) == (None, True)
