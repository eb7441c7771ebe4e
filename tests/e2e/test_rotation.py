"""Certificates are renewed, and their authority is replaced, while VMs come and go."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from extender.cli.scheduler_config import SERVICE
from nodeagent.apiserver.protocol import PODS
from tests.e2e.controlplane.certificates import Authority, KeyPair
from tests.e2e.deployed import CLIENT
from tests.e2e.handshakes import complaints, let_in, serial, shown, trusting
from tests.e2e.running import Installed, installed
from tests.e2e.stack import artifacts

AT_FIRST, AFTERWARDS = 40, 60


async def while_vms_come_and_go(running: Installed, ready: Callable[[], Awaitable[bool]]) -> None:
    """Create one VM after the other until it is *ready*; each runs, and is deleted."""
    here = {pod["metadata"]["name"] for pod in await running.pods()}
    while not await ready():
        await running.create_vms(1)
        await running.running(len(here) + 1)
        (guest,) = {pod["metadata"]["name"] for pod in await running.pods()} - here
        await running.api.delete(PODS, guest, namespace="default")
        await running.running(len(here))


async def test_renewed_certificates_and_a_new_authority_cost_no_vm_its_placement(
    tmp_path: Path,
) -> None:
    async with installed(artifacts(tmp_path)) as running:
        (tmp_path / "next").mkdir()
        old, new = running.plane.authority, Authority(tmp_path / "next")
        former = KeyPair(running.secrets.scheduler.cert, running.secrets.scheduler.key)
        formerly = trusting(old.file, former)
        await running.create_vms(AT_FIRST)
        await running.running(AT_FIRST)

        # Renewed by the old authority; the extender lets clients of both in.
        server = old.issue("renewed", SERVICE)
        running.secrets.extender.put(server, old.file, new.file)

        async def renewed() -> bool:
            webhook = await shown(running.webhook, trusting(old.file))
            hooks = await shown(running.hooks, formerly)
            return {webhook, hooks} == {serial(server)}

        await while_vms_come_and_go(running, renewed)
        assert await let_in(running.hooks, formerly)

        # The scheduler's is by the new authority; then clients of the old one are out.
        running.secrets.scheduler.put(new.issue(CLIENT), old.file)
        running.secrets.extender.put(server, new.file)

        async def shut_out() -> bool:
            return not await let_in(running.hooks, formerly)

        await while_vms_come_and_go(running, shut_out)

        # Whoever is connected stays so; from here on all have to shake hands anew.
        for way in running.ways:
            way.cut()
        await running.create_vms(AFTERWARDS)
        await running.running(AT_FIRST + AFTERWARDS)
        await running.planned(AT_FIRST + AFTERWARDS)
        assert await complaints(running) == []
        assert running.refusals() == {}
