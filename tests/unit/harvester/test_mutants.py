"""Bugs that people write are caught, each by the promise it breaks; without them all is well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fakes.pcidevices.names import Version
from tests.unit.harvester.mutants import MUTANTS, Mutant
from tests.unit.harvester.mutants.judge import ENDLESS_PATIENCE_SECONDS, judged
from tests.unit.harvester.mutants.scenarios import Scenario

EVERY = bool(os.environ.get("TANGRAM_EVERY_MUTANT"))
"""Set it to plant all of them, in either version; otherwise those that show at once."""

SOON = [each for each in MUTANTS if EVERY or "starved" not in each.breaks]
SCENARIOS = list(dict.fromkeys(each.scenario for each in MUTANTS))


def library(directory: Path) -> Path:
    shared = next(each for each in directory.parents if each.name.startswith("pytest-"))
    return shared / "fake-nvml"


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_without_a_bug_nothing_is_broken(tmp_path: Path, scenario: Scenario) -> None:
    found = await judged(
        tmp_path, library(tmp_path), Version.V1_7, scenario, patience=ENDLESS_PATIENCE_SECONDS
    )

    assert (found, found.detail) == ("", "")


@pytest.mark.parametrize("mutant", SOON, ids=lambda each: each.name)
async def test_a_bug_is_caught_by_a_promise_it_breaks(tmp_path: Path, mutant: Mutant) -> None:
    with mutant.planted():
        found = await judged(tmp_path, library(tmp_path), mutant.version, mutant.scenario)

    assert found in mutant.breaks, f"{mutant.says}: {found} {found.detail}"


def test_each_has_a_name_of_its_own() -> None:
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 12
