"""``tangram demo --decision-log`` and ``tangram replay``: a log plays again in another process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from extender.cli.reproduced import shown
from extender.decision_log import Difference, Reproduction
from extender.decision_log.files import compressed, lines
from extender.decision_log.files import found as logs
from extender.decision_log.reading import Damage
from extender.replay.recorded import Recorded
from tests.commands import tangram

pytestmark = pytest.mark.xdist_group("reproduced")  # one demo for all of them

DEMO = ("demo", "--nodes", "2", "--gpus", "2", "--vms", "24", "--burst", "10", "--load", "1.2")


def process(*arguments: str, seed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "extender", *arguments],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a small demo."""
    folder = tmp_path_factory.mktemp("log")
    played = process(*DEMO, "--decision-log", str(folder), "--output", "json", seed="1")
    assert played.returncode == 0, played.stderr
    return folder


def test_the_demos_log_plays_again_in_another_process(log: Path) -> None:
    played = process("replay", str(log), "--output", "json", seed="2")

    assert played.returncode == 0, played.stdout + played.stderr
    told = json.loads(played.stdout)
    assert told["identical"] == told["decisions"] >= 24 * 2
    assert told["exact"] is True
    assert (told["gaps"], told["damagedAt"], told["unfinished"]) == (0, [], 0)


def test_people_are_told_in_a_sentence(log: Path) -> None:
    played = tangram("replay", *map(str, logs(log)))

    assert played.exit_code == 0
    assert "decisions in 1 runs" in played.stdout
    assert " 0 different, 0 after a gap." in played.stdout


def test_a_decision_that_comes_out_otherwise_is_shown_and_fails(log: Path, tmp_path: Path) -> None:
    (path,) = logs(log)
    text = b"\n".join(lines(path)) + b"\n"
    assert b'"passed":2' in text
    forged = tmp_path / "forged.jsonl.zst"
    forged.write_bytes(compressed(text.replace(b'"passed":2', b'"passed":1', 1)))

    played = tangram("replay", str(forged))

    assert played.exit_code == 1
    assert " 1 different" in played.stdout
    assert "filter" in played.stdout


def test_the_demand_of_a_log_is_written(log: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"

    played = tangram("replay", str(log), "--record", str(record))

    assert played.exit_code == 0, played.stderr
    told = msgspec.json.decode(record.read_bytes(), type=Recorded)
    assert (len(told.arrivals), len(told.departures), len(told.nodes)) == (24, 24, 2)
    placed = {each.uid for each in told.outcomes if each.places}
    assert 0 < len(placed) <= 24


def test_policies_are_tried_on_the_demand_of_a_log(log: Path) -> None:
    played = tangram("replay", str(log), "--policy", "worst-fit", "--output", "json")

    assert played.exit_code == 0, played.stderr
    told = json.loads(played.stdout)
    assert [each["name"] for each in told["policies"]] == ["recorded", "worst-fit"]
    assert told["record"]["arrivals"] == 24
    assert 0 < told["fidelity"]["same"] <= told["fidelity"]["decisions"]


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    path.write_text("no log")

    played = tangram("replay", str(path))

    assert played.exit_code == 2
    assert "cannot be read" in played.stderr


def test_a_folder_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    played = tangram(*DEMO, "--decision-log", str(tmp_path / "file" / "log"))

    assert played.exit_code == 2
    assert "cannot be written" in played.stderr


def test_what_a_log_tells_is_printed_to_the_letter_and_moves_no_cursor() -> None:
    uid, file = "[/red]\x1b[2J\x9b", "[bold]\x1b]0;mine\x07.zst"
    differs = Difference("run", 1, "Hooks.judge", uid, {"on": ["[/]\x9b"]}, {"error": "[red]"})
    found = Reproduction(
        decisions=1, differing=1, damaged_at=(Damage(file, 2, "[/]"),), different=(differs,)
    )
    printed = io.StringIO()

    Console(file=printed, width=300, force_terminal=False).print(*shown(found), sep="\n")

    told = printed.getvalue()
    assert not {"\x1b", "\x9b", "\x07"} & {*told}
    for text in ("[/red]", "[bold]", "[red]", "lines: [/]."):
        assert text in told


def test_a_call_of_another_program_is_named_without_moving_the_cursor(
    log: Path, tmp_path: Path
) -> None:
    (path,) = logs(log)
    head = next(lines(path))
    call = b'{"n":1,"call":"x\\u001b[2J[/red]","with":{}}'
    forged = tmp_path / "forged.jsonl.zst"
    forged.write_bytes(compressed(b"\n".join([head, call, b""])))

    played = tangram("replay", str(forged))

    assert played.exit_code == 2
    assert "\x1b[2J" not in played.stderr
    assert "[/red]" in played.stderr
