"""Whatever is on a node and in its plan: nothing becomes ours that a pod of the plan has not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.adoption import adoptions
from nodeagent.api.gpunode import Assignment, Gpu, Instance, Inventory, PodRef
from nodeagent.driver import Host
from nodeagent.journal import Made
from nodeagent.kubelet import Holder
from tests.unit.nodeagent.builders import BY_PROFILE, H100, ONE, SMALL, THREE, hardware

Situation = tuple[list[Assignment], Host, list[Made], list[Holder], Inventory, dict[str, str]]

PODS = [PodRef("default", name, f"uid-{name}") for name in "pq"]
PLACES = [(p.id, at) for p in H100.geometry.profiles if p.id in (ONE, THREE) for at in p.placements]


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Draw a GPU of which each GPU instance may, and mostly does, fit one part of the story."""

    def mostly() -> bool:
        return draw(st.integers(0, 5)) < 5

    (gpu,) = (machine := hardware(1)).gpus
    taken = 0
    for profile_id, place in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=4)):
        if not place.mask & taken:
            taken |= place.mask
            gpu.create(profile_id, place, bare=not mostly())
    host = machine.host()
    plan, made, holders, instances, claimed = [], [], [], [], {}
    for id, it in zip("abcd", host.gpus[0].instances, strict=False):
        pod, other = draw(st.permutations(PODS))
        place = it.placement if mostly() else draw(st.sampled_from(PLACES))[1]
        owner = draw(st.sampled_from([pod, pod, pod, other, None]))
        resource = BY_PROFILE[it.profile_id]
        if mostly():
            plan.append(
                Assignment(
                    id, gpu.uuid, it.profile_id, place.start, place.size, resource, "", owner
                )
            )
        if not mostly():
            made.append(Made(id, gpu.uuid, it.profile_id, it.placement, host.boot_id))
        if it.device and draw(st.booleans()):
            holders.append(Holder(resource if mostly() else SMALL, it.device.id, pod))
            if not mostly():
                holders.append(Holder(resource, it.device.id, other))
        if mostly():
            claimed[id] = pod.uid
        gi_id = it.gi_id if mostly() else 9
        told_as = id if mostly() else ""
        instances.append(
            Instance(gi_id, it.profile_id, it.placement.start, it.placement.size, told_as)
        )
    boot = host.boot_id if mostly() else "an earlier boot"
    told = Inventory(boot, gpus=(Gpu(gpu.uuid, "p", "m", "g", instances=tuple(instances)),))
    return plan, host, made, holders, told, claimed


@given(situations())
def test_only_what_the_plan_gives_to_the_pod_that_has_it_is_adopted(
    situation: tuple[list[Assignment], Host, list[Made], list[Holder], Inventory, dict[str, str]],
) -> None:
    plan, host, made, holders, told, claimed = situation
    planned = {each.id: each for each in plan}
    live = {it.placement: it for it in host.gpus[0].instances}

    for each in adoptions(plan, host, made, holders, told=told, claimed=claimed):
        entry, instance = planned[each.assignment], live[each.placement]
        assert entry.pod is not None
        assert (each.profile_id, each.placement) == (instance.profile_id, entry.placement)
        assert each.boot_id == host.boot_id
        assert each.assignment not in {it.assignment for it in made}
        assert each.placement not in {it.placement for it in made}
        if each.adopted:
            assert instance.device is not None
            has_it = {it.pod.uid for it in holders if it.device == instance.device.id}
            assert has_it == {entry.pod.uid}
        else:
            assert claimed[each.assignment] == entry.pod.uid
            assert told.boot_id == host.boot_id


@given(situations())
def test_adopting_twice_is_adopting_once(
    situation: tuple[list[Assignment], Host, list[Made], list[Holder], Inventory, dict[str, str]],
) -> None:
    plan, host, made, holders, told, claimed = situation
    first = adoptions(plan, host, made, holders, told=told, claimed=claimed)

    assert adoptions(plan, host, [*made, *first], holders, told=told, claimed=claimed) == ()
