"""A node at rest: every planned pod runs, and there is what is planned and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from tests.properties.nodeagent.whole.population import Population
from tests.properties.nodeagent.whole.site import FOREIGN
from tests.properties.nodeagent.whole.vm import OVER, PLANNED


async def settle(population: Population) -> None:
    """Have every planned pod run; then all must be as planned, and as others have made it.

    The extender has heard of every end, and nobody disturbs the node now: so every pod must get its
    turn, and be admitted.
    """
    for name in population.names(OVER):
        await population.withdraw(name)
    await population.site.until_registered()
    while waiting := population.names(PLANNED):
        name = await first_ready(population, waiting)
        refusal = await population.serve(name)
        assert not refusal, f"{name} was refused on a quiet node: {refusal}"
    await population.site.until(lambda: _amiss(population))
    population.check()


async def first_ready(population: Population, waiting: Sequence[str]) -> str:
    """Wait until one of those *waiting* may be bound, and return which."""
    found = ""

    async def missing() -> str:
        nonlocal found
        for name in waiting:
            if await population.ready(name):
                found = name
                return ""
        return f"none of {list(waiting)} is ready"

    await population.site.until(missing)
    return found


async def _amiss(population: Population) -> str:
    """Say what is not as it must be."""
    site, vms = population.site, population.vms.values()
    there = {(*place, profile) for place, (profile, _) in site.instances().items()}
    wanted = {(*place, vm.profile.id) for vm in vms for place in vm.places}
    wanted |= {(*place, FOREIGN.id) for place in population.foreign}
    if there != wanted:
        return f"there are {there}, wanted {wanted}"
    node = await site.gpu_node()
    if node.status.observed_generation < node.metadata.generation:
        return "the newest plan is not told of"
    told = {
        (n, each.start, each.profile_id)
        for n, gpu in enumerate(node.status.gpus)
        for each in gpu.instances
    }
    if told != there:
        return f"the inventory says {told}, there are {there}"
    realized = sorted(each.id for each in node.status.realized)
    planned = sorted(each.id for vm in vms for each in vm.assignments)
    if realized != planned or node.status.failed:
        return f"realized are {realized} of {planned}, failed {node.status.failed}"
    slots = {each.id: each.slot for each in node.status.realized}
    for vm in vms:
        told_slots = {slots[each.id] for each in vm.assignments}
        (given,) = site.kubelet.devices(vm.pod).values()
        if told_slots != given:
            return f"{vm.pod.name} is told to have {told_slots}, and the kubelet gave it {given}"
    return ""
