"""Random lives of a whole node: each pod gets exactly what was planned for it, or is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from nodeagent.api.gpunode import Mode
from tests.fakes.nvml.library import built_for_tests
from tests.properties.nodeagent.whole_node import FOREIGN, HALF, SMALL, WholeNode

EXAMPLES = int(os.environ.get("TANGRAM_WHOLE_NODE_EXAMPLES", "12"))
STEPS = 30
"""In each of three modes so many lives of at most so many operations."""

PAUSES = st.sampled_from([0.0, 0.0, 0.002, 0.01, 0.05])


class Lives(RuleBasedStateMachine):
    """What may happen to a node, in any order, while the agent is at whatever it is at."""

    mode: Mode
    library: Path

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="node-"))
        self.runner = asyncio.Runner()
        self.node = WholeNode(self.root, self.library, self.mode)
        self.does(self.node.start())

    def does(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(what)

    def teardown(self) -> None:
        try:
            self.does(self.node.settle())
        finally:
            self.does(self.node.stop())
            self.runner.close()
            shutil.rmtree(self.root)

    def named(self, data: st.DataObject, *states: str) -> str:
        return data.draw(
            st.sampled_from([name for name, vm in self.node.vms.items() if vm.state in states])
        )

    def any_is(self, *states: str) -> bool:
        return any(vm.state in states for vm in self.node.vms.values())

    @rule(data=st.data(), profile=st.sampled_from([SMALL, SMALL, HALF]), pause=PAUSES)
    def a_pod_is_planned(self, data: st.DataObject, profile: int, pause: float) -> None:
        free = self.node.free(profile)
        if free:
            most = min(2, len(free))
            chosen = data.draw(
                st.lists(st.sampled_from(free), min_size=1, max_size=most, unique=True)
            )
            init = data.draw(st.lists(st.integers(0, len(chosen)), max_size=2))
            self.does(self.node.plan(profile, chosen, init))
            self.does(self.node.pause(pause))

    @precondition(lambda self: self.any_is("planned", "over"))
    @rule(data=st.data(), pause=PAUSES)
    def what_does_not_run_leaves_the_plan(self, data: st.DataObject, pause: float) -> None:
        self.does(self.node.withdraw(self.named(data, "planned", "over")))
        self.does(self.node.pause(pause))

    @precondition(lambda self: self.any_is("planned"))
    @rule(data=st.data(), rejected=st.sampled_from([False, False, False, True]))
    def a_pod_is_bound_if_it_may_be(self, data: st.DataObject, rejected: bool) -> None:
        name = self.named(data, "planned")
        if self.does(self.node.realized(name)):
            self.does(self.node.run_pod(name, rejected=rejected))

    @precondition(lambda self: self.any_is("running"))
    @rule(data=st.data(), at_once=st.booleans(), pause=PAUSES)
    def a_pod_ends(self, data: st.DataObject, at_once: bool, pause: float) -> None:
        self.does(self.node.end_pod(self.named(data, "running"), at_once=at_once))
        self.does(self.node.pause(pause))

    @precondition(lambda self: not self.any_is("planned"))
    @rule(profile=st.sampled_from([SMALL, HALF]))
    def a_pod_comes_that_nobody_has_planned(self, profile: int) -> None:
        self.does(self.node.intrude(profile))

    @rule(pause=PAUSES)
    def the_agent_restarts(self, pause: float) -> None:
        self.does(self.node.restart_agent())
        self.does(self.node.pause(pause))

    @rule(pause=PAUSES)
    def the_kubelet_restarts(self, pause: float) -> None:
        self.does(self.node.restart_kubelet())
        self.does(self.node.pause(pause))

    @rule(data=st.data())
    def somebody_makes_a_gpu_instance(self, data: st.DataObject) -> None:
        free = self.node.free(FOREIGN)
        if free:
            self.node.appear(data.draw(st.sampled_from(free)))

    @precondition(lambda self: self.node.foreign)
    @rule(data=st.data())
    def somebody_destroys_his_gpu_instance(self, data: st.DataObject) -> None:
        self.node.disappear(data.draw(st.sampled_from(sorted(self.node.foreign))))

    @rule()
    def all_comes_to_rest(self) -> None:
        self.does(self.node.settle())

    @rule(pause=st.sampled_from([0.02, 0.1]))
    def time_passes(self, pause: float) -> None:
        self.does(self.node.pause(pause))

    @invariant()
    def nobody_has_lost_anything(self) -> None:
        self.node.check()


@pytest.mark.parametrize("mode", [Mode.CONTAINER, Mode.VGPU_MDEV, Mode.VGPU_VFIO])
def test_each_pod_gets_exactly_what_was_planned_for_it(mode: Mode, tmp_path: Path) -> None:
    shared = next(each for each in tmp_path.parents if each.name.startswith("pytest-"))
    library = built_for_tests(shared / "fake-nvml")
    lives = type(f"Lives of {mode}", (Lives,), {"mode": mode, "library": library})

    run_state_machine_as_test(
        lives,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
