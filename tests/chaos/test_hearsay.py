"""When a process came to know what has become of a GpuNode."""

from __future__ import annotations

from tests.chaos.hearsay import Hearsay


def test_a_process_knows_of_a_deletion_once_its_watch_has_told_it() -> None:
    hearsay = Hearsay()
    hearsay.told("a_1", "uid-1", now=7.0)
    hearsay.told("b_1", "uid-2", now=8.0)

    assert hearsay.knew("a_1", "uid-1", 5.0) == 7.0
    assert hearsay.knew("a_1", "uid-2", 5.0) == float("inf")


def test_or_once_it_has_a_list_that_it_has_asked_for_since() -> None:
    hearsay = Hearsay()
    hearsay.listed("a_1", asked=4.0, now=6.0)
    hearsay.listed("a_1", asked=5.0, now=9.0)

    assert hearsay.knew("a_1", "uid-1", 5.0) == 9.0
    hearsay.told("a_1", "uid-1", now=7.0)
    assert hearsay.knew("a_1", "uid-1", 5.0) == 7.0


def test_who_has_had_no_list_knows_of_nothing() -> None:
    hearsay = Hearsay()
    hearsay.listed("a_1", asked=4.0, now=6.0)

    assert hearsay.informed({"a_1", "b_1"}) == {"a_1"}


def test_of_a_gpunode_a_process_has_read_what_its_watch_or_a_list_has_brought_by_then() -> None:
    hearsay = Hearsay()
    assert hearsay.last("a_1", "node-1", 9.0) == (0, float("-inf"))

    hearsay.heard("a_1", "node-1", 12, now=7.0)
    hearsay.heard("a_1", "node-1", 15, now=8.0)
    hearsay.heard("a_1", "node-2", 19, now=8.0)
    hearsay.listed("a_1", asked=4.0, now=8.0)

    assert hearsay.last("a_1", "node-1", 7.5) == (12, float("-inf"))
    assert hearsay.last("a_1", "node-1", 8.0) == (15, 4.0)
