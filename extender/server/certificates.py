"""The door's certificates, kept current while it is open.

The files of a mounted Secret change under us when a certificate is renewed. New connections get
what is in the files; open ones keep what they were made with. Files that cannot be used, such as a
key that does not belong to its certificate yet, change nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Iterable
from pathlib import Path

import structlog

log = structlog.get_logger()


class CertificatesUnusable(Exception):
    """The files cannot be read, or do not belong together."""


class Certificates:
    """A server certificate with its key, and the authority client certificates must come from.

    Without an authority no certificate is asked of clients.

    Raises:
        CertificatesUnusable: the files cannot be used.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._files = (cert, key) if client_ca is None else (cert, key, client_ca)
        self._digest = _digest(self._files)
        self.context = _context(*self._files)
        """What the next connection is to be made with."""
        self._refused: tuple[str, str] | None = None

    async def watch(self, every: float) -> None:
        """Look at the files *every* so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            await self.refresh()

    async def refresh(self) -> None:
        """Take what is in the files now, if it has changed and can be used."""
        digest = ""
        try:
            digest = await asyncio.to_thread(_digest, self._files)
            if digest == self._digest:
                self._refused = None
                return
            context = await asyncio.to_thread(_context, *self._files)
            if await asyncio.to_thread(_digest, self._files) != digest:
                return  # they are being written: the next look will see
        except CertificatesUnusable as error:
            if (refused := (digest, str(error))) != self._refused:
                log.warning("certificates_refused", error=str(error), kept="the last good ones")
            self._refused = refused
            return
        self.context, self._digest, self._refused = context, digest, None
        log.info("certificates_reloaded", files=[str(file) for file in self._files])


def client_names(certificate: object) -> frozenset[str]:
    """Return a client's names: the common name and the alternative names of any type.

    *certificate* is as ``SSLSocket.getpeercert`` has it; None for no certificate.
    """
    if not isinstance(certificate, dict):
        return frozenset()
    subject = {
        value
        for part in certificate.get("subject", ())
        for attribute, value in part
        if attribute == "commonName"
    }
    return frozenset(subject | {value for _, value in certificate.get("subjectAltName", ())})


def _context(cert: Path, key: Path, client_ca: Path | None = None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca)
        # An encrypted key is refused: without a password here, OpenSSL would ask the terminal.
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CertificatesUnusable(f"cannot use the certificates: {error}") from error
    context.verify_mode = ssl.CERT_NONE if client_ca is None else ssl.CERT_REQUIRED
    # Every connection shows its certificate: a resumed one would outlive its authority's removal.
    # Go's client keeps no tickets anyway.
    context.num_tickets = 0
    return context


def _digest(files: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    try:
        for file in files:
            whole.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise CertificatesUnusable(f"cannot read the certificates: {error}") from error
    return whole.hexdigest()
