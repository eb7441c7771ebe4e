"""What VMs of Harvester have waited comes out as a page with a row for each way."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.harvester.report import Run, Way, page, write

BY_HAND, TANGRAM = Way("by hand", 30.0), Way("Tangram", 30.0)
RUNS = (
    Run("1.7", BY_HAND, 1, (26.0, 0.5, 0.75)),
    Run("1.7", BY_HAND, 2, (20.0, 0.25, 1.5)),
    Run("1.7", TANGRAM, 1, (1.0, 0.5, 0.5)),
    Run("1.7", TANGRAM, 2, (2.0, 0.5, 0.5)),
)


def test_a_way_is_a_row_of_medians_with_the_least_and_the_most() -> None:
    rows = [line for line in page(RUNS, at_once=2) if line.startswith("| 1.7")]

    assert rows == [
        "| 1.7 | 30 s | by hand | 23.0 (20.0 to 26.0) | 0.6 (0.2 to 1.5) |",
        "| 1.7 | 30 s | Tangram | 1.5 (1.0 to 2.0) | 0.5 (0.5 to 0.5) |",
    ]


def test_it_says_how_often_each_way_was_measured_and_what_was_fake() -> None:
    text = "\n".join(page(RUNS, at_once=2))

    assert "3\nVMs one after the other (2 runs of each way, 2 at once" in text
    assert "**Fake**" in text


def test_every_run_is_kept_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "harvester.json", RUNS, at_once=2)

    kept = json.loads((tmp_path / "harvester.json").read_text())
    assert [each["seconds"] for each in kept["runs"]] == [list(each.seconds) for each in RUNS]
    assert kept["machine"]["processors"]
    assert (tmp_path / "harvester.md").read_text().startswith("# On Harvester")
