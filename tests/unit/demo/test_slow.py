"""The demo while somebody watches: VMs go on coming, waiting and leaving, and it ends clean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp

from extender.demo.outcome import Outcome
from extender.demo.run import Options, run
from extender.demo.world import TEAMS
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from tests.builders import H100
from tests.waiting import until


def instances(fleet: Any) -> Iterator[dict[str, Any]]:
    for node in fleet["nodes"]:
        for gpu in node["gpus"]:
            yield from gpu.get("instances", [])


async def watched(linger: Any, **changes: Any) -> Outcome:
    options = Options(
        **{
            "model": H100,
            "nodes": 1,
            "gpus": 2,
            "vms": 8,
            "mix": "uniform",
            "load": 1.0,
            "seed": 3,
            "policy": InForce.of(PolicyName.DEFAULT),
            "lifetime": 1.0,
            **changes,
        }
    )
    return await run(options, progress=lambda placed, refused: None, linger=linger)


async def test_vms_of_the_teams_run_and_wait_while_those_before_them_leave() -> None:
    seen: set[str] = set()

    async def linger(hooks: str, page: str) -> None:
        async with aiohttp.ClientSession() as http:

            async def look() -> bool:
                async with http.get(f"{page}/api/v1/fleet") as answer:
                    fleet = await answer.json()
                there = list(instances(fleet))
                running = [each for each in there if each["state"] == "running"]
                if any(each["namespace"] in TEAMS for each in running):
                    seen.add("runs")
                if any(pod["namespace"] in TEAMS and pod.get("codes") for pod in fleet["pending"]):
                    seen.add("waits")
                if running and all(each["namespace"] in TEAMS for each in running):
                    seen.add("those before have left")
                return len(seen) == 3

            await until(look, within=60, every=0.02)

    outcome = await watched(linger, load=2.5)

    assert outcome.sound
    assert seen == {"runs", "waits", "those before have left"}


CAPPED = b"""\
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
tenants:
- name: ml
  namespaces: {matchExpressions: [{key: team, operator: In, values: [vision, speech, search]}]}
  caps: {memorySlices: 5}
"""


async def test_a_tenants_cap_is_kept_while_somebody_watches() -> None:
    most = 0

    async def linger(hooks: str, page: str) -> None:
        async with aiohttp.ClientSession() as http:

            async def one_is_beyond_it() -> bool:
                nonlocal most
                async with http.get(f"{page}/api/v1/fleet") as answer:
                    fleet = await answer.json()
                had = sum(
                    each["size"]
                    for each in instances(fleet)
                    if each.get("tenant") == "ml" and each["state"] != "releasing"
                )
                most = max(most, had)
                refused = [pod for pod in fleet["pending"] if "over-cap" in pod.get("codes", ())]
                assert all(pod["tenant"] == "ml" for pod in refused)
                return bool(refused) and had > 0

            await until(one_is_beyond_it, within=60, every=0.02)

    outcome = await watched(linger, load=2.5, policy=parsed(CAPPED, "capped.yaml").in_force)

    assert outcome.sound
    assert 0 < most <= 5


async def test_what_comes_while_watching_is_no_part_of_the_account() -> None:
    async def linger(hooks: str, page: str) -> None:
        async with aiohttp.ClientSession() as http:

            async def arrived() -> bool:
                async with http.get(f"{page}/api/v1/fleet") as answer:
                    there = instances(await answer.json())
                    return any(each.get("namespace") in TEAMS for each in there)

            await until(arrived, within=60, every=0.02)

    outcome = await watched(linger)

    assert outcome.sound
    assert outcome.requested == outcome.placed + outcome.refused == 8
