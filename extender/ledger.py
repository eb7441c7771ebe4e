"""Promises the plan does not hold yet.

The plan in the API server is the book; the ledger is its margin, lost with the process and rebuilt
from nothing. A pod's promise moves through::

    presume ──▶ assume ──▶ confirm          the plan holds it now
       │           └─────▶ forget           the plan refused it
       └──▶ expire                          bind never came

A *planned* place is what the joint plan of the pending queue gives a pod (``planning``): others
avoid it as they avoid a presumption, and it ends with the pod's assumption, or after seconds. A
*presumption* is prioritize's winner waiting for its bind: others avoid its slices while they have
another choice. An *assumption* is a bind writing the plan: nobody else may have those slices.
A GPU that has just failed is *avoided* as a whole, as what is presumed for somebody else is. What
was *lost* with a plan is its pod's, as if assumed, until it is written again, or nobody's any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TypeVar

import msgspec
from msgspec.structs import replace
from propcache.api import cached_property

from extender.packing.choose import Placed
from extender.snapshot import Taken


class Promise(msgspec.Struct, frozen=True):
    """The slices one pod is promised on one node; ``namespace`` is the pod's, "" for nobody."""

    node: str
    taken: tuple[Taken, ...]
    namespace: str = ""


class Presumption(msgspec.Struct, frozen=True):
    """A promise for a moment; ``until`` is on the caller's monotonic clock."""

    promise: Promise
    until: float


class Planned(msgspec.Struct, frozen=True, dict=True):
    """Where the joint plan puts a pod; ``until`` is on the caller's monotonic clock."""

    node: str
    placed: tuple[Placed, ...]
    until: float
    namespace: str = ""

    @cached_property
    def promise(self) -> Promise:
        """The slices it is about."""
        return promise(self.node, self.placed, self.namespace)


class Ledger(msgspec.Struct, frozen=True, dict=True):
    """All promises, by the UID of the pod; what is ``avoided``, by that of the GPU.

    What is ``lost``, by the node, with each pod's UID: one may have lost something on several.
    """

    assumed: Mapping[str, Promise] = {}
    presumed: Mapping[str, Presumption] = {}
    planned: Mapping[str, Planned] = {}
    avoided: Mapping[str, Presumption] = {}
    lost: Mapping[str, tuple[tuple[str, Promise], ...]] = {}

    def presume(self, pod: str, promise: Promise, *, until: float) -> Ledger:
        """Keep *promise* from others, while they have another choice, until then."""
        presumed = {**self.presumed, pod: Presumption(promise, until)}
        return self._indexed(replace(self, presumed=presumed))

    def plan(self, planned: Mapping[str, Planned]) -> Ledger:
        """Replace the joint plan."""
        return self._indexed(replace(self, planned=planned))

    def assume(self, pod: str, promise: Promise) -> Ledger:
        """Keep *promise* from everybody while it is being written; ends the presumption."""
        cleared = self._cleared(pod)
        return cleared._indexed(replace(cleared, assumed={**self.assumed, pod: promise}))

    def confirm(self, pod: str) -> Ledger:
        """The plan holds the pod's promise now."""
        return self._cleared(pod)

    def forget(self, pod: str) -> Ledger:
        """The pod's promise was not written, or is not wanted any more."""
        return self._cleared(pod)

    def _cleared(self, pod: str) -> Ledger:
        return self._indexed(
            Ledger(
                _without(self.assumed, pod),
                _without(self.presumed, pod),
                _without(self.planned, pod),
                self.avoided,
                self.lost,
            )
        )

    def release(self, pod: str) -> Ledger:
        """End the pod's presumption, if it has one."""
        if pod not in self.presumed:
            return self
        return self._indexed(replace(self, presumed=_without(self.presumed, pod)))

    def avoid(self, gpu: str, whole: Promise, *, until: float) -> Ledger:
        """Keep the *whole* of a GPU from everybody who has another choice, until then."""
        avoided = {**self.avoided, gpu: Presumption(whole, until)}
        return self._indexed(replace(self, avoided=avoided))

    def trust(self, gpus: Iterable[str]) -> Ledger:
        """Avoid these GPUs no longer."""
        trusted = {*gpus} & self.avoided.keys()
        if not trusted:
            return self
        avoided = {gpu: p for gpu, p in self.avoided.items() if gpu not in trusted}
        return self._indexed(replace(self, avoided=avoided))

    def lose(self, node: str, promises: Iterable[tuple[str, Promise]]) -> Ledger:
        """Keep from everybody else what pods had in a plan of a *node* that is gone: just that."""
        there = tuple(promises)
        if self.lost.get(node, ()) == there:
            return self
        others = _without(self.lost, node)
        return self._indexed(replace(self, lost={**others, node: there} if there else others))

    def expire(self, *, now: float) -> Ledger:
        """Drop every presumption and every planned place whose time is up; avoid no longer."""
        presumed = {pod: p for pod, p in self.presumed.items() if p.until > now}
        planned = {pod: p for pod, p in self.planned.items() if p.until > now}
        avoided = {gpu: p for gpu, p in self.avoided.items() if p.until > now}
        kept = len(presumed) + len(planned) + len(avoided)
        if kept == len(self.presumed) + len(self.planned) + len(self.avoided):
            return self
        return self._indexed(Ledger(self.assumed, presumed, planned, avoided, self.lost))

    def _indexed(self, now: Ledger) -> Ledger:
        """Let *now* have the indexes of what it has in common with this one.

        While 400 binds wait, each filter would read all of them anew for what was presumed since.
        """
        same = {"_certain_by_node": now.assumed is self.assumed and now.lost is self.lost}
        same["_presumed_by_node"] = (
            now.presumed is self.presumed
            and now.planned is self.planned
            and now.avoided is self.avoided
        )
        known = self.__dict__
        now.__dict__.update({name: known[name] for name in known if same[name]})
        return now

    @property
    def nodes(self) -> Set[str]:
        """The nodes on which anything is promised."""
        return self._certain_by_node.keys() | self._presumed_by_node.keys()

    @property
    def certain(self) -> Iterator[tuple[str, Promise]]:
        """What pods are certain to get beyond the plans, with their UIDs.

        Of what a pod has lost nothing is, once it is being given a place.
        """
        yield from self.assumed.items()
        for there in self.lost.values():
            yield from (each for each in there if each[0] not in self.assumed)

    def assumed_on(self, node: str, *, besides: str = "") -> tuple[Taken, ...]:
        """Return the slices of a node that pods other than *besides* are certain to get."""
        if node not in self._certain_by_node:  # nearly always: filter asks for every node
            return ()
        return _slices(self._certain_by_node[node], besides)

    def lost_on(self, node: str, *, besides: str = "") -> tuple[Taken, ...]:
        """Return the slices that pods other than *besides* had in a plan of a node that is gone."""
        return _slices(self.lost.get(node, ()), besides)

    def presumed_on(self, node: str, *, besides: str = "") -> tuple[Taken, ...]:
        """Return the slices that pods other than *besides* will probably get, or are avoided."""
        return _slices(self._presumed_by_node.get(node, ()), besides)

    def beside(
        self, node: str, *, besides: str = "", presumed: bool = False
    ) -> frozenset[tuple[str, str]]:
        """Return the GPUs promised to pods other than *besides*, with the pods' namespaces.

        To those certain to get them; with *presumed*, to those who probably will as well.
        """
        found = self._certain_by_node.get(node, ())
        if presumed:
            found += self._presumed_by_node.get(node, ())
        return frozenset(
            (taken.gpu, promise.namespace)
            for pod, promise in found
            if pod != besides and promise.namespace
            for taken in promise.taken
        )

    @cached_property
    def _certain_by_node(self) -> Mapping[str, tuple[tuple[str, Promise], ...]]:
        assumed = _by_node(self.assumed.items())
        if not self.lost:  # nearly always
            return assumed
        return assumed | {node: assumed.get(node, ()) + had for node, had in self.lost.items()}

    @cached_property
    def _presumed_by_node(self) -> Mapping[str, tuple[tuple[str, Promise], ...]]:
        expected = {pod: each.promise for pod, each in self.planned.items()}
        expected |= {pod: each.promise for pod, each in self.presumed.items()}
        expected |= {gpu: each.promise for gpu, each in self.avoided.items()}
        return _by_node(expected.items())


_Entry = TypeVar("_Entry")


def _by_node(
    promises: Iterable[tuple[str, Promise]],
) -> dict[str, tuple[tuple[str, Promise], ...]]:
    found: dict[str, list[tuple[str, Promise]]] = {}
    for pod, promise in promises:
        found.setdefault(promise.node, []).append((pod, promise))
    return {node: tuple(there) for node, there in found.items()}


def _slices(promises: Iterable[tuple[str, Promise]], besides: str) -> tuple[Taken, ...]:
    return tuple(t for pod, promise in promises if pod != besides for t in promise.taken)


def _without(mapping: Mapping[str, _Entry], pod: str) -> Mapping[str, _Entry]:
    if pod not in mapping:
        return mapping
    return {each: entry for each, entry in mapping.items() if each != pod}


def promise(node: str, placed: Iterable[Placed], namespace: str = "") -> Promise:
    """Return the promise of the places chosen on a node to a pod of a *namespace*."""
    taken = tuple(Taken(p.uuid, p.profile_id, p.placement) for p in placed)
    return Promise(node, taken, namespace)
