"""What disruption budgets are known to allow is what they allow, whatever was read and when."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from hypothesis import given
from hypothesis import strategies as st

from extender.service.disruptions import KNOWN_SECONDS, Disruptions
from extender.service.ports import Budget

NAMESPACES = ("blue", "green", "red")
PODS = {name: tuple(f"{name}-{at}" for at in range(4)) for name in NAMESPACES}
EVERYBODY = [uid for pods in PODS.values() for uid in pods]


class Kept:
    """The budgets of a cluster, which change; ``asked`` are the namespaces asked for."""

    def __init__(self) -> None:
        self.now: Sequence[Budget] = ()
        self.asked: list[str] = []

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        self.asked += namespaces
        return [each for each in self.now if each.namespace in namespaces]


@st.composite
def budgets(draw: st.DrawFn) -> Sequence[Budget]:
    found = []
    for namespace in NAMESPACES:
        for at in range(draw(st.integers(0, 3))):
            pods = draw(st.frozensets(st.sampled_from(PODS[namespace]), min_size=1))
            found.append(Budget(namespace, f"budget-{at}", pods, draw(st.integers(0, 3))))
    return found


def allowed(uids: Collection[str], by: Collection[Budget]) -> bool:
    """Tell whether an API server would evict all of these pods, one after the other."""
    guards = [[each for each in by if uid in each.pods] for uid in uids]
    left = {id(each): each.allows for each in by}
    for found in guards:
        if len(found) > 1:
            return False
        for each in found:
            left[id(each)] -= 1
    return all(count >= 0 for count in left.values())


NAMED = st.frozensets(st.sampled_from(NAMESPACES))
READS = st.lists(st.tuples(budgets(), NAMED, st.booleans()), min_size=1, max_size=4)


@given(READS, st.frozensets(st.sampled_from(EVERYBODY)))
def test_what_is_known_of_a_namespace_is_what_was_read_of_it_last(
    reads: Sequence[tuple[Sequence[Budget], frozenset[str], bool]], uids: frozenset[str]
) -> None:
    kept, known = Kept(), dict[str, list[Budget]]()
    disruptions = Disruptions(kept, lambda: 0.0)
    for now, namespaces, anew in reads:
        kept.now = now
        asyncio.run(disruptions.read(namespaces, anew=anew))
        for name in namespaces:
            if anew or name not in known:
                known[name] = [each for each in now if each.namespace == name]
        by = [each for found in known.values() for each in found]
        assert disruptions.allow(uids) == allowed(uids, by)


def test_what_is_known_is_read_again_after_a_while_and_not_before() -> None:
    kept, clock = Kept(), [0.0]
    disruptions = Disruptions(kept, lambda: clock[0])
    kept.now = [Budget("blue", "one", frozenset({"blue-0"}), 0)]
    for clock[0] in (0.0, KNOWN_SECONDS / 2, KNOWN_SECONDS):
        asyncio.run(disruptions.read({"blue"}))
        assert not disruptions.allow(["blue-0"])

    assert kept.asked == ["blue", "blue"]


def test_the_budgets_of_all_pods_of_a_namespace_are_known_once_it_is_read() -> None:
    kept = Kept()
    kept.now = [Budget("blue", uid, frozenset({uid}), 0) for uid in PODS["blue"]]
    disruptions = Disruptions(kept, lambda: 0.0)
    asyncio.run(disruptions.read({"blue"}))

    assert not any(disruptions.allow([uid]) for uid in PODS["blue"])
    assert disruptions.allow(PODS["green"])
