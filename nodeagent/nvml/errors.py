"""NVML's errors, told in our words; ``pynvml.NVMLError`` goes no further than here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType

import pynvml

from nodeagent.driver import (
    DriverError,
    DriverNotLoaded,
    DriverTimeout,
    FunctionNotFound,
    GpuLost,
    InstanceInUse,
    LibraryNotFound,
    NoPermission,
    NoSuchInstance,
    NotSupported,
    PlacementUnavailable,
    ResetRequired,
    VersionMismatch,
)

UNINITIALIZED = pynvml.NVML_ERROR_UNINITIALIZED
INVALID_ARGUMENT = pynvml.NVML_ERROR_INVALID_ARGUMENT
NOT_SUPPORTED = pynvml.NVML_ERROR_NOT_SUPPORTED
NOT_FOUND = pynvml.NVML_ERROR_NOT_FOUND
GPU_NOT_FOUND = pynvml.NVML_ERROR_GPU_NOT_FOUND

Meanings = Mapping[int, type[DriverError]]
"""What codes mean in one particular call, where that is more than they mean in every call."""

EVERYWHERE: Meanings = MappingProxyType(
    {
        kind.code: kind
        for kind in (
            NotSupported,
            NoPermission,
            NoSuchInstance,
            DriverNotLoaded,
            DriverTimeout,
            LibraryNotFound,
            FunctionNotFound,
            GpuLost,
            ResetRequired,
            VersionMismatch,
            InstanceInUse,
            PlacementUnavailable,
        )
    }
)

# The header's words for the others. pynvml's own are incomplete, and ask the library for the rest.
_WORDS: Mapping[int, str] = MappingProxyType(
    {
        1: "NVML is not initialised",
        2: "invalid argument",
        5: "already initialised",
        7: "the buffer is too small",
        8: "the GPU's external power is not connected",
        11: "interrupts of the GPU do not arrive",
        14: "the GPU's infoROM is corrupted",
        17: "the operating system blocked the call",
        20: "out of memory",
        21: "no data",
        22: "not while ECC is on",
        24: "the frequency is not supported",
        25: "a structure of a version that the driver does not know",
        26: "no longer supported",
        27: "not ready",
        28: "no such GPU",
        29: "not in this state",
    }
)


@contextlib.contextmanager
def translated(call: str, meanings: Meanings = MappingProxyType({})) -> Iterator[None]:
    """Raise what *call* raises as a :class:`DriverError`, its cause attached."""
    try:
        yield
    except pynvml.NVMLError as error:
        code = int(error.value)
        kind = meanings.get(code) or EVERYWHERE.get(code, DriverError)
        meaning = _WORDS.get(code, "") if kind is DriverError else ""
        raise kind(call, code=code, meaning=meaning) from error
    except pynvml.NVMLLibraryMismatchError as error:
        raise FunctionNotFound(call) from error
