"""Extenders brought into a situation, and scraped every minute of a clock that the script moves."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from extender.cluster import KubernetesCluster
from extender.metrics import exposition
from extender.policy import PolicyName
from extender.policy.file import parsed
from extender.service import Service
from extender.service.ports import Feed
from extender.service.reading import reading
from extender.settings import Settings
from nodeagent.api.gpunode import Assignment, GpuNode, Realized
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import gpu_node, raw_pod
from tests.fakes.world import filter_args

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
NODES = ("node-1", "node-2")

Sample = tuple[str, tuple[tuple[str, str], ...]]
"""A series: its name, and its labels in order."""


class Stage:
    """Replicas, the first of which most scripts are about; two nodes with two H100s each.

    ``agents`` are the nodes whose agents renew their Leases every minute.
    """

    def __init__(self, policy: str = "") -> None:
        self.now = 1_000.0
        self.step = 0.0
        """By how much time goes on whenever somebody asks for it."""
        self.agents = set(NODES)
        self.begun = 0
        self.replicas: list[Service] = []
        self._minutes: list[dict[Sample, float]] = []
        self._versions = itertools.count(2)
        self.add_replica(policy, leads=True)

    @property
    def service(self) -> Service:
        """The first replica."""
        return self.replicas[0]

    def add_replica(self, policy: str = "", *, leads: bool = False, synced: bool = True) -> Service:
        """Start another extender; *synced*: it has all that the API server has."""
        by = parsed((HEAD + policy).encode(), "test").in_force if policy else PolicyName.DEFAULT
        made = Service(KubernetesCluster(InMemoryApi()), Settings(), by, clock=self._clock)
        for feed in Feed if synced else ():
            made.knowledge.feed_synced(feed)
        made.knowledge.namespace("default", {"team": "red"})
        for name in NODES:
            made.knowledge.node(name, cordoned=False)
            made.knowledge.gpu_node(gpu_node(name, gpus=2, uid=f"uid-{name}"))
            made.knowledge.lease(name, "1")
        if not leads:
            made.knowledge.tenure.end()
        self.replicas.append(made)
        return made

    def _clock(self) -> float:
        self.now += self.step
        return self.now

    def node(self, name: str = "node-1", **fields: Any) -> GpuNode:
        """Let all replicas hear that a node is another: its plan, its report."""
        version = next(self._versions)
        fields = {"gpus": 2, "generation": version, **fields}
        heard = gpu_node(name, uid=f"uid-{name}", version=version, **fields)
        for each in self.replicas:
            each.knowledge.gpu_node(heard)
        return heard

    def realized(self, plan: Sequence[Assignment], *nodes: str) -> None:
        """Give nodes a plan, which their agents have carried out."""
        for name in nodes:
            self.node(name, plan=plan, realized=[Realized(each.id) for each in plan])

    def ask(self, *wanted: str, pod: str = "vm", nodes: Iterable[str] = NODES) -> None:
        """Have a pod filtered."""
        self.service.hooks.filter(filter_args(raw_pod(*wanted, name=pod, uid=pod), *nodes))

    def begin(self) -> None:
        """Note that the situation begins with the next minute."""
        self.begun = len(self._minutes)

    def minutes(self, times: int = 1) -> Iterator[int]:
        """Let time go by: yield in each minute, and scrape at its end."""
        for at in range(times):
            yield at
            self.scrape()

    def scrape(self) -> None:
        """End a minute, in which the agents' Leases were renewed, and scrape everybody."""
        self.now += 60.0
        for service in self.replicas:
            for name in self.agents:
                service.knowledge.lease(name, str(next(self._versions)))
            service.knowledge.tick()
        self._minutes.append(
            {
                sample: value
                for number, service in enumerate(self.replicas)
                for sample, value in _scraped(service, f"extender-{number}")
            }
        )

    def gone(self) -> None:
        """End a minute in which nobody could be scraped."""
        self.now += 60.0
        self._minutes.append({})

    @property
    def length(self) -> int:
        """How many minutes have been told."""
        return len(self._minutes)

    def series(self) -> Iterator[tuple[str, str]]:
        """Yield each series with its values, as promtool reads them."""
        values: dict[Sample, list[str]] = defaultdict(lambda: ["_"] * len(self._minutes))
        for at, minute in enumerate(self._minutes):
            for sample, value in minute.items():
                values[sample][at] = _number(value)
        for (name, labels), found in values.items():
            written = ",".join(f'{label}="{value}"' for label, value in labels)
            yield f"{name}{{{written}}}", " ".join(_staled(found))


def _scraped(service: Service, instance: str) -> Iterator[tuple[Sample, float]]:
    work = service.knowledge.work
    work.fleet.look(reading(service.knowledge))
    body, _ = exposition(work.registry, "text/plain")
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = {**sample.labels, "instance": instance}
            yield (sample.name, tuple(sorted(labels.items()))), sample.value


def _number(value: float) -> str:
    return {"inf": "Inf", "-inf": "-Inf"}.get(repr(value), repr(value))


def _staled(values: list[str]) -> Iterator[str]:
    """Yield the values with a mark where a series ends, as Prometheus makes it."""
    for before, value in zip(["_", *values], values, strict=False):
        yield "stale" if value == "_" and before not in ("_", "stale") else value
