"""What VMs of Harvester have waited comes out as a page with a row for each way."""

from __future__ import annotations

import json
from pathlib import Path

from tests.e2e.harvester.report import Kept, Run, Way, page, write

BY_HAND, TANGRAM = Way("by hand", 30.0), Way("Tangram", 30.0)
NOTE = "Two cores."
RUNS = (
    Run("1.7", BY_HAND, 1, 2, (26.0, 0.5, 0.75)),
    Run("1.7", BY_HAND, 2, 2, (20.0, 0.25, 1.5)),
    Run("1.7", TANGRAM, 1, 2, (1.0, 0.5, 0.5)),
    Run("1.7", TANGRAM, 2, 2, (2.0, 0.5, 0.5)),
)


def test_a_way_is_a_row_of_medians_with_the_least_and_the_most() -> None:
    rows = [line for line in page(Kept(NOTE, RUNS)) if line.startswith("| 1.7")]

    assert rows == [
        "| 1.7 | 30 s | 2 | by hand | 23.0 (20.0 to 26.0) | 0.6 (0.2 to 1.5) |",
        "| 1.7 | 30 s | 2 | Tangram | 1.5 (1.0 to 2.0) | 0.5 (0.5 to 0.5) |",
    ]


def test_it_says_how_often_each_way_was_measured_and_what_was_fake() -> None:
    text = "\n".join(page(Kept(NOTE, RUNS)))

    assert "3\nVMs one after the other (2 runs of each way" in text
    assert NOTE in text
    assert "**Fake**" in text


def test_every_run_is_kept_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "harvester.json", RUNS, note=NOTE)

    kept = json.loads((tmp_path / "harvester.json").read_text())
    seconds = sorted(each["seconds"] for each in kept["runs"])
    assert seconds == sorted(list(each.seconds) for each in RUNS)
    assert kept["made"]["cores"]
    assert (tmp_path / "harvester.md").read_text().startswith("# On Harvester")


def test_what_is_measured_again_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "harvester.json"
    write(out, RUNS, note=NOTE)

    write(out, [Run("1.7", TANGRAM, 1, 1, (0.5, 0.25))])

    kept = json.loads(out.read_text())
    assert kept["note"] == NOTE
    assert [(each["way"]["name"], each["seconds"]) for each in kept["runs"]] == [
        ("by hand", [26.0, 0.5, 0.75]),
        ("by hand", [20.0, 0.25, 1.5]),
        ("Tangram", [0.5, 0.25]),
    ]
