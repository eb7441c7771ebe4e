"""Certificates are renewed, and their authority is replaced, while VMs come and go."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
from cryptography import x509

from extender.cli.scheduler_config import SERVICE
from nodeagent.apiserver.protocol import PODS
from tests.e2e.controlplane.certificates import Authority, KeyPair
from tests.e2e.deployed import CLIENT
from tests.e2e.running import Installed, installed
from tests.e2e.stack import artifacts

AT_FIRST, AFTERWARDS = 20, 60
TELLING = re.compile(r"\b(x509|tls|certificate|EOF|refused|reset)\b")
"""What the scheduler's Events would say of a call that failed on its way; no part of a name."""


async def shown(url: str, trust: ssl.SSLContext) -> int:
    """Shake hands, and return the serial number of the certificate that is shown."""
    port = int(url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust)
    try:
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(certificate).serial_number
    finally:
        writer.transport.abort()


def serial(pair: KeyPair) -> int:
    return x509.load_pem_x509_certificate(pair.public.read_bytes()).serial_number


def trusting(authority: Path, client: KeyPair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    if client is not None:
        context.load_cert_chain(client.public, client.key)
    return context


async def let_in(url: str, trust: ssl.SSLContext) -> bool:
    async with aiohttp.ClientSession() as http:
        with contextlib.suppress(aiohttp.ClientError):
            async with http.get(f"{url}/healthz", ssl=trust) as answer:
                return answer.status == 200
    return False


async def complaints(running: Installed) -> list[str]:
    """Return what Events say of calls that failed on their way."""
    async with running.session.get("/api/v1/namespaces/default/events") as answer:
        messages = [each["message"] for each in (await answer.json())["items"]]
    assert messages  # they do say what became of the pods
    return [text for text in messages if TELLING.search(text)]


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
