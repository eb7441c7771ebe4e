"""What the judge says of gangs, of room and of held places, and how a campaign is stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks import made
from nodeagent.api import keys
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Decision, GpuNode, Instance, Mode, Realized
from nodeagent.apiserver.history import Revision, Write
from nodeagent.apiserver.protocol import LEASES, PODS, Kind
from nodeagent.simulated.hardware import Hardware
from tests.builders import H100, VGPU, assignment, gpu, gpu_node, instance
from tests.chaos.campaign import Campaign
from tests.chaos.gangs import LATELY_SECONDS, Gangs
from tests.chaos.judge import Judge
from tests.chaos.obstacles import Obstacles
from tests.chaos.pods import Pod
from tests.chaos.reports import Reports
from tests.chaos.rest import unsettled
from tests.chaos.room import Room
from tests.chaos.story import Outcome

HALF, SMALL = VGPU + "3-40C", VGPU + "1-10C"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def nobody(uid: str) -> bool:
    return False


def members(count: int = 2) -> list[Pod]:
    return [Pod(f"m-{n}", f"uid-{n}", gang="g", size=count) for n in range(count)]


def bind(gangs: Gangs, pod: Pod, others: list[Pod]) -> list[str]:
    pod.node = "node-1"
    return list(gangs.bound(pod, others))


def test_a_gang_is_begun_only_with_a_place_for_each() -> None:
    gangs, pods = Gangs(Clock(), waited_for=nobody), members()
    gangs.look(pods, {"uid-0"})

    told = bind(gangs, pods[0], pods)

    assert told == ["half a gang: m-0 is bound, and g never had 2 places"]


def test_a_gang_that_had_all_its_places_lately_may_begin() -> None:
    clock = Clock()
    gangs, pods = Gangs(clock, waited_for=nobody), members()
    gangs.look(pods, {"uid-0", "uid-1"})
    clock.now += 50.0
    pods[1].deleting = True
    gangs.look(pods, {"uid-0"})
    clock.now += LATELY_SECONDS

    assert bind(gangs, pods[0], pods) == []


def test_but_not_one_that_lost_them_long_ago() -> None:
    clock = Clock()
    gangs, pods = Gangs(clock, waited_for=nobody), members()
    gangs.look(pods, {"uid-0", "uid-1"})
    gangs.look(pods, {"uid-0"})
    clock.now += LATELY_SECONDS + 1.0
    gangs.look(pods, {"uid-0"})

    assert bind(gangs, pods[0], pods)


def test_members_that_ended_unheard_count_for_a_while_if_they_have_places() -> None:
    clock = Clock()
    gangs, ended, comer = (
        Gangs(clock, waited_for=nobody),
        members(),
        Pod("m-2", "uid-2", gang="g", size=2),
    )
    gangs.look(ended, set())
    gangs.look([comer], {"uid-0", "uid-1"})

    clock.now += LATELY_SECONDS
    assert bind(gangs, comer, [comer]) == []
    clock.now += 1.0
    assert bind(gangs, comer, [comer])


def test_and_do_not_without_a_place_for_each() -> None:
    gangs, ended, comer = (
        Gangs(Clock(), waited_for=nobody),
        members(),
        Pod("m-2", "uid-2", gang="g", size=2),
    )
    gangs.look(ended, set())
    gangs.look([comer], {"uid-0"})

    assert bind(gangs, comer, [comer])


def test_one_too_many_waits_until_another_is_bound() -> None:
    clock = Clock()
    gangs, pods = Gangs(clock, waited_for=lambda uid: uid == "uid-2"), members()
    late = Pod("m-2", "uid-2", gang="g", size=2)
    gangs.look([*pods, late], {"uid-0", "uid-1"})
    gangs.look([*pods, late], {"uid-0", "uid-1", "uid-2"})

    assert bind(gangs, late, pods) == [
        "half a gang: m-2 is bound, one too many, before any other of g"
    ]


def test_one_too_many_may_follow_a_member_whose_end_nobody_has_heard_of() -> None:
    clock = Clock()
    gangs, pods = Gangs(clock, waited_for=lambda uid: uid == "uid-2"), members()
    late = Pod("m-2", "uid-2", gang="g", size=2)
    gangs.look([*pods, late], {"uid-0", "uid-1"})
    pods[0].node = "node-1"
    gangs.look([*pods, late], {"uid-0", "uid-1"})
    clock.now += LATELY_SECONDS
    gangs.look([late], {"uid-0", "uid-1", "uid-2"})

    assert bind(gangs, late, []) == []


def test_a_member_placed_with_its_gang_is_none_too_many() -> None:
    gangs, pods = Gangs(Clock(), waited_for=nobody), members(3)
    for pod in pods:
        pod.size = 2
    gangs.look(pods, {"uid-0", "uid-1"})
    gangs.look(pods, {"uid-0", "uid-1", "uid-2"})

    assert bind(gangs, pods[2], pods) == []


def test_once_a_member_is_bound_the_others_are_ordinary_pods() -> None:
    gangs, pods = Gangs(Clock(), waited_for=nobody), members(3)
    gangs.look(pods, {each.uid for each in pods})
    assert bind(gangs, pods[0], pods) == []
    gangs.look(pods, {pods[0].uid})

    assert bind(gangs, pods[1], pods) == []
    assert gangs.begun == 1


def test_pods_that_fit_one_by_one_may_not_fit_together() -> None:
    node = Hardware("node-1", [H100], Mode.VGPU_VFIO)
    room = Room({"node-1": node}, set())
    empty = room.taken(lambda name: (), ["node-1"])

    assert room.fit([(HALF,), (HALF,)], empty)
    assert not room.fit([(HALF,), (HALF,), (SMALL,)], empty)
    assert room.fit([(HALF, SMALL)], empty)


def test_where_a_foreign_instance_is_free_there_is_no_room_for_its_kind() -> None:
    node = Hardware("node-1", [H100], Mode.VGPU_VFIO)
    board = node.gpus[0]
    gi_id = board.create(board.seen(node.mode).served(node.mode)[SMALL], Placement(0, 1))
    room = Room({"node-1": node}, {(board.uuid, gi_id)})
    taken = room.taken(lambda name: (), ["node-1"])

    assert not room.fit([(SMALL,)], taken)
    assert room.fit([(HALF,)], taken)


HELD = assignment("held", 19, 4, pod=None)  # on slice 4 of GPU-0


def told(*instances: Instance, unhealthy: str = "") -> GpuNode:
    return gpu_node(gpus=[gpu(0, instances=instances, unhealthy=unhealthy)])


def known_of(node: GpuNode, *, ours: bool = False) -> Obstacles:
    obstacles = Obstacles(ours=lambda gpu, there: ours)
    obstacles.anew(node)
    return obstacles


@pytest.mark.parametrize(
    "obstacle",
    [
        told(instance(14, 4)),  # somebody's 2g.20gb on slices 4 and 5
        told(instance(19, 0)),  # or one that would take the vGPU
        told(msgspec.structs.replace(instance(19, 0, assignment="half made"), vacant=True)),
        told(unhealthy="never answered"),
    ],
)
def test_what_was_told_to_be_in_the_way_is_until_another_plan_is_written(
    obstacle: GpuNode,
) -> None:
    """It may have gone since: the extender hears of that from the agent, and after a while."""
    obstacles = known_of(obstacle)
    assert obstacles.bar(HELD)

    obstacles.also(told())
    assert obstacles.bar(HELD)

    obstacles.anew(told())
    assert not obstacles.bar(HELD)

    obstacles.also(obstacle)
    assert obstacles.bar(HELD)


@pytest.mark.parametrize(
    "node",
    [
        told(instance(14, 0)),
        told(instance(14, 4, assignment="the last one's")),
        told(instance(19, 0, assignment="another's")),
    ],
)
def test_what_is_elsewhere_or_the_agents_own_is_not_in_the_way(node: GpuNode) -> None:
    assert not known_of(node).bar(HELD)


def test_an_instance_that_its_agent_made_and_does_not_know_excuses_nobody() -> None:
    assert not known_of(told(instance(14, 4)), ours=True).bar(HELD)


def test_where_nothing_was_told_nobody_can_be_expected_to_place_anything() -> None:
    assert Obstacles(ours=lambda gpu, there: False).bar(HELD)


def test_a_campaign_is_stored_for_machines_and_for_people(tmp_path: Path) -> None:
    campaign = Campaign(events=200, first_seed=5)
    campaign.add(
        Outcome(5, (), api_calls=7, followed=4, happened={"reboot": 2}, struck={"delay": 3})
    )
    campaign.add(Outcome(6, ("1.0 s: lost: a pod",), happened={"reboot": 1}))

    campaign.save(tmp_path / "chaos.json")

    stored = msgspec.json.decode((tmp_path / "chaos.json").read_bytes())
    page = (tmp_path / "chaos.md").read_text()
    assert (stored["histories"], stored["api_calls"], stored["happened"]["reboot"]) == (2, 7, 3)
    assert stored["broken"] == [{"seed": 6, "what": ["1.0 s: lost: a pod"]}]
    assert "| histories (seeds 5 to 6) | 2 |" in page
    assert stored["made"]["processor"] == made.processor()
    assert made.processor() in page
    assert "| pods bound where a joint plan had put them | 4 |" in page
    assert "| reboot | 3 |" in page
    assert "* seed 6: 1.0 s: lost: a pod" in page


def test_what_an_agent_told_holds_against_late_words_of_its_own_and_of_those_before_it() -> None:
    reports = Reports()

    def tell(agent: str, sequence: int, *ids: str) -> frozenset[str]:
        status = gpu_node(realized=[Realized(each) for each in ids]).status
        told = msgspec.structs.replace(status, agent_epoch=agent, sequence=sequence)
        reports.hear("node-1", told)
        return reports.realized("node-1")

    assert tell("", 0) == frozenset()
    assert tell("agent_5", 1, "a") == {"a"}
    assert tell("agent_3", 6) == {"a"}, "though it is heard for the first time"
    assert tell("agent_5", 3, "a", "b") == {"a", "b"}
    assert tell("agent_5", 2, "a") == {"a", "b"}
    assert tell("agent_5", 4, "a", "b") == {"a", "b"}
    assert tell("agent_5", 1, "a") == {"a", "b"}
    assert tell("agent_12", 1) == frozenset()
    reports.forget("node-1")
    assert tell("", 0) == frozenset()
    assert tell("agent_12", 2, "c") == {"c"}


class Told:
    """What a judge is shown, all of it written by *writer*, who has *listed* everything at a time.

    ``broken`` are the kinds of promises that it says are.
    """

    def __init__(self, writer: str, *, listed: float = 0.0) -> None:
        self.judge = Judge(
            {},
            clock=Clock(),
            waited_for=nobody,
            writer=lambda: writer,
            hold_seconds=10.0,
            listed=lambda process, kind: listed,
        )

    @property
    def broken(self) -> list[str]:
        return [told.split(" s: ")[1].split(":")[0] for told in self.judge.violations]

    def leads(self, process: str) -> None:
        meta = {"name": keys.LEADER_LEASE, "namespace": keys.SYSTEM_NAMESPACE, "uid": "lease"}
        self._wrote(LEASES, None, {"metadata": meta, "spec": {"holderIdentity": process}})

    def evicted(self) -> None:
        """Show a pod, and that it is evicted; nobody waits for its place."""
        limits = {"containers": [{"resources": {"limits": {SMALL: "1"}}}]}
        meta = {"name": "vm", "namespace": "default", "uid": "uid"}
        pod = {"metadata": meta, "spec": limits, "status": {"phase": "Running"}}
        target = {"phase": "Running", "conditions": [{"type": "DisruptionTarget"}]}
        self._wrote(PODS, None, pod)
        self._wrote(PODS, pod, {**pod, "status": target})

    def _wrote(self, kind: Kind, before: dict[str, Any] | None, after: dict[str, Any]) -> None:
        key = (after["metadata"]["namespace"], after["metadata"]["name"])
        last = None if before is None else Revision.of(before)
        self.judge.wrote(kind, Write(1, key, last, Revision.of(after)))


def test_whoever_evicts_a_pod_leads_and_has_read_what_there_is() -> None:
    other, unread, ready = Told("a_1"), Told("a_1", listed=50.0), Told("a_1", listed=100.0)
    other.leads("b_1")
    for each in (unread, ready):
        each.leads("a_1")
    for each in (other, unread, ready):
        each.evicted()

    assert "not the leader" in other.broken
    assert {"not the leader", "unread"} & {*unread.broken} == {"unread"}
    assert ready.broken == ["wrong victim"]


@pytest.mark.parametrize(("phase", "excused"), [("Running", True), ("Failed", False)])
def test_what_a_living_pod_may_be_behind_is_no_leak_and_what_a_dead_one_was_is(
    phase: str, excused: bool
) -> None:
    """Its GPU was reset: while it lives, nobody can tell what its claim keeps from going."""
    machine = Hardware("node-1", [H100], Mode.VGPU_VFIO)
    (board,) = machine.gpus
    judge = Judge(
        {"node-1": machine},
        clock=Clock(),
        waited_for=nobody,
        writer=str,
        hold_seconds=10.0,
        listed=lambda process, kind: 0.0,
    )
    decided = Decision("a", board.uuid, "1g.10gb", 19, 0, 1, SMALL)
    pod = Pod("vm", "uid", node="node-1", phase=phase, decisions=(decided,), bound_at=100.0)
    judge.pods[pod.uid] = pod
    board.create(19, Placement(0, 1))
    with judge.upheaval(board):
        board.reset()
    board.create(19, Placement(1, 1))

    leaks = [told for told in unsettled(judge) if told.startswith("leaked: GPU instance")]

    assert bool(leaks) is not excused
