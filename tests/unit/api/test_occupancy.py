"""The figures that sum a node up."""

from __future__ import annotations

from nodeagent.api.geometry import Occupancy
from nodeagent.api.gpunode import Summary
from nodeagent.api.occupancy import occupancy, summary
from tests.builders import H100, assignment, gpu, instance

GEOMETRIES = {H100.geometry.hash: H100.geometry}
ONE, WITH_MEDIA, TWO, THREE, FOUR, SEVEN = 19, 20, 14, 9, 5, 0


def test_an_empty_node_can_place_its_largest_profile() -> None:
    assert summary(GEOMETRIES, [gpu(0), gpu(1)], ()) == Summary(2, 16, 16, "7g.80gb")


def test_a_node_without_gpus_has_nothing() -> None:
    assert summary({}, (), ()) == Summary()


def test_what_exists_and_what_is_promised_are_both_taken() -> None:
    one = gpu(instances=(instance(ONE, 0),))
    plan = [assignment("a", THREE, 4)]
    assert summary(GEOMETRIES, [one], plan) == Summary(1, 3, 8, "2g.20gb")


def test_a_promise_that_is_kept_counts_once() -> None:
    kept = gpu(instances=(instance(THREE, 4), instance(WITH_MEDIA, 0)))
    plan = [assignment("a", THREE, 4), assignment("b", WITH_MEDIA, 0)]
    assert occupancy(H100.geometry, kept, plan) == Occupancy(0b1111_0001, (1,))
    assert summary(GEOMETRIES, [kept], plan).free_slices == 3


def test_a_promise_on_another_gpu_is_not_taken_here() -> None:
    plan = [assignment("a", SEVEN, 0, gpu="GPU-1")]
    assert occupancy(H100.geometry, gpu(0), plan) == H100.geometry.empty
    assert summary(GEOMETRIES, [gpu(0), gpu(1)], plan) == Summary(2, 8, 16, "7g.80gb")


def test_the_largest_placeable_is_not_the_sum_of_what_is_free() -> None:
    holed = gpu(instances=(instance(ONE, 1), instance(ONE, 5)))
    assert summary(GEOMETRIES, [holed], ()) == Summary(1, 6, 8, "2g.20gb")


def test_of_equal_memory_the_profile_with_more_compute_is_larger() -> None:
    assert summary(GEOMETRIES, [gpu(instances=(instance(THREE, 4),))], ()) == Summary(
        1, 4, 8, "4g.40gb"
    )
    assert summary(GEOMETRIES, [gpu(instances=(instance(FOUR, 0),))], ()) == Summary(
        1, 4, 8, "3g.40gb"
    )


def test_a_gpu_that_takes_nothing_new_has_slices_but_none_free() -> None:
    out = [gpu(0, unhealthy="XID 79"), gpu(1, mig_enabled=False)]
    assert summary(GEOMETRIES, out, ()) == Summary(2, 0, 16, "")


def test_a_full_node_can_place_nothing() -> None:
    full = gpu(instances=(instance(SEVEN, 0),))
    assert summary(GEOMETRIES, [full], ()) == Summary(1, 0, 8, "")
