"""Bugs that are planted in what the agent does on Harvester, to see whether they are caught.

Each is one that people write. It is caught by a promise of a kind that it *breaks*: a ``trap`` of
the log of deeds, a write or a launcher that was ``refused``, a VM that is ``misplaced``, or waits
in vain (``starved``). ``bugs`` plants them, ``scenarios`` is what happens meanwhile, ``judge``
watches::

    make harvester-mutants                                     # a table of all of them
    python -m tests.unit.harvester.mutants no-uuid open-nvml   # of those named
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from tests.fakes.pcidevices.names import Version
from tests.unit.harvester.mutants import bugs, scenarios
from tests.unit.harvester.mutants.scenarios import Scenario

Planting = Callable[[], contextlib.AbstractContextManager[Any]]


class Mutant(msgspec.Struct, frozen=True):
    """A bug: its *name*, what it does wrong, how it is *planted*, where and by what it shows."""

    name: str
    says: str
    planted: Planting
    scenario: Scenario
    breaks: frozenset[str]
    version: Version = Version.V1_7


def _mutant(
    name: str, says: str, planted: Planting, scenario: Scenario, breaks: str, **options: Any
) -> Mutant:
    return Mutant(name, says, planted, scenario, frozenset(breaks.split(", ")), **options)


MUTANTS = (
    _mutant(
        "open-nvml",
        "NVML stays open while functions are enabled",
        bugs.never_shut,
        scenarios.one_vm,
        "trap",
    ),
    _mutant(
        "open-first",
        "NVML is opened after a reboot, before the functions are back",
        bugs.enabled_is_taken_for_done,
        scenarios.reboot,
        "trap",
    ),
    _mutant(
        "two-candidates",
        "a vGPU is made where two GPU instances could back it",
        bugs.two_candidates,
        scenarios.a_foreign_instance,
        "trap",
    ),
    _mutant(
        "arrivals-overlooked",
        "a vGPU is taken away while Harvester makes one of its profile",
        bugs.arrivals_overlooked,
        scenarios.one_goes_while_anothers_is_made,
        "trap",
    ),
    _mutant(
        "device-first",
        "the VGPUDevice is enabled before its GPU instance is made",
        bugs.device_first,
        scenarios.one_vm,
        "refused",
    ),
    _mutant(
        "driver's-place",
        "a GPU instance is made wherever there is room",
        bugs.another_place,
        scenarios.one_vm,
        "misplaced, starved",
    ),
    _mutant(
        "destroy-first",
        "a GPU instance is destroyed before its vGPU is taken away",
        bugs.destroy_first,
        scenarios.one_vm,
        "trap",
    ),
    _mutant(
        "device-stays",
        "the VGPUDevice of what was released stays enabled",
        bugs.never_disabled,
        scenarios.one_vm,
        "starved",
    ),
    _mutant(
        "kept-taken",
        "what a VM keeps while it is off is taken away",
        bugs.keepers_ignored,
        scenarios.a_vm_that_is_off,
        "refused",
    ),
    _mutant(
        "no-uuid",
        "a VGPUDevice is disabled before it tells its uuid",
        bugs.without_uuid,
        scenarios.dropped_while_made,
        "trap",
    ),
    _mutant(
        "no-version",
        "patches do not name the state they were decided on",
        bugs.without_version,
        scenarios.one_vm,
        "trap",
    ),
    _mutant(
        "asks",
        "a MigConfiguration is enabled with instances asked for",
        bugs.asking,
        scenarios.one_vm,
        "trap",
    ),
    _mutant(
        "not-neutral",
        "a GPU is cut though its MigConfiguration is disabled",
        bugs.cut_while_disabled,
        scenarios.one_vm_for_long,
        "trap, misplaced",
    ),
    _mutant(
        "layout-taken",
        "a layout made by hand is given up on a GPU nobody has named",
        bugs.layout_given_up,
        scenarios.cut_by_hand,
        "trap",
    ),
    _mutant(
        "lent-taken",
        "what was cut by hand is destroyed after a VM that had it, once its GPU is named",
        bugs.lent_is_ours,
        scenarios.named_while_it_serves,
        "trap",
    ),
    _mutant(
        "overruled",
        "virtual functions are enabled that an administrator has disabled",
        bugs.overruled,
        scenarios.disabled_by_hand,
        "trap",
    ),
    _mutant(
        "never-thawed",
        "a layout is handed back whose counts are frozen",
        bugs.never_thawed,
        scenarios.handed_back_after_long,
        "trap",
    ),
    _mutant(
        "own-mdev",
        "a vGPU is made behind its VGPUDevice's back",
        bugs.own_mdev,
        scenarios.one_vm,
        "trap",
    ),
    _mutant(
        "told-early",
        "a pod may come before the kubelet knows its device",
        bugs.told_early,
        scenarios.the_plugin_is_late,
        "refused",
    ),
    _mutant(
        "all-at-once",
        "all pods of a type have their turn at once",
        bugs.all_at_once,
        scenarios.four_vms_together,
        "misplaced",
    ),
    _mutant(
        "never-touched",
        "a device is awaited that Harvester does not look at",
        bugs.never_touched,
        scenarios.one_vm_soon,
        "starved",
        version=Version.V1_8,
    ),
)


def named(name: str) -> Mutant:
    """Return the bug of that name."""
    return next(each for each in MUTANTS if each.name == name)
