"""Whom to evict: against trying every set of pods on small nodes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.packing.choose import Choice, choose, enough
from extender.packing.spread import Spread
from extender.snapshot import NodeView, Taken
from extender.verbs.preempt import had_by
from extender.verbs.victims import Price, Unit, Victim, cheapest_on, may_help, price
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Occupancy
from nodeagent.api.gpunode import Assignment, Instance, PodRef
from tests.builders import VGPU, gpu, gpu_node, request, view

H100 = MODELS["H100-80GB"].geometry
RESOURCES = {each.profile_id: VGPU + each.name for each in MODELS["H100-80GB"].vgpu_types}
WANTED = ("1-10C", "1-10CME", "2-20C", "3-40C", "4-40C", "7-80C")
PODS = 7
LIMITED = H100.limited


class Case(msgspec.Struct, frozen=True):
    """A node, the pods on it that may go, and what is wanted."""

    there: NodeView
    units: dict[str, Unit]
    wanted: tuple[str, ...]
    spread: Spread


@st.composite
def cases(draw: st.DrawFn, *, vgpus: int = 1, model: str = "H100-80GB") -> Case:
    """Draw a node of one or two GPUs on which pods lie wherever they could."""
    gpus = draw(st.integers(1, 2))
    occupancy = {f"GPU-{at}": H100.empty for at in range(gpus)}
    entries: list[Assignment] = []
    foreign: dict[str, list[Instance]] = {uuid: [] for uuid in occupancy}
    for at in range(draw(st.integers(0, 10))):
        uuid = draw(st.sampled_from(sorted(occupancy)))
        profile = draw(st.sampled_from(H100.profiles))
        legal = list(H100.legal(occupancy[uuid], profile))
        if not legal:
            continue
        place = draw(st.sampled_from(legal))
        occupancy[uuid] = H100.occupied(occupancy[uuid], profile.id, place)
        if draw(st.integers(0, 9)) == 0:
            foreign[uuid].append(Instance(at, profile.id, place.start, place.size))
            continue
        uid = f"pod-{draw(st.integers(1, PODS))}"
        pod = PodRef("default", uid, uid)
        resource = RESOURCES.get(profile.id, VGPU + "1-10C")
        entries.append(
            Assignment(f"a{at}", uuid, profile.id, place.start, place.size, resource, "", pod)
        )
    listed = [gpu(at, instances=tuple(foreign[f"GPU-{at}"])) for at in range(gpus)]
    there = view(gpu_node(gpus=listed, plan=entries))
    victims = [
        Victim(
            uid,
            draw(st.integers(0, 2)),
            sum(each.size for each in there.assignments_of(uid)),
            movable=draw(st.booleans()),
            since=draw(st.integers(0, 3)),
            leaving=draw(st.integers(0, 5)) == 0,
        )
        for uid in sorted(there.pods)
        if draw(st.integers(0, 5))  # now and then one of a priority as high
    ]
    units = {each.uid: frozenset({each}) for each in victims}
    if len(victims) > 2 and draw(st.booleans()):  # a gang
        members = frozenset(victims[:2])
        units |= {each.uid: members for each in members}
    wanted = tuple(draw(st.lists(st.sampled_from(WANTED), min_size=vgpus, max_size=vgpus)))
    spread = draw(st.sampled_from(Spread)) if vgpus > 1 else Spread.ANY
    return Case(there, units, wanted, spread)


def every_set(units: dict[str, Unit]) -> Iterator[frozenset[Victim]]:
    """Yield every set of pods that may go, each with those it goes together with."""
    for count in range(len(units) + 1):
        for uids in itertools.combinations(sorted(units), count):
            yield frozenset().union(*(units[uid] for uid in uids))


def fits_without(case: Case, gone: Collection[Victim]) -> bool:
    leaving: frozenset[Taken] = had_by(case.there, [each.uid for each in gone])
    asked = request(*case.wanted)
    bins = case.there.bins(leaving=leaving)
    return isinstance(choose(bins, asked.wanted, case.spread), Choice)


def least(case: Case) -> Price | None:
    """Return the least that making room costs, by trying every set."""
    costs = [price(gone) for gone in every_set(case.units) if fits_without(case, gone)]
    return min(costs, default=None)


def found(case: Case) -> Price | None:
    asked = request(*case.wanted, pod="preemptor", spread=case.spread)
    best = cheapest_on(case.there, Ledger(), case.units, lambda _: asked)
    if best is None:
        return None
    gone = frozenset().union(*(case.units[each.uid] for each in best.victims))
    leaving = {each for unit in case.units.values() for each in unit if each.leaving}
    assert fits_without(case, gone | leaving)
    assert all(not each.leaving for each in best.victims)
    occupied(case, gone | leaving, best.choice)
    return best.price


def occupied(case: Case, gone: Collection[Victim], choice: Choice) -> None:
    """Demand that the choice overlaps nobody who stays."""
    leaving = had_by(case.there, [each.uid for each in gone])
    for each in choice.placed:
        for taken in case.there.taken - leaving:
            assert taken.gpu != each.uuid or not taken.placement.mask & each.placement.mask


@given(cases())
def test_the_victims_are_the_cheapest_of_all_sets_that_suffice(case: Case) -> None:
    assert found(case) == least(case)


@given(st.integers(2, 3).flatmap(lambda count: cases(vgpus=count)))
def test_so_they_are_for_a_pod_of_several_vgpus(case: Case) -> None:
    assert found(case) == least(case)


def may_go(case: Case, *, waits: bool) -> list[str]:
    """Return who may go, by UID; whoever ends already does only if one *waits* for it."""
    return [
        uid for uid, unit in case.units.items() if waits or not any(each.leaving for each in unit)
    ]


@given(st.integers(2, 3).flatmap(lambda count: cases(vgpus=count)), st.booleans())
def test_where_counting_says_that_nobody_can_make_room_no_victims_are_found(
    case: Case, waits: bool
) -> None:
    asked = request(*case.wanted, pod="preemptor", spread=case.spread)
    best = cheapest_on(case.there, Ledger(), case.units, lambda _: asked, waits=waits)
    if best is not None and best.victims:
        assert may_help(case.there, Ledger(), case.units, asked, waits=waits)


@given(st.integers(2, 3).flatmap(lambda count: cases(vgpus=count)))
def test_where_counting_says_so_no_set_of_pods_makes_room(case: Case) -> None:
    asked = request(*case.wanted, pod="preemptor", spread=case.spread)
    if not may_help(case.there, Ledger(), case.units, asked, waits=True):
        assert not any(fits_without(case, gone) for gone in every_set(case.units) if gone)


@given(st.integers(2, 3).flatmap(lambda count: cases(vgpus=count)), st.booleans())
def test_counting_goes_by_what_is_left_once_all_have_gone_who_may(case: Case, waits: bool) -> None:
    asked = request(*case.wanted, pod="preemptor", spread=case.spread)
    going = may_go(case, waits=waits)
    left = case.there.bins(leaving=had_by(case.there, going))

    helps = may_help(case.there, Ledger(), case.units, asked, waits=waits)

    assert helps is (bool(going) and enough(left, asked.wanted))


@pytest.mark.parametrize(
    ("stays", "helps"), [((), True), (("b",), False), (("a", "b"), False)], ids=str
)
def test_nobodys_going_helps_where_whoever_stays_leaves_too_few_slices(
    stays: tuple[str, ...], helps: bool
) -> None:
    plan = [
        Assignment(
            f"e-{uid}", "GPU-0", 9, start, 4, VGPU + "3-40C", "", PodRef("default", uid, uid)
        )
        for uid, start in (("a", 0), ("b", 4))
    ]
    there = view(gpu_node(plan=plan))
    units = {uid: frozenset({Victim(uid, 0, 4)}) for uid in ("a", "b") if uid not in stays}
    asked = request("4-40C", "3-40C", pod="preemptor")

    assert may_help(there, Ledger(), units, asked, waits=True) is helps


def test_the_cases_meet_what_the_counters_of_a_profile_forbid() -> None:
    assert Occupancy(0, (0,) * len(LIMITED)) == H100.empty
    assert LIMITED
