"""The stored results on placement quality: what they show still holds, of the code as it is."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from benchmarks.quality import store
from benchmarks.quality.claims import main_results
from benchmarks.quality.contents import judged
from benchmarks.quality.store import Result
from extender.policy import PolicyName
from extender.simulation.trained import stored


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
