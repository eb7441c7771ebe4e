"""Whatever comes, and whatever the policy: no slice twice, rules hold, and the same again."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extender.policy import InForce, PolicyName
from extender.replay.compare import report
from extender.replay.document import Answer
from extender.replay.making import decided
from extender.replay.meter import Meter
from extender.replay.parsing import record
from extender.replay.play import play, request_of
from extender.replay.recorded import Recorded, RecordedGang
from extender.replay.world import World
from tests import replayed
from tests.replayed import node, policy, recorded

PROFILES = ("1g.10gb", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb", "1g.10gb+me")
WHOSE = {"r1": "red", "r2": "red", "b": "blue"}
LABELS = {name: {"team": tenant} for name, tenant in WHOSE.items()}
CAP = 10
RULES = policy(f"""
tenants:
- {{name: red, namespaces: {{matchLabels: {{team: red}}}}, caps: {{memorySlices: {CAP}}}}}
- {{name: blue, namespaces: {{matchLabels: {{team: blue}}}}, dedicated: gpu, priority: 3}}
headroom: [{{profile: 3g.40gb, keep: 1, releasedTo: {{priority: 5}}}}]
avoid: [{{nodes: {{matchLabels: {{kind: last}}}}}}]
""")
POLICIES = [InForce.of(name) for name in PolicyName] + [RULES]

times = st.integers(0, 40).map(float)


@st.composite
def demands(draw: st.DrawFn) -> tuple[Recorded, list[float]]:
    """Return a demand that nothing is decided of, and how long its VMs stay."""
    moments = sorted(draw(st.lists(times, min_size=1, max_size=25)))
    arrivals = []
    for number, at in enumerate(moments):
        wanted = draw(st.lists(st.sampled_from(PROFILES), min_size=1, max_size=3))
        gang = draw(st.sampled_from([None, None, None, RecordedGang("g", 2)]))
        arrivals.append(
            replayed.vm(
                at,
                f"vm-{number}",
                *wanted,
                namespace=draw(st.sampled_from(["r1", "r2", "b", "free"])),
                priority=draw(st.integers(0, 6)),
                nodes=draw(st.sampled_from([None, None, ("a",), ("a", "b"), ("b", "c")])),
                gang=gang,
            )
        )
    stays = draw(
        st.lists(st.integers(0, 30).map(float), min_size=len(arrivals), max_size=len(arrivals))
    )
    nodes = [node("a", 2), node("b", 1, labels={"kind": "last"}), node("c", 1, since=7.0)]
    return recorded(*arrivals, nodes=nodes, namespaces=LABELS), stays


@settings(max_examples=60, deadline=None)
@given(demands(), st.sampled_from(POLICIES), st.sampled_from(POLICIES))
def test_no_slice_is_given_twice_and_caps_and_dedicated_gpus_hold(
    demand: tuple[Recorded, list[float]], first: InForce, then: InForce
) -> None:
    of = decided(demand[0], first, demand[1])

    played = play(of, then)

    assert list(replayed.faults(of, played)) == []
    if then is RULES:
        assert list(replayed.over_cap(of, played, CAP, {"r1": "red", "r2": "red"})) == []
        assert list(replayed.together(of, played, "blue", WHOSE)) == []


@settings(max_examples=60, deadline=None)
@given(demands(), st.sampled_from(POLICIES))
def test_a_record_under_the_policy_that_made_it_comes_out_the_same(
    demand: tuple[Recorded, list[float]], by: InForce
) -> None:
    of = decided(demand[0], by, demand[1])
    again = record(msgspec.json.encode(of), "test")
    assert again == of

    replays = [play(again, by), play(again, by)]
    told = report(again, [by, by], replays)

    (comparison,) = told.comparisons
    assert comparison.differences == ()
    assert comparison.verdict.answer is Answer.NO_DIFFERENCE
    assert told.fidelity.same == told.fidelity.decisions == len({each.uid for each in of.outcomes})
    assert decided(again, by, demand[1]) == of


@settings(max_examples=30, deadline=None)
@given(demands(), st.sampled_from(POLICIES))
def test_every_gang_has_all_its_places_from_one_moment_on(
    demand: tuple[Recorded, list[float]], by: InForce
) -> None:
    played = play(demand[0], by)

    gangs: dict[str, list[float | None]] = {}
    for arrival, fate in zip(demand[0].arrivals, played.fates, strict=True):
        if arrival.gang is not None:
            gangs.setdefault(arrival.namespace, []).append(fate.placed_at)
    for placed in gangs.values():
        assert len([at for at in placed if at is not None]) != 1


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(PROFILES), st.integers(0, 6), st.booleans()), max_size=15),
    st.sampled_from(POLICIES),
)
def test_a_view_that_keeps_what_was_worked_out_is_as_one_that_begins_anew(
    steps: list[tuple[str, int, bool]], by: InForce
) -> None:
    of = recorded(nodes=[node("a", 3)])
    world = World(of, by, Meter().look_at)
    for number, (profile, gone, leaves) in enumerate(steps):
        if leaves:
            world.gone(f"vm-{gone}")
        arrival = replayed.vm(0.0, f"vm-{number}", profile)
        world.place(request_of(arrival), None)
        view = world.views["a"]
        anew = msgspec.structs.replace(view)
        assert view == anew
        assert view.bins() == anew.bins()
        assert (view.usable, view.offered, view.kind) == (anew.usable, anew.offered, anew.kind)
        assert view.obtainable == anew.obtainable


@pytest.mark.parametrize("by", POLICIES, ids=lambda each: each.policy.name)
def test_every_policy_plays_a_full_fleet(by: InForce) -> None:
    arrivals = [replayed.vm(float(at), f"vm-{at}", PROFILES[at % 7]) for at in range(60)]
    of = recorded(*arrivals, nodes=[node("a", 2), node("b", 2)])

    played = play(decided(of, by, [13.0] * 60), by)

    assert list(replayed.faults(of, played)) == []
    assert any(fate.refused for fate in played.fates)
