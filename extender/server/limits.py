"""What the door takes at most, and how long it waits for what."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Made for kube-scheduler, a Go client; the size of a body is in the extender's settings."""

    connections: int = 512
    """Open at a time, handshakes included. kube-scheduler opened 176 for 400 binds at once
    (measured). With 256 to the API server, all fit into 1,024 descriptors, a usual soft limit."""

    backlog: int = 1024
    """What the kernel queues before we accept it, as far as its net.core.somaxconn allows."""

    keepalive_seconds: float = 150.0
    """How long an idle connection is kept. Above the 90 s for which Go does: it does not repeat a
    POST on a connection that is closed under it."""

    handshake_seconds: float = 10.0
    """For the TLS handshake: a few round trips, some milliseconds each in a cluster."""

    head_seconds: float = 10.0
    """For a request's head, from its first byte on: Go sends it in one piece."""

    body_seconds: float = 20.0
    """For a request's body: 32 MiB in this time is 13 Mbit/s."""

    write_seconds: float = 20.0
    """For the client to take an answer that does not fit into the socket's buffer."""

    silence_seconds: float = 30.0
    """What is sent must be acknowledged within this time, or the peer is taken for gone."""

    linger_seconds: float = 1.0
    """How long the rest of a refused body is read, so that the client sees the refusal."""

    request_line_bytes: int = 2048
    """Of method, path and version; ours are below 100."""

    header_bytes: int = 4096
    """Of one header's name and value: what a service mesh adds may be long."""

    headers: int = 64
    """In one request: kube-scheduler sends 5."""

    shutdown_seconds: float = 5.0
    """For the requests in flight when the door is closed."""

    certificates_seconds: float = 10.0
    """How often the certificates' files are looked at; the kubelet renews them within a minute."""
