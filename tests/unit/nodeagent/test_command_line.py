from __future__ import annotations

import pytest
from typer.testing import CliRunner

from nodeagent.__main__ import app


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--node", "a", "--node", "b"], "give --node once"),
        (["--node", "a"], "--mode: say how"),
        (["--node", "a", "--mode", "harvester"], "--state-dir: say where"),
        (
            ["--node", "a", "--mode", "harvester", "--state-dir", "s", "--enable-mig"],
            "--enable-mig: Harvester turns MIG mode on by itself",
        ),
        (["--node", "a", "--mode", "container"], "--state-dir: say where"),
        (
            ["--node", "a", "--mode", "container", "--state-dir", "s", "--enable-sriov"],
            "--enable-sriov: containers use no virtual functions",
        ),
        (["--node", "a", "--resource", "nvidia.com/gpu"], "--resource nvidia.com/gpu: GPU"),
        (["--node", "a", "--simulate", "A30-24GB", "--enable-mig"], "are for real GPUs"),
        (["--node", "a", "--simulate", "H1000"], "no such GPU model: H1000; known are A100-40GB"),
        (["--node", "a", "--node", "a", "--simulate", "A30-24GB"], "a node is named twice"),
        (
            ["--node", "a", "--simulate", "A30-24GB", "--mode", "harvester"],
            "cannot be simulated",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], reason: str) -> None:
    result = CliRunner().invoke(app, ["run", *arguments])

    assert result.exit_code == 2
    assert reason in result.stderr.splitlines()[-1]


def test_an_api_server_that_cannot_be_used_is_no_wrong_usage() -> None:
    arguments = ["--node", "a", "--simulate", "A30-24GB", "--kubeconfig", "/nowhere"]
    result = CliRunner().invoke(app, ["run", *arguments])

    assert result.exit_code == 1
    assert result.stderr == (
        "tangram-agent: the API server cannot be used: no kubeconfig at /nowhere\n"
    )


def test_an_unknown_log_level_is_wrong_usage() -> None:
    result = CliRunner().invoke(app, ["--log-level", "loud", "run", "--node", "a"])

    assert result.exit_code == 2
    assert "loud is none of debug, info, warning, error" in result.stderr


def test_the_agent_tells_its_version() -> None:
    result = CliRunner().invoke(app, ["--version"])

    assert result.exit_code == 0
    assert result.stdout.startswith("tangram-agent ")
