"""Decides about one pod that is to be created."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from extender.admission.review import Change, Pod
from extender.kubescheduler.configuration import DEFAULT_SCHEDULER
from nodeagent.api import keys, resources

MANAGED = "true"
"""The value of the label; the extender's pod watch selects no other."""

MOST_TEXT = 63  # of what a tenant wrote, in an answer: as long as a scheduler's name may be


class Schedulers(msgspec.Struct, frozen=True):
    """The schedulers that ask the extender: ``first`` is given to pods that name none."""

    first: str = DEFAULT_SCHEDULER
    others: frozenset[str] = frozenset()

    def ask_us(self, name: str) -> bool:
        """Tell whether the pods of that scheduler come to the extender."""
        return name == self.first or name in self.others


class NotOurs(msgspec.Struct, frozen=True):
    """The pod asks for no GPU instance: it is none of our business."""


class Admitted(msgspec.Struct, frozen=True):
    """The pod may be created once these changes are made; none if it is as it should be."""

    changes: tuple[Change, ...]


class Refused(msgspec.Struct, frozen=True):
    """The pod must not be created; ``reason`` is for whoever wanted it."""

    reason: str


Verdict = NotOurs | Admitted | Refused


def judge(pod: Pod, schedulers: Schedulers) -> Verdict:
    """Decide about *pod*: whatever is admitted would be admitted again, and unchanged."""
    asked = next(_ours(pod), None)
    if asked is None:
        return NotOurs()
    if pod.spec.node_name:
        return Refused(
            f"vGPU: a pod that asks for {asked} must leave spec.nodeName empty: which node has"
            " such a GPU instance for it, the scheduler finds out from Tangram"
        )
    named = pod.spec.scheduler_name or DEFAULT_SCHEDULER
    if not schedulers.ask_us(named) and named != DEFAULT_SCHEDULER:
        return Refused(
            f"vGPU: a pod that asks for {asked} must leave spec.schedulerName empty or name"
            f" {schedulers.first}: the scheduler {named[:MOST_TEXT]!r} does not ask Tangram"
        )
    return Admitted(tuple(_changes(pod, named, schedulers)))


def _ours(pod: Pod) -> Iterator[str]:
    """Yield the resources of ours that the pod names, in whatever amount.

    The same names are what the webhook's configuration has the API server call us for.
    """
    for container in (*(pod.spec.init_containers or ()), *(pod.spec.containers or ())):
        if container.resources is not None:
            for amounts in (container.resources.limits, container.resources.requests):
                yield from filter(resources.ours, amounts or ())


def _changes(pod: Pod, scheduler: str, schedulers: Schedulers) -> Iterator[Change]:
    labels = pod.metadata.labels
    if labels is None:
        yield Change("add", "/metadata/labels", {keys.MANAGED_LABEL: MANAGED})
    elif labels.get(keys.MANAGED_LABEL) != MANAGED:
        yield Change("add", _within("/metadata/labels", keys.MANAGED_LABEL), MANAGED)
    if _says(pod.metadata.annotations, keys.DECISION_ANNOTATION):
        # Nothing reads it, but people believe it: it comes with the Binding, and from nobody else.
        yield Change("remove", _within("/metadata/annotations", keys.DECISION_ANNOTATION))
    if not schedulers.ask_us(scheduler):
        yield Change("add", "/spec/schedulerName", schedulers.first)


def _says(annotations: Mapping[str, Any] | None, name: str) -> bool:
    return annotations is not None and name in annotations


def _within(path: str, key: str) -> str:
    """Return the JSON pointer (RFC 6901) to *key* in the object at *path*."""
    return f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
