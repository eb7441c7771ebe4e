"""``--tls-cert`` and what goes with it: who may call the hooks, and from where without."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from extender.server import Certificates, CertificatesUnusable

Cert = Annotated[Path | None, typer.Option(help="Server certificate (PEM).")]
Key = Annotated[Path | None, typer.Option(help="Its key (PEM).")]
ClientCa = Annotated[
    Path | None, typer.Option(help="CA that client certificates must come from (PEM).")
]
ClientNames = Annotated[
    list[str] | None,
    typer.Option(
        help="Who may call the hooks: a common or alternative name in the client's certificate"
        " (repeatable).",
        show_default="whoever has a certificate",
    ),
]


def certificates(
    cert: Path | None, key: Path | None, ca: Path | None
) -> tuple[Certificates, Certificates] | tuple[None, None]:
    """Return the certificates, with client ones demanded and without; None without any.

    Raises:
        typer.BadParameter: saying which cannot be used.
    """
    if cert is None and key is None and ca is None:
        return None, None
    if cert is None or key is None or ca is None:
        raise typer.BadParameter("--tls-cert, --tls-key and --client-ca belong together")
    for option, path in (("--tls-cert", cert), ("--tls-key", key), ("--client-ca", ca)):
        try:
            path.open("rb").close()
        except OSError as error:  # OpenSSL says what is wrong, but not with which file
            text = f"{path}: cannot be read: {error.strerror}"
            raise typer.BadParameter(text, param_hint=option) from error
    try:
        return Certificates(cert, key, ca), Certificates(cert, key, None)
    except CertificatesUnusable as error:
        raise typer.BadParameter(str(error)) from error


def loopback(host: str) -> bool:
    """Tell whether whoever reaches a host is on it."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
