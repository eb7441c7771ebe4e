"""A machine of two H100s for each test, and pynvml that sees it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.fakes.nvml.library import built_for_tests
from tests.fakes.nvml.machine import Machine


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_for_tests(tmp_path_factory.getbasetemp() / "nvml")


@pytest.fixture
def make(library: Path, tmp_path: Path) -> Iterator[Callable[..., Machine]]:
    """Return what makes machines: ``make("A30-24GB", gpus=3)``."""
    made: list[Machine] = []
    numbers = itertools.count()

    def make(*models: str, **options: Any) -> Machine:
        state = tmp_path / f"machine-{next(numbers)}"
        made.append(Machine.create(library, state, *models, **options))
        return made[-1]

    yield make
    for machine in made:
        machine.close()


@pytest.fixture
def machine(make: Callable[..., Machine]) -> Machine:
    return make("H100-80GB", gpus=2)


@pytest.fixture
def nvml(machine: Machine) -> Iterator[ModuleType]:
    """Return pynvml, initialised on the machine."""
    with machine.in_this_process() as pynvml:
        pynvml.nvmlInit()
        yield pynvml
