"""NVML's events: what the driver tells unasked.

It has no callback: whoever wants to hear registers a set, and asks it. Sets end with the session,
a registration perhaps with a reset of its GPU, so both are made anew at each look; a GPU that is
lost makes its whole set useless, the others' events included, so a set has only those that answer.
"""

from __future__ import annotations

import msgspec
import pynvml
import structlog

from nodeagent.driver import (
    DriverError,
    DriverTimeout,
    FunctionNotFound,
    NoPermission,
    NotSupported,
)
from nodeagent.nvml import gpus
from nodeagent.nvml.gpus import WHOLE_GPU, Device
from nodeagent.nvml.session import Nvml

log = structlog.get_logger()

APPLICATION_XIDS = frozenset((13, 31, 43, 45, 68, 109))
"""XIDs that a program brings about, on a GPU that is well.

They are those that NVIDIA's k8s-device-plugin leaves out (internal/rm/health.go): graphics engine
exception, memory page fault, stopped processing, preemptive cleanup, video processor exception,
context switch timeout. NVIDIA's XID catalog has them to be answered by a restart of the program.
"""

_RECOVERY_ACTION_CHANGED = 154  # its number says nothing that field 230 does not say better
_UNKNOWN_XID = 999

_XID = pynvml.nvmlEventTypeXidCriticalError

_STRIKING = {
    pynvml.nvmlEventTypeGpuUnavailableError: "the driver reported the GPU unavailable",
    pynvml.nvmlEventTypeDramRetirementFailure: "the driver could not retire defective memory",
    pynvml.nvmlEventTypeFatalPoisonError: "the driver reported a fatal use of corrupted memory",
}
"""Events after which a GPU needs a reset."""

_NEWS = (
    pynvml.nvmlEventMigConfigChange,
    pynvml.nvmlEventTypeGpuRecoveryAction,
    pynvml.nvmlEventTypeDramRetirementEvent,
    pynvml.nvmlEventTypeNonFatalPoisonError,
)
"""Events after which the driver, when asked, has something new to say."""

MASK = _XID | sum(_STRIKING) | sum(_NEWS)

_AT_ONCE = 1000  # of a storm the rest comes later
_UNTIL_RESET = "nothing new before the GPU is reset or the node rebooted"


class Event(msgspec.Struct, frozen=True):
    """What the driver told of a GPU, "" if it could not be asked which.

    ``kind`` is NVML's event type, ``detail`` an XID where it is one.
    """

    gpu: str
    kind: int
    detail: int = 0
    gi_id: int = WHOLE_GPU


def strike(event: Event, benign_xids: frozenset[int] = APPLICATION_XIDS) -> str:
    """Return why nothing new may be placed on the event's GPU, "" if it may.

    An XID within one GPU instance closes the whole GPU: what has gone wrong below the GPU instance
    that shows it, in memory or in an engine, is not known.
    """
    if event.kind in _STRIKING:
        return f"{_STRIKING[event.kind]}: {_UNTIL_RESET}"
    if event.kind != _XID or event.detail in benign_xids | {_RECOVERY_ACTION_CHANGED}:
        return ""
    xid = "an unknown XID" if event.detail == _UNKNOWN_XID else f"XID {event.detail}"
    where = "" if event.gi_id == WHOLE_GPU else " in one of its GPU instances"
    return f"the driver reported {xid}{where}: {_UNTIL_RESET}"


class Listener:
    """Hears the events of all GPUs that can be listened to.

    After an error what was told before it is returned the next time, when listening begins anew.
    """

    def __init__(self, nvml: Nvml) -> None:
        self._nvml = nvml
        self._set: object = None
        self._session = 0
        self._heard: list[Event] = []
        self._unheard: dict[int, str] = {}

    def heard(self) -> list[Event]:
        """Return what has been told since the last time; the first time that is nothing.

        Raises:
            DriverError: some events may have been missed.
        """
        self._listen()
        return self._taken()

    def renew(self) -> list[Event]:
        """Do as :meth:`heard`, and register all GPUs again.

        Raises:
            DriverError: some events may have been missed.
        """
        self._listen()
        old, self._set = self._set, self._registered()
        try:
            self._drain(old)  # of what came while the new set was made
        finally:
            self._free(old)
        return self._taken()

    def _listen(self) -> None:
        if self._session != self._nvml.session:
            self._set = self._registered()
            self._session = self._nvml.session
        try:
            self._drain(self._set)
        except DriverError:
            self._free(self._set)
            self._set, self._session = None, 0
            raise

    def _taken(self) -> list[Event]:
        heard, self._heard = self._heard, []
        return heard

    def _drain(self, told_by: object) -> None:
        for _ in range(_AT_ONCE if told_by else 0):
            try:
                told = self._nvml.ask(pynvml.nvmlEventSetWait_v2, told_by, 0)
            except DriverTimeout:
                return  # there is none
            gpu = self._named(Device(told.device))
            event = Event(gpu, int(told.eventType), int(told.eventData), int(told.gpuInstanceId))
            log.info("gpu_event", gpu=gpu, kind=event.kind, detail=event.detail, gi_id=event.gi_id)
            self._heard.append(event)

    def _named(self, device: Device) -> str:
        try:
            return gpus.uuid(self._nvml, device)
        except DriverError as error:
            log.warning("gpu_event_of_unknown_gpu", error=str(error))
            return ""

    def _registered(self) -> object:
        """Return a set of every GPU that can be listened to, None if none can."""
        count = gpus.count(self._nvml)
        try:
            made = self._nvml.ask(pynvml.nvmlEventSetCreate)
        except (NotSupported, FunctionNotFound, NoPermission) as error:
            self._tell(dict.fromkeys(range(count), str(error)))
            return None
        unheard: dict[int, str] = {}
        for index in range(count):
            try:
                self._register(made, gpus.at(self._nvml, index))
            except DriverError as error:
                unheard[index] = str(error)
        self._tell(unheard)
        if len(unheard) == count:
            self._free(made)
            return None
        return made

    def _register(self, made: object, device: Device) -> None:
        supported = int(self._nvml.ask(pynvml.nvmlDeviceGetSupportedEventTypes, device))
        if not supported & MASK:
            raise NotSupported("nvmlDeviceGetSupportedEventTypes")
        self._nvml.ask(pynvml.nvmlDeviceRegisterEvents, device, supported & MASK, made)

    def _tell(self, unheard: dict[int, str]) -> None:
        """Say once which GPUs are only looked at from time to time, and why."""
        for index, error in unheard.items():
            if self._unheard.get(index) != error:
                log.warning("gpu_events_not_told", index=index, error=error)
        self._unheard = unheard

    def _free(self, of: object) -> None:
        if not of:
            return
        try:
            self._nvml.ask(pynvml.nvmlEventSetFree, of)
        except DriverError as error:
            log.warning("gpu_event_set_not_freed", error=str(error))
