"""What must hold of a site, whatever has happened to its agents; it asks none of them.

It looks at the machine's state, the kernel's vGPUs, the kubelet's checkpoint, the API server's
objects and the agent's files, and knows what the plan is.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

from nodeagent.api.gpunode import Mode
from tests.crash.site import FUNCTIONS, GPU, PROFILE, TYPE, Site
from tests.crash.story import Story, Tenant

FULL_COMPUTE_INSTANCE = 0
"""The profile of the compute instance that has all of a 1g GPU instance."""


async def after_two_passes(story: Story) -> list[str]:
    """Return what is wrong after an agent has had two passes since the last change."""
    return [
        *story.wrong,
        *_foreign(story.site),
        *_instances(story),
        *_vgpus(story.site),
        *_pods(story),
        *[each async for each in _told(story)],
    ]


async def at_the_end(story: Story) -> list[str]:
    """Return what is wrong when every pod has come and gone."""
    found = await after_two_passes(story)
    node = await story.site.gpu_node()
    if node.status.realized or node.status.failed:
        found.append(f"still told of: {node.status.realized}, {node.status.failed}")
    if made := _journal(story.site):
        found.append(f"the journal still has {made}")
    if described := list(story.site.home.places.cdi.glob("*.json")):
        found.append(f"still described to container runtimes: {described[0].read_text()}")
    return found


def _foreign(site: Site) -> Iterator[str]:
    """Nothing that is not ours may be touched."""
    if site.foreign.gpu_instance not in site.machine.gpu_instances(GPU):
        yield f"the foreign GPU instance has been touched: {site.machine.gpu_instances(GPU)}"
    if not set(site.foreign.vgpus) <= set(site.kernel.vgpus()):
        yield f"the foreign vGPU has been touched: {site.kernel.vgpus()}"
    if site.mode is not Mode.CONTAINER and site.kernel.functions(GPU) != FUNCTIONS:
        yield "virtual functions have gone"


def _instances(story: Story) -> Iterator[str]:
    """Every assignment has its GPU instance, whole, and there is no other."""
    site = story.site
    wanted = {tenant.assignment.placement: tenant for tenant in story.planned}
    for each in site.machine.gpu_instances(GPU):
        if each.gi_id == site.foreign.gpu_instance.gi_id:
            continue
        if each.profile_id != PROFILE or each.placement not in wanted:
            yield f"a GPU instance has leaked: {each}"
            continue
        tenant = wanted.pop(each.placement)
        if site.mode is Mode.CONTAINER:
            profiles = [compute.profile for compute in each.compute_instances]
            if profiles != [FULL_COMPUTE_INSTANCE]:
                yield f"that of {tenant.assignment.id} has not one full compute instance: {each}"
        else:
            inside = [vgpu for vgpu in site.kernel.vgpus() if vgpu.gi_id == each.gi_id]
            if [vgpu.type_id for vgpu in inside] != [site.kernel.types(GPU)[TYPE]]:
                yield f"that of {tenant.assignment.id} has not one vGPU of its type: {inside}"
    for tenant in wanted.values():
        yield f"assignment {tenant.assignment.id} has no GPU instance"


def _vgpus(site: Site) -> Iterator[str]:
    """No vGPU is without a GPU instance, and none shares one."""
    there = {each.gi_id for each in site.machine.gpu_instances(GPU)}
    seen: set[int] = set()
    for vgpu in site.kernel.vgpus():
        if vgpu.gi_id not in there or vgpu.gi_id in seen:
            yield f"a vGPU is without a GPU instance of its own: {vgpu}"
        seen.add(vgpu.gi_id)


def _pods(story: Story) -> Iterator[str]:
    """Every pod that has started has the device that it has opened, where it was planned."""
    for tenant in story.planned:
        if not tenant.device:
            continue
        try:
            device = story.site.device_of(tenant.pod)
            found = story.site.gpu_instance_of(device)
        except LookupError as error:
            yield f"running pod {tenant.pod.name}: {error}"
            continue
        if device != tenant.device:
            yield f"running pod {tenant.pod.name} has another device: {device}"
        if found.placement != tenant.assignment.placement or not _is_used(story.site, tenant):
            yield f"running pod {tenant.pod.name} has lost its GPU instance: {found}"


def _is_used(site: Site, tenant: Tenant) -> bool:
    found = site.gpu_instance_of(tenant.device)
    if site.mode is Mode.CONTAINER:
        return found.in_use
    return any(each.opened for each in site.kernel.vgpus() if each.gi_id == found.gi_id)


async def _told(story: Story) -> AsyncIterator[str]:
    """The API server is told what is, of the newest plan; nothing has failed."""
    node = await story.site.gpu_node()
    status = node.status
    planned = {tenant.assignment.id for tenant in story.planned}
    if status.observed_generation < node.metadata.generation:
        yield f"told of generation {status.observed_generation}, not {node.metadata.generation}"
    told = {
        (each.gi_id, each.profile_id, each.placement)
        for gpu in status.gpus
        for each in gpu.instances
    }
    there = {
        (each.gi_id, each.profile_id, each.placement)
        for each in story.site.machine.gpu_instances(GPU)
    }
    if told != there:
        yield f"the inventory says {told}, and there are {there}"
    owned = {each.assignment for gpu in status.gpus for each in gpu.instances} - {""}
    if owned != planned:
        yield f"GPU instances are told to be for {owned}, planned are {planned}"
    if status.failed:
        yield f"assignments have failed: {status.failed}"
    realized = {each.id for each in status.realized}
    served = {tenant.assignment.id for tenant in story.planned if tenant.device}
    if not served <= realized <= planned:
        yield f"told as realized: {realized}; served are {served}, planned {planned}"
    if planned and len(realized) < min(len(planned), len(served) + 1):
        yield f"nobody's turn has come: realized are {realized} of {planned}"
    if made := set(_journal(story.site)) ^ planned:
        yield f"the journal and the plan differ by {made}"


def _journal(site: Site) -> list[str]:
    """Return the assignments that the journal has."""
    paths = list(site.home.state.rglob("journal*.json"))
    return [each["assignment"] for path in paths for each in json.loads(path.read_text())["made"]]
