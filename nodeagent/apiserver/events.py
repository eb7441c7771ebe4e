"""Kubernetes Events: warnings about an object, and about a pod and the VM that it runs.

An Event's name follows from what it says and of what, so it is there once, whoever writes it again,
and after a restart, too; API servers keep Events for an hour (``--event-ttl``).
"""

from __future__ import annotations

import contextlib
import hashlib

import msgspec

from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.protocol import EVENTS, PODS, ApiServer, Conflict, NotFound, Unavailable

LONGEST_MESSAGE = 1024
"""In characters: what ``events.k8s.io/v1`` lets a note have; ``v1`` sets no limit."""
_LONGEST_HINT = 230  # of an object's name in its Event's, so that this is a name, too

VIRTUAL_MACHINE_INSTANCE = "VirtualMachineInstance"


class Author(msgspec.Struct, frozen=True):
    """Who warns: a *component*, and which *instance* of it."""

    component: str
    instance: str


class About(msgspec.Struct, frozen=True, rename="camel"):
    """What an Event is about; without the UID ``kubectl describe`` would not show it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


class _Owner(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    uid: str = ""
    owner_references: tuple[_Owner, ...] | None = None


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata


_POD = msgspec.json.Decoder(_Pod)


async def warn(
    api: ApiServer,
    about: About,
    reason: str,
    message: str,
    *,
    when: str,
    author: Author,
    timeout: float,
    namespace: str = "",
) -> None:
    """Write a warning, within *timeout* seconds, unless it is there already.

    *reason* is one word in CamelCase, *when* RFC 3339; a *message* that is too long is cut. It is
    in the *namespace* of what it is about, or in another for what has none.

    Raises:
        ApiError: it may not have been written.
    """
    message = message[:LONGEST_MESSAGE]
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
                "message": message,
                "source": {"component": author.component, "host": author.instance},
                "firstTimestamp": when,
                "lastTimestamp": when,
                "count": 1,
                "reportingComponent": author.component,
                "reportingInstance": author.instance,
            },
            namespace=namespace or about.namespace,
            timeout=timeout,
        )


async def warn_of_pod(
    api: ApiServer,
    pod: PodRef,
    reason: str,
    message: str,
    *,
    when: str,
    author: Author,
    timeout: float,
) -> None:
    """Warn whoever looks at *pod*, or at the VM whose launcher it is, unless it is gone.

    As :func:`warn`; each call has *timeout* seconds.
    """
    for about in await concerned(api, pod, timeout=timeout):
        await warn(api, about, reason, message, when=when, author=author, timeout=timeout)


async def concerned(api: ApiServer, pod: PodRef, *, timeout: float) -> tuple[About, ...]:
    """Return the pod and the VirtualMachineInstance that it runs; nothing if it is gone.

    Raises:
        ApiError: it cannot be read.
    """
    try:
        raw = await api.get(PODS, pod.name, namespace=pod.namespace, timeout=timeout)
        found = _POD.decode(raw).metadata
    except NotFound:
        return ()
    except msgspec.MsgspecError as error:
        raise Unavailable(0, f"the pod cannot be read: {error}") from error
    if found.uid != pod.uid:
        return ()
    vms = tuple(
        About(each.api_version, each.kind, pod.namespace, each.name, each.uid)
        for each in found.owner_references or ()
        if each.controller and each.kind == VIRTUAL_MACHINE_INSTANCE
    )
    return (About(PODS.version, "Pod", pod.namespace, pod.name, pod.uid), *vms)


def _name(about: About, reason: str, message: str) -> str:
    said = "\0".join((about.uid, reason, message))
    hint = about.name[:_LONGEST_HINT].rstrip("-.")
    return f"{hint}.{hashlib.sha256(said.encode()).hexdigest()[:16]}"
