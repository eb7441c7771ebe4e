"""The stored results on placement quality: what they show still holds, of the code as it is."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from benchmarks.quality import store
from benchmarks.quality.cells import Cell, full
from benchmarks.quality.claims import main_results
from benchmarks.quality.contents import judged
from benchmarks.quality.store import Result, Series
from extender.policy import PolicyName
from extender.simulation.experiment import play
from extender.simulation.lineup import lineup
from extender.simulation.scenario import stage
from extender.simulation.trained import nearest, stored


@pytest.fixture(scope="module")
def results() -> Mapping[str, Result]:
    return store.load_all(store.RESULTS)


def test_everything_the_report_claims_holds(results: Mapping[str, Result]) -> None:
    found = judged(results)

    assert len(found) == 8
    assert [claim for claim in found if not claim.holds] == []


def test_weights_that_come_with_the_program_tell_what_the_guard_found_last(
    results: Mapping[str, Result],
) -> None:
    cells = main_results(store.apart(results)[0])
    for name, file in stored():
        assert file.trained is not None
        found = cells[name.removeprefix("eight-slices-"), file.trained.load].series["learned"]
        assert found.gain is not None
        assert found.gain.ci95 is not None
        assert file.trained.gain == round(found.gain.mean, 4)
        assert file.trained.gain_ci95 == round(found.gain.ci95, 4)
        assert file.trained.better == (found.decides == PolicyName.LEARNED)


def first_seed(series: Series) -> Series:
    """Return a contender's results of the first seed alone."""
    lists = {
        name: value[:1]
        for name, value in msgspec.structs.asdict(series).items()
        if isinstance(value, list)
    }
    accepted = {profile: counts[:1] for profile, counts in series.accepted.items()}
    return msgspec.structs.replace(series, **lists, accepted=accepted)


def replayed(cell: Cell, result: Result, names: tuple[str, ...]) -> dict[str, Series]:
    """Play the first seed of a cell anew; learned is not judged again, but decides as it did."""
    on = stage(cell.scenario)
    policies = {}
    if "learned" in names and result.series["learned"].decides == PolicyName.LEARNED:
        found = nearest(on.fleet.groups[0].geometry, on.observed)
        assert found is not None
        policies["learned"] = found
    entered = lineup(names, policies, on, cell.scenario.load)
    return {
        name: store.series(
            [measured],
            entered.deciding.get(name, ""),
            result.series[name].gain,
            queueing=cell.scenario.queueing,
        )
        for _, name, measured in play(on, entered.contenders, cell.seeds[:1])
    }


OURS_AND_RIVALS = ("default", "mfi", "best-fit")


@pytest.mark.parametrize(
    ("name", "contenders"),
    [
        ("main-h100-80gb-100-uniform-0.85-exponential", None),
        ("main-h100-80gb-100-very-small-1-exponential", ("default", "learned", "fgd")),
        ("model-a30-24gb-100-mid-1-exponential", OURS_AND_RIVALS),
        ("size-h100-80gb-8-bimodal-1-exponential", (*OURS_AND_RIVALS, "learned")),
        ("lifetime-h100-80gb-100-no-4g-0.85-lognormal-1.5", OURS_AND_RIVALS),
        ("drift-h100-80gb-100-skew-small-then-skew-big-1-exponential", OURS_AND_RIVALS),
        ("models-h100-80gb-60-a30-24gb-40-100-uniform-1-exponential", OURS_AND_RIVALS),
        ("queue-h100-80gb-100-uniform-0.95-exponential", (*OURS_AND_RIVALS, "kubernetes-default")),
    ],
)
def test_what_is_stored_is_what_the_code_does(
    results: Mapping[str, Result], name: str, contenders: tuple[str, ...] | None
) -> None:
    (cell,) = (each for each in full() if each.name == name)
    result = results[name]
    names = contenders or tuple(result.series)

    found = replayed(cell, result, names)

    assert found == {each: first_seed(result.series[each]) for each in names}
