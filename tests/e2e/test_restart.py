"""An extender in full use is killed, and started anew beside a real API server."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec

from benchmarks import extenders, populated, residents, restart, ruled
from extender import wire
from extender.service import Hooks
from nodeagent.apiserver.rest import RestApi
from tests.e2e.accounts import confine
from tests.e2e.audit import audited, refusals
from tests.e2e.controlplane.cluster import control_plane
from tests.e2e.controlplane.commands import Options
from tests.e2e.controlplane.required import required_binaries
from tests.e2e.deployed import EXTENDER, credentials
from tests.e2e.installation import Installer
from tests.e2e.process import Process
from tests.e2e.stack import artifacts, free_port, install
from tests.waiting import until

ASSIGNMENTS = 5_000
ASKED = 150  # pods
NODES = ASSIGNMENTS // (populated.GPUS * populated.PER_GPU)


async def started(process: Process, url: str) -> float:
    """Start an extender; return the seconds until it is ready."""

    async def ready() -> bool:
        try:
            async with http.get(f"{url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    began = time.monotonic()
    await process.start()
    async with aiohttp.ClientSession() as http:
        await until(ready, within=60, every=0.02)
    return time.monotonic() - began


async def answered(url: str, questions: Sequence[bytes]) -> list[object]:
    """Return what filter answers."""
    found: list[object] = []
    async with aiohttp.ClientSession() as http:
        for question in questions:
            async with http.post(f"{url}/filter", data=question) as answer:
                assert answer.status == 200
                found.append(await answer.json())
    return found


def answered_here(hooks: Hooks, questions: Sequence[bytes]) -> list[object]:
    """Return what an extender in this process answers, as it would be sent."""
    results = (hooks.filter(wire.decode(each, wire.ExtenderArgs)) for each in questions)
    return [msgspec.json.decode(wire.encode(each)) for each in results]


def questions(site: populated.Site, pods: Mapping[str, bytes]) -> list[bytes]:
    """Return filter requests for some of the pods, with all nodes for candidates."""
    some = sorted(pods)[:: len(pods) // ASKED]
    names = tuple(site.nodes)
    return [
        msgspec.json.encode({"Pod": msgspec.Raw(pods[each]), "Nodes": None, "NodeNames": names})
        for each in some
    ]


async def test_an_extender_killed_with_five_thousand_assignments_knows_them_all_again(
    tmp_path: Path,
) -> None:
    directory = artifacts(tmp_path)
    site, policy = restart.ruled_site(NODES, ASSIGNMENTS, pending=25, seed=1), ruled.policy()
    rules = directory / "policy.yaml"
    rules.write_text(ruled.TEXT)
    audit, flags = audited(directory)
    async with control_plane(
        required_binaries(),
        options=Options(apiserver_flags=flags),
        directory=directory / "controlplane",
    ) as plane:
        await install(plane)
        async with RestApi(kubeconfig=plane.kubeconfig("admin"), connections=256) as api:
            await residents.create(api, site)
            await residents.label_namespace(api, ruled.NAMESPACE_LABELS)
            async with extenders.agents(api), extenders.started(api, policy) as former:
                came = await extenders.live(api, former.service, site, seed=1)
                held = [e.id for _, e in former.service.knowledge.entries() if e.pod is None]
                async with extenders.started(api, policy) as successor:
                    found, pods = await restart.compared(
                        api, site, former.service, successor.service, seed=1
                    )
                    asked = questions(site, pods)
                    expected = answered_here(successor.service.hooks, asked)

        async with plane.client() as session:
            installer = Installer(plane, session)
            await confine(installer)
            own = await credentials(plane, installer, EXTENDER, min(site.nodes))
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        process = Process(
            directory / "extender.log",
            *("extender", "serve", "--kubeconfig", str(own)),
            *("--port", str(port), "--reservation", "1000000", "--policy", str(rules)),
        )
        try:
            first = await started(process, url)
            before = await answered(url, asked)
            await process.stop(signal.SIGKILL)
            again = await started(process, url)
            after = await answered(url, asked)
        finally:
            await process.stop(signal.SIGKILL)
        assert refusals(audit, (EXTENDER,)) == {}

    print(
        f"\nready after {first:.2f} s and {again:.2f} s as a process, {successor.ready:.2f} s"
        f" without its start; {sum(found.compared.values())} values compared, {came} pods bound"
    )
    assert found.differing == ()
    assert found.compared["assignments"] > 0.97 * ASSIGNMENTS
    assert len(held) > 0.01 * ASSIGNMENTS
    assert came > 50
    assert before == expected
    assert after == expected
