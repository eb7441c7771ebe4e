"""What a log tells of the demand: the fleet, who came, what became of them, who left."""

from __future__ import annotations

import msgspec
import pytest

from extender.decision_log.demand import policy_of, recorded
from extender.decision_log.layout import End, Entry, Gap, Header, LogUnreadable, Why
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.replay.parsing import policy_of as policy_of_record
from extender.replay.play import play
from extender.replay.recorded import Recorded
from extender.replay.stays import first
from extender.settings import Settings
from nodeagent.api.gpunode import Mode
from tests.decisions import Notebook
from tests.fakes.world import QUICK, World
from tests.unit.decision_log.test_reproduction import RULES, scheduled, uid
from tests.unit.policy.test_rules import WHOLE
from tests.waiting import until


async def two_come_and_one_leaves() -> tuple[Notebook, dict[str, str]]:
    """Record a VM that was there, one that comes and goes, and one that finds no room."""
    world = World()
    await world.add_namespace("default", team="red")
    await world.add_node("node-1", gpus=1, rack="a")
    async with world.obedient("node-1"):
        async with world.extender(QUICK) as before:
            there = await world.add_pod("there", "3-40C")
            await scheduled(before, there)
        notebook = Notebook(QUICK)
        async with world.extender(QUICK, witness=notebook) as service:
            comes = await world.add_pod("comes", "3-40C")
            await scheduled(service, comes)
            await scheduled(service, await world.add_pod("too-large", "7-80C", priority=3))
            await world.delete_pod(comes)
            await until(lambda: uid(comes) not in service.knowledge.pods)
            large = await world.pod("too-large")
            assert large is not None
    return notebook, {"there": uid(there), "comes": uid(comes), "too-large": uid(large)}


async def test_the_demand_is_what_came_and_what_became_of_it() -> None:
    notebook, uids = await two_come_and_one_leaves()

    told = recorded(notebook.header, notebook.items())

    (node,) = told.nodes
    assert (node.name, node.labels, node.since, node.until) == ("node-1", {"rack": "a"}, 0.0, None)
    assert node.mode is Mode.VGPU_VFIO
    assert told.model(node.gpus[0].model) is not None
    assert [gpu.occupied for gpu in node.gpus] == [()]
    assert told.namespaces == {"default": {"team": "red"}}
    (resident,) = told.residents
    assert (resident.name, [each.profile for each in resident.places]) == ("there", ["3g.40gb"])
    assert [(each.uid, each.wanted, each.nodes) for each in told.arrivals] == [
        (uids["comes"], ("nvidia.com/NVIDIA_H100XM-3-40C",), None),
        (uids["too-large"], ("nvidia.com/NVIDIA_H100XM-7-80C",), None),
    ]
    assert told.arrivals[1].priority == 3
    placed, refused = told.outcomes
    assert (placed.uid, placed.places[0].profile) == (uids["comes"], "3g.40gb")
    assert (refused.uid, refused.refused) == (uids["too-large"], "no-room")
    assert [each.uid for each in told.departures] == [uids["comes"]]
    assert placed.at <= told.departures[0].at
    assert told.gaps == 0


async def test_a_record_is_read_as_it_was_written() -> None:
    notebook, _ = await two_come_and_one_leaves()

    told = recorded(notebook.header, notebook.items())

    assert msgspec.json.decode(msgspec.json.encode(told), type=Recorded) == told


async def test_what_is_missing_in_the_log_is_counted() -> None:
    notebook, _ = await two_come_and_one_leaves()
    items = list(notebook.items())

    told = recorded(notebook.header, [*items[:4], Gap(3, Why.DISK), *items[7:]])

    assert told.gaps == 1


async def test_calls_that_are_lost_at_the_end_are_counted() -> None:
    notebook, _ = await two_come_and_one_leaves()
    items = list(notebook.items())

    assert recorded(notebook.header, [*items, End(len(items))]).gaps == 0
    assert recorded(notebook.header, [*items, Gap(2, Why.DISK), End(len(items) + 2)]).gaps == 1


@pytest.mark.parametrize(
    ("call", "given"),
    [
        ("Knowledge.gpu_node_gone", {}),
        ("Knowledge.node_gone", {"name": ["a"]}),
        ("Knowledge.pod_gone", {}),
        ("Knowledge.read_ended", {"uid": {}}),
    ],
)
def test_a_call_with_something_else_is_named(call: str, given: dict[str, object]) -> None:
    with pytest.raises(LogUnreadable, match=f"call 1, {call}"):
        recorded(Notebook(QUICK).header, [Entry(n=1, call=call, given=given)])


async def test_codes_that_are_none_tell_of_no_refusal() -> None:
    notebook, _ = await two_come_and_one_leaves()
    items = list(notebook.items())
    for item in items:
        if isinstance(item, Entry) and item.gave and item.call == "Hooks.judge":
            item.gave.update(passed=0, codes=[["x"], {}, 7])

    assert [each for each in recorded(notebook.header, items).outcomes if each.refused] == []


@pytest.mark.parametrize("name", PolicyName)
def test_a_policy_that_has_a_name_is_told_by_it(name: PolicyName) -> None:
    policy = InForce.of(name)

    assert policy_of(policy).document == name.value
    assert policy_of(policy).version == policy.version


@pytest.mark.parametrize("text", [RULES, WHOLE])
def test_a_policy_file_is_told_so_that_it_says_the_same(text: str) -> None:
    policy = parsed(text.encode(), "policy.yaml").in_force

    told = policy_of(policy)

    again = parsed(told.document.encode(), "record").in_force
    assert msgspec.structs.replace(again, version="") == msgspec.structs.replace(policy, version="")
    assert told.version == policy.version


@pytest.mark.parametrize("text", [RULES, WHOLE])
def test_a_header_has_all_of_a_policy(text: str) -> None:
    policy = parsed(text.encode(), "policy.yaml").in_force
    header = Header(
        program="1", run="r", file=1, began="", leads=True, policy=policy, settings=Settings()
    )

    assert msgspec.json.decode(msgspec.json.encode(header), type=Header) == header


async def test_under_its_own_policy_a_demand_is_decided_as_it_was() -> None:
    """What comes while an agent still clears up is refused in the replay as it was then."""
    world, notebook = World(), Notebook(QUICK)
    await world.add_node("node-1", gpus=1)
    async with world.extender(QUICK, witness=notebook) as service:
        knowledge = service.knowledge
        async with world.obedient("node-1"):
            await scheduled(service, await world.add_pod("small", "1-10C"))
            large = await world.add_pod("large", "3-40C")
            await scheduled(service, large)
        await world.delete_pod(large)
        await until(lambda: uid(large) not in knowledge.assigned)
        early = await world.add_pod("early", "3-40C")
        await scheduled(service, early)
        await world.delete_pod(early)
        await until(lambda: uid(early) not in knowledge.pods)
        async with world.obedient("node-1"):
            await until(lambda: not knowledge.views["node-1"].releasing)
            await scheduled(service, await world.add_pod("late", "3-40C"))

    told = recorded(notebook.header, notebook.items())
    played = play(told, policy_of_record(told, "log")).fates

    left = {each.uid: each for each in told.departures}
    freed = left[uid(large)].freed
    assert freed is not None
    assert freed > left[uid(large)].at
    found = first(told.outcomes)
    assert len(found) == 4
    assert [(bool(fate.refused), () if fate.refused else fate.places) for fate in played] == [
        (bool(found[each.uid].refused), found[each.uid].places) for each in told.arrivals
    ]
    assert [bool(fate.refused) for fate in played] == [False, False, True, False]
