"""What keeps a pod that is bound from being Ready, by what its kubelet says of it."""

from __future__ import annotations

import msgspec

from extender import wire

SILENT = "its kubelet has said nothing of it"
UNSAID = "its kubelet does not say why"
LOST = "its containers were, and nobody hears of its node any more"
"""Of a node that is lost its pods are said not to be Ready, and no more: kube-controller-manager
changes the one word, and what their kubelet has said of their containers stays (MarkPodsNotReady in
Kubernetes' pkg/controller/util/node)."""
MOST_CONTAINERS = 3
"""Containers of one pod that are named."""
LONGEST_NAME = 63  # of a container, by the API server; of the reason why it waits, by us
LONGEST_MESSAGE = 160


class _Condition(msgspec.Struct, frozen=True):
    type: str = ""
    status: str = ""
    message: str = ""


class _Waiting(msgspec.Struct, frozen=True):
    reason: str = ""


class _State(msgspec.Struct, frozen=True):
    waiting: _Waiting | None = None


class _Container(msgspec.Struct, frozen=True):
    name: str = ""
    ready: bool = False
    state: _State | None = None


class Status(wire.PodStatus, frozen=True, rename="camel"):
    """A pod's status as a watch shows it; what kube-scheduler sends is not asked for all this."""

    conditions: tuple[_Condition, ...] | None = None
    init_container_statuses: tuple[_Container, ...] | None = None
    container_statuses: tuple[_Container, ...] | None = None


def held(status: Status) -> str:
    """Return what keeps a pod from being Ready, "" for nothing: a line at most.

    It names containers, each with why it waits: an image that is not there, a crash. Where all of
    them are ready it is what the condition says, as of a gate that somebody else has to open; or it
    says nothing, as of a pod whose node is lost.
    """
    ready = next((each for each in status.conditions or () if each.type == "Ready"), None)
    if ready is not None and ready.status == "True":
        return ""
    containers = (*(status.init_container_statuses or ()), *(status.container_statuses or ()))
    if named := [_named(each) for each in containers if not each.ready]:
        more = ", …" if len(named) > MOST_CONTAINERS else ""
        return f"containers {', '.join(named[:MOST_CONTAINERS])}{more}"
    if ready is None:
        return SILENT
    if ready.message:
        return _printable(ready.message, LONGEST_MESSAGE)
    return LOST if containers else UNSAID


def _named(container: _Container) -> str:
    waiting = None if container.state is None else container.state.waiting
    reason = "" if waiting is None else _printable(waiting.reason, LONGEST_NAME)
    name = _printable(container.name, LONGEST_NAME)
    return f"{name}: {reason}" if reason else name


def _printable(text: str, longest: int) -> str:
    """Return the beginning of a text with nothing in it that would change how a line is shown."""
    return "".join(each if each.isprintable() else "?" for each in text[:longest])
