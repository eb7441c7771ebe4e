"""The README's table of metrics: what a process tells, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from extender.service import Service
from extender.service.reading import reading
from tests.fakes.world import World

README = Path(__file__).parents[4] / "README.md"


def named() -> list[str]:
    """Every metric the README names, in its order."""
    return re.findall(r"`(tangram_[a-z_]+)`", README.read_text())


def told(service: Service) -> list[str]:
    """Every family that a process tells, as Prometheus stores it."""
    work = service.knowledge.work
    work.fleet.look(reading(service.knowledge))
    return [
        family.name + ("_total" if family.type == "counter" else "")
        for family in work.registry.collect()
    ]


async def test_the_readme_names_every_metric_once_and_none_that_does_not_exist() -> None:
    world = World()
    await world.add_node("node-1")
    async with world.extender() as extender:
        assert sorted(named()) == sorted(told(extender))
