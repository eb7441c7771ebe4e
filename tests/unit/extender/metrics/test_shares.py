"""The fleet's gauges by pool, by tenant and by headroom; and names that nobody expected."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from extender.metrics import FleetState
from extender.metrics.fleet import Fleet
from extender.metrics.pools import MOST_MODELS, MOST_PROFILES, NO_POOL
from extender.metrics.series import OTHERS
from extender.metrics.tenants import ALL_NODES, NO_TENANT
from extender.packing.choose import Choice
from extender.request import Request
from extender.service.reading import reading
from extender.verbs.bind import place
from nodeagent.api.gpunode import Condition, GpuNode
from tests.builders import H100, gpu, gpu_node, view
from tests.tenancy import Cluster, asks, rules

RULES = """
pools:
- {name: big, nodes: {matchLabels: {pool: big}}}
tenants:
- name: red
  namespaces: {matchLabels: {team: red}}
  caps: {memorySlices: 12, profiles: {3g.40gb: 2, 7g.80gb: 1}}
- {name: blue, namespaces: {matchLabels: {team: blue}}}
headroom:
- {pool: big, profile: 7g.80gb, keep: 2}
- {profile: 3g.40gb, keep: 1}
"""
MODEL = "H100-80GB"

Series = Mapping[tuple[str, ...], float]


def told(state: FleetState) -> Mapping[str, Series]:
    """Every gauge by name: its values by the values of its labels, sorted by the labels' names."""
    fleet = Fleet()
    fleet.look(state)
    registry = CollectorRegistry()
    registry.register(fleet)
    return {
        family.name: {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for sample in family.samples
        }
        for family in registry.collect()
    }


def put(cluster: Cluster, asked: Request, node: str) -> None:
    """Give a pod the place that bind would choose on a node."""
    knowledge = cluster.knowledge
    choice = place(knowledge.views[node], knowledge.ledger, knowledge.bounded(asked))
    assert isinstance(choice, Choice)
    cluster.give(asked, node, choice)


def used() -> Cluster:
    """Two nodes in the pool and one beside it, each with two GPUs; red and free have something."""
    cluster = Cluster(rules(RULES))
    for pod, namespace, node in (("p1", "r1", "a"), ("p2", "r2", "c"), ("p3", "free", "c")):
        put(cluster, asks("3-40C", namespace=namespace, pod=pod), node)
    return cluster


def test_capacity_is_told_by_pool() -> None:
    found = told(reading(used().knowledge))

    assert found["tangram_gpus"] == {(MODEL, "big", "usable"): 4, (MODEL, NO_POOL, "usable"): 2}
    slices = found["tangram_memory_slices"]
    assert slices[MODEL, "big", "used"] == 4
    assert slices[MODEL, NO_POOL, "used"] == 8
    left = found["tangram_placements_left"]
    assert left[MODEL, "big", "7g.80gb"] == 3
    assert left[MODEL, NO_POOL, "7g.80gb"] == 1


def test_the_largest_that_would_fit_is_told_and_is_nothing_where_all_is_full() -> None:
    cluster = Cluster(rules(RULES.split("headroom")[0]), gpus=1)
    for pod, kind, node in (("p1", "3-40C", "a"), ("p2", "3-40C", "b"), ("p3", "7-80C", "c")):
        put(cluster, asks(kind, pod=pod), node)

    found = told(reading(cluster.knowledge))["tangram_largest_placeable_memory_slices"]

    assert found == {(MODEL, "big"): 4, (MODEL, NO_POOL): 0}


def test_what_tenants_have_is_told_beside_their_caps() -> None:
    found = told(reading(used().knowledge))

    assert found["tangram_tenant_memory_slices"] == {("red",): 8, ("blue",): 0, (NO_TENANT,): 4}
    assert found["tangram_tenant_memory_slices_cap"] == {("red",): 12}
    assert found["tangram_tenant_instances"] == {
        ("3g.40gb", "red"): 2,
        ("7g.80gb", "red"): 0,
        ("3g.40gb", NO_TENANT): 1,
    }
    assert found["tangram_tenant_instances_cap"] == {("3g.40gb", "red"): 2, ("7g.80gb", "red"): 1}
    assert found["tangram_namespace_memory_slices"] == {("r1",): 4, ("r2",): 4, ("free",): 4}


def test_headroom_is_told_beside_what_is_to_be_kept() -> None:
    found = told(reading(used().knowledge))

    assert found["tangram_headroom_placements"] == {
        ("big", "7g.80gb"): 3,
        (ALL_NODES, "3g.40gb"): 9,
    }
    assert found["tangram_headroom_placements_kept"] == {
        ("big", "7g.80gb"): 2,
        (ALL_NODES, "3g.40gb"): 1,
    }


def test_a_pool_that_gets_another_name_is_told_by_it() -> None:
    cluster = used()
    fleet = Fleet()
    registry = CollectorRegistry()
    registry.register(fleet)
    for name in ("big", "huge"):
        cluster.knowledge.tenancy.adopt(
            rules(RULES.replace("big,", f"{name},", 1).split("head")[0])
        )
        fleet.look(reading(cluster.knowledge))

        labels = {"pool": name, "model": MODEL, "state": "usable"}
        assert registry.get_sample_value("tangram_gpus", labels) == 4


def _state(*nodes: GpuNode) -> FleetState:
    return FleetState(
        views={each.name: view(each) for each in nodes},
        leads=True,
        ready=True,
        version="1",
        policy="default",
        policy_version="v",
        rules=rules("value: default"),
        tenants={},
        headroom=(),
        pending=0,
        refused=0,
        presumed=0,
        avoided=0,
        unrealized=0,
        oldest_unrealized=0.0,
        plan_age=None,
        silences={},
        oldest_renewal=None,
    )


def strange(at: int) -> GpuNode:
    """A node whose agent makes up models and profiles."""
    geometry = H100.geometry
    renamed = tuple(replace(each, name=f"{at}g.{n}gb") for n, each in enumerate(geometry.profiles))
    gpus = tuple(gpu(n, geometry="mad") for n in range(2))
    node = gpu_node(f"mad-{at}", gpus=[replace(g, model=f"Model {at}/{g.uuid}") for g in gpus])
    geometries = {"mad": replace(geometry, profiles=renamed)}
    return replace(node, status=replace(node.status, geometries=geometries))


def test_an_agent_gone_mad_makes_no_more_series_than_there_may_be() -> None:
    sane = [gpu_node(f"sane-{at}", gpus=8, uid=f"u{at}") for at in range(3)]

    found = told(_state(*sane, *(strange(at) for at in range(60))))

    models = {model for model, _, _ in found["tangram_gpus"]}
    assert len(models) == MOST_MODELS + 1
    assert {MODEL, OTHERS} <= models
    profiles = {profile for _, _, profile in found["tangram_placements_left"]}
    assert len(profiles) == MOST_PROFILES + 1
    assert {profile.name for profile in H100.geometry.profiles} <= profiles
    assert sum(found["tangram_gpus"].values()) == 3 * 8 + 60 * 2, "none is lost from the sums"
    most = (MOST_MODELS + 1) * (MOST_PROFILES + 1)
    assert len(found["tangram_unusable_memory_slices"]) <= most


def test_conditions_are_counted_and_only_those_we_know() -> None:
    node = gpu_node()
    conditions = (
        Condition("Ready", "False", "NoGpus"),
        Condition("Drift", "True", "NotByTangram"),
        Condition("Mood", "True", "Bad"),
        Condition("RivalPlugins", "Perhaps", "Odd"),
    )

    found = told(_state(replace(node, status=replace(node.status, conditions=conditions))))

    told_of = {key: value for key, value in found["tangram_node_conditions"].items() if value}
    assert told_of == {("Ready", "False"): 1, ("Drift", "True"): 1}
    assert ("Ready", "True") in found["tangram_node_conditions"], "0, not absent"


def test_quarantined_gpus_are_told_by_the_kind_of_trouble() -> None:
    gpus = [gpu(0, unhealthy="the driver reported XID 79: the GPU needs a reset"), gpu(1)]

    found = told(_state(gpu_node(gpus=gpus)))

    assert found["tangram_gpus_quarantined"] == {("xid", MODEL, NO_POOL): 1}
