"""Kubernetes Events as the extender writes them.

An Event's name follows from what it says and of what: the same words again, and from a restarted
process, are no second one. API servers keep Events for an hour (``--event-ttl``).
"""

from __future__ import annotations

import contextlib
import hashlib

import msgspec

from nodeagent.apiserver.protocol import EVENTS, ApiServer, Conflict

COMPONENT = "tangram-extender"
TIMEOUT_SECONDS = 5.0
LONGEST_MESSAGE = 1024  # in characters: what ``events.k8s.io/v1`` lets a note have
_LONGEST_HINT = 230  # of an object's name in its Event's, so that this is a name, too


class About(msgspec.Struct, frozen=True, rename="camel"):
    """What an Event is about; without the UID ``kubectl describe`` would not show it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


async def warn(
    api: ApiServer, about: About, reason: str, message: str, *, when: str, instance: str
) -> None:
    """Write a warning, unless it is there already.

    *reason* is one word in CamelCase, *when* RFC 3339, *instance* the process that warns.

    Raises:
        ApiError: it may not have been written.
    """
    with contextlib.suppress(Conflict):  # it is there already
        await api.create(
            EVENTS,
            {
                "apiVersion": EVENTS.version,
                "kind": "Event",
                "metadata": {"name": _name(about, reason, message)},
                "involvedObject": about,
                "type": "Warning",
                "reason": reason,
                "message": message[:LONGEST_MESSAGE],
                "source": {"component": COMPONENT, "host": instance},
                "firstTimestamp": when,
                "lastTimestamp": when,
                "count": 1,
                "reportingComponent": COMPONENT,
                "reportingInstance": instance,
            },
            namespace=about.namespace,
            timeout=TIMEOUT_SECONDS,
        )


def _name(about: About, reason: str, message: str) -> str:
    said = "\0".join((about.uid, reason, message))
    hint = about.name[:_LONGEST_HINT].rstrip("-.")
    return f"{hint}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
