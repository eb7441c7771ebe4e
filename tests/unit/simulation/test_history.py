"""How many instances were wanted, day by day: bounded, and in order whatever clocks do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extender.simulation.history import MOST_PERIODS, MOST_PROFILES, History

WANTED = st.dictionaries(st.sampled_from(["7g", "3g", "2g", "1g"]), st.integers(0, 50))


def test_the_last_look_of_a_day_stands_for_it() -> None:
    history = History().noted(7, {"1g": 3}).noted(7, {"1g": 5}).noted(8, {"7g": 1})

    assert (history.periods, dict(history.wanted)) == ((7, 8), {"1g": (5, 0), "7g": (0, 1)})
    assert history.latest == {"1g": 0, "7g": 1}


def test_a_clock_that_is_turned_back_changes_nothing() -> None:
    history = History().noted(7, {"1g": 3})

    assert history.noted(6, {"1g": 9}) is history


def test_what_is_wanted_most_is_kept_where_there_are_too_many_profiles() -> None:
    wanted = {f"{count}g": count for count in range(1, MOST_PROFILES + 10)}

    assert set(History().noted(0, wanted).wanted) == {
        f"{n}g" for n in range(10, MOST_PROFILES + 10)
    }


@given(st.lists(st.tuples(st.integers(0, 60), WANTED), max_size=60))
def test_it_tells_of_the_last_look_at_each_day_and_stays_small(
    looks: list[tuple[int, dict[str, int]]],
) -> None:
    history, known = History(), dict[int, dict[str, int]]()
    for day, wanted in looks:
        history = history.noted(day, wanted)
        if not known or day >= max(known):
            known[day] = wanted

    assert history.periods == tuple(sorted(known))[-MOST_PERIODS:]
    for name in {name for day in history.periods for name in known[day] if known[day][name]}:
        row = history.wanted[name]
        assert row == tuple(known[day].get(name, 0) for day in history.periods)
    assert all(any(row) for row in history.wanted.values())
