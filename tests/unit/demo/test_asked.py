"""The commands that ask a desk, asked of a demo as people start it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from extender.cli.main import app
from extender.demo.world import TEAMS
from tests.page.running import demo, told
from tests.waiting import until

POLICY = Path(__file__).parents[2] / "page" / "policy.yaml"


async def asked(url: str, *args: str) -> Any:
    """Return what a command prints for programs, None where it fails."""
    runner = CliRunner(env={"TANGRAM_DESK": url, "COLUMNS": "200", "NO_COLOR": "1"})
    result = await asyncio.to_thread(runner.invoke, app, [*args, "-o", "json"])
    return json.loads(result.stdout) if result.exit_code == 0 else None


async def test_nodes_top_and_explain_tell_of_a_running_demo() -> None:
    crowded = ("--nodes", "2", "--gpus", "1", "--vms", "12", "--load", "3", "--lifetime", "15")
    with demo(*crowded, "--policy", str(POLICY)) as url:
        nodes, top = await asked(url, "nodes"), await asked(url, "top")
        runner = CliRunner(env={"TANGRAM_DESK": url, "COLUMNS": "200", "NO_COLOR": "1"})
        shown = await asyncio.to_thread(runner.invoke, app, ["top"])
        explained: dict[str, Any] = {}

        async def both_are_explained() -> bool:
            """Explain VMs until one has its place and one is refused: they come and go."""
            fleet = await asyncio.to_thread(told, url)
            there = [
                each for node in fleet["nodes"] for each in node["gpus"][0].get("instances", [])
            ]
            for each in (*there, *fleet["pending"]):
                if each.get("namespace") in TEAMS and each.get("vm"):
                    said = await asked(url, "explain", each["vm"], "-n", each["namespace"])
                    if said is not None:
                        explained[said["state"]] = said
            return explained.keys() >= {"placed", "refused"}

        await until(both_are_explained, within=60, every=0.2)

    assert [(row["name"], row["pool"]) for row in nodes] == [
        ("gpu-node-0", "training"),
        ("gpu-node-1", ""),
    ]
    assert {row["name"] for row in top["nodes"]} == {"gpu-node-0", "gpu-node-1"}
    assert shown.exit_code == 0
    assert shown.output.startswith("Tangram ")
    assert "gpu-node-0" in shown.output
    assert "gpu-node-1" in shown.output
    assert explained["placed"]["here"]["on"][0]["node"] in ("gpu-node-0", "gpu-node-1")
    assert explained["refused"]["missing"]["lack"] != "nothing"
    assert explained["refused"]["sentences"][0].startswith("It asks for VirtualMachineInstance ")
