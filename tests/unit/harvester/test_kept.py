"""Devices that VMs keep while they are off: space to hand out, which nobody may take away."""

from __future__ import annotations

import shutil
from typing import Any

import msgspec
import pytest

from extender.policy import PolicyName
from extender.snapshot import NodeView
from extender.verbs.record import corrections
from nodeagent.api import keys
from nodeagent.api.gpunode import Instance, Inventory, OwnerRef
from nodeagent.apiserver.protocol import Kind, PatchType
from nodeagent.driver import CREATE
from tests.fakes.pcidevices.log import AGENT, REFUSED, traps
from tests.fakes.pcidevices.names import ALLOCATION, VGPUS, VMS, resource_name
from tests.unit.harvester.station import KINDS, SMALL, Station

RESOURCE = resource_name(KINDS[SMALL])


def standing(status: Inventory) -> list[Instance]:
    return [each for gpu in status.gpus for each in gpu.instances if each.standing]


async def record(station: Station) -> None:
    """Have the plan follow what the kubelet gave to whom, as the extender does."""
    node = await station.gpu_node()
    found = corrections(NodeView(node, PolicyName.DEFAULT))
    gone = {each.entry.id for each in found}
    changed = [
        msgspec.structs.replace(each.becomes, id=f"{each.entry.id}+")
        for each in found
        if each.becomes is not None
    ]
    if found:
        await station.plan(*(e for e in node.spec.assignments if e.id not in gone), *changed)


async def may_come(station: Station, uid: str) -> bool:
    """Tell whether a pod may come by what is recorded now."""
    await record(station)
    node = await station.gpu_node()
    told = {each.id for each in node.status.realized}
    return any(e.pod and e.pod.uid == uid and e.id in told for e in node.spec.assignments)


async def run_vm(station: Station, name: str, start: int, id: str, *before: object) -> str:
    pod = await station.vm_of(name)
    await station.plan(*before, station.assignment(id, pod, start))  # type: ignore[arg-type]
    await station.until_told(lambda it: id in {each.id for each in it.realized})
    await station.running(name)
    return pod.uid


async def test_a_stopped_vm_keeps_its_device_and_that_is_told(station: Station) -> None:
    async with station.agent():
        await station.ready()
        await run_vm(station, "vm-1", 3, "a1")
        await station.stop("vm-1")
        await station.plan()

        status = await station.until_told(lambda it: bool(standing(it)))

    (kept,) = standing(status)
    assert (kept.start, kept.resource, kept.assignment) == (3, RESOURCE, "")
    assert kept.keepers == (OwnerRef("VirtualMachineInstance", "default", "vm-1"),)
    assert not status.realized
    assert station.cluster.log.of(REFUSED) == []  # by Harvester, or by the kubelet


async def test_it_is_given_to_its_own_vm_again_and_nothing_new_is_made(station: Station) -> None:
    async with station.agent():
        await station.ready()
        await run_vm(station, "vm-1", 3, "a1")
        await station.stop("vm-1")
        await station.plan()
        await station.until_told(lambda it: bool(standing(it)))
        pod = await station.start("vm-1")
        await station.plan(station.assignment("a2", pod, 3))
        await station.until_realized("a2")
        await station.running("vm-1")

        assert station.places_of(pod.uid) == [(0, 3)]
        assert station.starts() == [3]
        told = await station.until_told(lambda it: not standing(it))
        assert [each.assignment for each in told.gpus[0].instances] == ["a2"]
    assert list(traps(station.cluster.log.entries)) == []


async def test_or_to_another_vm_of_its_type(station: Station) -> None:
    async with station.agent():
        await station.ready()
        await run_vm(station, "vm-1", 3, "a1")
        await station.stop("vm-1")
        await station.plan()
        await station.until_told(lambda it: bool(standing(it)))
        pod = await station.vm_of("vm-2")
        await station.plan(station.assignment("a2", pod, 3))
        await station.until_realized("a2")
        await station.running("vm-2")

        assert station.places_of(pod.uid) == [(0, 3)]
        assert station.starts() == [3]


async def test_it_goes_with_the_last_vm_that_keeps_it(station: Station) -> None:
    async with station.agent():
        await station.ready()
        await run_vm(station, "vm-1", 3, "a1")
        await station.stop("vm-1")
        await station.plan()
        await station.until_told(lambda it: bool(standing(it)))
        await station.remove("vm-1")

        await station.until(lambda: station.starts() == [])
        assert await station.enabled() == []
    assert list(traps(station.cluster.log.entries)) == []


async def test_what_a_lost_journal_had_and_nobody_keeps_is_told_and_goes_with_its_next_vm(
    station: Station,
) -> None:
    async with station.agent():
        await station.ready()
        await run_vm(station, "vm-1", 3, "a1")
        await station.stop("vm-1")
        await station.plan()
        await station.until_told(lambda it: bool(standing(it)))
    shutil.rmtree(station.directory / "agent")
    before = (await station.status()).agent_epoch
    async with station.agent():
        kept = await station.until_told(lambda it: it.agent_epoch != before and bool(standing(it)))
        assert drift(kept) == ""
        await station.remove("vm-1")
        left = await station.until_told(lambda it: bool(drift(it)))
        assert "disable its VGPUDevice" in drift(left)
        assert len(await station.enabled()) == 1

        await run_vm(station, "vm-2", 3, "a2")
        await station.remove("vm-2")
        await station.plan()
        await station.until(lambda: station.starts() == [])
        await station.until_told(lambda it: drift(it) == "")
    assert list(traps(station.cluster.log.entries)) == []


def drift(status: Inventory) -> str:
    return next((each.message for each in status.conditions if each.type == keys.DRIFT), "")


async def test_what_harvester_notes_just_before_it_would_be_disabled_is_kept_from_then_on(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its webhook can tell which was first; the agent hears of it then, and lets it be."""
    agent = station.cluster.client(AGENT)
    patch = agent.patch
    details = ""

    async def note(text: str | None) -> None:
        annotations = {"metadata": {"annotations": {ALLOCATION: text}}}
        merge = PatchType.MERGE
        await station.cluster.api.patch(
            VMS, "vm-1", annotations, patch_type=merge, namespace="default"
        )

    async def patch_later(kind: Kind, name: str, body: Any, **options: Any) -> bytes:
        if kind == VGPUS and body.get("spec") == {"enabled": False}:
            await note(details)
        return await patch(kind, name, body, **options)

    monkeypatch.setattr(agent, "patch", patch_later)
    async with station.agent(api=agent):
        await station.ready()
        await run_vm(station, "vm-1", 3, "a1")
        await station.stop("vm-1")
        details = msgspec.json.encode(await station.allocation("vm-1")).decode()
        await note(None)  # as if it had yet to be noted
        await station.plan()

        (kept,) = standing(await station.until_told(lambda it: bool(standing(it))))
        await station.pass_(10)
        assert kept.start == 3
        (refusal,) = station.cluster.log.of(REFUSED)
        assert (refusal.actor, "in use with VM vm-1" in refusal.detail) == (AGENT, True)

        pod = await station.start("vm-1")
        await station.plan(station.assignment("a2", pod, 3))
        await station.until_realized("a2")
        await station.running("vm-1")
        assert station.places_of(pod.uid) == [(0, 3)]
        assert station.cluster.log.of(REFUSED) == [refusal]


async def test_whom_the_kubelet_gave_which_of_several_is_told(station: Station) -> None:
    async with station.agent():
        await station.ready()
        first = station.assignment("a1", await station.vm_of("vm-1"), 3)
        await station.plan(first)
        await station.until_realized("a1")
        await station.running("vm-1")
        second = station.assignment("a2", await station.vm_of("vm-2"), 5, at=1)
        await station.plan(first, second)
        await station.until_realized("a1", "a2")
        await station.running("vm-2")
        for name in ("vm-1", "vm-2"):
            await station.stop(name)
        await station.plan()
        await station.until_told(lambda it: len(standing(it)) == 2)

        pod = await station.start("vm-1")
        planned = station.assignment("b1", pod, 3)
        await station.plan(planned)
        await station.until_realized("b1")
        await station.running("vm-1")
        ((_, start),) = station.places_of(pod.uid)
        if start != 3:  # the kubelet has taken the other one
            told = await station.until_told(
                lambda it: any(i.holder and i.holder.uid == pod.uid for i in it.gpus[0].instances)
            )
            (held,) = [i for i in told.gpus[0].instances if i.holder]
            assert (held.start, held.resource) == (5, RESOURCE)
            await station.plan(station.assignment("c1", pod, 5))  # as the extender answers
            await station.until_realized("c1")
            # Its own, which no VM's annotation names any more, goes.
            await station.until(lambda: station.starts() == [5])
        else:
            told = await station.until_told(lambda it: len(standing(it)) == 1)
            assert [each.start for each in standing(told)] == [5]
    assert list(traps(station.cluster.log.entries)) == []


async def test_all_that_were_off_come_back_at_once_to_what_they_kept(station: Station) -> None:
    async with station.agent():
        await station.ready()
        plan = []
        for n in range(3):
            pod = await station.vm_of(f"vm-{n}")
            plan.append(station.assignment(f"a{n}", pod, n + 2, at=n))
            await station.plan(*plan)
            await station.until_told(lambda it, n=n: f"a{n}" in {r.id for r in it.realized})  # type: ignore[misc]
            await station.running(f"vm-{n}")
        for n in range(3):
            await station.stop(f"vm-{n}")
        await station.plan()
        await station.until_told(lambda it: len(standing(it)) == 3)

        pods = [await station.start(f"vm-{n}") for n in range(3)]
        plan = [station.assignment(f"b{n}", pod, n + 2, at=n) for n, pod in enumerate(pods)]
        await station.plan(*plan)
        for n, pod in enumerate(pods):
            await station.until(lambda uid=pod.uid: may_come(station, uid))  # type: ignore[misc]
            await station.running(f"vm-{n}")

        given = sorted(start for pod in pods for _, start in station.places_of(pod.uid))
        assert given == [2, 3, 4]  # to whom which, the kubelet decides
        assert station.starts() == [2, 3, 4]
        assert len(station.machine.calls(CREATE)) == 3  # what was left for one was not made anew
    assert list(traps(station.cluster.log.entries)) == []
