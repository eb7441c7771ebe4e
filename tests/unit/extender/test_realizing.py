"""How long agents take, told from changes of the views alone."""

from __future__ import annotations

import pytest

from extender.metrics import Work
from extender.service.realizing import Realizing
from extender.snapshot import NodeView
from extender.succession import successor
from nodeagent.api.gpunode import GpuNode, Realized
from tests.builders import assignment, gpu_node, view


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work() -> Work:
    return Work()


class Node:
    """A node whose states are told one after the other, each a second after the last."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self._work, self._clock = work, clock
        self.realizing = Realizing(work, clock)
        self._view: NodeView | None = None

    def becomes(self, node: GpuNode) -> None:
        before = self._view
        self._view = view(node) if before is None else successor(before, node)
        self.realizing.changed("node-1", before, self._view)
        self._clock.now += 1.0

    def goes(self) -> None:
        self.realizing.changed("node-1", self._view, None)
        self._view = None

    def told(self, name: str) -> tuple[float, float]:
        """How many times were told, and their sum in seconds."""
        sample = self._work.registry.get_sample_value
        count, total = sample(f"{name}_count"), sample(f"{name}_sum")
        assert count is not None
        assert total is not None
        return count, total


REALIZATION, RELEASE = "tangram_realization_duration_seconds", "tangram_release_duration_seconds"
PLAN = [assignment("a", 19, 0)]


@pytest.fixture
def node(work: Work, clock: Clock) -> Node:
    found = Node(work, clock)
    found.becomes(gpu_node())
    return found


def test_a_place_is_realized_when_the_agent_says_so_and_not_when_it_has_merely_seen_it(
    node: Node,
) -> None:
    node.becomes(gpu_node(plan=PLAN, generation=2, version=2, observed=1))
    node.becomes(gpu_node(plan=PLAN, generation=2, version=3))
    assert node.realizing.unrealized() == (1, 2.0)
    assert node.told(REALIZATION) == (0, 0.0)

    node.becomes(gpu_node(plan=PLAN, generation=2, version=4, realized=[Realized("a")]))

    assert node.realizing.unrealized() == (0, 0.0)
    assert node.told(REALIZATION) == (1, 2.0)


def test_a_place_that_is_taken_back_unrealized_is_not_timed(node: Node) -> None:
    node.becomes(gpu_node(plan=PLAN, generation=2, version=2))
    node.becomes(gpu_node(generation=3, version=3))

    assert node.realizing.unrealized() == (0, 0.0)
    assert node.told(REALIZATION) == (0, 0.0)


def test_slices_are_free_when_the_agent_has_seen_that_they_are_to_be(node: Node) -> None:
    node.becomes(gpu_node(plan=PLAN, generation=2, version=2, realized=[Realized("a")]))
    node.becomes(gpu_node(generation=3, version=3, observed=2))
    node.becomes(gpu_node(generation=3, version=4, observed=2, realized=[Realized("a")]))
    assert node.told(RELEASE) == (0, 0.0)

    node.becomes(gpu_node(generation=3, version=5))

    assert node.told(RELEASE) == (1, 2.0)


def test_what_was_there_when_we_came_waits_and_is_not_timed(work: Work, clock: Clock) -> None:
    node = Node(work, clock)
    node.becomes(gpu_node(plan=PLAN, generation=2, version=2, observed=1))
    assert node.realizing.unrealized() == (1, 1.0)

    node.becomes(gpu_node(plan=PLAN, generation=2, version=3, realized=[Realized("a")]))

    assert node.told(REALIZATION) == (0, 0.0)


def test_a_node_that_goes_leaves_nothing_to_wait_for(node: Node) -> None:
    node.becomes(gpu_node(plan=PLAN, generation=2, version=2))

    node.goes()

    assert node.realizing.unrealized() == (0, 0.0)


def test_reservations_wait_for_nobody(node: Node) -> None:
    node.becomes(gpu_node(plan=[assignment("a", 19, 0, pod=None)], generation=2, version=2))

    assert node.realizing.unrealized() == (0, 0.0)
