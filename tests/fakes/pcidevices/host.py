"""A node as the controller's commands and file writes reach it: a fake machine and its kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry, Occupancy, Placement
from tests.fakes.nvml.machine import NOT_SUPPORTED, Machine, Refused
from tests.fakes.pcidevices import log as deeds
from tests.fakes.pcidevices.drivers import CONTROLLER, DriverCalls
from tests.fakes.pcidevices.log import Log
from tests.fakes.pcidevices.names import Version, device_name
from tests.fakes.pcidevices.objects import ProfileStatus
from tests.fakes.sysfs.kernel import Kernel, KernelVgpu
from tests.fakes.sysfs.tree import CREATE, REMOVE, function_address, gpu_address

Choose = Callable[[Sequence[Placement]], Placement]


class CommandFailed(Exception):
    """A command, or a write to one of the kernel's files, has failed."""


def highest(placements: Sequence[Placement]) -> Placement:
    """Take the last free placement: the driver's own choice is not lowest-first."""
    return max(placements)


class Host:
    """The GPUs of *node*; each that is enabled gets *functions* virtual functions.

    *choose* is the driver's choice among the free placements of a profile. ``unplugged`` are the
    virtual functions that have been torn off the bus, ``declared`` those whose vGPU an object has
    asked for, or has adopted.
    """

    def __init__(
        self,
        node: str,
        machine: Machine,
        log: Log,
        version: Version,
        *,
        functions: int = 16,
        choose: Choose = highest,
    ) -> None:
        self.node = node
        self.machine = machine
        self.kernel = Kernel(machine)
        self.log = log
        log.include(DriverCalls(machine, node))
        self.version = version
        self.unplugged: set[str] = set()
        self.declared: set[str] = set()
        self._functions = functions
        self._choose = choose

    # -- what there is -----------------------------------------------------------------------------

    @property
    def gpus(self) -> Mapping[str, int]:
        """The machine's index of each GPU, by PCI address."""
        return {gpu_address(gpu): gpu for gpu in range(len(self.machine.uuids))}

    def functions(self, gpu: int) -> Mapping[str, int]:
        """Return the number of each virtual function of a GPU, by address."""
        every = range(1, self.kernel.functions(gpu) + 1)
        return {
            address: number
            for number in every
            if (address := function_address(gpu, number)) not in self.unplugged
        }

    def parent(self, function: str) -> int:
        """Return the GPU of a virtual function."""
        for gpu in self.gpus.values():
            if function in self.functions(gpu):
                return gpu
        raise CommandFailed(f"no such device: {function}")

    def vgpu(self, function: str) -> KernelVgpu | None:
        """Return the vGPU on a virtual function."""
        gpu = self.parent(function)
        number = self.functions(gpu)[function]
        return next((v for v in self.kernel.vgpus() if (v.gpu, v.function) == (gpu, number)), None)

    def type_name(self, vgpu: KernelVgpu) -> str:
        """Return the name of a vGPU's type."""
        numbers = self.kernel.types(vgpu.gpu)
        return next(name for name, number in numbers.items() if number == vgpu.type_id)

    def available(self, function: str) -> Mapping[str, str]:
        """Return the number of each type that may be made on a function, as its object has it."""
        gpu = self.parent(function)
        if self.vgpu(function) is not None:
            return {}
        prefix = "nvidia-" if self.version is Version.V1_7 else ""
        creatable = self.kernel.creatable(gpu)
        types = self.kernel.types(gpu)
        return {name: f"{prefix}{number}" for name, number in types.items() if number in creatable}

    def profiles(self, gpu: int) -> tuple[ProfileStatus, ...]:
        """Return what ``-lgip`` and ``-lgi`` tell, smaller profiles first."""
        geometry = self._geometry(gpu)
        now = self._occupancy(gpu)
        every = sorted(geometry.profiles, key=lambda p: (p.compute_slices, p.size, p.id))
        return tuple(
            ProfileStatus(
                name=f"MIG {each.name}",
                id=each.id,
                available=len(_disjoint(geometry.legal(now, each))),
                total=len(_disjoint(geometry.legal(geometry.empty, each))),
                instances=tuple(
                    str(i.gi_id) for i in self.machine.gpu_instances(gpu) if i.profile_id == each.id
                ),
            )
            for each in every
        )

    def rebooted(self) -> None:
        """Reboot: MIG mode persists; virtual functions, GPU instances and vGPUs do not."""
        self.machine.reboot()
        self.unplugged.clear()
        self.declared.clear()

    # -- what is done ------------------------------------------------------------------------------

    def sriov_manage(self, gpu: int, enable: bool) -> None:
        """Give a GPU its virtual functions, or take them away; either ends all that it holds.

        It fails while any process has the GPU open.
        """
        self._check_that_nobody_has_it_open(gpu, f"sriov-manage {'-e' if enable else '-d'}")
        lost = len(self.machine.gpu_instances(gpu))
        self.kernel.enable_functions(gpu, self._functions if enable else 0)
        self._note(deeds.SRIOV, gpu_address(gpu), "-e" if enable else "-d", lost=lost)

    def enable_mig(self, gpu: int) -> None:
        """Put a GPU into MIG mode, which may be on already; if not, nobody may have it open."""
        if not self.machine.mig_mode(gpu)[0]:
            self._check_that_nobody_has_it_open(gpu, "nvidia-smi -mig 1")
        self.machine.switch_mig(gpu, on=True)
        self._note(deeds.MIG_MODE, gpu_address(gpu))

    def create_instance(self, gpu: int, profile_id: int) -> None:
        """Create a GPU instance, with its compute instance, wherever the driver chooses."""
        geometry = self._geometry(gpu)
        free = list(geometry.legal(self._occupancy(gpu), geometry.by_id[profile_id]))
        detail = f"profile {profile_id}"
        if not free:
            raise CommandFailed(f"{gpu_address(gpu)}: -cgi {profile_id}: Insufficient Resources")
        try:
            made = self.machine.create_gpu_instance(gpu, profile_id, self._choose(free))
            self._fill(gpu, made, geometry.by_id[profile_id].compute_slices)
        except Refused as error:
            raise CommandFailed(str(error)) from error
        self._note(deeds.CREATE_INSTANCE, gpu_address(gpu), detail)

    def destroy_instance(self, gpu: int, gi_id: int) -> None:
        """Destroy a GPU instance and its compute instances, if it is there."""
        found = [each for each in self.machine.gpu_instances(gpu) if each.gi_id == gi_id]
        for instance in found:
            try:
                for each in instance.compute_instances:
                    self.machine.destroy_compute_instance(gpu, gi_id, each.ci_id)
                self.machine.destroy_gpu_instance(gpu, gi_id)
            except Refused as error:
                raise CommandFailed(f"{error}: In use by another client") from error
            self._note(deeds.DESTROY_INSTANCE, gpu_address(gpu), str(gi_id))

    def create_vgpu(self, function: str, number: str, text: str) -> None:
        """Write *text* to where a vGPU of the type with that *number* is made."""
        gpu = self.parent(function)
        type_id = int(number.removeprefix("nvidia-"))
        candidates = self._candidates(gpu, type_id)
        try:
            with self.kernel.written(CREATE, gpu, text, by=CONTROLLER) as effective:
                if effective:
                    uuid = text if self.version is Version.V1_7 else ""
                    self.kernel.create(gpu, self.functions(gpu)[function], type_id, uuid)
        except OSError as error:
            raise CommandFailed(f"{function}: {error}") from error
        self.declared.add(function)
        self._note(deeds.CREATE_VGPU, function, text, candidates=candidates)

    def remove_vgpu(self, function: str, uuid: str) -> None:
        """Remove the vGPU whose *uuid* its object has; a file that is not there is skipped.

        On 1.7 the path is joined of the function, the UUID and ``remove``: where there is no UUID
        that file tears the function itself off the bus.
        """
        vgpu = self.vgpu(function)
        if self.version is Version.V1_7 and not uuid:
            self.unplugged.add(function)
            self._note(deeds.HOT_REMOVE, function)
            return
        if vgpu is None or (self.version is Version.V1_7 and vgpu.uuid != uuid):
            return
        text = "1" if self.version is Version.V1_7 else "0"
        try:
            with self.kernel.written(REMOVE, vgpu.gpu, text, by=CONTROLLER) as effective:
                if effective:
                    self.kernel.remove(vgpu.gpu, vgpu.function)
        except OSError as error:
            raise CommandFailed(f"{function}: {error}") from error
        self._note(deeds.REMOVE_VGPU, function, uuid, declared=function in self.declared)
        self.declared.discard(function)

    def _check_that_nobody_has_it_open(self, gpu: int, command: str) -> None:
        if holders := self.machine.holders():
            self._note(deeds.BLOCKED, gpu_address(gpu), f"{command}: open in processes {holders}")
            raise CommandFailed(f"Cannot obtain unbindLock for {gpu_address(gpu)}")

    def _note(
        self,
        action: str,
        subject: str,
        detail: str = "",
        *,
        lost: int = 0,
        candidates: int = 1,
        declared: bool = True,
    ) -> None:
        self.log.add(
            self.node,
            action,
            f"{self.node} {subject}",
            detail,
            lost=lost,
            candidates=candidates,
            declared=declared,
        )

    def _geometry(self, gpu: int) -> Geometry:
        return MODELS[self.machine.models[gpu]].geometry

    def _occupancy(self, gpu: int) -> Occupancy:
        geometry = self._geometry(gpu)
        now = geometry.empty
        for each in self.machine.gpu_instances(gpu):
            now = geometry.occupied(now, each.profile_id, each.placement)
        return now

    def _candidates(self, gpu: int, type_id: int) -> int:
        """Count the GPU instances that the driver could back a vGPU of the type with."""
        names = {number: name for name, number in self.kernel.types(gpu).items()}
        kinds = {each.name: each for each in MODELS[self.machine.models[gpu]].vgpu_types}
        kind = kinds.get(names.get(type_id, ""))
        if kind is None:
            return 0
        held = [vgpu.gi_id for vgpu in self.kernel.vgpus() if vgpu.gpu == gpu]
        return sum(
            each.profile_id == kind.profile_id and held.count(each.gi_id) < kind.max_per_instance
            for each in self.machine.gpu_instances(gpu)
        )

    def _fill(self, gpu: int, gi_id: int, compute_slices: int) -> None:
        """Create the compute instance that fills a GPU instance; a rich one's has another id."""
        enumerators = {1: (0, 7), 2: (1,), 3: (2,), 4: (3,), 7: (4,)}[compute_slices]
        for enumerator in enumerators:
            try:
                self.machine.create_compute_instance(gpu, gi_id, enumerator)
            except Refused as error:
                if error.code != NOT_SUPPORTED or enumerator == enumerators[-1]:
                    raise
            else:
                return


def is_empty(hosts: Iterable[Host], name: str) -> bool:
    """Tell whether the GPU whose objects have that *name* is there and holds no GPU instance."""
    return any(
        device_name(host.node, address) == name and not host.machine.gpu_instances(gpu)
        for host in hosts
        for address, gpu in host.gpus.items()
    )


def _disjoint(placements: Iterable[Placement]) -> list[Placement]:
    """Return the most of *placements*, all of one size, that can be taken together."""
    chosen: list[Placement] = []
    for each in sorted(placements):
        if not chosen or each.start >= chosen[-1].end:
            chosen.append(each)
    return chosen
