"""The next step of an order, whatever is seen; plans are carried out by these steps alone."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.advice import Asked
from extender.claims import claimant
from extender.kubescheduler.eligible import Taint, Traits
from extender.moving import (
    Admitted,
    Again,
    Arrived,
    Depart,
    Departure,
    Desist,
    End,
    Hold,
    Kind,
    Leg,
    Made,
    Order,
    Outcome,
    Over,
    Release,
    Restraint,
    Seat,
    Skip,
    Step,
    Wait,
    next_step,
    on_its_way,
)
from extender.moving.arriving import STARTING
from extender.moving.course import ENDED, NOBODY_WAITS, NOT_LEFT, RESTARTS, SILENT, UNBOUND
from extender.policy.bounds import Bounds, Terms
from extender.policy.rules import Rules
from extender.request import Request
from extender.service.ports import PodFacts
from nodeagent.api.gpunode import OwnerRef, PodRef
from tests.builders import H100, assignment
from tests.explained import RESOURCE_OF, Small, Vm
from tests.unit.extender.advice.test_advice import FOUR, ONE, PROFILES, SEVEN, THREE, fits
from tests.unit.extender.moving.fleet import VMI, Fleet

MOST_STEPS = 200


def step(
    fleet: Fleet,
    order: Order,
    *,
    stop: str = "",
    paused: str = "",
    wait: str = "",
    overdue: bool = False,
) -> Step:
    restraint = Restraint(stop, paused, wait)
    return next_step(order, fleet.there(), restraint, overdue=overdue)


def taken(order: Order, found: Step, fleet: Fleet) -> Order:
    """Take a step as the service does, and let happen what comes of it."""
    replace = msgspec.structs.replace
    match found:
        case Hold(entries=entries, instead=instead):
            for node in fleet.holds:
                fleet.holds[node] = [e for e in fleet.holds[node] if e.id not in instead]
            for node, entry in entries:
                fleet.hold(node, entry)
        case Depart(pod=pod, others=others, unready=unready):
            return replace(order, departed=Departure(pod, Kind.EVICTION, others, unready))
        case Again(departure=departure):
            fleet.stop(departure.pod)
        case Wait() if order.departed is not None and order.leg is not None:
            target = order.leg.target
            fleet.come(order.leg.owner.name, target.node, target.gpu, target.start)
        case Wait() if fleet.remains:
            fleet.remains.clear()
        case Wait():
            assert fleet.admit(order.ripe()), found
        case Arrived():
            return replace(order, made=(*order.made, Made("eviction")), departed=None)
        case End(outcome=outcome, why=why):
            return replace(order, ending=outcome, why=why)
        case Skip():
            return replace(order, made=(*order.made, Made("gone")))
        case Release(ids=ids, back=back):
            for node, gone in ids.items():
                fleet.holds[node] = [e for e in fleet.holds[node] if e.id not in gone]
            for node, entry in back.items():
                fleet.hold(node, entry)
        case Over():
            return replace(order, over=True)
    return order


def carried_out(fleet: Fleet, order: Order) -> Order:
    for _ in range(MOST_STEPS):
        if order.over:
            return order
        found = step(fleet, order)
        if isinstance(found, Depart | Again):
            assert not left_open(fleet, order)
        order = taken(order, found, fleet)
    raise AssertionError(f"it does not come to its end: {order}")


def left_open(fleet: Fleet, order: Order) -> list[int]:
    """Return the later moves whose targets somebody else could take: there should be none.

    Where another move of the order has yet to come it is held, or kept, for that one.
    """
    there = fleet.there()
    return [
        at
        for at in range(order.at, len(order.legs))
        for target in (order.legs[at].target,)
        if not any(leg.target.overlaps(target) for leg in order.legs[order.at : at])
        and not there.held(target.node, order.id_of(at))
        and not there.held(target.node, order.id_ahead(at))
    ]


def chained() -> tuple[Fleet, Order]:
    """A VM on b leaves for c, so that one on a has its place."""
    vms = [Vm("x", THREE, "a", 0, 0), Vm("y", ONE, "b", 0, 1)]
    fleet = Fleet({"a": 1, "b": 1, "c": 1}, {vm.name: vm for vm in vms})
    legs = (
        leg("y", ONE, Seat("b", "b-0", ONE, 1, 1), Seat("c", "c-0", ONE, 6, 1)),
        leg("x", THREE, Seat("a", "a-0", THREE, 0, 4), Seat("b", "b-0", THREE, 0, 4)),
    )
    return fleet, Order("0123456789ab", "digest", "now", ("a goal",), legs)


def leg(name: str, profile_id: int, source: Seat, target: Seat) -> Leg:
    pod = PodRef("default", f"name-{name}.1", f"{name}.1")
    return Leg(OwnerRef(VMI, "default", name), pod, RESOURCE_OF[profile_id], source, target)


def test_a_place_that_is_vacated_for_a_later_move_is_kept_from_before_anybody_leaves() -> None:
    fleet, order = chained()
    holds = step(fleet, order)
    assert isinstance(holds, Hold)
    assert [entry.id for _, entry in holds.entries] == [order.id_of(0), order.id_ahead(1)]
    order = taken(order, holds, fleet)
    assert isinstance(step(fleet, order), Depart)

    assert not fleet.there().free(Seat("b", "b-0", ONE, 2, 1), RESOURCE_OF[ONE])


def test_what_was_kept_for_a_later_move_is_held_for_its_vm_in_one_write() -> None:
    fleet, order = chained()
    while not order.made:
        order = taken(order, step(fleet, order), fleet)
    leaves = step(fleet, order)
    fleet.remains.clear()
    holds = step(fleet, order)

    assert leaves == Wait("the place that the VM is to go to has yet to be free")
    assert isinstance(holds, Hold)
    assert [entry.id for _, entry in holds.entries] == [order.id_of(1)]
    assert holds.instead == {order.id_ahead(1)}
    ended = carried_out(fleet, taken(order, holds, fleet))
    assert ended.ending is Outcome.DONE
    assert not any(fleet.holds.values())


def test_nobody_leaves_for_a_later_move_whose_place_another_has_come_to() -> None:
    fleet, order = chained()
    fleet.vms["newcomer"] = Vm("newcomer", ONE, "b", 0, 2)

    found = step(fleet, order)
    assert isinstance(found, End)
    assert (found.outcome, "another has come" in found.why) == (Outcome.GIVEN_UP, True)


def test_what_is_kept_for_a_later_move_is_given_back_when_the_order_ends() -> None:
    fleet, order = chained()
    order = taken(order, step(fleet, order), fleet)
    order = msgspec.structs.replace(order, stopping="somebody")
    ended = carried_out(fleet, order)

    assert ended.ending is Outcome.STOPPED
    assert not any(fleet.holds.values())


def test_a_vm_that_is_no_more_is_moved_as_far_as_that_can_be() -> None:
    """Its owner has deleted it: for a drain that is as good."""
    fleet, order = begun()
    fleet.vms.pop("x")
    assert step(fleet, order) == Skip(order.legs[0])
    assert step(fleet, order, overdue=True) == Skip(order.legs[0], overdue=True)

    ended = carried_out(fleet, order)
    assert (ended.ending, ended.made) == (Outcome.DONE, (Made("gone"),))
    assert not any(fleet.holds.values())


@pytest.mark.parametrize("how", ["ending", "over", "unknown", "unbound"])
def test_a_vm_that_restarts_when_its_turn_comes_is_waited_for_until_it_is_overdue(how: str) -> None:
    """Its tenant has it restart; its next pod takes what is held for it."""
    fleet, order = begun()
    pods = fleet.pods
    match how:
        case "ending":
            pods["x.1"] = msgspec.structs.replace(pods["x.1"], deleting=True)
        case "over":
            pods["x.1"] = msgspec.structs.replace(pods["x.1"], phase="Succeeded")
        case "unknown":
            del pods["x.1"]
        case "unbound":
            pods["x.1"] = msgspec.structs.replace(pods["x.1"], node="")
    there = msgspec.structs.replace(fleet.there(), pods=pods)

    assert next_step(order, there, Restraint(), overdue=False) == Wait(RESTARTS)
    given_up = next_step(order, there, Restraint(), overdue=True)
    assert given_up == End(Outcome.GIVEN_UP, RESTARTS)
    stopped = next_step(order, there, Restraint(stop="somebody"), overdue=False)
    assert stopped == End(Outcome.STOPPED, "somebody")
    assert isinstance(step(fleet, order), Depart), "it has been bound meanwhile"
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    target = order.legs[0].target
    fleet.come("x", target.node, target.gpu, target.start)
    assert isinstance(step(fleet, order), Arrived)


def test_a_vm_that_restarts_where_it_is_is_not_taken_for_one_that_is_no_more() -> None:
    fleet, order = begun()
    fleet.vms.pop("x")
    owner = OwnerRef(VMI, "default", "x")
    held = assignment("restarts", ONE, 0, gpu="a-0", pod=None, owner=owner)
    fleet.holds["a"] = [held]

    assert step(fleet, order) == Wait(RESTARTS)
    assert step(fleet, order, overdue=True) == End(Outcome.GIVEN_UP, RESTARTS)


@pytest.mark.parametrize("overdue", [True, False])
def test_a_node_on_which_others_are_by_now_is_not_drained(*, overdue: bool) -> None:
    fleet, order = begun()
    while not order.made:
        order = taken(order, step(fleet, order), fleet)
    leaving = step(fleet, order), step(fleet, order, overdue=True)
    fleet.remains.clear()
    fleet.vms["newcomer"] = Vm("newcomer", ONE, "a", 0, 3)

    why = "all moves were made, and a is yet to be empty"
    assert leaving == (Wait(why), End(Outcome.GIVEN_UP, why))
    there = "all moves were made, and a is not empty: a VM is there"
    assert step(fleet, order, overdue=overdue) == End(Outcome.GIVEN_UP, there)


def test_a_node_is_drained_as_far_as_possible_once_those_have_gone_who_can() -> None:
    fleet = two()
    fleet.vms["stuck"] = Vm("stuck", ONE, "a", 0, 3, movable=False)
    order = fleet.order(Asked(drain=("a",), as_far=True))
    assert order is not None
    ended = carried_out(fleet, order)

    assert (ended.ending, ended.why) == (Outcome.DONE, "")
    assert [leg.owner.name for leg in order.legs] == ["x"]
    assert (fleet.vms["x"].node, fleet.vms["stuck"].node) == ("b", "a")


def random_fleet(chance: random.Random) -> Fleet:
    gpus = {"a": 1, "b": 2, "c": 1}
    small = Small.of([], **gpus)
    for at in range(chance.randint(2, 9)):
        profile_id, node = chance.choice(PROFILES[1:]), chance.choice(list(gpus))
        for start in chance.sample(range(7), 7):
            vm = Vm(f"vm{at}", profile_id, node, chance.randrange(gpus[node]), start)
            if fits(small, vm):
                small = Small.of([*small.vms.values(), vm], **gpus)
                break
    return Fleet(gpus, dict(small.vms))


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=80)
def test_every_plan_is_carried_out_by_steps_that_are_legal(seed: int) -> None:
    """Chains and VMs that are parked among them; in the end all is where it was planned."""
    chance = random.Random(seed)
    fleet = random_fleet(chance)
    goal = chance.choice(["drain", "admit", "empty"])
    if goal == "admit":
        fleet.waits["me"] = chance.choice((SEVEN, THREE, FOUR))
    asked = {
        "drain": Asked(drain=("a",)),
        "admit": Asked(admit=(("default", "me"),)),
        "empty": Asked(empty_gpus=2),
    }[goal]
    order = fleet.order(asked)
    if order is None:
        return
    ended = carried_out(fleet, order)

    assert (ended.ending, ended.why) == (Outcome.DONE, "")
    last = {leg.owner.name: leg.target for leg in order.legs}
    for name, seat in last.items():
        vm = fleet.vms[name]
        assert (vm.node, f"{vm.node}-{vm.gpu}", vm.start) == (seat.node, seat.gpu, seat.start)
    assert not fleet.waits
    assert not any(fleet.holds.values())


def two() -> Fleet:
    vms = [Vm("x", ONE, "a", 0, 0), Vm("y", THREE, "b", 0, 0)]
    return Fleet({"a": 1, "b": 1}, {vm.name: vm for vm in vms})


def begun() -> tuple[Fleet, Order]:
    """Two GPUs on as many nodes; an order to drain the first is about to have its VM leave."""
    fleet = two()
    order = fleet.order(Asked(drain=("a",)))
    assert order is not None
    order = taken(order, step(fleet, order), fleet)
    return fleet, order


def test_the_target_is_held_before_anybody_leaves() -> None:
    fleet = two()
    order = fleet.order(Asked(drain=("a",)))
    assert order is not None

    assert isinstance(step(fleet, order), Hold)
    order = taken(order, step(fleet, order), fleet)
    departs = step(fleet, order)
    assert isinstance(departs, Depart)
    assert departs.pod.uid == "x.1"


def test_nobody_leaves_while_it_waits_and_nobody_any_more_once_it_is_stopped() -> None:
    fleet, order = begun()

    assert step(fleet, order, wait="not now") == Wait("not now")
    assert step(fleet, order, paused="paused") == Wait("paused")
    assert step(fleet, order, stop="closed") == End(Outcome.STOPPED, "closed")
    stopping = msgspec.structs.replace(order, stopping="somebody")
    assert step(fleet, stopping) == End(Outcome.STOPPED, "somebody")


@pytest.mark.parametrize("paused", ["", "paused"])
def test_one_that_was_to_leave_and_has_yet_to_is_not_told_to_once_it_is_stopped(
    paused: str,
) -> None:
    """Off is off: its eviction may be refused for as long as anybody likes."""
    fleet, order = begun()
    order = taken(order, step(fleet, order), fleet)
    assert order.departed is not None
    stopping = msgspec.structs.replace(order, stopping="somebody")
    leg = order.legs[0]

    assert step(fleet, order, stop="closed") == Desist(leg, order.departed, "closed", cancels=True)
    assert step(fleet, stopping, paused=paused) == Desist(
        leg, order.departed, "somebody", cancels=True
    )


def test_a_vm_that_is_leaving_comes_to_its_place_though_it_is_stopped() -> None:
    fleet, order = begun()
    order = taken(order, step(fleet, order), fleet)
    fleet.ending = {"x"}
    ending = step(fleet, order, stop="closed")
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    gone = step(fleet, order, stop="closed")
    target = order.legs[0].target
    fleet.come("x", target.node, target.gpu, target.start)

    assert (ending, gone) == (
        Wait("the VM's pod is ending"),
        Wait("the VM's next pod has yet to come"),
    )
    assert isinstance(step(fleet, order, stop="closed"), Arrived)


def test_while_it_is_paused_nothing_is_held_and_nobody_told_to_leave() -> None:
    fleet = two()
    order = fleet.order(Asked(drain=("a",)))
    assert order is not None
    assert step(fleet, order, paused="paused") == Wait("paused")

    fleet, order = begun()
    told = taken(order, step(fleet, order), fleet)
    assert step(fleet, told, paused="paused") == Wait("paused")

    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    target = told.legs[0].target
    fleet.come("x", target.node, target.gpu, target.start)
    assert isinstance(step(fleet, told, paused="paused"), Arrived)


def test_nobody_is_moved_for_pods_of_whom_none_waits_any_more() -> None:
    fleet = Fleet({"a": 1, "b": 1}, {"x": Vm("x", ONE, "a", 0, 0), "y": Vm("y", FOUR, "b", 0, 0)})
    fleet.waits["me"] = SEVEN
    order = fleet.order(Asked(admit=(("default", "me"),)))
    assert order is not None
    order = msgspec.structs.replace(order, for_pods=True)
    assert isinstance(step(fleet, order), Hold)
    fleet.waits.clear()

    found = step(fleet, order)
    assert isinstance(found, End)
    assert found.outcome is Outcome.STOPPED
    moved_for_more = msgspec.structs.replace(order, for_pods=False)
    assert isinstance(step(fleet, moved_for_more), Hold)


def test_one_that_is_not_movable_any_more_stays() -> None:
    fleet, order = begun()
    fleet.vms["x"] = Vm("x", ONE, "a", 0, 0, movable=False)

    found = step(fleet, order)
    assert isinstance(found, End)
    assert "not to be moved" in found.why


def test_one_stays_whose_tenant_lets_its_vms_be_moved_no_more() -> None:
    fleet, order = begun()
    tenants = [{"name": "bank", "namespaces": {}, "movable": False}]
    terms = Terms(msgspec.convert({"tenants": tenants}, Rules), None, (), {"default": "bank"})

    def bounded(asked: Request) -> Request:
        return msgspec.structs.replace(asked, bounds=Bounds(terms))

    there = msgspec.structs.replace(fleet.there(), bounded=bounded)
    found = next_step(order, there, Restraint(), overdue=False)
    assert found == End(Outcome.GIVEN_UP, "the VM's tenant does not let it be moved")


def test_where_the_target_was_lost_nobody_leaves() -> None:
    fleet, order = begun()
    fleet.holds["b"] = []
    fleet.vms["z"] = Vm("z", SEVEN, "b", 0, 0)
    fleet.vms.pop("y")

    found = step(fleet, order)
    assert found == End(Outcome.GIVEN_UP, "the place that the VM was to go to is not free")


def test_what_another_has_just_left_is_waited_for_and_then_held() -> None:
    fleet, order = begun()
    (held,) = fleet.holds.pop("b")
    fleet.remains = [Vm("gone", ONE, "b", 0, held.start)]

    assert step(fleet, order) == Wait("the place that the VM is to go to has yet to be free")
    given_up = step(fleet, order, overdue=True)
    fleet.remains = []
    assert step(fleet, order) == Hold((("b", held),))
    assert isinstance(given_up, End)


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("lost", "the place held for the VM was taken back"),
        ("forbidden", "the VM's pod says that it is not to be moved"),
    ],
)
def test_one_whose_eviction_is_refused_is_asked_no_more_to_go_once_it_should_not(
    then: str, why: str
) -> None:
    fleet, order = begun()
    order = taken(order, step(fleet, order), fleet)
    assert isinstance(step(fleet, order), Again)
    if then == "lost":
        fleet.holds["b"] = []
    else:
        fleet.vms["x"] = Vm("x", ONE, "a", 0, fleet.vms["x"].start, movable=False)

    assert order.departed is not None
    assert step(fleet, order) == Desist(order.legs[0], order.departed, why, Outcome.GIVEN_UP)


def test_a_vm_that_comes_to_its_target_by_itself_is_waited_for_until_it_runs_there() -> None:
    """Its pod has the place, and is neither bound nor has its GPU instance; it may fail yet."""
    fleet, order = begun()
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    target = order.legs[0].target
    fleet.come("x", target.node, target.gpu, target.start)
    bound = fleet.there()
    unbound = msgspec.structs.replace(fleet.pods["x.2"], node="")
    starts = msgspec.structs.replace(bound, pods={**fleet.pods, "x.2": unbound})
    fleet.silent = {"b"}
    unmade = fleet.there()

    for there in (starts, unmade):
        waits = next_step(order, there, Restraint(), overdue=False)
        in_vain = next_step(order, there, Restraint(), overdue=True)
        assert (waits, in_vain) == (Wait(STARTING), End(Outcome.GIVEN_UP, STARTING))
    assert isinstance(next_step(order, bound, Restraint(), overdue=False), Arrived)


def test_nobody_is_told_to_leave_for_a_node_whose_driver_does_not_answer() -> None:
    fleet, order = begun()
    told = taken(order, step(fleet, order), fleet)
    fleet.silent = {"b"}

    assert step(fleet, order) == Wait(SILENT)
    assert step(fleet, order, overdue=True) == End(Outcome.GIVEN_UP, SILENT)
    assert step(fleet, told) == Wait(SILENT)
    fleet.silent = {"a"}
    assert isinstance(step(fleet, order), Depart)
    assert isinstance(step(fleet, told), Again)


def test_nobody_is_told_to_leave_for_a_node_on_which_its_next_pod_may_not_run() -> None:
    fleet, order = begun()
    told = taken(order, step(fleet, order), fleet)
    taint = Taint("gpu", "reserved", "NoSchedule")
    fleet.traits = {"b": Traits("b", taints=(taint,))}
    why = "the VM's next pod may not run on b: taint gpu=reserved:NoSchedule is not tolerated"

    assert step(fleet, order) == Wait(why)
    assert step(fleet, order, overdue=True) == End(Outcome.GIVEN_UP, why)
    assert step(fleet, told) == Wait(why)
    fleet.traits = {"a": Traits("a", taints=(taint,))}
    assert isinstance(step(fleet, order), Depart)
    assert isinstance(step(fleet, told), Again)


@pytest.mark.parametrize("for_pods", [False, True])
def test_one_that_has_yet_to_leave_is_not_told_to_where_the_pod_that_it_is_for_has_gone(
    *, for_pods: bool
) -> None:
    """Unless there is another goal."""
    fleet, order = waiting_besides()
    order = msgspec.structs.replace(order, for_pods=for_pods)
    order = taken(order, step(fleet, order), fleet)
    order = taken(order, step(fleet, order), fleet)
    assert order.departed is not None
    assert isinstance(step(fleet, order), Again)
    fleet.waits.clear()

    found = step(fleet, order)

    assert found == (
        Desist(order.legs[0], order.departed, NOBODY_WAITS)
        if for_pods
        else Again(order.legs[0], order.departed)
    )


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("taken", "another has come to the place that was to be made"),
        ("claimed", "somebody else is to leave that place for a pod"),
    ],
)
def test_one_that_has_yet_to_leave_is_not_told_to_for_a_place_that_another_has_by_now(
    then: str, why: str
) -> None:
    fleet, order = waiting_besides()
    order = taken(order, step(fleet, order), fleet)
    order = taken(order, step(fleet, order), fleet)
    assert order.departed is not None
    fleet.holds["c"] = []
    assert step(fleet, order) == Hold((("c", order.claim(0)),))
    if then == "taken":
        fleet.vms["z"] = Vm("z", ONE, "c", 0, 5)
    else:
        whose = claimant(PodRef("default", "name-other", "other"))
        fleet.holds["c"] = [assignment("claim", FOUR, 0, gpu="c-0", pod=None, owner=whose)]

    assert step(fleet, order) == Desist(order.legs[0], order.departed, why, Outcome.GIVEN_UP)


def test_a_vm_that_came_to_its_target_by_itself_need_not_leave() -> None:
    fleet, order = begun()
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    target = order.legs[0].target
    fleet.come("x", target.node, target.gpu, target.start)

    assert isinstance(step(fleet, order), Arrived)


def has_come(fleet: Fleet, order: Order) -> Order:
    """Let the first VM of an order leave, and its next pod come to its target."""
    order = taken(order, step(fleet, order), fleet)
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    target = order.legs[0].target
    fleet.come("x", target.node, target.gpu, target.start)
    return order


CRASHES = "containers compute: CrashLoopBackOff"
UNREADY = f"the VM's next pod is bound to b, and not Ready: {CRASHES}"


def test_a_move_is_made_once_the_next_pod_is_ready_and_given_up_if_it_never_is() -> None:
    fleet, order = begun()
    order = has_come(fleet, order)

    fleet.unready = {"x.2": CRASHES}
    waits = step(fleet, order), step(fleet, order, paused="now")
    in_vain = step(fleet, order, overdue=True)
    fleet.unready = {}
    made = step(fleet, order)

    assert waits == (Wait(UNREADY),) * 2
    assert in_vain == End(Outcome.GIVEN_UP, UNREADY)
    assert made == Arrived(order.legs[0], PodRef("default", "name-x.2", "x.2"))


def test_an_order_that_is_stopped_ends_at_once_with_a_vm_that_is_not_ready_where_it_went() -> None:
    """Nothing is lost: its pod is bound there, and that place stays its own."""
    fleet, order = begun()
    order = has_come(fleet, order)
    fleet.unready = {"x.2": CRASHES}

    found = step(fleet, order, stop="ops has stopped it")
    ended = taken(order, found, fleet)

    why = f"ops has stopped it; default/x has left: {UNREADY}"
    assert found == End(Outcome.STOPPED, why)
    assert step(fleet, msgspec.structs.replace(order, stopping="ops has stopped it")) == found
    assert isinstance(step(fleet, ended), Over)
    assert fleet.vms["x"].node == "b"


def test_an_order_that_is_stopped_waits_for_a_vm_whose_gpu_instance_is_being_made() -> None:
    """Its pod may not be bound yet; and if that comes to nothing, a place is held for it."""
    fleet, order = begun()
    order = has_come(fleet, order)
    there = fleet.there()
    pods = fleet.pods | {"x.2": msgspec.structs.replace(fleet.pods["x.2"], node="")}
    unbound = msgspec.structs.replace(there, pods=pods, unready={"x.2": CRASHES})

    found = next_step(order, unbound, Restraint(stop="ops has stopped it"), overdue=False)
    assert found == Wait(STARTING)


@pytest.mark.parametrize(
    ("then", "away"),
    [("stays", False), ("ending", True), ("gone", True), ("migrating", True), ("untold", False)],
)
def test_a_vm_is_on_its_way_once_no_policy_can_have_it_stay(then: str, *, away: bool) -> None:
    fleet, order = begun()
    if then != "untold":
        order = taken(order, step(fleet, order), fleet)
    before = fleet.pods
    if then == "ending":
        fleet.ending = {"x"}
    elif then in ("gone", "migrating"):
        fleet.stop(PodRef("default", "name-x.1", "x.1"))
    if then == "migrating":
        target = order.legs[0].target
        fleet.come("x", target.node, target.gpu, target.start)

    pods = before if then == "migrating" else fleet.pods
    there = msgspec.structs.replace(fleet.there(), pods=pods)
    assert on_its_way(order, there) is away


def test_a_move_that_was_made_stays_made_whatever_becomes_of_its_vm() -> None:
    fleet, order = begun()
    order = has_come(fleet, order)
    order = taken(order, step(fleet, order), fleet)

    fleet.unready = {"x.2": CRASHES}
    fleet.remains.clear()

    assert order.at == 1
    assert step(fleet, order) == End(Outcome.DONE)


def test_a_vm_that_was_not_ready_before_it_left_need_not_be_afterwards() -> None:
    """It is paused, or its probe has failed for long: its next pod might never be."""
    fleet, order = begun()
    fleet.unready = {"x.1": CRASHES, "x.2": CRASHES}
    order = has_come(fleet, order)

    assert order.departed is not None
    assert order.departed.unready
    assert isinstance(step(fleet, order), Arrived)


def test_a_vm_that_comes_to_its_target_by_itself_is_waited_for_until_it_is_ready() -> None:
    fleet, order = begun()
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    target = order.legs[0].target
    fleet.come("x", target.node, target.gpu, target.start)
    fleet.unready = {"x.2": CRASHES}

    assert step(fleet, order) == Wait(UNREADY)
    assert step(fleet, order, overdue=True) == End(Outcome.GIVEN_UP, UNREADY)


@pytest.mark.parametrize("by_itself", [False, True])
def test_a_pod_that_has_ended_where_its_vm_was_to_go_is_not_waited_for(*, by_itself: bool) -> None:
    fleet, order = begun()
    left = has_come(fleet, order)
    fleet.over = {"x.2"}

    assert step(fleet, order if by_itself else left) == End(Outcome.GIVEN_UP, ENDED)


def test_a_migration_is_over_once_its_source_has_ended_and_its_target_is_ready() -> None:
    """The target may be Ready while the VM still runs at its source, and need not stay it."""
    fleet, order = begun()
    source = fleet.pods["x.1"]
    order = has_come(fleet, order)
    pods = fleet.pods | {"x.1": source}

    def now() -> Step:
        return next_step(
            order, msgspec.structs.replace(fleet.there(), pods=pods), Restraint(), overdue=False
        )

    early = now()
    pods["x.1"] = msgspec.structs.replace(source, phase="Succeeded")
    fleet.unready = {"x.2": "a gate"}
    handed_over = now()
    fleet.unready = {}

    assert early == Wait(STARTING)
    assert handed_over == Wait("the VM's next pod is bound to b, and not Ready: a gate")
    assert isinstance(now(), Arrived)


@pytest.mark.parametrize(("node", "start"), [("a", 3), ("b", 6)])
def test_a_vm_that_comes_elsewhere_ends_the_order(node: str, start: int) -> None:
    fleet, order = begun()
    order = taken(order, step(fleet, order), fleet)
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    target = order.legs[0].target
    if (node, start) == (target.node, target.start):
        start -= 1
    fleet.vms["x"] = Vm("x", ONE, node, 0, start)
    fleet.pod_of["x"] = 2

    found = step(fleet, order)
    assert found == End(Outcome.GIVEN_UP, f"the VM has come to {node} instead")


def test_what_takes_too_long_is_given_up_at_every_stage() -> None:
    fleet, order = begun()
    order = taken(order, step(fleet, order), fleet)

    assert order.departed is not None
    stays = step(fleet, order, overdue=True)
    fleet.ending = {"x"}
    ends = step(fleet, order, overdue=True)
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    gone = step(fleet, order, overdue=True)

    assert stays == Desist(
        order.legs[0], order.departed, NOT_LEFT, Outcome.GIVEN_UP, cancels=True, overdue=True
    )
    assert ends == End(Outcome.GIVEN_UP, NOT_LEFT)
    assert gone == End(Outcome.GIVEN_UP, "the VM's next pod did not come in time")


def test_an_order_that_ends_gives_back_all_that_is_held_and_does_nothing_else() -> None:
    fleet, order = begun()
    ending = msgspec.structs.replace(order, ending=Outcome.STOPPED)

    released = step(fleet, ending)
    assert released == Release({"b": frozenset({order.id_of(0)})})
    assert isinstance(step(fleet, taken(ending, released, fleet)), Over)


@pytest.mark.parametrize(
    ("then", "held"),
    [
        ("away", "a"),
        ("drained", "b"),
        ("taken", "b"),
        ("ending in a drain", "b"),
        ("ending", ""),
        ("restarting", ""),
        ("stays", ""),
        ("elsewhere", ""),
    ],
)
def test_a_vm_that_has_left_and_come_nowhere_has_a_place_held_for_it(then: str, held: str) -> None:
    """What it has left, or where it was to go: a node that is drained takes nobody back."""
    fleet, order = begun()
    order = taken(order, step(fleet, order), fleet)
    leg = order.legs[0]
    if then in ("drained", "ending in a drain"):
        fleet.cordoned = {"a"}
    if then.startswith("ending"):
        fleet.ending = {"x"}
    elif then != "stays":
        fleet.stop(PodRef("default", "name-x.1", "x.1"))
    if then == "elsewhere":
        fleet.come("x", "a", "a-0", 5)
    if then == "taken":
        fleet.vms["z"] = Vm("z", ONE, "a", 0, leg.source.start)
    if then == "restarting":  # what it has left was held for it when it was taken back
        fleet.holds["a"] = [msgspec.structs.replace(order.way_back(leg.source), id="of-x.1")]
    ending = msgspec.structs.replace(order, ending=Outcome.GIVEN_UP)

    found = step(fleet, ending)
    assert isinstance(found, Release)
    seat = leg.source if held == "a" else leg.target
    assert found.back == ({held: order.way_back(seat)} if held else {})
    after = taken(ending, found, fleet)
    assert isinstance(step(fleet, after), Over)


def test_an_order_is_over_once_what_a_vm_has_left_is_held_for_it() -> None:
    """Its entry may still be in the plan: it is taken back by another than the order."""
    fleet, order = begun()
    order = taken(order, step(fleet, order), fleet)
    ending = msgspec.structs.replace(order, ending=Outcome.GIVEN_UP)
    gone: dict[str, PodFacts] = {uid: pod for uid, pod in fleet.pods.items() if uid != "x.1"}

    def last() -> Step:
        there = msgspec.structs.replace(fleet.there(), pods=gone)
        return next_step(ending, there, Restraint(), overdue=False)

    released = last()
    ending = taken(ending, released, fleet)
    waits = last()
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    held = last()

    assert released == Release({"b": frozenset({order.id_of(0)})})
    assert waits == Wait("what the VM has left has yet to leave the plan")
    assert held == Release({}, {"a": order.way_back(order.legs[0].source)})


def waiting_besides() -> tuple[Fleet, Order]:
    """An order to drain one node, after which a pod that waits is to have a third one's GPU."""
    fleet = two()
    fleet.gpus = {"a": 1, "b": 1, "c": 1}
    fleet.waits["me"] = SEVEN
    order = fleet.order(Asked(drain=("a",)))
    assert order is not None
    pod, resource = fleet.request("me", SEVEN).pod, RESOURCE_OF[SEVEN]
    size = H100.geometry.by_id[SEVEN].size
    place = Admitted(pod, resource, Seat("c", "c-0", SEVEN, 0, size))
    legs = tuple(
        msgspec.structs.replace(leg, target=Seat("b", "b-0", ONE, 4, 1)) for leg in order.legs
    )
    return fleet, msgspec.structs.replace(order, legs=legs, places=(place,))


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize(
    ("then", "why"),
    [
        ("gone", "c, where a pod was to go, is no more"),
        ("taken", "another has come to the place that was to be made"),
        ("claimed", "somebody else is to leave that place for a pod"),
    ],
)
def test_nobody_is_moved_for_a_place_that_another_has_by_now(
    then: str, why: str, *, made: bool
) -> None:
    fleet, order = waiting_besides()
    if made:
        order = msgspec.structs.replace(order, made=(Made("eviction"),))
    if then == "gone":
        fleet.gpus = {"a": 1, "b": 1}
    if then == "taken":
        fleet.vms["z"] = Vm("z", ONE, "c", 0, 5)
    if then == "claimed":
        whose = claimant(PodRef("default", "name-other", "other"))
        fleet.holds["c"] = [assignment("claim", FOUR, 0, gpu="c-0", pod=None, owner=whose)]

    assert step(fleet, order) == End(Outcome.GIVEN_UP, why)


def test_nobody_is_moved_while_what_a_pod_is_to_have_is_held_for_a_vm_that_restarts() -> None:
    """Under a claim it would not have that; if it comes back, the order is given up."""
    fleet, order = waiting_besides()
    whose = OwnerRef(VMI, "default", "z")
    fleet.holds["c"] = [assignment("of-z", ONE, 5, gpu="c-0", pod=None, owner=whose)]
    order = taken(order, step(fleet, order), fleet)
    waits, in_vain = step(fleet, order), step(fleet, order, overdue=True)
    fleet.holds["c"] = []

    why = "what a pod is to have is held for another that restarts"
    assert (waits, in_vain) == (Wait(why), End(Outcome.GIVEN_UP, why))
    assert step(fleet, order) == Hold((("c", order.claim(0)),))


def test_nobody_is_moved_while_it_is_not_known_whether_a_pod_still_runs_there() -> None:
    """It may only have lost the label by which it is watched."""
    fleet, order = waiting_besides()
    fleet.vms["z"] = Vm("z", ONE, "c", 0, 5)

    def now() -> Step:
        known = {uid: pod for uid, pod in fleet.pods.items() if uid != "z.1"}
        there = msgspec.structs.replace(fleet.there(), pods=known)
        return next_step(order, there, Restraint(), overdue=False)

    order = taken(order, now(), fleet)

    assert now() == Wait("it is not known yet whether the pod there still runs")


def test_a_move_is_not_made_by_another_pod_of_the_owner_while_the_first_stays() -> None:
    """As of a StatefulSet, whose pods are moved one by one."""
    fleet, order = begun()
    leg = order.legs[0]
    other = PodRef("default", "name-x.9", "x.9")
    come = msgspec.structs.replace(order.hold(0), id="of-x.9", pod=other)
    fleet.holds["b"] = [come]
    pods = fleet.pods | {"x.9": PodFacts(other, fleet.request("x", ONE), "b", "Running")}

    def now() -> Step:
        there = msgspec.structs.replace(fleet.there(), pods=pods)
        return next_step(order, there, Restraint(), overdue=False)

    stays = now()
    fleet.stop(PodRef("default", "name-x.1", "x.1"))
    del pods["x.1"]

    assert stays == End(Outcome.GIVEN_UP, "the place that the VM was to go to is not free")
    assert now() == Arrived(leg, other)


def test_a_place_is_ripe_once_all_who_were_there_have_come_to_theirs() -> None:
    fleet = Fleet({"a": 1, "b": 1}, {"x": Vm("x", ONE, "a", 0, 0), "y": Vm("y", FOUR, "b", 0, 0)})
    fleet.waits["me"] = SEVEN
    order = fleet.order(Asked(admit=(("default", "me"),)))
    assert order is not None
    assert order.ripe() == frozenset()
    made = msgspec.structs.replace(order, made=(Made("eviction"),))
    assert len(order.legs) == 1
    assert made.ripe() == {order.id_of_place(0)}


@pytest.mark.parametrize("then", ["bound", "ending", "over", "gone"])
def test_an_order_for_a_pod_is_done_once_that_is_bound_or_has_ended(then: str) -> None:
    """It has its place before it is bound there, which may come to nothing."""
    fleet = Fleet({"a": 1, "b": 1}, {"x": Vm("x", ONE, "a", 0, 0), "y": Vm("y", FOUR, "b", 0, 0)})
    fleet.waits["me"] = SEVEN
    order = fleet.order(Asked(admit=(("default", "me"),)))
    assert order is not None
    while fleet.waits:
        order = taken(order, step(fleet, order), fleet)
    assert order.leg is None
    bound = fleet.pods["me.1"]
    placed = msgspec.structs.replace(bound, node="")
    after = {
        "bound": {"me.1": bound},
        "ending": {"me.1": msgspec.structs.replace(placed, deleting=True)},
        "over": {"me.1": msgspec.structs.replace(placed, phase="Failed")},
        "gone": {},
    }[then]

    def now(pods: dict[str, PodFacts], *, overdue: bool = False) -> Step:
        others = {uid: pod for uid, pod in fleet.pods.items() if uid != "me.1"}
        there = msgspec.structs.replace(fleet.there(), pods=others | pods)
        return next_step(order, there, Restraint(), overdue=overdue)

    late = "all moves were made, and default/name-me.1 has not been bound to its place"
    assert now({"me.1": placed}) == Wait(UNBOUND)
    assert now({"me.1": placed}, overdue=True) == End(Outcome.GIVEN_UP, late)
    assert now(after) == now(after, overdue=True) == End(Outcome.DONE)


def test_two_places_are_never_held_for_one_owner_at_once() -> None:
    _, order = begun()
    twice = msgspec.structs.replace(order, legs=(order.legs[0], order.legs[0]))

    assert [entry.id for _, entry in twice.holds()] == [order.id_of(0)]


def test_an_order_is_read_as_it_was_kept() -> None:
    _, order = begun()
    departed = Departure(order.legs[0].pod, Kind.LIVE, ("other",), unready=True)
    kept = msgspec.structs.replace(order, departed=departed, begun=("2026-01-01T00:00:00Z",))

    assert msgspec.json.decode(msgspec.json.encode(kept), type=Order) == kept
