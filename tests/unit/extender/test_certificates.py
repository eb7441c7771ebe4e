"""TLS with real handshakes: renewed certificates, and whose certificate may call the hooks."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from structlog.testing import capture_logs

from extender.server import Certificates, CertificatesUnusable, Limits, serving
from extender.server.certificates import client_names
from extender.service import Service
from tests.e2e.controlplane.certificates import Authority, KeyPair
from tests.fakes.raw_http import FILTER
from tests.waiting import until


class Mounted:
    """The files of a mounted Secret, and two authorities that can fill them."""

    def __init__(self, directory: Path) -> None:
        self.cert, self.key, self.ca = (directory / name for name in ("tls.crt", "tls.key", "ca"))
        self.old, self.new = (self._authority(directory / name) for name in ("old", "new"))

    @staticmethod
    def _authority(directory: Path) -> Authority:
        directory.mkdir()
        return Authority(directory)

    def put(self, authority: Authority) -> KeyPair:
        pair = authority.issue("server")
        shutil.copy(pair.public, self.cert)
        shutil.copy(pair.key, self.key)
        shutil.copy(authority.file, self.ca)
        return pair

    def spoil(self, file: Path, how: str) -> None:
        match how:
            case "garbage":
                file.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n")
            case "empty":
                file.write_bytes(b"")
            case "gone":
                file.unlink()
            case "another's":
                other = self.new.issue("server")
                shutil.copy(other.public if file == self.cert else other.key, file)

    def loaded(self) -> Certificates:
        return Certificates(self.cert, self.key, self.ca)


@pytest.fixture
def files(tmp_path: Path) -> Mounted:
    mounted = Mounted(tmp_path)
    mounted.put(mounted.old)
    return mounted


def trusting(authority: Authority, client: str = "system:kube-scheduler") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.file)
    pair = authority.issue(client)
    context.load_cert_chain(pair.public, pair.key)
    return context


@contextlib.asynccontextmanager
async def connected(
    url: str, context: ssl.SSLContext
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """A client that keeps its connection."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as http:
        yield http, url


async def serial(url: str, context: ssl.SSLContext) -> int:
    """Shake hands, and return the serial number of the server's certificate."""
    port = int(url.rpartition(":")[2])
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return x509.load_der_x509_certificate(shown).serial_number
    finally:
        writer.transport.abort()


def serial_in(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


def certificate_events(logs: Iterable[Mapping[str, Any]]) -> list[str]:
    return [each["event"] for each in logs if each["event"].startswith("certificates_")]


async def test_a_renewed_certificate_is_shown_to_the_next_client_and_nobody_is_dropped(
    service: Service, files: Mounted
) -> None:
    certificates = files.loaded()
    before, old, new = serial_in(files.cert), trusting(files.old), trusting(files.new)
    async with (
        serving(service, tls=certificates) as url,
        connected(url, old) as (http, _),
        http.post(f"{url}/filter", data=FILTER) as answer,
    ):
        assert answer.status == 200
        await answer.read()
        [kept] = [each[0][0] for each in http.connector._conns.values()]  # type: ignore[union-attr]
        assert await serial(url, old) == before

        files.put(files.new)
        with capture_logs() as logs:
            await certificates.refresh()

        assert certificate_events(logs) == ["certificates_reloaded"]
        assert await serial(url, new) == serial_in(files.cert) != before
        with pytest.raises(ssl.SSLError):
            await serial(url, old)  # the client does not know the new authority
        async with http.post(f"{url}/filter", data=FILTER) as again:
            assert again.status == 200
            assert again.connection is None or again.connection.protocol is kept


async def test_a_client_of_the_former_authority_is_let_in_no_more(
    service: Service, files: Mounted
) -> None:
    certificates = files.loaded()
    former = trusting(files.old)
    async with serving(service, tls=certificates) as url:
        shutil.copy(files.new.file, files.ca)
        await certificates.refresh()
        async with connected(url, former) as (http, _):
            with pytest.raises(aiohttp.ClientError):
                await http.post(f"{url}/filter", data=FILTER)


async def test_the_files_are_looked_at_while_the_door_is_open(
    service: Service, files: Mounted
) -> None:
    async with serving(
        service, tls=files.loaded(), limits=Limits(certificates_seconds=0.01)
    ) as url:
        files.put(files.new)
        new = trusting(files.new)

        async def renewed() -> bool:
            with contextlib.suppress(ssl.SSLError, ConnectionError):
                return await serial(url, new) == serial_in(files.cert)
            return False

        await until(renewed)


@pytest.mark.parametrize(
    ("spoilt", "how"),
    [
        *(
            (spoilt, how)
            for spoilt in ("cert", "key", "ca")
            for how in ("garbage", "empty", "gone")
        ),
        ("cert", "another's"),
        ("key", "another's"),  # another's authority would be a change of authority
    ],
)
async def test_files_that_cannot_be_used_keep_the_old_ones_and_say_so_once(
    service: Service, files: Mounted, spoilt: str, how: str
) -> None:
    certificates = files.loaded()
    before, client = serial_in(files.cert), trusting(files.old)
    files.spoil(getattr(files, spoilt), how)

    async with serving(service, tls=certificates) as url:
        with capture_logs() as logs:
            await certificates.refresh()
            await certificates.refresh()
        assert certificate_events(logs) == ["certificates_refused"]
        assert await serial(url, client) == before

        files.put(files.old)
        await certificates.refresh()
        assert await serial(url, client) == serial_in(files.cert) != before


async def test_files_being_written_are_left_for_the_next_look(
    files: Mounted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is replaced between the check of the files and their use."""
    certificates = files.loaded()
    before = certificates.context
    files.put(files.new)
    load = ssl.SSLContext.load_cert_chain

    def interrupted(context: ssl.SSLContext, *args: object, **named: object) -> None:
        load(context, *args, **named)  # type: ignore[arg-type]
        files.put(files.old)

    with monkeypatch.context() as patched:
        patched.setattr(ssl.SSLContext, "load_cert_chain", interrupted)
        await certificates.refresh()
    assert certificates.context is before

    await certificates.refresh()
    assert certificates.context is not before


def test_files_that_do_not_belong_together_are_refused_at_the_start(files: Mounted) -> None:
    shutil.copy(files.new.issue("other").key, files.key)

    with pytest.raises(CertificatesUnusable, match="cannot use the certificates"):
        files.loaded()


@pytest.mark.parametrize("allowed", ["system:kube-scheduler", "localhost", "127.0.0.1"])
async def test_a_client_may_call_by_its_common_or_any_alternative_name(
    service: Service, files: Mounted, allowed: str
) -> None:
    client = trusting(files.old, "system:kube-scheduler")
    async with (
        serving(service, tls=files.loaded(), clients=frozenset({"x", allowed})) as url,
        connected(url, client) as (http, _),
        http.post(f"{url}/filter", data=FILTER) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize("verb", ["filter", "prioritize", "preempt", "bind"])
async def test_another_client_of_the_same_authority_may_not_call(
    service: Service, files: Mounted, verb: str
) -> None:
    client = trusting(files.old, "system:node:node-1")
    allowed = frozenset({"system:kube-scheduler"})
    async with (
        serving(service, tls=files.loaded(), clients=allowed) as url,
        connected(url, client) as (http, _),
    ):
        async with http.post(f"{url}/{verb}", data=FILTER) as answer:
            assert answer.status == 403
            assert "system:node:node-1" in await answer.text()
        for open_to_all in ("healthz", "readyz", "openapi.json"):
            async with http.get(f"{url}/{open_to_all}") as answer:
                assert answer.status == 200


async def test_a_handshake_that_does_not_go_on_is_cut_off(service: Service, files: Mounted) -> None:
    """Nor do many of them keep others out."""
    limits = Limits(connections=20, handshake_seconds=0.2)
    client = trusting(files.old)
    async with serving(service, tls=files.loaded(), limits=limits) as url:
        port = int(url.rpartition(":")[2])
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
        assert await serial(url, client) == serial_in(files.cert)
        async with asyncio.timeout(5):
            for reader, writer in silent:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.transport.abort()


def test_a_certificate_without_names_has_none() -> None:
    assert client_names(None) == frozenset()
    assert client_names({}) == frozenset()
    assert client_names({"subject": ((("organizationName", "x"),),)}) == frozenset()
