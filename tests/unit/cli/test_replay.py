"""``tangram replay``: a record is tried under policies, and wrong files and options are named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from extender.cli import records
from extender.cli.playing import played
from extender.cli.replay import replay
from extender.cli.simulate import simulate
from extender.policy import InForce, PolicyName
from extender.replay.compare import report
from extender.replay.document import Report
from extender.replay.parsing import MalformedRecord, record
from extender.replay.recorded import Recorded
from tests.replayed import HEAD, node, recorded, vm

app = typer.Typer()  # not the whole program: that would send later tests' logs to a closed stream
app.command()(simulate)
app.command()(replay)


def ran(*args: str) -> Result:
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner(env=plain).invoke(app, list(args))


def words(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


def made(path: Path, *args: str) -> Recorded:
    """Return what ``simulate --record`` has written of a small, full fleet."""
    few = ("--gpus", "8", "--arrivals", "300", "--warmup", "0", "--load", "1.1")
    result = ran("simulate", "--record", str(path), *few, *args)
    assert result.exit_code == 0, result.output
    return record(path.read_bytes(), "test")


def test_a_simulated_demand_is_recorded_and_tried_under_another_policy(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    of = made(path, "--policy", "worst-fit")

    result = ran("replay", str(path), "--policy", "default", "--output", "json")

    assert result.exit_code == 0, result.output
    found = msgspec.json.decode(result.stdout, type=Report)
    assert [each.name for each in found.policies] == ["recorded", "default"]
    assert found.record.arrivals == len(of.arrivals) == 300
    assert found.fidelity.same == found.fidelity.decisions == 300
    (comparison,) = found.comparisons
    assert len(comparison.differences) + comparison.alike == 300
    before, after = (each.all.refused for each in found.policies)
    assert comparison.refused.mean == pytest.approx(after - before)
    assert after < before


def test_people_are_told_the_answer_first_and_then_why(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    made(path)

    result = ran("replay", str(path), "--policy", "default", "--policy", "worst-fit")

    text = words(result)
    assert result.exit_code == 0
    assert text.index("No difference: default decides") < text.index("refused: recorded")
    assert "300 VMs fare as before" in text
    assert "Refused when they came" in text


def test_yaml_says_the_same_as_json(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    made(path)
    args = ("replay", str(path), "--policy", "mfi", "--output")

    as_json, as_yaml = (ran(*args, form).stdout for form in ("json", "yaml"))

    assert msgspec.yaml.decode(as_yaml) == json.loads(as_json)


def test_a_policy_file_is_called_as_its_file_and_keeps_its_rules(tmp_path: Path) -> None:
    path, new = tmp_path / "made.json", tmp_path / "new.yaml"
    new.write_text(HEAD + "headroom: [{profile: 7g.80gb, keep: 8}]")
    made(path)

    found = msgspec.json.decode(
        ran("replay", str(path), "--policy", str(new), "--output", "json").stdout, type=Report
    )

    assert found.policies[1].name == "new.yaml"
    assert "headroom" in found.policies[1].because


def test_the_report_is_one_page_that_fetches_nothing_and_escapes_names(tmp_path: Path) -> None:
    path, page = tmp_path / "hostile.json", tmp_path / "report.html"
    evil = "<script>alert(1)</script>"
    of = recorded(
        vm(0.0, "x", "3g.40gb", name=evil, namespace="$x_{y}$"),
        vm(9.0, "y", "7g.80gb", name=evil, namespace=evil),
        nodes=[node(evil, 2)],
    )
    path.write_bytes(msgspec.json.encode(of))

    result = ran("replay", str(path), "--policy", "worst-fit", "--html", str(page))

    assert result.exit_code == 0, result.output
    written = page.read_text("utf-8")
    assert "<script" not in written
    assert not re.search(r"""(src|href)=["']?(https?:|//)""", written)
    assert written.count("<svg") == 2 + 5  # a legend of two lines, and five plots
    assert "#0100" not in written  # every stand-in has become a colour of the page
    assert "var(--series-2)" in written


def test_the_same_numbers_make_the_same_page(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    made(path)
    pages = [tmp_path / "one.html", tmp_path / "two.html"]

    for each in pages:
        ran("replay", str(path), "--policy", "mfi", "--html", str(each))

    one, two = (each.read_text("utf-8") for each in pages)
    assert one == two


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no record"),
        (b"PK\x03\x04", "is no record"),
        (b'  {"recorded": 3}', "$.recorded: is of form 3"),
        (b'{"recorded": 1, "begins": 3}', "$.begins"),
        (
            b'{"recorded":1,"begins":"2026-01-01T00:00:00Z","nodes":[{"name":"a","gpus":[]}],'
            b'"policy":{"document":"value: ["}}',
            "$.policy.document",
        ),
    ],
)
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)

    result = ran("replay", str(path), "--policy", "mfi")

    assert result.exit_code == 2
    assert says in words(result)


def test_a_file_that_is_missing_or_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No such file" in words(ran("replay", str(tmp_path / "none"), "--policy", "mfi"))
    path = tmp_path / "large.json"
    path.write_bytes(b"{" + b" " * 100)
    monkeypatch.setattr(records, "MOST_BYTES", 64)
    with pytest.raises(MalformedRecord, match="is larger than"):
        records.read([path])


def test_wrong_options_are_named(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    made(path)

    assert "tried with --policy" in words(ran("replay", str(path)))
    assert "needs --policy" in words(ran("replay", str(path), "--html", "report.html"))
    twice = ran("replay", str(path), str(path), "--policy", "mfi")
    assert "it is no record" in words(twice)
    record = ran("replay", str(path), "--policy", "mfi", "--record", str(path))
    assert "does not go with --policy" in words(record)
    assert "neither a policy" in words(ran("replay", str(path), "--policy", "nonsense"))
    several = ran("simulate", "--record", str(path), "--model", "H100-80GB=8,A30-24GB=8")
    assert "give --model one" in words(several)
    both = ran("simulate", "--record", str(path), "--compare", "mfi")
    assert "--record writes what one policy decides" in words(both)


@pytest.mark.parametrize("option", [("--seeds", "3"), ("--queue",), ("--output", "json")])
def test_an_option_that_says_nothing_of_a_record_is_refused(
    tmp_path: Path, option: tuple[str, ...]
) -> None:
    path = tmp_path / "made.json"

    result = ran("simulate", "--record", str(path), *option)

    assert result.exit_code == 2
    assert f"for {option[0]}: --record" in words(result)
    assert not path.exists()


def test_a_policy_file_called_recorded_has_a_column_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recorded").write_text(HEAD + "value: worst-fit")
    made(Path("made.json"))

    result = ran("replay", "made.json", "--policy", "recorded", "--output", "json")

    found = msgspec.json.decode(result.stdout, type=Report)
    assert [each.name for each in found.policies] == ["recorded", "./recorded"]


def test_a_page_that_cannot_be_written_is_told_before_anything_is_played(tmp_path: Path) -> None:
    page = tmp_path / "none" / "report.html"

    result = ran("replay", str(tmp_path / "no-record"), "--policy", "mfi", "--html", str(page))

    assert result.exit_code == 2
    assert "cannot be written" in words(result)


def test_a_page_is_not_begun_before_there_is_a_report(tmp_path: Path) -> None:
    page = tmp_path / "report.html"

    ran("replay", str(tmp_path / "no-record"), "--policy", "mfi", "--html", str(page))

    assert not page.exists()


def test_a_trace_is_recorded_in_its_own_seconds(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace.csv", tmp_path / "made.json"
    trace.write_text(
        "num_gpu,gpu_milli,creation_time,deletion_time\n"
        "1,1000,100,400\n1,1000,200,300\n2,1000,200,300\n1,140,250,\n"
    )

    of = made(path, "--trace", str(trace), "--gpus", "1")

    assert [each.at for each in of.arrivals] == [0.0, 100.0, 150.0]
    assert [(each.at, bool(each.places)) for each in of.outcomes] == [
        (0.0, True),
        (100.0, False),
        (150.0, False),
    ]


def test_every_named_policy_may_be_tried(tmp_path: Path) -> None:
    path = tmp_path / "made.json"
    made(path)
    named = [arg for name in PolicyName for arg in ("--policy", name.value)]

    found = msgspec.json.decode(
        ran("replay", str(path), *named, "--output", "json").stdout, type=Report
    )

    assert len(found.comparisons) == len(PolicyName)


def test_replays_beside_each_other_come_to_the_same_as_one_after_the_other(tmp_path: Path) -> None:
    of = made(tmp_path / "made.json")
    named = [(name.value, InForce.of(name)) for name in (PolicyName.DEFAULT, PolicyName.WORST_FIT)]

    beside, in_turn = (played(of, named, at_once=count) for count in (2, 1))

    assert [each.fates for each in beside] == [each.fates for each in in_turn]
    assert report(of, [by for _, by in named], beside) == report(
        of, [by for _, by in named], in_turn
    )
