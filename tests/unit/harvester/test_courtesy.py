"""For what Harvester needs a GPU left alone, and for how long it is."""

from __future__ import annotations

from typing import Any

import pytest

from nodeagent.driver import LiveGpu
from nodeagent.harvester.courtesy import (
    DISABLE,
    ENABLE,
    MIG_MODE,
    Courtesy,
    Patience,
    need,
    needs,
)
from nodeagent.harvester.objects import Head, Objects, SriovGpuDevice
from nodeagent.nvml.profiles import NOT_MIG_CAPABLE
from tests.unit.harvester.test_decide import ADDRESS, gpu, mig, sriov

ON, OFF = gpu(mig_enabled=True), gpu(mig_enabled=False)
WITHOUT_MIG = gpu(mig_enabled=False, geometry=NOT_MIG_CAPABLE)
PATIENCE = Patience(functions=100.0, mig_mode=30.0, pause=500.0, prompt=60.0)


@pytest.mark.parametrize(
    ("enabled", "functions", "layout", "seen", "wanted"),
    [
        (True, 0, None, None, ENABLE),
        (True, 0, mig(), ON, ENABLE),  # after a reboot
        (False, 8, mig(), ON, DISABLE),
        (False, 0, None, OFF, ""),
        (True, 8, None, None, MIG_MODE),  # just enabled
        (True, 8, mig(), None, ""),  # Harvester has made that after turning the mode on
        (True, 8, mig(), ON, ""),
        (True, 8, mig(), OFF, MIG_MODE),  # it was made before a reboot
        (True, 8, None, WITHOUT_MIG, ""),
    ],
)
def test_harvester_needs_a_gpu_that_is_not_yet_as_it_is_to_be(
    enabled: bool, functions: int, layout: Any, seen: LiveGpu | None, wanted: str
) -> None:
    assert need(sriov(enabled=enabled), layout, functions, seen) == wanted


def test_a_gpu_whose_files_cannot_be_read_has_no_need_that_is_known() -> None:
    other = SriovGpuDevice(Head("n1-other", "uid", "1"), "0000:11:00.0", enabled=True)
    objects = Objects((sriov(enabled=True), other))

    assert needs(objects, {"0000:11:00.0": 0}, {}) == {"n1-other": ENABLE}
    assert needs(objects, {ADDRESS: 0, "0000:11:00.0": 8}, {ADDRESS: ON}) == {
        "n1-gpu": ENABLE,
        "n1-other": MIG_MODE,
    }


def test_a_need_is_heeded_for_a_while_and_after_a_pause_again() -> None:
    courtesy, every = Courtesy(PATIENCE), {"g": ENABLE}

    heeded = [bool(courtesy.heeded(every, now=at)) for at in (0, 99, 100, 599, 600, 699, 700)]

    assert heeded == [True, True, False, False, True, True, False]


def test_one_of_mig_mode_is_heeded_once_for_the_mode_may_be_meant_to_be_off() -> None:
    courtesy, every = Courtesy(PATIENCE), {"g": MIG_MODE}

    heeded = [bool(courtesy.heeded(every, now=at)) for at in (0, 29, 30, 600, 6000)]

    assert heeded == [True, True, False, False, False]


def test_a_need_that_was_met_and_comes_back_is_heeded_anew() -> None:
    courtesy = Courtesy(PATIENCE)
    courtesy.heeded({"g": ENABLE}, now=0)
    courtesy.heeded({"g": DISABLE}, now=90)

    assert courtesy.heeded({"g": ENABLE, "h": MIG_MODE}, now=150) == {"g": ENABLE, "h": MIG_MODE}
    assert courtesy.heeded({}, now=151) == {}


def test_harvester_is_told_again_and_again_unless_it_has_been_told_with_the_need() -> None:
    courtesy, every = Courtesy(PATIENCE), {"g": ENABLE, "h": MIG_MODE}

    def told(now: float) -> tuple[str, ...]:
        return courtesy.prompts(courtesy.heeded(every, now=now), now=now)

    at = (0, 50, 70, 110, 200, 600, 650)
    assert [told(each) for each in at] == [("g",), (), ("g",), (), (), ("g",), ()]
    expected = Courtesy(PATIENCE)
    expected.expect("g", ENABLE, now=0)
    assert expected.prompts(expected.heeded({"g": ENABLE}, now=1), now=1) == ()
