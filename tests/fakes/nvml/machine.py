"""The machine behind the fake library, as a test handles it.

::

    machine = Machine.create(build(directory), tmp_path / "state", "H200-141GB", gpus=2)
    subprocess.run(…, env=machine.environment())       # pynvml there sees this machine, or:
    with machine.in_this_process() as pynvml: ...
    machine.fail("nvmlGpuInstanceDestroy", IN_USE, times=2)
    machine.create_gpu_instance(0, 19, Placement(3, 1))    # of somebody else
    machine.open_client(0, 1, "vm")
    machine.reboot()
    [call.symbol for call in machine.calls()]

Everything lies in the state file: any number of processes and Machines may share it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import ModuleType

from nodeagent.api.geometry import Placement
from tests.fakes.nvml.library import CONTROL, STATE_VARIABLE

DRIVER_VERSION = "580.95.05"
UUIDS = uuid.UUID("5a0f1d6e-7b5c-4c43-9d0e-7a9ce0a4b5c1")
"""The namespace of nodeagent.simulated's UUIDs, so the same node has the same GPUs on both."""

INVALID_ARGUMENT = 2
NOT_SUPPORTED = 3
NO_PERMISSION = 4
NOT_FOUND = 6
TIMEOUT = 10
GPU_IS_LOST = 15
RESET_REQUIRED = 16
IN_USE = 19
INSUFFICIENT_RESOURCES = 23
UNKNOWN = 999

XID_CRITICAL_ERROR = 0x8
MIG_CONFIG_CHANGE = 0x100
GPU_RECOVERY_ACTION = 0x8000
WHOLE_GPU = 0xFFFFFFFF

_FOR_EVER = 2**32 - 1


class Kind(IntEnum):
    """What a fault does to a call."""

    ERROR = 1
    """It refuses with the code, and nothing happens."""
    DONE_BUT_ERROR = 2
    """It is done, and answers with the code."""
    NOT_DONE = 3
    """It answers as if done (handles and all), and nothing happened."""
    HANG = 4
    """It is done after the wait alone."""
    KILL_BEFORE = 5
    """SIGKILL to the calling process, before anything happens."""
    KILL_AFTER = 6
    """SIGKILL to the calling process, when it is done and not yet answered."""


class Privilege(IntEnum):
    """What the machine lets its processes do, as MIG's capability files do."""

    NONE = 0
    MONITOR = 1
    CONFIG = 2


class _Attribute(IntEnum):
    LOST = 0
    RECOVERY_ACTION = 1
    RETIRED_PENDING = 2
    REMAPPED = 3
    ECC = 7
    VIRTUALIZATION = 9
    MIG_MODE = 10


_MAX_GPU_INSTANCES = 16
_MAX_HOLDERS = 64
_NAME_SIZE = 96


class _Entry(ctypes.Structure):
    """``struct entry`` of control.c."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("gi_id", "profile_id", "start", "size")),
        ("in_use", ctypes.c_uint32),
        ("ci_count", ctypes.c_uint32),
        ("ci", ctypes.c_uint32 * 4 * 8),
    )


class Refused(Exception):
    """The machine's own rules forbid what the test wants; ``code`` is NVML's."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what}: NVML error {code}")
        self.code = code


@dataclass(frozen=True)
class GpuInstance:
    """A GPU instance as it is in the state file."""

    gi_id: int
    profile_id: int
    placement: Placement
    in_use: bool
    compute_instances: tuple[ComputeInstance, ...] = ()


@dataclass(frozen=True)
class ComputeInstance:
    """A compute instance; ``profile`` is its profile's id, which is its enumerator too."""

    ci_id: int
    profile: int
    placement: Placement


@dataclass(frozen=True)
class Call:
    """A call that a process made. ``code`` is None if it never returned."""

    number: int
    pid: int
    symbol: str
    arguments: dict[str, str] = field(default_factory=dict)
    code: int | None = None


class Machine:
    """A machine in a state file that exists; :meth:`create` makes one."""

    def __init__(self, library: Path, state: Path) -> None:
        self.library = library
        self.state = state
        # A path of its own and not pynvml's: opening this one must not load the fake NVML.
        self._control = ctypes.CDLL(str(library.with_name(CONTROL)))
        self._control.fake_open.restype = ctypes.c_void_p
        opened = self._control.fake_open(os.fsencode(state))
        if not opened:
            raise ValueError(f"{state} is not the state of a fake machine of this build")
        self._machine = ctypes.c_void_p(opened)
        self._log_path.touch()

    @classmethod
    def create(
        cls,
        library: Path,
        state: Path,
        *models: str,
        gpus: int = 1,
        node: str = "node",
        mig: bool | None = True,
        vgpu_host: bool = False,
        driver_version: str = DRIVER_VERSION,
    ) -> Machine:
        """Make a machine of *gpus* GPUs for each of *models* of the catalog.

        *mig*: on, off, or None where the GPUs are not MIG capable.
        """
        control = ctypes.CDLL(str(library.with_name(CONTROL)))
        if control.fake_create(os.fsencode(state), driver_version.encode()) != 0:
            raise FileExistsError(f"cannot create {state}")
        machine = cls(library, state)
        for index, name in enumerate([model for model in models for _ in range(gpus)]):
            machine._add(index, name, node, mig=mig, vgpu_host=vgpu_host)
        return machine

    def _add(self, index: int, name: str, node: str, *, mig: bool | None, vgpu_host: bool) -> None:
        model = self._control.fake_model(name.encode())
        if model < 0:
            raise ValueError(f"no model {name!r} in the catalog")
        unique = f"GPU-{uuid.uuid5(UUIDS, f'{node}/{index}')}"
        self._control.fake_add_gpu(
            self._machine,
            model,
            unique.encode(),
            0,
            0x10 + index,
            index // 4,
            mig is not None,
            bool(mig),
            3 if vgpu_host else 0,
        )
        uuids, names = self._identities
        self._identities_path.write_text("\n".join([*uuids, unique, *names, name]))
        del self._identities

    # What Python alone needs to know of the GPUs: their UUIDs, then their models.
    @property
    def _identities_path(self) -> Path:
        return self.state.with_name(self.state.name + ".gpus")

    @functools.cached_property
    def _identities(self) -> tuple[list[str], list[str]]:
        path = self._identities_path
        lines = path.read_text().split("\n") if path.exists() else []
        return lines[: len(lines) // 2], lines[len(lines) // 2 :]

    @property
    def uuids(self) -> Sequence[str]:
        """The GPUs' UUIDs, by index."""
        return self._identities[0]

    @property
    def models(self) -> Sequence[str]:
        """The GPUs' models in the catalog, by index."""
        return self._identities[1]

    def environment(self) -> dict[str, str]:
        """Return this process's environment with what makes a new one see this machine."""
        return os.environ | {
            "LD_LIBRARY_PATH": str(self.library.parent),
            STATE_VARIABLE: str(self.state),
        }

    @contextlib.contextmanager
    def in_this_process(self) -> Iterator[ModuleType]:
        """Let pynvml of this process see this machine, and yield it; it is not initialised yet.

        pynvml keeps its library and every function for good, so both are put aside and back.
        """
        import pynvml

        library = ctypes.CDLL(str(self.library))
        functions, kept = pynvml._nvmlGetFunctionPointer_cache, pynvml.nvmlLib
        cached = dict(functions)
        variable = os.environ.get(STATE_VARIABLE)
        functions.clear()
        pynvml.nvmlLib = library
        os.environ[STATE_VARIABLE] = str(self.state)
        try:
            yield pynvml
        finally:
            self.clear_faults()
            while library.nvmlShutdown() == 0:
                pass
            os.environ.pop(STATE_VARIABLE)
            if variable is not None:
                os.environ[STATE_VARIABLE] = variable
            functions.clear()
            functions.update(cached)
            pynvml.nvmlLib = kept

    def close(self) -> None:
        """Let go of the state file; the Machine is of no more use. For thousands in one process."""
        self._control.fake_close(self._machine)

    # ------------------------------------------------------------ what is

    def gpu_instances(self, gpu: int) -> list[GpuInstance]:
        """Return what is on the GPU, by GPU instance id: one moment of it, whoever is at work."""
        entries = (_Entry * _MAX_GPU_INSTANCES)()
        count = self._control.fake_read(self._machine, gpu, entries)
        return [
            GpuInstance(
                entry.gi_id,
                entry.profile_id,
                Placement(entry.start, entry.size),
                bool(entry.in_use),
                tuple(
                    ComputeInstance(ci_id, profile, Placement(start, size))
                    for ci_id, profile, start, size in entry.ci[: entry.ci_count]
                ),
            )
            for entry in entries[:count]
        ]

    def mig_mode(self, gpu: int) -> tuple[bool, bool]:
        """Return MIG mode, current and pending."""
        both = self._control.fake_mig_mode(self._machine, gpu)
        return bool(both & 1), bool(both & 2)

    def holders(self) -> list[int]:
        """Return the ids of the processes that have NVML open, and with it every GPU."""
        found = (ctypes.c_int32 * _MAX_HOLDERS)()
        count = self._control.fake_holders(self._machine, found)
        return list(found[:count])

    def mig_uuid(self, gpu: int, gi_id: int, ci_id: int) -> str:
        """Return the UUID that the MIG device of a compute instance has, if that exists."""
        text = ctypes.create_string_buffer(_NAME_SIZE)
        self._control.fake_mig_uuid(self._machine, gpu, gi_id, ci_id, text)
        return text.value.decode()

    # ------------------------------------------------------------ what others do

    def create_gpu_instance(self, gpu: int, profile_id: int, placement: Placement) -> int:
        """Create a GPU instance behind everybody's back, by the same rules; return its id."""
        gi_id = ctypes.c_uint32()
        code = self._control.fake_create_gi(
            self._machine, gpu, profile_id, placement.start, placement.size, ctypes.byref(gi_id)
        )
        self._check("create_gpu_instance", code)
        return gi_id.value

    def destroy_gpu_instance(self, gpu: int, gi_id: int) -> None:
        """Destroy a GPU instance behind everybody's back."""
        self._check(
            "destroy_gpu_instance", self._control.fake_destroy_gi(self._machine, gpu, gi_id)
        )

    def create_compute_instance(self, gpu: int, gi_id: int, profile: int = 0) -> int:
        """Create a compute instance behind everybody's back; return its id."""
        ci_id = ctypes.c_uint32()
        code = self._control.fake_create_ci(self._machine, gpu, gi_id, profile, ctypes.byref(ci_id))
        self._check("create_compute_instance", code)
        return ci_id.value

    def destroy_compute_instance(self, gpu: int, gi_id: int, ci_id: int) -> None:
        """Destroy a compute instance behind everybody's back."""
        code = self._control.fake_destroy_ci(self._machine, gpu, gi_id, ci_id)
        self._check("destroy_compute_instance", code)

    def open_client(self, gpu: int, gi_id: int, client: str, *, listed: bool = False) -> None:
        """Let *client* use a GPU instance, or with id 0 the GPU as a whole.

        *listed* is whether NVML tells of it, as a process that computes.
        """
        code = self._control.fake_open_client(self._machine, gpu, gi_id, client.encode(), listed)
        self._check("open_client", code)

    def close_client(self, client: str) -> None:
        """End whatever *client* uses."""
        self._control.fake_close_client(self._machine, client.encode())

    def start_vgpu(self, gpu: int, gi_id: int, vgpu_type: str, vgpu_uuid: str = "") -> int:
        """Let a vGPU of that type run in the GPU instance; return NVML's id of it."""
        model = self._control.fake_model(self.models[gpu].encode())
        type_id = self._control.fake_vgpu_type(model, vgpu_type.encode())
        vgpu = self._control.fake_start_vgpu(self._machine, gpu, gi_id, type_id, vgpu_uuid.encode())
        if not vgpu:
            raise Refused("start_vgpu", INSUFFICIENT_RESOURCES)
        return int(vgpu)

    def stop_vgpu(self, vgpu: int) -> None:
        """End a vGPU."""
        self._control.fake_stop_vgpu(self._machine, vgpu)

    # ------------------------------------------------------------ what befalls it

    def lose(self, gpu: int, lost: bool = True) -> None:
        """Let the GPU fall off the bus, or come back."""
        self._set(gpu, _Attribute.LOST, lost)

    def recovery_action(self, gpu: int, action: int) -> None:
        """Set what field 230 answers: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset."""
        self._set(gpu, _Attribute.RECOVERY_ACTION, action)

    def retired_pages_pending(self, gpu: int, pending: bool = True) -> None:
        """Set whether page retirement waits for a reset."""
        self._set(gpu, _Attribute.RETIRED_PENDING, pending)

    def remapped_rows(
        self, gpu: int, corrected: int, uncorrected: int, *, pending: bool, failed: bool
    ) -> None:
        """Set what nvmlDeviceGetRemappedRows answers."""
        for n, value in enumerate((corrected, uncorrected, pending, failed)):
            self._set(gpu, _Attribute.REMAPPED + n, value)

    def ecc_errors(self, gpu: int, corrected: int, uncorrected: int) -> None:
        """Set what nvmlDeviceGetTotalEccErrors answers."""
        for n, value in enumerate((corrected, uncorrected)):
            self._set(gpu, _Attribute.ECC + n, value)

    def virtualization_mode(self, gpu: int, mode: int) -> None:
        """Set the mode: 0 bare metal, 1 passed through, 2 a vGPU guest, 3 a vGPU host."""
        self._set(gpu, _Attribute.VIRTUALIZATION, mode)

    def switch_mig(self, gpu: int, *, on: bool) -> None:
        """Turn MIG mode on or off at once, on a GPU that knows it and holds nothing."""
        self._set(gpu, _Attribute.MIG_MODE, on)

    def xid(self, gpu: int, xid: int, gi_id: int = WHOLE_GPU, ci_id: int = WHOLE_GPU) -> None:
        """Let the driver report an Xid error."""
        self.event(gpu, XID_CRITICAL_ERROR, xid, gi_id, ci_id)

    def event(
        self, gpu: int, kind: int, data: int = 0, gi_id: int = WHOLE_GPU, ci_id: int = WHOLE_GPU
    ) -> None:
        """Let the driver report an event."""
        self._control.fake_emit(
            self._machine, gpu, ctypes.c_uint64(kind), ctypes.c_uint64(data), gi_id, ci_id
        )

    def privilege(self, privilege: Privilege) -> None:
        """Set what every process may do."""
        self._control.fake_privilege(self._machine, privilege)

    def reset(self, gpu: int) -> None:
        """Reset the GPU: what it held is gone, the pending MIG mode is current, handles stale."""
        self._control.fake_reset(self._machine, gpu)

    def reboot(self) -> None:
        """Reboot: as a reset of each GPU."""
        self._control.fake_reboot(self._machine)

    # ------------------------------------------------------------ faults

    def fail(
        self,
        symbol: str,
        code: int,
        *,
        kind: Kind = Kind.ERROR,
        times: int = 1,
        after: int = 0,
        gpu: int = -1,
    ) -> None:
        """Let calls of the C *symbol* fail: the next *times*, *after* that many went well."""
        self._fault(symbol, kind, gpu, after, times, code, 0)

    def pretend(self, symbol: str, *, times: int = 1, after: int = 0, gpu: int = -1) -> None:
        """Let calls say success and do nothing."""
        self._fault(symbol, Kind.NOT_DONE, gpu, after, times, 0, 0)

    def hang(
        self, symbol: str, seconds: float, *, times: int = 1, after: int = 0, gpu: int = -1
    ) -> None:
        """Let calls take that long; :meth:`clear_faults` ends the wait."""
        self._fault(symbol, Kind.HANG, gpu, after, times, 0, int(seconds * 1000))

    def kill(self, symbol: str, *, done: bool, after: int = 0, gpu: int = -1) -> None:
        """Kill the process that calls *symbol*, before or after it is *done*."""
        self._fault(symbol, Kind.KILL_AFTER if done else Kind.KILL_BEFORE, gpu, after, 1, 0, 0)

    def always(self, symbol: str, code: int, *, gpu: int = -1) -> None:
        """Let every call fail until :meth:`clear_faults`."""
        self._fault(symbol, Kind.ERROR, gpu, 0, _FOR_EVER, code, 0)

    def clear_faults(self) -> None:
        """Take back all faults, and wake whoever hangs."""
        self._control.fake_clear_faults(self._machine)

    def _fault(
        self, symbol: str, kind: Kind, gpu: int, after: int, times: int, code: int, wait_ms: int
    ) -> None:
        if times < 1:
            raise ValueError("a fault that happens at no call")
        arguments = (symbol.encode(), kind, gpu, after, ctypes.c_uint32(times), code, wait_ms)
        if self._control.fake_fault(self._machine, *arguments) != 0:
            raise RuntimeError("too many faults at once")

    # ------------------------------------------------------------ the call log

    def logging(self, on: bool) -> None:
        """Set whether calls are logged; they are from the start."""
        self._control.fake_logging(self._machine, on)

    def calls(self, symbol: str = "") -> list[Call]:
        """Return every call of every process, or those of one *symbol*, in order."""
        calls: dict[int, Call] = {}
        for line in self._log_path.read_text().splitlines():
            mark, number, *rest = line.split(" ")
            if mark == ">":
                arguments = dict(pair.split("=", 1) for pair in rest[2:] if "=" in pair)
                calls[int(number)] = Call(int(number), int(rest[0]), rest[1], arguments)
            elif begun := calls.get(int(number)):  # else the log was emptied meanwhile
                calls[int(number)] = Call(
                    begun.number, begun.pid, begun.symbol, begun.arguments, int(rest[0])
                )
        return [call for call in calls.values() if symbol in ("", call.symbol)]

    def forget_calls(self) -> None:
        """Empty the log."""
        os.truncate(self._log_path, 0)

    @property
    def _log_path(self) -> Path:
        return self.state.with_name(self.state.name + ".log")

    def _set(self, gpu: int, attribute: int, value: int) -> None:
        self._control.fake_set(self._machine, gpu, attribute, ctypes.c_uint64(value))

    def _check(self, what: str, code: int) -> None:
        if code != 0:
            raise Refused(what, code)
