"""Whatever a kubelet chooses, a pod gets exactly what was planned for it, or an error.

The device manager's own way of choosing, with everything it leaves to chance left to chance; our
ties and our answers; pods of several containers that end, are rejected, come unplanned; a kubelet
and an agent that restart. No sockets: these are in the kubelet's exam.
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Sequence
from random import Random
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nodeagent import slots
from nodeagent.api.gpunode import Assignment, Mode
from nodeagent.deviceplugin import holdings
from nodeagent.deviceplugin.checkpoint import Entry
from nodeagent.deviceplugin.desk import Desk, Refusal
from nodeagent.deviceplugin.proto import deviceplugin_pb2 as v1beta1
from nodeagent.kubelet import Device, Offer
from tests.fakes.kubelet.manager import Manager, NotAdmitted
from tests.fakes.kubelet.pods import Container, Pod

RESOURCES = ("nvidia.com/NVIDIA_H100XM-1-10C", "nvidia.com/NVIDIA_H100XM-3-40C")
ROOM = {RESOURCES[0]: 4, RESOURCES[1]: 2}
SLOTS = {
    resource: tuple(slots.slot_name(resource, n) for n in range(count))
    for resource, count in ROOM.items()
}

COUNTS = st.tuples(st.integers(0, 2), st.integers(0, 1))
"""How many of each resource a container asks for."""

_T = TypeVar("_T")


class Plugin:
    """The desk as a device manager sees it, without anything between them."""

    def __init__(self, resource: str, desk: Desk) -> None:
        self._resource = resource
        self._desk = desk

    async def preferred(
        self, available: Sequence[str], must_include: Sequence[str], size: int
    ) -> Collection[str]:
        try:
            return self._desk.preferred(self._resource, available, must_include, size)
        except Refusal as reason:
            raise NotAdmitted(str(reason)) from reason

    async def allocate(self, devices: Sequence[str]) -> v1beta1.ContainerAllocateResponse:
        try:
            return v1beta1.ContainerAllocateResponse(
                envs=self._desk.allocate(self._resource, devices).envs
            )
        except Refusal as reason:
            raise NotAdmitted(str(reason)) from reason


class Lives(RuleBasedStateMachine):
    """``plan`` is the extender's, ``ties`` and ``desk`` the agent's, ``manager`` the kubelet's."""

    def __init__(self) -> None:
        super().__init__()
        self.pods: dict[str, Pod] = {}
        self.plan: dict[str, Assignment] = {}
        self.admitted: dict[str, dict[str, set[str]]] = {}
        self.ended: set[str] = set()
        self.ties = slots.Ties()
        self.arrived = ""
        self.current = False

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.chance = Random(seed)
        self.desk = self.new_desk()
        self.manager = self.new_manager()
        self.the_agent_makes_a_pass()

    # -- the cluster -------------------------------------------------------------------------------

    @rule(
        app=st.lists(COUNTS.filter(any), min_size=1, max_size=2),
        init=st.lists(COUNTS, max_size=2),
        passed=st.booleans(),
    )
    def a_pod_is_planned(
        self, app: list[tuple[int, int]], init: list[tuple[int, int]], passed: bool
    ) -> None:
        number = len(self.pods)
        pod = Pod(
            f"p{number}",
            tuple(_container(f"c{n}", counts) for n, counts in enumerate(app)),
            tuple(_container(f"i{n}", counts) for n, counts in enumerate(init)),
        )
        self.pods[pod.ref.uid] = pod
        for index, resource in enumerate(RESOURCES):
            counts = [each[index] for each in app]
            needed = max([sum(counts), *(each[index] for each in init)])
            for n in range(needed):
                id = f"{pod.name}/{index}/{n}"
                since = f"{number:04}"
                self.plan[id] = Assignment(id, "GPU-0", 0, 0, 1, resource, since, pod.ref)
        self.current = False
        if passed:
            self.the_agent_makes_a_pass()

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), rejected=st.booleans())
    def a_pod_that_is_realized_comes_to_the_kubelet(
        self, data: st.DataObject, rejected: bool
    ) -> None:
        uid = data.draw(st.sampled_from(self.ready()))
        planned: dict[str, set[str]] = {}
        for tie in self.ties.ties:
            if tie.pod_uid == uid:
                planned.setdefault(tie.resource, set()).add(tie.slot)
        given = self.admit(self.pods[uid])
        if given is not None:
            assert given == planned
        assert given is not None or not self.current
        self.admitted[uid] = planned
        if rejected or given is None:
            self.ended.add(uid)

    @precondition(lambda self: self.admitted)
    @rule(resource=st.sampled_from(RESOURCES))
    def a_pod_comes_that_nobody_has_planned(self, resource: str) -> None:
        """One that asks for no more than the expected pod could not be told from it."""
        count = len(self.offered.waiting.get(resource, ())) + 1
        stranger = Pod(f"s{len(self.ended)}-{len(self.pods)}", (Container("c", {resource: count}),))
        self.pods[stranger.ref.uid] = stranger
        self.admitted[stranger.ref.uid] = {}

        assert self.admit(stranger) is None
        self.ended.add(stranger.ref.uid)

    @precondition(lambda self: self.admitted.keys() - self.ended)
    @rule(data=st.data())
    def a_pod_ends(self, data: st.DataObject) -> None:
        self.ended.add(data.draw(st.sampled_from(sorted(self.admitted.keys() - self.ended))))

    @precondition(lambda self: self.ended)
    @rule()
    def ended_pods_leave_the_plan(self) -> None:
        self.plan = {id: each for id, each in self.plan.items() if self.of(each) not in self.ended}
        self.current = False

    # -- the node ----------------------------------------------------------------------------------

    @rule()
    def the_agent_makes_a_pass(self) -> None:
        plan, claims = list(self.plan.values()), self.claims()
        left = slots.kept(self.ties, plan, claims)
        self.ties = slots.tied(left, plan, claims, live=self.plan.keys(), capacity=ROOM)
        self.offered = Offer(
            SLOTS,
            self.ties.waiting(),
            {
                tie.slot: Device(tie.assignment, "GPU-0", 0, f"of {tie.slot}")
                for tie in self.ties.ties
            },
        )
        self.desk.offer = self.offered
        self.current = True

    @rule()
    def the_agent_restarts(self) -> None:
        self.desk = self.new_desk()
        self.connect()
        self.ties = slots.recovered(
            self.ties.realized, self.plan.values(), self.claims(), self.ties.awaited
        )
        self.the_agent_makes_a_pass()

    @rule()
    def the_kubelet_restarts(self) -> None:
        entries = self.manager.entries
        self.manager = self.new_manager()
        self.manager.recall(entries, SLOTS)
        self.connect()

    @invariant()
    def nobody_has_what_another_has(self) -> None:
        owners: dict[str, str] = {}
        for entry in self.held():
            if entry.pod_uid not in self.ended:
                for device in entry.devices:
                    assert owners.setdefault(device, entry.pod_uid) == entry.pod_uid

    # -- what they are made of ---------------------------------------------------------------------

    def ready(self) -> list[str]:
        """Return the pods, not yet come, of which everything that is planned is realized."""
        realized = {tie.assignment for tie in self.ties.ties if tie.slot in self.offered.devices}
        needed: dict[str, set[str]] = {}
        for id, each in self.plan.items():
            needed.setdefault(self.of(each), set()).add(id)
        return sorted(
            uid for uid, ids in needed.items() if uid not in self.admitted and ids <= realized
        )

    def admit(self, pod: Pod) -> dict[str, set[str]] | None:
        """Return what *pod* is given, None if it is rejected."""
        self.arrived = pod.ref.uid
        try:
            answers = _done(self.manager.admit(pod))
        except NotAdmitted:
            return None
        given: dict[str, set[str]] = {}
        for entry in self.held():
            if entry.pod_uid == pod.ref.uid:
                given.setdefault(entry.resource, set()).update(entry.devices)
        shown = {
            device.removeprefix("of ")
            for responses in answers.values()
            for response in responses
            for value in response.envs.values()
            for device in value.split(",")
        }
        assert shown == {slot for each in given.values() for slot in each}
        return given

    def claims(self) -> dict[str, str]:
        pods = [self.pods[uid].ref for uid in self.admitted.keys() - self.ended]
        return holdings.claims(self.held(), (), pods)

    def held(self) -> list[Entry]:
        return [
            Entry(
                each.uid,
                each.resource,
                tuple(device for ids in each.devices.values() for device in ids),
            )
            for each in self.manager.entries
        ]

    def of(self, assignment: Assignment) -> str:
        return assignment.pod.uid if assignment.pod else ""

    def active(self) -> set[str]:
        return (self.admitted.keys() - self.ended) | {self.arrived}

    def new_desk(self) -> Desk:
        return Desk(Mode.VGPU_VFIO, clock=lambda: 0.0)

    def new_manager(self) -> Manager:
        self.manager = Manager(self.chance, active=self.active, written=lambda: None)
        self.connect()
        return self.manager

    def connect(self) -> None:
        for resource, names in SLOTS.items():
            self.manager.connected(resource, Plugin(resource, self.desk))
            devices = [v1beta1.Device(ID=name, health="Healthy") for name in names]
            self.manager.listed(resource, devices)


def _container(name: str, counts: Sequence[int]) -> Container:
    return Container(name, {r: count for r, count in zip(RESOURCES, counts, strict=True) if count})


def _done(work: Coroutine[Any, Any, _T]) -> _T:
    """Run what awaits nothing that is not there."""
    try:
        work.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    raise AssertionError("it waits for something")


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=400, stateful_step_count=40)
