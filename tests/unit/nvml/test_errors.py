from __future__ import annotations

import pynvml
import pytest

from nodeagent import driver
from nodeagent.driver import DriverError, GpuLost
from nodeagent.nvml.errors import translated

CALL = "nvmlDeviceGetName"

CODES = sorted(
    value
    for name, value in vars(pynvml).items()
    if name.startswith("NVML_ERROR_") and isinstance(value, int)
)


def told(code: int) -> DriverError:
    with pytest.raises(DriverError) as caught, translated(CALL):
        raise pynvml.NVMLError(code)
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "meaning"),
    [
        (3, driver.NotSupported, "not supported"),
        (4, driver.NoPermission, "no permission"),
        (6, driver.NoSuchInstance, "no such GPU instance"),
        (9, driver.DriverNotLoaded, "the NVIDIA driver is not loaded"),
        (10, driver.DriverTimeout, "no answer in time"),
        (12, driver.LibraryNotFound, "libnvidia-ml.so.1 cannot be loaded"),
        (13, driver.FunctionNotFound, "the installed driver does not know the call"),
        (15, driver.GpuLost, "GPU is lost"),
        (16, driver.ResetRequired, "the GPU must be reset"),
        (18, driver.VersionMismatch, "library and kernel driver are of different versions"),
        (19, driver.InstanceInUse, "in use by a client"),
        (23, driver.PlacementUnavailable, "insufficient resources at that placement"),
        (2, DriverError, "invalid argument"),
        (17, DriverError, "the operating system blocked the call"),
        (999, DriverError, "unknown error"),
        (12345, DriverError, "unknown error"),
    ],
)
def test_an_error_tells_call_meaning_and_code(
    code: int, kind: type[DriverError], meaning: str
) -> None:
    error = told(code)

    assert type(error) is kind
    assert str(error) == f"{CALL}: {meaning} (NVML error {code})"
    assert (error.call, error.code) == (CALL, code)


@pytest.mark.parametrize("code", CODES)
def test_every_code_that_pynvml_knows_is_translated_with_its_cause(code: int) -> None:
    error = told(code)

    assert error.code == code
    assert isinstance(error.__cause__, pynvml.NVMLError)


def test_a_call_may_give_a_code_a_narrower_meaning_and_keeps_the_code() -> None:
    with pytest.raises(GpuLost) as caught, translated(CALL, {6: GpuLost}):
        raise pynvml.NVMLError(6)

    assert str(caught.value) == f"{CALL}: GPU is lost (NVML error 6)"


def test_a_library_of_another_version_lacks_the_function() -> None:
    with pytest.raises(driver.FunctionNotFound), translated(CALL):
        raise pynvml.NVMLLibraryMismatchError("so")


def test_pynvml_does_not_leak() -> None:
    assert not issubclass(DriverError, pynvml.NVMLError)
    assert not issubclass(pynvml.NVMLError, DriverError)
