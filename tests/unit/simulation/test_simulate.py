"""``tangram simulate`` and ``tangram policy`` from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from extender.cli.policy import policy
from extender.cli.simulate import simulate

# Not the whole program: that would send every later test's log events to a closed stream.
app = typer.Typer()
app.command()(simulate)
app.add_typer(policy)

SMALL = ("--gpus", "8", "--seeds", "3", "--arrivals", "200", "--warmup", "50")


def ran(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def simulated(*arguments: str) -> dict[str, Any]:
    result = ran("simulate", *SMALL, "--output", "json", *arguments)
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_json_has_what_programs_look_for() -> None:
    found = simulated("--policy", "default", "--compare", "mfi,first-fit,repack", "--load", "1.0")

    assert found["policies"].keys() == {"default", "mfi", "first-fit", "repack"}
    ours = found["policies"]["default"]
    assert 0 < ours["requests"]["mean"] < 1
    assert ours["profiles"]["7g.80gb"]["asked"] > 0
    refused = ours["rejections"]
    assert refused["total"] == refused["capacity"] + refused["fragmentation"] > 0
    assert ours["averages"].keys() == {"active_gpus", "used", "unusable", "blocked"}
    assert len(ours["over_time"]) == 20
    assert ours["decision_us"].keys() == {"p50", "p99"}
    assert found["policies"]["repack"]["averages"] is None
    assert found["compare"].keys() == {"mfi", "first-fit", "repack"}
    difference = found["compare"]["mfi"]["requests_pp"]
    theirs = found["policies"]["mfi"]["requests"]["mean"]
    assert difference["mean"] == pytest.approx(100 * (ours["requests"]["mean"] - theirs))
    assert difference["ci95"] > 0
    assert found["compare"]["mfi"].keys() >= {"slices_pp", "rejections_avoided_pct", "p_holm"}
    assert found["bound"]["requests"] <= 1.0 + 1e-6


def test_the_same_seeds_give_the_same_figures() -> None:
    def figures() -> object:
        found = simulated("--compare", "random")
        return found["compare"], found["policies"]["random"]["requests"]

    assert figures() == figures()


def test_people_get_tables() -> None:
    result = ran("simulate", *SMALL, "--compare", "mfi", "--then", "skew-big", "--queue")

    assert result.exit_code == 0, result.output
    assert "8 H100-80GB: mix uniform, then skew-big, load 0.85" in result.stdout
    assert "who finds no room waits" in " ".join(result.stdout.split())
    assert "default against" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--model", "H1"), "--model"),
        (("--mix", "most"), "--mix"),
        (("--lifetime", "long"), "--lifetime"),
        (("--compare", "best"), "--compare"),
        (("--policy", "best"), "--policy"),
        (("--policy", "repack"), "--policy"),
        (("--policy", "mfi", "--compare", "mfi-v3"), "--compare"),
        (("--policy", "absent.yaml"), "--policy: absent.yaml: cannot be read"),
        (("--compare", "absent.yaml"), "--compare: absent.yaml: cannot be read"),
        (("--trace", "absent.csv"), "--trace: absent.csv: cannot be read: No such file"),
        (("--queue", "--compare", "repack"), "repack knows no queue"),
    ],
)
def test_a_wrong_option_is_named(arguments: tuple[str, ...], says: str) -> None:
    result = ran("simulate", *SMALL, *arguments)

    assert result.exit_code == 2
    assert says in result.output


def test_a_trained_file_is_a_policy_that_can_be_simulated(tmp_path: Path) -> None:
    path = tmp_path / "trained.yaml"
    few = ("--gpus", "2", "--generations", "1", "--arrivals", "100")
    trained = ran("policy", "train", str(path), *few)
    assert trained.exit_code == 0, trained.output

    checked = ran("policy", "check", str(path))
    found = simulated("--policy", str(path), "--compare", "default", "--gpus", "2")

    assert checked.exit_code == 0, checked.output
    decides = found["policies"][str(path)]["decides"]
    assert checked.stdout.startswith(f"{path}: {decides} (")
    assert decides in ("default", "learned")


def test_training_does_not_begin_where_its_result_could_not_be_kept(tmp_path: Path) -> None:
    result = ran("policy", "train", str(tmp_path / "nowhere" / "policy.yaml"))

    assert result.exit_code == 2
    assert "cannot be written" in " ".join(result.output.replace("│", " ").split())


def test_training_begins_only_at_a_file_that_has_weights(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\nvalue: mfi\n")

    result = ran("policy", "train", str(tmp_path / "trained.yaml"), "--start", str(path))

    assert result.exit_code == 2
    assert "has no weights" in " ".join(result.output.replace("│", " ").split())


def test_the_check_says_on_what_grounds_weights_decide(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(
        "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\nvalue: learned\n"
        "weights: {fits: {}, together: {}, allLeave: -1, lowerLeave: 0, upperLeave: 0, occupied: 0}"
    )

    result = ran("policy", "check", str(path))

    first, *_ = result.output.splitlines()
    assert first == f"{path}: learned (by weights that no simulation has judged)"


def test_a_bad_policy_file_fails_the_check_with_its_error(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\nvalue: best\n")

    result = ran("policy", "check", str(path))

    assert result.exit_code == 1
    assert "did you mean best-fit?" in result.output
