"""What the churn scenario tells of its slowest answers."""

from __future__ import annotations

from benchmarks.beside import Beside


def test_of_each_sample_it_is_known_what_went_on_meanwhile() -> None:
    beside, seconds = Beside(), [0.0]
    with beside.doing("planning"), beside.sample(seconds):
        pass  # a quick one
    for _ in range(98):
        with beside.sample(seconds):
            pass
    planning = beside.doing("planning")
    with planning, beside.sample(seconds):
        with beside.doing("explaining"):
            pass  # begun and done while the answer was made
        seconds.append(1.0)

    assert beside.told() == {
        "all": {"samples": 100, "planning": 2, "explaining": 1},
        "slowest": {"samples": 1, "planning": 1, "explaining": 1},
    }


def test_what_came_before_is_forgotten() -> None:
    beside = Beside()
    with beside.sample([1.0]):
        pass
    beside.forget()

    assert beside.told()["all"] == {"samples": 0}
