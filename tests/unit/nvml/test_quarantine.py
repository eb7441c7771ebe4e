from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.nvml.health import Signs
from nodeagent.nvml.quarantine import (
    ACTIONS,
    REMAP_FAILED,
    REMAP_PENDING,
    RETIREMENT_PENDING,
    UNCORRECTED,
    Quarantine,
)

GPU, OTHER = "GPU-1", "GPU-2"
WELL = Signs(
    remap_pending=False,
    remap_failed=False,
    retirement_pending=False,
    uncorrected=0,
    recovery_action=0,
)
SILENT = Signs()
"""What an old driver tells of a GPU with GPU instances: nothing."""


def struck(*, by: str = "XID 95", first: Signs = WELL) -> Quarantine:
    quarantine = Quarantine()
    assert quarantine.ailment(GPU, first) == ""
    quarantine.strike(GPU, by)
    return quarantine


@pytest.mark.parametrize("signs", [WELL, SILENT])
def test_a_gpu_of_which_nothing_bad_is_told_is_well(signs: Signs) -> None:
    assert Quarantine().ailment(GPU, signs) == ""


@pytest.mark.parametrize(
    ("signs", "reason"),
    [
        (Signs(remap_pending=True, remap_failed=False), REMAP_PENDING),
        (Signs(remap_pending=True, remap_failed=True), REMAP_FAILED),
        (Signs(retirement_pending=True), RETIREMENT_PENDING),
        (Signs(recovery_action=9), "the driver asks to take recovery action 9"),
        (Signs(mig_on_after_reset=False), "MIG mode will be off after the next GPU reset"),
        (Signs(mig_on=False), "MIG mode will be on after the next GPU reset"),
        *(
            (Signs(recovery_action=action), f"the driver asks to {asked}")
            for action, asked in ACTIONS.items()
        ),
    ],
)
def test_what_the_driver_repeats_lasts_as_long_as_it_does_so(signs: Signs, reason: str) -> None:
    quarantine = Quarantine()

    assert quarantine.ailment(GPU, signs) == reason
    assert quarantine.ailment(GPU, signs) == reason
    assert quarantine.ailment(GPU, WELL) == ""


def test_nvmls_recovery_actions_are_all_known() -> None:
    assert sorted(ACTIONS) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("signs", [WELL, SILENT])
def test_a_strike_holds_however_often_the_gpu_looks_well(signs: Signs) -> None:
    quarantine = struck()

    assert [quarantine.ailment(GPU, signs) for _ in range(3)] == ["XID 95"] * 3
    assert quarantine.ailment(OTHER, signs) == ""


def test_of_several_strikes_the_first_is_told_so_that_the_text_is_stable() -> None:
    quarantine = struck(by="XID 48")
    quarantine.strike(GPU, "XID 95")

    assert quarantine.ailment(GPU, WELL) == "XID 48"


def test_a_recovery_action_that_was_asked_for_and_is_no_longer_ends_a_strike() -> None:
    quarantine = struck()

    assert quarantine.ailment(GPU, Signs(recovery_action=1)) == "XID 95"
    assert quarantine.ailment(GPU, Signs(recovery_action=None)) == "XID 95"
    assert quarantine.ailment(GPU, WELL) == ""


def test_a_gpu_that_was_lost_and_is_back_has_been_reset() -> None:
    quarantine = struck()
    quarantine.lost(GPU)

    assert quarantine.ailment(GPU, SILENT) == ""


def test_errors_that_are_counted_anew_show_a_reset() -> None:
    quarantine = struck(first=Signs(uncorrected=3))

    assert quarantine.ailment(GPU, Signs(uncorrected=3)) == "XID 95"
    assert quarantine.ailment(GPU, Signs(uncorrected=1)) == ""
    assert quarantine.ailment(GPU, Signs(uncorrected=2)) == UNCORRECTED


def test_a_reboot_ends_every_strike() -> None:
    quarantine = struck()
    quarantine.rebooted()

    assert quarantine.ailment(GPU, WELL) == ""


def test_uncorrectable_errors_since_the_last_look_close_a_gpu_until_it_is_reset() -> None:
    quarantine = Quarantine()

    assert quarantine.ailment(GPU, Signs(uncorrected=5)) == ""  # of whoever was here before
    assert quarantine.ailment(GPU, Signs(uncorrected=None)) == ""
    assert quarantine.ailment(GPU, Signs(uncorrected=6)) == UNCORRECTED
    assert quarantine.ailment(GPU, Signs(uncorrected=9)) == UNCORRECTED
    assert quarantine.ailment(GPU, Signs(uncorrected=0)) == ""


def test_what_is_told_of_rows_is_remembered_while_gpu_instances_keep_it_from_being_told() -> None:
    quarantine = Quarantine()

    assert quarantine.ailment(GPU, Signs(remap_pending=True, remap_failed=False)) == REMAP_PENDING
    assert quarantine.ailment(GPU, SILENT) == REMAP_PENDING
    assert quarantine.ailment(GPU, Signs(remap_pending=False, remap_failed=False)) == ""
    assert quarantine.ailment(GPU, SILENT) == ""


@given(
    st.lists(
        st.builds(
            Signs,
            remap_pending=st.none() | st.booleans(),
            remap_failed=st.none() | st.booleans(),
            uncorrected=st.none() | st.integers(0, 3),
            recovery_action=st.none() | st.integers(0, 2),
        ),
        max_size=12,
    )
)
def test_after_a_strike_no_gpu_is_well_before_a_look_shows_a_reset(looks: list[Signs]) -> None:
    quarantine = struck(first=SILENT)
    asked, counts, reset = False, [0], False
    for signs in looks:
        count = signs.uncorrected if signs.uncorrected is not None else counts[-1]
        reset = reset or (asked and signs.recovery_action == 0) or count < counts[-1]
        asked = asked or bool(signs.recovery_action)
        counts.append(count)

        assert reset or quarantine.ailment(GPU, signs) != ""
        if reset:
            return
