"""Pods of several vGPUs that lie as they ask: in every hook and in the plan of all that wait."""

from __future__ import annotations

import time

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from extender.ledger import Ledger
from extender.packing.choose import Choice, choose
from extender.packing.spread import Spread
from extender.planning.joint import Limits, Waiting, joint_plan
from extender.request import Gang, Request
from extender.snapshot import NodeView
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from extender.verbs.planned import planned
from extender.verbs.prioritize import prioritize
from tests.builders import gpu, gpu_node, instance, request, view

NAMES = ("a", "b", "c")

gpus = st.lists(
    st.sampled_from([(), ((0, 0),), ((5, 0),), ((9, 4),), ((19, 6),), ((5, 0), (19, 4))]),
    min_size=1,
    max_size=3,
)
wanted = st.lists(st.sampled_from(["1-10C", "2-20C", "3-40C", "4-40C"]), min_size=2, max_size=4)
spreads = st.sampled_from(Spread)


def made(name: str, held: list[tuple[tuple[int, int], ...]]) -> NodeView:
    found = [gpu(i, instances=[instance(*at) for at in each]) for i, each in enumerate(held)]
    return view(gpu_node(name, gpus=found))


nodes = st.dictionaries(st.sampled_from(NAMES), gpus, min_size=1)


def lies_as_asked(asked: Request, choice: object) -> bool:
    assert isinstance(choice, Choice)
    return asked.spread.allows([each.uuid for each in choice.placed])


@given(nodes, wanted, spreads)
def test_filter_prioritize_and_bind_agree_on_where_a_pod_may_lie(
    there: dict[str, list[tuple[tuple[int, int], ...]]], names: list[str], spread: Spread
) -> None:
    fleet = Fleet({name: made(name, held) for name, held in there.items()})
    asked, ledger = request(*names, spread=spread), Ledger()

    passed = filter(fleet, ledger, asked, NAMES).passed
    ranked = prioritize(fleet, ledger, asked, passed)

    assert set(passed) == {
        name
        for name, each in fleet.views.items()
        if isinstance(choose(each.bins(), asked.wanted, spread), Choice)
    }
    assert bool(ranked.winner) == bool(passed)
    for name in passed:
        choice = place(fleet.views[name], ledger, asked)
        assert lies_as_asked(asked, choice)
        if name == ranked.winner:
            assert choice == ranked.choice


@given(nodes, st.lists(st.tuples(wanted, spreads, st.booleans()), min_size=1, max_size=5))
def test_the_plan_lays_pods_as_they_ask_and_bind_follows_it(
    there: dict[str, list[tuple[tuple[int, int], ...]]],
    queue: list[tuple[list[str], Spread, bool]],
) -> None:
    views = {name: made(name, held) for name, held in there.items()}
    waiting = [
        Waiting(
            msgspec.structs.replace(
                request(*names, pod=f"pod-{at}", spread=spread),
                gang=Gang("default", "g", 2) if in_gang else None,
            ),
            frozenset(views),
            since=float(at),
        )
        for at, (names, spread, in_gang) in enumerate(queue)
    ]

    plan = joint_plan(views, Ledger(), waiting, Limits(9, 5.0), clock=time.monotonic)

    ledger = Ledger().plan(plan.planned(until=9.0))
    for each in waiting:
        if each.uid in plan.places:
            node, placed = plan.places[each.uid]
            assert each.request.spread.allows([one.uuid for one in placed])
            assert planned(views[node], ledger, each.request) is not None
            assert lies_as_asked(each.request, place(views[node], ledger, each.request))
