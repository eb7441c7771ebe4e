"""Which certificates are shown and taken, and what is said of calls that failed on their way."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from pathlib import Path

import aiohttp
from cryptography import x509

from tests.e2e.controlplane.certificates import KeyPair
from tests.e2e.running import Installed

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
    """Return the serial number of a certificate."""
    return x509.load_pem_x509_certificate(pair.public.read_bytes()).serial_number


def trusting(authority: Path, client: KeyPair | None = None) -> ssl.SSLContext:
    """Return who trusts that authority, and shows itself as that client."""
    context = ssl.create_default_context(cafile=authority)
    if client is not None:
        context.load_cert_chain(client.public, client.key)
    return context


async def let_in(url: str, trust: ssl.SSLContext) -> bool:
    """Tell whether a client gets an answer."""
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
