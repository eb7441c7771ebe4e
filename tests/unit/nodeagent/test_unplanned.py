"""Whose a GPU instance is that the plan has lost: whom it was planned for, if that pod has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest

from nodeagent.agent.unplanned import Unplanned
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Assignment, Gpu, Instance, Inventory, Mode
from nodeagent.driver import Host
from nodeagent.journal import Made
from nodeagent.kubelet import Holder
from nodeagent.ownership import observe
from tests.unit.nodeagent.builders import ONE, assignment, hardware

MACHINE = hardware()
(BOARD,) = MACHINE.gpus
GI_ID = BOARD.create(ONE, Placement(3, 1))
HOST = MACHINE.host()
ENTRY = assignment("a", BOARD.uuid, start=3)
MADE = Made("a", BOARD.uuid, ONE, Placement(3, 1), HOST.boot_id)
HAS_IT = {"a": "uid-a"}
NOTHING = Inventory()


def told(
    of: Unplanned,
    *plan: Assignment,
    claimed: Mapping[str, str] = HAS_IT,
    before: Inventory = NOTHING,
    kept: Sequence[Assignment] = (),
    host: Host = HOST,
    made: Sequence[Made] = (MADE,),
) -> list[str]:
    """Return the UIDs of the pods of which a pass with this *plan* tells, by their device."""
    found = of.holders(plan, host, made, told=before, kept=kept, claimed=claimed)
    assert {each.device for each in found} <= {BOARD.device(GI_ID).id}
    return [each.pod.uid for each in found]


@pytest.fixture
def unplanned() -> Unplanned:
    """What an agent knows that has had the entry in its plan."""
    made = Unplanned()
    assert told(made, ENTRY) == [], "what is planned is in the plan"
    return made


def test_a_pod_is_told_of_once_the_plan_has_lost_what_it_has(unplanned: Unplanned) -> None:
    assert told(unplanned) == ["uid-a"]
    assert told(unplanned) == ["uid-a"], "for as long as it has it"
    assert told(unplanned, ENTRY) == []


def test_an_agent_goes_by_the_plan_that_one_before_it_has_kept_and_later_by_what_it_saw() -> None:
    successor = Unplanned()
    assert told(successor, kept=[ENTRY]) == ["uid-a"]
    assert told(successor, kept=[ENTRY], claimed={}) == []
    assert told(successor, kept=[ENTRY]) == [], "whoever has its slot now was not meant"


def test_one_that_has_had_it_is_forgotten(unplanned: Unplanned) -> None:
    assert told(unplanned, claimed={}) == []
    assert told(unplanned) == [], "whoever has its slot now was not meant"


def test_a_pod_whose_slot_another_was_given_is_not_told_of_nor_is_that_other(
    unplanned: Unplanned,
) -> None:
    """The kubelet has crossed two pods: what is written again is what was written before."""
    assert told(unplanned, claimed={"a": "uid-b"}) == []


def test_an_agent_after_the_one_that_had_the_plan_goes_by_what_that_told() -> None:
    assert ENTRY.pod is not None
    there = Instance(GI_ID, ONE, 3, 1, "a", holder=ENTRY.pod, resource=ENTRY.resource)
    gpu = Gpu(BOARD.uuid, "", "", "", "", instances=(there,))

    assert told(Unplanned(), before=Inventory(gpus=(gpu,))) == ["uid-a"]
    assert told(Unplanned()) == [], "who is told nothing knows nothing"


@pytest.mark.parametrize(
    "made",
    [
        (),
        (msgspec.structs.replace(MADE, boot_id="an earlier boot"),),
        (msgspec.structs.replace(MADE, placement=Placement(4, 1)),),
    ],
    ids=["not ours", "of an earlier boot", "not there"],
)
def test_nobody_is_told_to_have_what_we_have_not_made(
    unplanned: Unplanned, made: Sequence[Made]
) -> None:
    assert told(unplanned, made=made) == []


@pytest.mark.parametrize(
    ("mode", "tells"), [(Mode.CONTAINER, True), (Mode.VGPU_VFIO, True), (Mode.HARVESTER, False)]
)
def test_it_is_told_by_the_inventory_but_with_harvester_where_the_kubelet_says_who_has_what(
    mode: Mode, tells: bool
) -> None:
    machine = hardware(mode=Mode.CONTAINER if mode is Mode.CONTAINER else Mode.VGPU_VFIO)
    (board,) = machine.gpus
    board.create(ONE, Placement(3, 1))
    host = msgspec.structs.replace(machine.host(), mode=mode)
    made = msgspec.structs.replace(MADE, boot_id=host.boot_id)
    served = host.gpus[0].served(mode)
    resource = next(name for name, profile in served.items() if profile == ONE)
    entry = msgspec.structs.replace(ENTRY, resource=resource)
    remembering = Unplanned()
    remembering.holders([entry], host, [made], told=NOTHING, kept=(), claimed=HAS_IT)

    lost: Sequence[Holder] = remembering.holders(
        [], host, [made], told=NOTHING, kept=(), claimed=HAS_IT
    )
    (seen,) = observe(host.gpus[0], [made], host, unplanned=lost)

    assert (seen.holder is not None) is tells
