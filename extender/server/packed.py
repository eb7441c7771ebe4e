"""Long answers, packed for who takes them so: the page of thousands of nodes comes from far away.

Packing is done in a thread, which leaves the interpreter to the hooks meanwhile; aiohttp does so
by itself with pieces above 4 KiB, and is told to with whole answers.
"""

from __future__ import annotations

from aiohttp import web

PACKED_AT_ONCE = 4096
"""Bytes that are packed on the event loop: a twentieth of a millisecond; more are in a thread."""

VARIES = {"Vary": "Accept-Encoding"}
"""The header of what may come packed or not."""


def pack(request: web.Request, response: web.StreamResponse) -> None:
    """Have a response packed by gzip if whoever asks takes that."""
    if takes_gzip(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)


def takes_gzip(accepted: str) -> bool:
    """Tell whether an Accept-Encoding header allows gzip (RFC 9110, 12.5.3); "" allows none.

    >>> takes_gzip("br;q=1.0, gzip;q=0.8"), takes_gzip("gzip;q=0"), takes_gzip("*")
    (True, False, True)
    """
    weights: dict[str, float] = {}
    for each in accepted.lower().split(","):
        coding, _, parameters = each.partition(";")
        name, _, value = parameters.partition("=")
        try:
            weights[coding.strip()] = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            weights[coding.strip()] = 0.0  # what cannot be read allows nothing
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0
