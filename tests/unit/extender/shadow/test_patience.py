"""How long those wait that wait in imagination only, and how long those stay."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.shadow.patience import Patience
from extender.shadow.twins import Twins

seconds = st.floats(0.0, 1e6)


def drawn(patience: Patience, waited: float = 0.0, count: int = 61) -> list[float]:
    return [patience.lasts(waited, 1e6) for _ in range(count)]


def test_where_nobody_gives_up_everybody_waits_for_ever() -> None:
    patience = Patience()
    patience.waited("vm", 5.0, gave_up=False)

    assert set(drawn(patience)) == {math.inf}


def test_where_all_give_up_after_the_same_time_so_does_everybody() -> None:
    patience = Patience()
    for at in range(20):
        patience.waited("vm", 10.0, gave_up=True)
        patience.waited("vm", float(at % 9), gave_up=False)

    assert set(drawn(patience)) == {10.0}


def test_who_had_a_place_in_time_does_not_make_the_others_look_impatient() -> None:
    patience = Patience()
    for at in range(100):
        patience.waited("vm", 100.0 + at, gave_up=True)
        patience.waited("vm", 1.0, gave_up=False)

    assert 140.0 < statistics.fmean(drawn(patience)) < 160.0


def test_who_waits_still_does_not_make_the_others_look_impatient() -> None:
    patience = Patience()
    patience.waited("one", 10.0, gave_up=True)
    assert set(drawn(patience)) == {10.0}
    for number in range(9):
        patience.waits(f"vm-{number}", 0.0)

    found = drawn(patience)
    assert found.count(10.0) == pytest.approx(len(found) / 10, abs=1)
    assert found.count(math.inf) == len(found) - found.count(10.0)

    for number in range(9):
        patience.waited(f"vm-{number}", 10.0, gave_up=True)
    assert set(drawn(patience)) == {10.0}


@given(st.lists(st.tuples(seconds, st.booleans()), max_size=40), seconds)
def test_nobody_gives_up_sooner_than_they_have_waited(
    waits: list[tuple[float, bool]], waited: float
) -> None:
    patience = Patience()
    for each, gave_up in waits:
        patience.waited("vm", each, gave_up=gave_up)

    assert all(each > waited for each in drawn(patience, waited))


def test_a_vm_stays_as_long_as_one_that_wanted_the_same() -> None:
    twins = Twins()
    twins.placed(("small",), "s")
    twins.placed(("big",), "b")

    assert twins.follow(("big",), 7, 100.0) == (True, None)
    assert twins.left("s", 5.0) == []
    assert twins.left("b", 50.0) == [(7, 150.0)]
    assert twins.follow(("big",), 8, 200.0) == (True, 250.0)


def test_who_has_left_or_stays_by_itself_follows_nobody() -> None:
    twins = Twins()
    twins.placed(("w",), "long")
    for number in range(100):
        twins.follow(("w",), number, 0.0)
        twins.follows_no_more(number)
    twins.follow(("w",), 100, 1.0)
    twins.follow(("w",), 100, 2.0)

    assert twins.left("long", 5.0) == [(100, 7.0)]


def test_without_one_that_wanted_the_same_any_will_do() -> None:
    twins = Twins()
    assert twins.follow(("big",), 1, 0.0) == (False, None)
    twins.placed(("small",), "s")
    assert twins.follow(("big",), 2, 0.0) == (True, None)
    assert twins.left("s", 5.0) == [(2, 5.0)]


def test_those_that_were_placed_last_take_turns() -> None:
    twins = Twins()
    for uid, stay in (("a", 1.0), ("b", 2.0)):
        twins.placed(("w",), uid)
        twins.left(uid, stay)

    assert [twins.follow(("w",), n, 0.0)[1] for n in range(3)] == [1.0, 2.0, 1.0]
