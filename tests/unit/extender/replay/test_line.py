"""Who waits is asked in the right order, and no more often than there may be room."""

from __future__ import annotations

from collections.abc import Callable

from extender.replay.line import MOST_KIN, MOST_NAMES, MOST_ROWS, Line, Unit


def waiting(*joined: tuple[int, str, str, int]) -> Line:
    """Return a line of arrivals, each with its kin, kind and priority."""
    line = Line()
    for number, kin, kind, priority in joined:
        line.join((number,), kin, kind, priority)
    return line


def placing(tried: list[Unit]) -> Callable[[Unit], bool]:
    """Return what places everybody, and notes whom it has."""

    def placed(unit: Unit) -> bool:
        tried.append(unit)
        return True

    return placed


def test_of_kin_without_room_anywhere_one_is_asked_however_many_rows_they_are() -> None:
    line = waiting(*((at, "large", f"row {at}", at) for at in range(1000)), (1000, "small", "", 0))
    asked: list[Unit] = []
    tried: list[Unit] = []

    def hopeless(unit: Unit) -> bool:
        asked.append(unit)
        return unit != (1000,)

    line.again(hopeless, placing(tried))

    assert asked == [(0,), (1000,)]
    assert tried == [(1000,)]
    assert len(line) == 1000


def test_rows_of_one_kin_are_tried_by_priority_and_then_by_when_they_came() -> None:
    line = waiting((0, "kin", "low", 0), (1, "kin", "high", 5), (2, "kin", "low", 0))
    tried: list[Unit] = []

    line.again(lambda unit: False, placing(tried))

    assert tried == [(1,), (0,), (2,)]
    assert len(line) == 0


def test_who_leaves_is_not_asked_any_more() -> None:
    line = waiting((0, "kin", "kind", 0), (1, "kin", "kind", 0))

    assert line.leave(0) == (0,)
    assert line.leave(0) == ()
    assert 0 not in line
    assert 1 in line


def refusing(tried: list[Unit]) -> Callable[[Unit], bool]:
    """Return what places nobody, and notes whom it was asked for."""

    def placed(unit: Unit) -> bool:
        tried.append(unit)
        return False

    return placed


def nobody(unit: Unit) -> bool:
    return False


def test_of_too_many_rows_some_are_tried_each_time_and_in_turn_all() -> None:
    count = 3 * MOST_ROWS
    line = waiting(*((at, "kin", f"row {at}", 0) for at in range(count)))
    tried: list[Unit] = []

    for turn in range(1, 4):
        line.again(nobody, refusing(tried))
        assert len(tried) == turn * MOST_ROWS

    assert {*tried} == {(at,) for at in range(count)}


def test_of_too_many_kin_some_are_asked_each_time_and_in_turn_all() -> None:
    count = 3 * MOST_KIN
    line = waiting(*((at, f"kin {at}", "row", 0) for at in range(count)))
    tried: list[Unit] = []

    for turn in range(1, 4):
        line.again(nobody, refusing(tried))
        assert len(tried) == turn * MOST_KIN

    assert {*tried} == {(at,) for at in range(count)}


def test_rows_that_may_go_to_many_nodes_are_fewer_at_a_time() -> None:
    line = Line(lambda unit: MOST_NAMES // 2)
    for at in range(9):
        line.join((at,), "kin", f"row {at}", 0)
    tried: list[Unit] = []

    line.again(nobody, refusing(tried))
    assert len(tried) == 2
    for _ in range(4):
        line.again(nobody, refusing(tried))
    assert {*tried} == {(at,) for at in range(9)}


def test_within_a_turn_the_higher_priority_comes_first() -> None:
    line = waiting(*((at, "kin", f"row {at}", at % 7) for at in range(2 * MOST_ROWS)))
    tried: list[Unit] = []

    line.again(nobody, refusing(tried))

    priorities = [at % 7 for (at,) in tried]
    assert priorities == sorted(priorities, reverse=True)
