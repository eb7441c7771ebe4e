"""What the controller makes of SRIOVGPUDevices and MigConfigurations."""

from __future__ import annotations

from tests.fakes.pcidevices.host import Host
from tests.fakes.pcidevices.names import (
    API_VERSION,
    DISABLED,
    MIG_CONFIGURATIONS,
    NODE_LABEL,
    OUT_OF_SYNC,
    PARENT_LABEL,
    SRIOV_GPUS,
    SYNCED,
    VGPUS,
    device_name,
)
from tests.fakes.pcidevices.objects import Mig, MigStatus, SriovGpu, SriovStatus, Vgpu
from tests.fakes.pcidevices.store import Store
from tests.fakes.pcidevices.vgpus import observed


class Gpus:
    """The GPUs of *host*, as objects of *store*."""

    def __init__(self, host: Host, store: Store) -> None:
        self._host = host
        self._store = store

    async def scan(self) -> None:
        """Create the objects of devices that have none, and bring the VGPUDevices' up to date."""
        for address, gpu in self._host.gpus.items():
            name = device_name(self._host.node, address)
            known = await self._store.found(SRIOV_GPUS, name, SriovGpu)
            if known is None:
                await self._store.create(
                    SRIOV_GPUS,
                    {
                        "apiVersion": API_VERSION,
                        "kind": "SRIOVGPUDevice",
                        "metadata": {"name": name, "labels": {NODE_LABEL: self._host.node}},
                        "spec": {
                            "address": address,
                            "nodeName": self._host.node,
                            "enabled": bool(self._host.functions(gpu)),
                        },
                    },
                )
            await self._scan_functions(address, gpu, enabled=known is None or known.spec.enabled)

    async def _scan_functions(self, address: str, gpu: int, *, enabled: bool) -> None:
        parent = device_name(self._host.node, address)
        selector = f"{PARENT_LABEL}={parent}"
        objects = await self._store.listed(VGPUS, Vgpu, label_selector=selector)
        known = {each.metadata.name: each for each in objects}
        there = set()
        for function in self._host.functions(gpu):
            name = device_name(self._host.node, function)
            there.add(name)
            status = observed(self._host, function)
            if name not in known:
                # One that exists is adopted: enabled, though with no type in its spec.
                if status.configured_type:
                    self._host.declared.add(function)
                spec = {
                    "address": function,
                    "nodeName": self._host.node,
                    "parentGPUDeviceAddress": address,
                    "vGPUTypeName": "",
                    "enabled": bool(status.configured_type),
                }
                labels = {NODE_LABEL: self._host.node, PARENT_LABEL: parent}
                body = {
                    "apiVersion": API_VERSION,
                    "kind": "VGPUDevice",
                    "metadata": {"name": name, "labels": labels},
                    "spec": spec,
                }
                await self._store.create(VGPUS, body, status=status)
            elif known[name].status != status:
                await self._store.write_status(VGPUS, known[name].metadata, status)
        for name in known.keys() - there:
            if not enabled:
                await self._store.delete(VGPUS, name)

    async def on_gpu(self, gpu: SriovGpu) -> None:
        """Give a GPU its virtual functions, or take them; where it has them, see to MIG."""
        index = self._host.gpus[gpu.spec.address]
        if gpu.spec.enabled != bool(self._host.kernel.functions(index)):
            self._store.step("sriov-manage")
            self._host.sriov_manage(index, gpu.spec.enabled)
            self._store.step("sriov-managed")
            await self._store.write_status(SRIOV_GPUS, gpu.metadata, self._status(index))
        elif gpu.status != self._status(index):
            await self._store.write_status(SRIOV_GPUS, gpu.metadata, self._status(index))
        if not gpu.spec.enabled:
            await self._store.delete(MIG_CONFIGURATIONS, gpu.metadata.name)
            return
        self._host.enable_mig(index)
        if await self._store.found(MIG_CONFIGURATIONS, gpu.metadata.name, Mig) is None:
            await self._create_configuration(gpu, index)

    def _status(self, gpu: int) -> SriovStatus:
        functions = tuple(self._host.functions(gpu))
        names = tuple(device_name(self._host.node, each) for each in functions)
        return SriovStatus(functions, names)

    async def _create_configuration(self, gpu: SriovGpu, index: int) -> None:
        profiles = self._host.profiles(index)
        owner = {
            "apiVersion": API_VERSION,
            "kind": "SRIOVGPUDevice",
            "name": gpu.metadata.name,
            "uid": gpu.metadata.uid,
        }
        body = {
            "apiVersion": API_VERSION,
            "kind": "MigConfiguration",
            "metadata": {"name": gpu.metadata.name, "ownerReferences": [owner]},
            "spec": {
                "enabled": any(each.instances for each in profiles),
                "gpuAddress": gpu.spec.address,
                "nodeName": self._host.node,
                "profileSpec": [
                    {"name": each.name, "id": each.id, "requested": 0} for each in profiles
                ],
            },
        }
        await self._store.create(MIG_CONFIGURATIONS, body, status=MigStatus(profiles))

    async def on_mig(self, mig: Mig) -> None:
        """Create what is asked for on an empty GPU; compare; delete what the status remembers."""
        gpu = self._host.gpus[mig.spec.gpu_address]
        profiles = self._host.profiles(gpu)
        exist = any(each.instances for each in profiles)
        if mig.spec.enabled and not exist:
            # In the order in which the profiles are listed, smallest first, and without a
            # placement: what fails leaves half a layout, which reads out-of-sync from then on.
            for each in mig.spec.profiles:
                for _ in range(each.requested):
                    self._store.step("create GPU instance")
                    self._host.create_instance(gpu, each.id)
                    self._store.step("created GPU instance")
            status = MigStatus(self._host.profiles(gpu))
            if status != mig.status:
                await self._store.write_status(MIG_CONFIGURATIONS, mig.metadata, status)
        elif mig.spec.enabled:
            said = SYNCED if mig.status.profiles == profiles else OUT_OF_SYNC
            if mig.status.status != said:
                status = MigStatus(mig.status.profiles, said)
                await self._store.write_status(MIG_CONFIGURATIONS, mig.metadata, status)
        elif exist:
            for profile in mig.status.profiles:
                for gi_id in profile.instances:
                    self._store.step("destroy GPU instance")
                    self._host.destroy_instance(gpu, int(gi_id))
                    self._store.step("destroyed GPU instance")
            status = MigStatus(self._host.profiles(gpu), DISABLED)
            if status != mig.status:
                await self._store.write_status(MIG_CONFIGURATIONS, mig.metadata, status)
