"""The text Prometheus reads, in the format it asks for."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return all metrics of a registry and their media type, by an ``Accept`` header."""
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
