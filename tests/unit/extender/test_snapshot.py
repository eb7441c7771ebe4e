"""What counts as taken, and which state of a node is the newer one."""

from __future__ import annotations

import msgspec
import pytest

from extender.snapshot import NodeView
from extender.succession import successor
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import GpuNode
from tests.builders import assignment, gpu, gpu_node, instance, view


def masks(of: NodeView) -> list[int]:
    return [bin.occupancy.mask for bin in of.bins()]


def test_what_is_planned_and_what_exists_are_both_taken() -> None:
    node = gpu_node(gpus=[gpu(instances=(instance(9, 4),))], plan=[assignment("a", 19, 0)])

    assert masks(view(node)) == [0b11110001]


def test_a_planned_instance_that_exists_is_not_counted_twice() -> None:
    node = gpu_node(gpus=[gpu(instances=(instance(20, 6),))], plan=[assignment("a", 20, 6)])

    (bin,) = view(node).bins()
    assert bin.occupancy.counts == (1,)


def test_a_place_taken_back_stays_taken_until_the_agent_has_seen_it() -> None:
    before = view(gpu_node(plan=[assignment("a", 9, 4)], generation=2, version=5))

    after = successor(before, gpu_node(generation=3, observed=2, version=6))
    assert masks(after) == [0b11110000]

    seen = successor(after, gpu_node(generation=3, observed=3, version=7))
    assert masks(seen) == [0]


def test_an_instance_that_outlives_its_plan_stays_taken() -> None:
    before = view(gpu_node(plan=[assignment("a", 9, 4)], generation=2, version=5))
    gpus = [gpu(instances=(instance(9, 4),))]

    after = successor(before, gpu_node(gpus=gpus, generation=3, observed=3, version=6))

    assert masks(after) == [0b11110000]


def test_an_older_state_never_replaces_a_newer_one() -> None:
    newer = view(gpu_node(plan=[assignment("a", 9, 4)], generation=2, version=50))

    assert successor(newer, gpu_node(generation=1, version=49)) is newer


def word(epoch: str, sequence: int, *places: int, generation: int = 3, version: int) -> GpuNode:
    """Return the GpuNode with what an agent told: GPU instances of one slice at these places."""
    gpus = [gpu(instances=tuple(instance(19, start) for start in places))]
    node = gpu_node(gpus=gpus, generation=generation, version=version)
    status = msgspec.structs.replace(node.status, agent_epoch=epoch, sequence=sequence)
    return msgspec.structs.replace(node, status=status)


def test_a_word_that_comes_late_never_replaces_what_its_agent_told_since() -> None:
    known = successor(view(word("one", 1, version=5)), word("one", 4, 2, version=6))

    late = successor(known, word("one", 1, version=7))
    assert masks(late) == [0b100]
    assert late.node.version == 7

    again = successor(late, word("one", 5, version=8))
    assert masks(again) == [0]


def test_nor_does_it_when_it_is_listed() -> None:
    known = view(word("one", 4, 2, version=6))

    assert masks(successor(known, word("one", 1, version=7), listed=True)) == [0b100]


def test_another_agent_counts_from_one_again() -> None:
    known = view(word("one", 4, 2, version=6))

    assert masks(successor(known, word("other", 1, 3, version=7))) == [0b1000]


@pytest.mark.parametrize(("generation", "version"), [(3, 5), (2, 7)], ids=["version", "plan"])
def test_words_are_as_old_as_the_plan_of_an_api_server_that_was_restored(
    generation: int, version: int
) -> None:
    known = view(word("one", 4, 2, version=6))
    restored = word("one", 1, 3, generation=generation, version=version)

    assert masks(successor(known, restored, listed=True)) == [0b1000]


def test_a_listed_state_counts_even_if_the_api_servers_count_began_anew() -> None:
    known = view(gpu_node(generation=9, version=5000))

    restored = successor(known, gpu_node(generation=4, version=100), listed=True)

    assert restored.node.metadata.generation == 4


def test_a_node_created_anew_starts_afresh() -> None:
    before = view(gpu_node(plan=[assignment("a", 9, 4)], generation=7, version=5))

    after = successor(before, gpu_node(generation=1, version=9, uid="uid-2"))

    assert masks(after) == [0]
    assert after.releasing == ()


def test_where_states_were_missed_nothing_new_comes_before_the_agent_has_answered() -> None:
    known = view(gpu_node(generation=4, version=5))

    seen = successor(known, gpu_node(generation=5, observed=4, version=6))
    missed = successor(known, gpu_node(generation=6, observed=4, version=7), listed=True)
    late = successor(missed, gpu_node(generation=7, observed=5, version=8))
    answered = successor(late, gpu_node(generation=7, observed=6, version=9))

    assert seen.takes_new
    assert not missed.takes_new
    assert not late.takes_new
    assert answered.takes_new  # what came about in between it has seen


def test_a_plan_made_anew_and_not_seen_by_its_agent_is_answered_for_first() -> None:
    before = view(gpu_node(generation=2, version=5))

    after = successor(before, gpu_node(generation=3, observed=1, version=9, uid="uid-2"))

    assert not after.takes_new
    assert successor(after, gpu_node(generation=3, version=10, uid="uid-2")).takes_new


def test_gpus_without_mig_or_health_or_a_sound_geometry_are_not_used() -> None:
    gpus = [
        gpu(0, mig_enabled=False),
        gpu(1, unhealthy="XID 79"),
        gpu(2, geometry="never reported"),
        gpu(3),
    ]

    assert [g.uuid for g in view(gpu_node(gpus=gpus)).usable] == ["GPU-3"]


def test_a_foreign_instance_no_profile_explains_is_still_in_the_way() -> None:
    odd = instance(19, 0)
    node = gpu_node(gpus=[gpu(instances=(odd,))])

    (bin,) = view(node).bins()

    assert bin.occupancy.mask == Placement(0, 1).mask
