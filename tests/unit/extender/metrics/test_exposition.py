"""What Prometheus reads of a process that works: parsed by Prometheus' own Python parser."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from extender.metrics import Cause, exposition
from extender.metrics.pools import NO_POOL
from extender.metrics.series import OTHERS
from extender.metrics.tenants import MOST_NAMESPACES
from extender.service import Service
from extender.service.causes import MOST_REMEMBERED, MOST_SHAPES
from extender.service.ports import Feed
from extender.service.reading import reading
from extender.service.reloading import Reloading
from extender.verbs.verdicts import Code
from nodeagent.api.gpunode import PodRef
from tests.builders import assignment, gpu_node, raw_pod
from tests.fakes.world import World, bind_args, filter_args

pytestmark = pytest.mark.virtual_time

HEAD = b"apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"


def scraped(service: Service) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample, by its name and its labels in order."""
    knowledge = service.knowledge
    knowledge.work.fleet.look(reading(knowledge))
    body, media_type = exposition(knowledge.work.registry, "text/plain")
    assert media_type.startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(service: Service, name: str, **labels: str) -> float:
    return scraped(service)[name, tuple(sorted(labels.items()))]


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def test_a_vm_moves_slices_from_free_to_used_and_times_each_phase_of_its_bind(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "3-40C")
    async with world.extender() as extender, world.obedient("node-1"):
        free = value(
            extender, "tangram_memory_slices", pool=NO_POOL, model="H100-80GB", state="free"
        )
        extender.hooks.filter(filter_args(pod, "node-1"))
        assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""

        after = value(
            extender, "tangram_memory_slices", pool=NO_POOL, model="H100-80GB", state="free"
        )
        assert after == free - 4
        assert value(extender, "tangram_namespace_memory_slices", namespace="default") == 4
        for phase in ("plan", "realize", "post"):
            assert value(extender, "tangram_bind_phase_duration_seconds_count", phase=phase) == 1


async def test_a_refused_pod_counts_under_each_reason_and_all_reasons_are_there_from_the_start(
    world: World,
) -> None:
    pod = await world.add_pod("vm", "3-40C")
    async with world.extender() as extender:
        for code in Code:
            assert value(extender, "tangram_refusals_total", code=code.value) == 0
        extender.hooks.filter(filter_args(pod, "nobody"))

        assert value(extender, "tangram_refusals_total", code="no-inventory") == 1
        assert value(extender, "tangram_pods_refused") == 1


async def test_only_the_leader_tells_of_the_fleet(service: Service) -> None:
    assert value(service, "tangram_leader") == 1
    assert value(service, "tangram_nodes", state="ready") == 1

    service.knowledge.tenure.end()

    found = scraped(service)
    assert found["tangram_leader", ()] == 0
    assert found["tangram_ready", ()] == 1
    assert not any(name in ("tangram_nodes", "tangram_memory_slices") for name, _ in found)


async def test_a_node_that_goes_is_no_longer_counted(service: Service) -> None:
    service.knowledge.gpu_node(gpu_node("node-2", gpus=8, uid="uid-2"))
    assert value(service, "tangram_gpus", pool=NO_POOL, model="H100-80GB", state="usable") == 10

    service.knowledge.gpu_node_gone("node-2", "uid-2")

    assert value(service, "tangram_gpus", pool=NO_POOL, model="H100-80GB", state="usable") == 2


async def test_series_do_not_grow_with_the_number_of_tenants(service: Service) -> None:
    many = MOST_NAMESPACES + 7
    for index in range(many):
        entry = assignment("a", 19, 0, pod=f"p{index}")
        theirs = replace(entry, pod=PodRef(f"tenant-{index}", "vm", f"p{index}"))
        node = gpu_node(f"n{index}", plan=[theirs], uid=f"u{index}")
        service.knowledge.gpu_node(node)

    found = {
        dict(labels)["namespace"]: slices
        for (name, labels), slices in scraped(service).items()
        if name == "tangram_namespace_memory_slices"
    }

    assert len(found) == MOST_NAMESPACES + 1
    assert found[OTHERS] == 7
    assert sum(found.values()) == many


async def test_the_policy_that_decides_is_told(service: Service) -> None:
    ((_, labels),) = (key for key in scraped(service) if key[0] == "tangram_build_info")
    assert dict(labels)["policy"] == "default"


async def test_why_there_was_no_room_is_told_at_the_next_look(service: Service) -> None:
    badly = [assignment("a", 19, 0), assignment("b", 19, 4)]  # each in the way of a half
    service.knowledge.gpu_node(gpu_node("node-1", plan=badly, version=2, generation=2))
    for wanted in ("4-40C", "7-80C"):
        pod = raw_pod(wanted, name=wanted.lower(), uid=wanted)
        service.hooks.filter(filter_args(pod, "node-1"))
        service.hooks.filter(filter_args(pod, "node-1"))

    await service.knowledge.causes.look(service.knowledge.views)

    for cause, times in (("fragmentation", 2), ("capacity", 2), ("unknown", 0)):
        assert value(service, "tangram_refusals_no_room_total", cause=cause) == times
    await service.knowledge.causes.look(service.knowledge.views)
    assert value(service, "tangram_refusals_no_room_total", cause="capacity") == 2, "counted once"


async def test_whatever_tenants_ask_for_little_is_looked_at_and_all_is_counted(
    service: Service,
) -> None:
    causes, full = service.knowledge.causes, {Code.NO_ROOM}
    for index in range(MOST_REMEMBERED + 5):
        causes.refused(((f"nvidia.com/mig-{index}",), None), full)
    for _ in range(3):
        causes.refused((("nvidia.com/mig-0",), None), full)

    await causes.look(service.knowledge.views)

    told = {
        cause.value: value(service, "tangram_refusals_no_room_total", cause=cause.value)
        for cause in Cause
    }
    assert told == {
        "capacity": MOST_SHAPES + 3,
        "fragmentation": 0,
        "unknown": MOST_REMEMBERED + 5 - MOST_SHAPES,
    }


async def test_a_fault_in_working_a_cause_out_costs_no_more_than_its_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Cause:
        raise ValueError("no such profile")

    monkeypatch.setattr("extender.service.causes.cause", broken)
    service.knowledge.causes.refused((("nvidia.com/mig-1g.10gb",), None), {Code.NO_ROOM})

    with capture_logs() as logs:
        await service.knowledge.causes.look(service.knowledge.views)

    assert value(service, "tangram_refusals_no_room_total", cause="unknown") == 1
    assert [line["event"] for line in logs] == ["cause_not_found"]


async def test_the_policy_file_is_told_to_be_bad_until_it_is_good_again(service: Service) -> None:
    text = [HEAD]
    reloading = Reloading(service.knowledge, lambda: text[0], source="p", seen=HEAD)
    for then, outcome, refused in (
        (HEAD + b"tenants: 3", "refused", 1),
        (HEAD + b"value: mfi", "adopted", 0),
        (HEAD + b"tenants: 4", "refused", 1),
        (HEAD + b"value: mfi # again", "same", 0),
    ):
        before = value(service, "tangram_policy_reloads_total", outcome=outcome)
        text[0] = then
        await reloading.look()

        assert value(service, "tangram_policy_refused") == refused
        assert value(service, "tangram_policy_reloads_total", outcome=outcome) == before + 1
    version = service.knowledge.in_force.version
    assert value(service, "tangram_policy_info", policy_version=version) == 1


async def test_a_joint_plan_tells_how_far_it_may_be_from_the_best(service: Service) -> None:
    assert ("tangram_joint_plan_age_seconds", ()) not in scraped(service)
    for index in range(2):
        pod = raw_pod("1-10C", name=f"vm-{index}", uid=f"pod-{index}")
        service.hooks.filter(filter_args(pod, "node-1"))
    service.knowledge.ledger = service.knowledge.ledger.release("pod-0").release("pod-1")

    await service.planner.plan()

    for level in ("admitted", "value", "gpus"):
        assert value(service, "tangram_joint_plan_gap", level=level) == 0
    assert value(service, "tangram_joint_plan_age_seconds") >= 0


async def test_the_silence_of_feeds_and_agents_is_told(service: Service) -> None:
    now = 1000.0
    service.knowledge.clock = lambda: now
    service.knowledge.lease("node-1", "2")
    service.knowledge.freshness.interrupted(Feed.PODS)
    now += 7.0

    assert value(service, "tangram_feed_silence_seconds", feed=Feed.PODS.value) == 7
    assert value(service, "tangram_feed_silence_seconds", feed=Feed.LEASES.value) == 0
    assert value(service, "tangram_oldest_agent_renewal_seconds") == 7
