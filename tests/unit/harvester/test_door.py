"""Harvester's objects, followed and written through an API server."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from nodeagent.driver import DriverError
from nodeagent.harvester.door import Refusal
from nodeagent.harvester.objects import (
    MIG_CONFIGURATIONS,
    VGPU_DEVICES,
    Objects,
)
from tests.unit.harvester.objects_house import FIRST, House
from tests.waiting import until


@pytest.fixture
def house() -> House:
    return House()


async def test_before_all_has_been_read_nothing_is_known(house: House) -> None:
    with pytest.raises(DriverError, match="have not been read yet"):
        house.objects.now()


async def test_only_the_nodes_own_are_told(house: House) -> None:
    await house.vgpu()
    await house.vgpu("n2-000010004", node="n2")
    await house.mig("n1-000010000", "n1", 0)
    await house.mig("n2-000010000", "n2", 3)
    async with house.followed() as objects:
        now = objects.now()

    assert [each.head.name for each in now.vgpus] == [FIRST]
    assert [each.head.name for each in now.migs] == ["n1-000010000"]


async def test_null_and_missing_members_mean_nothing(house: House) -> None:
    body = {
        "metadata": {"name": FIRST, "labels": {"nodename": "n1"}},
        "spec": {"vGPUTypeName": None, "enabled": None},
        "status": None,
    }
    await house.api.create(VGPU_DEVICES, body)
    async with house.followed() as objects:
        (vgpu,) = objects.now().vgpus

    assert (vgpu.enabled, vgpu.kind, vgpu.uuid, vgpu.available) == (False, "", "", frozenset())


async def test_a_write_says_what_is_wanted_and_for_whom_and_is_known_at_once(house: House) -> None:
    await house.vgpu()
    async with house.followed() as objects:
        (vgpu,) = objects.now().vgpus
        await objects.enable(vgpu, "NVIDIA A100-1-5C", "a1")
        (enabled,) = objects.now().vgpus
        await objects.disable(enabled)
        (disabled,) = objects.now().vgpus

    assert (enabled.enabled, enabled.kind, enabled.assignment) == (True, "NVIDIA A100-1-5C", "a1")
    assert (disabled.enabled, disabled.assignment) == (False, "")


async def test_a_write_decided_on_an_older_state_is_refused_and_nothing_is_changed(
    house: House,
) -> None:
    await house.vgpu()
    async with house.followed() as objects:
        (vgpu,) = objects.now().vgpus
        await house.change(VGPU_DEVICES, FIRST, {"spec": {"enabled": True}})
        before = await house.read(VGPU_DEVICES, FIRST)

        with pytest.raises(Refusal, match=f"enable VGPUDevice {FIRST}"):
            await objects.enable(vgpu, "NVIDIA A100-1-5C", "a1")

    assert await house.read(VGPU_DEVICES, FIRST) == before


async def test_a_layout_is_configured_with_its_profiles_and_no_counts(house: House) -> None:
    await house.mig("n1-000010000", "n1", 2)
    async with house.followed() as objects:
        (mig,) = objects.now().migs
        with capture_logs() as logged:
            await objects.configure(mig, enabled=True, ours=True)
            (neutral,) = objects.now().migs
            await objects.touch_layout(neutral)
            (leaving,) = objects.now().migs
            await objects.configure(leaving, enabled=False, ours=False)
        (back,) = objects.now().migs

    assert [each["event"] for each in logged] == [
        "layout_left_to_tangram",
        "layout_touched",
        "layout_handed_back",
    ]
    assert (neutral.neutral, neutral.ours, neutral.leaving) == (True, True, False)
    assert (leaving.neutral, leaving.ours, leaving.leaving) == (True, True, True)
    assert leaving.head.version != neutral.head.version
    assert [(each.name, each.id) for each in neutral.requested] == [("MIG 1g.5gb", 19)]
    assert (back.enabled, back.ours, back.leaving) == (False, False, False)


async def test_a_layout_that_is_given_up_is_logged_as_that_with_what_it_was(house: House) -> None:
    await house.mig("n1-000010000", "n1", 2)
    await house.change(MIG_CONFIGURATIONS, "n1-000010000", {"spec": {"enabled": True}})
    async with house.followed() as objects:
        (mig,) = objects.now().migs
        with capture_logs() as logged:
            await objects.configure(mig, enabled=False, ours=False)

    assert logged == [
        {
            "event": "layout_given_up",
            "log_level": "warning",
            "gpu": "n1-000010000",
            "requested": {"MIG 1g.5gb": 2},
        }
    ]


async def test_one_that_cannot_be_read_stays_as_it_was(house: House) -> None:
    await house.vgpu()
    async with house.followed() as objects:
        before: Objects = objects.now()
        seen = house.changes
        await house.change(VGPU_DEVICES, FIRST, {"spec": {"address": {"not": "text"}}})
        await house.vm("vm-1", f'{{"gpus":{{"x":["{FIRST}"]}}}}')
        await until(lambda: house.changes > seen)

        assert objects.now().vgpus == before.vgpus
