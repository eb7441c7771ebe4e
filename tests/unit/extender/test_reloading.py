"""The policy file as it changes: what is adopted, what is refused, and who hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from extender.cli.policies import in_force
from extender.cluster import OwnPod, Replica
from extender.cluster.own_events import OwnPodEvents
from extender.demo import scheduler as demo
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.server import serving
from extender.service import Service
from extender.service.reloading import Reloading
from nodeagent.api import keys
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import EVENTS, PODS
from tests.builders import raw_pod
from tests.fakes.scheduling import Scheduler
from tests.fakes.world import World, filter_args
from tests.waiting import until

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
CAPPED = (
    HEAD + "tenants: [{name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 0}}]"
)
BAD = HEAD + "tenants: 3\npools: 4\n"


class Mount:
    """A policy file whose content the test sets."""

    def __init__(self, text: str) -> None:
        self.text: str | None = text

    def read(self) -> bytes:
        if self.text is None:
            raise FileNotFoundError(2, "No such file or directory")
        return self.text.encode()


@pytest.fixture
def mount() -> Mount:
    return Mount(HEAD)


@pytest.fixture
async def events(api: InMemoryApi) -> OwnPodEvents:
    pod = raw_pod(name="extender-0", namespace=keys.SYSTEM_NAMESPACE)
    del pod["metadata"]["uid"]
    await api.create(PODS, pod, namespace=keys.SYSTEM_NAMESPACE)
    return OwnPodEvents(api, OwnPod(keys.SYSTEM_NAMESPACE, "extender-0"), lambda: datetime.now(UTC))


@pytest.fixture
def reloading(service: Service, mount: Mount, events: OwnPodEvents) -> Reloading:
    return Reloading(
        service.knowledge, mount.read, source="policy.yaml", seen=mount.read(), events=events
    )


async def told(api: InMemoryApi) -> list[dict[str, object]]:
    page = await api.list(EVENTS, namespace=keys.SYSTEM_NAMESPACE)
    return [msgspec.json.decode(each) for each in page.items]


async def test_a_change_is_adopted_at_the_next_look(
    service: Service, mount: Mount, reloading: Reloading
) -> None:
    mount.text = HEAD + "value: mfi\ntimes: {reservationSeconds: 7}\ndeadlines: {planSeconds: 2}\n"

    await reloading.look()
    await reloading.look()

    knowledge = service.knowledge
    assert (reloading.adopted, reloading.refused) == (1, 0)
    assert knowledge.in_force == parsed(mount.read(), "").in_force
    assert {view.policy for view in knowledge.views.values()} == {knowledge.in_force.policy}
    assert knowledge.settings.reservation_seconds == 7
    assert knowledge.settings.plan_solve_seconds == 2


async def test_what_a_policy_no_longer_says_is_as_the_command_line_has_it(
    service: Service, mount: Mount, reloading: Reloading
) -> None:
    given = service.settings.restart_hold_seconds
    for seconds, text in ((1.0, HEAD + "times: {restartHoldSeconds: 1}"), (given, HEAD)):
        mount.text = text
        await reloading.look()

        assert service.knowledge.settings.restart_hold_seconds == seconds
        assert service.knowledge.holds.lasts == seconds


async def test_a_bad_policy_is_refused_once_and_the_old_one_stays(
    api: InMemoryApi, service: Service, mount: Mount, reloading: Reloading
) -> None:
    mount.text = CAPPED
    await reloading.look()
    before = service.knowledge.in_force
    mount.text = BAD

    with capture_logs() as logs:
        await reloading.look()
        await reloading.look()

    assert service.knowledge.in_force is before
    assert (reloading.adopted, reloading.refused) == (1, 1)
    (line,) = [each for each in logs if each["event"] == "policy_refused"]
    assert [text.split(": ")[1] for text in line["errors"]] == ["$.pools", "$.tenants"]
    assert line["policy_version"] == before.version
    (event,) = await told(api)
    assert event["reason"] == "PolicyRefused"
    assert f"{before.version} stays in force" in str(event["message"])
    assert "$.tenants" in str(event["message"])


async def test_a_file_that_is_gone_for_a_moment_is_no_fault(
    api: InMemoryApi, service: Service, mount: Mount, reloading: Reloading
) -> None:
    mount.text = None
    await reloading.look()
    assert reloading.refused == 0

    await reloading.look()
    await reloading.look()
    assert reloading.refused == 1, "but one that stays away is, once"
    assert len(await told(api)) == 1

    mount.text = CAPPED
    await reloading.look()
    assert service.knowledge.in_force.rules.tenants[0].name == "red"


async def test_the_same_policy_laid_out_otherwise_changes_nothing(
    service: Service, mount: Mount, reloading: Reloading
) -> None:
    mount.text = CAPPED
    await reloading.look()
    before = service.knowledge.in_force
    mount.text = "# more of the same\n" + CAPPED

    await reloading.look()

    assert service.knowledge.in_force is before
    assert reloading.adopted == 1


async def test_a_policy_takes_effect_in_the_very_next_filter(
    service: Service, mount: Mount, reloading: Reloading
) -> None:
    service.knowledge.namespace("default", {"team": "red"})
    args = filter_args(raw_pod("1-10C"), "node-1")
    assert service.hooks.filter(args).node_names == ("node-1",)

    mount.text = CAPPED
    await reloading.look()
    refused = service.hooks.filter(args)
    mount.text = HEAD
    await reloading.look()

    assert refused.failed_and_unresolvable_nodes == {
        "node-1": "vGPU: tenant red is at its cap of memory slices"
    }
    assert service.hooks.filter(args).node_names == ("node-1",)


async def test_reloading_under_load_loses_no_request() -> None:
    world, names = World(), ("node-1", "node-2")
    for name in names:
        await world.add_node(name, gpus=4, pool="big")
    await world.add_namespace("default", team="green")
    texts = (
        HEAD,
        HEAD + "value: best-fit\npools: [{name: big, nodes: {matchLabels: {pool: big}}}]",
        BAD,
        HEAD + "tenants: [{name: green, namespaces: {matchLabels: {team: green}}, dedicated: gpu}]",
        HEAD + "headroom: [{profile: 7g.80gb, keep: 1}]",
    )
    mount = Mount(HEAD)
    async with world.extender() as extender, world.obedient(*names):
        reloading = Reloading(extender.knowledge, mount.read, source="p", seen=mount.read())
        pods = [await world.add_pod(f"vm-{at}", "1-10C") for at in range(24)]

        everybody_bound = asyncio.Event()

        async def change() -> None:
            looks = 0
            while not everybody_bound.is_set() or reloading.adopted <= len(texts):
                mount.text = texts[looks % len(texts)]
                looks += 1
                await reloading.look()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(change())
            scheduler = Scheduler(extender, names)
            await scheduler.until_bound(world, pods)
            everybody_bound.set()

    # On a busy machine an agent may take longer than a bind waits; nothing else may go wrong.
    said = {error for errors in scheduler.errors.values() for error in errors}
    assert all("place stays reserved" in error for error in said), said
    places = set()
    for name in (f"vm-{at}" for at in range(24)):
        (each,) = await world.decision(name)
        places.add((await world.bound(name), each.gpu, each.start))
    assert len(places) == 24


class Caller(demo.Scheduler):
    """Calls the hooks over HTTP as kube-scheduler does, and counts its calls."""

    calls = 0

    async def _ask(self, verb: str, body: object) -> tuple[Any, float]:
        self.calls += 1
        return await super()._ask(verb, body)

    async def until_bound(self, pod: Mapping[str, Any], nodes: Sequence[str]) -> None:
        """Try again and again until a pod is bound."""

        async def bound() -> bool:
            return bool((await self.schedule(pod, nodes)).node)

        await until(bound, within=60.0, every=0.01)


async def test_reloading_loses_no_call_of_many_that_come_at_once_over_http() -> None:
    world, names = World(), ("node-1", "node-2")
    for name in names:
        await world.add_node(name, gpus=4, pool="big")
    await world.add_namespace("default", team="green")
    texts = (
        HEAD + "value: best-fit\npools: [{name: big, nodes: {matchLabels: {pool: big}}}]",
        BAD,
        HEAD + "tenants: [{name: green, namespaces: {matchLabels: {team: green}}, dedicated: gpu}]",
        HEAD + "headroom: [{profile: 7g.80gb, keep: 1}]",
        HEAD,
    )
    mount, bound = Mount(HEAD), asyncio.Event()
    async with (
        world.extender() as extender,
        world.obedient(*names),
        serving(extender) as url,
        Caller.of(url) as caller,
        asyncio.timeout(60),
    ):
        assert isinstance(caller, Caller)
        reloading = Reloading(extender.knowledge, mount.read, source="p", seen=mount.read())
        pods = [await world.add_pod(f"vm-{at}", "1-10C") for at in range(32)]

        async def change() -> None:
            while not bound.is_set() or reloading.refused < 3:
                for text in texts:
                    mount.text = text
                    await reloading.look()

        with capture_logs() as logs:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(change())
                async with asyncio.TaskGroup() as calls:
                    for pod in pods:
                        calls.create_task(caller.until_bound(pod, names))
                bound.set()

        sample = extender.knowledge.work.registry.get_sample_value
        answered = sum(
            sample("tangram_hook_duration_seconds_count", {"verb": verb, "outcome": outcome}) or 0
            for verb in ("filter", "prioritize")
            for outcome in ("answered", "refused", "error")
        ) + sum(
            sample("tangram_bind_duration_seconds_count", {"outcome": outcome}) or 0
            for outcome in ("answered", "error")
        )
    assert answered == caller.calls, "each was answered, and none with a failure"
    places = set()
    for pod in pods:
        (each,) = await world.decision(pod["metadata"]["name"])
        places.add((await world.bound(pod["metadata"]["name"]), each.gpu, each.start))
    assert len(places) == len(pods)
    adopted = {each["policy_version"] for each in logs if each["event"] == "policy_adopted"}
    chosen = {each["policy_version"] for each in logs if each["event"] == "place_chosen"}
    assert chosen <= adopted | {InForce.of(PolicyName.DEFAULT).version}


async def test_serve_watches_the_file_it_was_given(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(HEAD + "value: mfi\n")
    found, source = in_force(str(path))

    replica = Replica(InMemoryApi(), policy=found, policy_file=source)
    assert replica.reloading is not None
    await replica.reloading.look()
    assert replica.reloading.adopted == 0
    path.write_text(CAPPED)
    await replica.reloading.look()

    assert replica.service.knowledge.in_force.policy.name is PolicyName.DEFAULT
    assert replica.service.knowledge.in_force.rules.tenants[0].name == "red"
