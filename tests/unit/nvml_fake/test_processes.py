"""Several processes and one machine: what they see of each other, and what a kill leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from tests.fakes.nvml.library import NoCompiler, build, built_for_tests
from tests.fakes.nvml.machine import Machine

ROUNDS = int(os.environ.get("TANGRAM_NVML_FAKE_ROUNDS", "3000"))
"""Random steps of each of the four processes."""

CREATE = "nvmlDeviceCreateGpuInstanceWithPlacement"

STEP = """
import ctypes, pynvml as nvml
nvml.nvmlInit()
device = nvml.nvmlDeviceGetHandleByIndex(0)
at = nvml.c_nvmlGpuInstancePlacement_t(4, 4)
made = nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, 9, ctypes.byref(at))
nvml.nvmlGpuInstanceCreateComputeInstance(made, 2)
"""

LIST = """
import pynvml as nvml
from tests.unit.nvml_fake.asking import gpu_instances
nvml.nvmlInit()
device = nvml.nvmlDeviceGetHandleByIndex(0)
for gi_id, info in gpu_instances(nvml, device).items():
    instance = nvml.nvmlDeviceGetGpuInstanceById(device, gi_id)
    try:
        nvml.nvmlGpuInstanceGetComputeInstanceById(instance, 0)
        inside = "with"
    except nvml.NVMLError_NotFound:
        inside = "without"
    print(gi_id, info.profileId, info.placement.start, info.placement.size, inside)
"""

RANDOM = """
import os, random, sys
from pathlib import Path
import pynvml as nvml
from tests.fakes.nvml.library import SONAME, STATE_VARIABLE
from tests.fakes.nvml.machine import Machine
from tests.unit.nvml_fake.asking import create, gpu_instances, placements, profiles
rounds, seed = map(int, sys.argv[1:])
chance = random.Random(seed)
nvml.nvmlInit()
device = nvml.nvmlDeviceGetHandleByIndex(0)
choices = [(i.id, at) for i in profiles(nvml, device).values()
           for at in placements(nvml, device, i.id)]
machine = Machine(Path(os.environ["LD_LIBRARY_PATH"]) / SONAME, Path(os.environ[STATE_VARIABLE]))
mine, refused, most = [], 0, 0
print("ready", flush=True)
sys.stdin.readline()
for step in range(rounds):
    seen, taken = machine.gpu_instances(0), 0
    most = max(most, len(seen))
    for instance in seen:
        assert not instance.placement.mask & taken, seen
        taken |= instance.placement.mask
    if mine and chance.random() < 0.5:
        nvml.nvmlGpuInstanceDestroy(mine.pop(chance.randrange(len(mine))))
        continue
    profile_id, at = chance.choice(choices)
    try:
        mine.append(create(nvml, device, profile_id, at.start, at.size))
    except nvml.NVMLError as error:
        assert error.value == nvml.NVML_ERROR_INSUFFICIENT_RESOURCES, error
        refused += 1
for handle in mine:
    nvml.nvmlGpuInstanceDestroy(handle)
print(refused, most)
"""


def start(
    machine: Machine, code: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[3])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=machine.environment() | {"PYTHONPATH": root} | dict(environment or {}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def output(machine: Machine, code: str) -> list[str]:
    process = start(machine, code)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    return text.splitlines()


def test_a_kill_between_create_and_its_return_leaves_a_gpu_instance_and_nothing_in_it(
    machine: Machine,
) -> None:
    machine.kill(CREATE, done=True)

    process = start(machine, STEP)
    process.communicate(timeout=30)

    assert process.returncode == -signal.SIGKILL
    assert output(machine, LIST) == ["1 9 4 4 without"]  # and the lock was handed on
    (call,) = machine.calls(CREATE)
    assert (call.pid, call.code) == (process.pid, None)


def test_a_kill_before_create_leaves_nothing(machine: Machine) -> None:
    machine.kill(CREATE, done=False)

    process = start(machine, STEP)
    process.communicate(timeout=30)

    assert process.returncode == -signal.SIGKILL
    assert output(machine, LIST) == []


def test_what_one_process_made_another_one_sees(machine: Machine) -> None:
    output(machine, STEP)

    assert output(machine, LIST) == ["1 9 4 4 with"]


def test_four_processes_never_overlap(machine: Machine) -> None:
    machine.logging(False)
    processes = [start(machine, RANDOM, ROUNDS, seed) for seed in range(4)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=60)[0].split() for process in processes]

    assert [process.returncode for process in processes] == [0] * 4  # none has seen an overlap
    assert machine.gpu_instances(0) == []
    for refused, most in told:
        assert int(refused) > 0  # they did get into each other's way
        assert int(most) > 1


def test_a_killed_process_never_leaves_the_lock_behind(machine: Machine) -> None:
    machine.logging(False)
    for _ in range(2):
        process = start(machine, RANDOM, 10**9, 0)
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
        while not machine.gpu_instances(0):
            assert process.poll() is None
        process.kill()
        process.communicate()
        for instance in machine.gpu_instances(0):
            machine.destroy_gpu_instance(0, instance.gi_id)
    assert machine.create_gpu_instance(0, 0, Placement(0, 8)) == 1


def test_preloading_the_library_is_enough_for_pynvml(machine: Machine) -> None:
    code = (
        f"import ctypes; ctypes.CDLL({str(machine.library)!r}); import os\n"
        "assert not os.environ['LD_LIBRARY_PATH']\n"
        "import pynvml as nvml; nvml.nvmlInit(); print(nvml.nvmlDeviceGetCount())"
    )
    process = start(machine, code, environment={"LD_LIBRARY_PATH": ""})

    assert process.communicate(timeout=30)[0] == "2\n"


def test_a_process_without_a_machine_finds_no_driver(machine: Machine) -> None:
    machine.state.unlink()
    code = "import pynvml as nvml\ntry: nvml.nvmlInit()\nexcept nvml.NVMLError as e: print(e.value)"

    assert output(machine, code) == ["9"]


def test_the_same_sources_are_compiled_once(library: Path, tmp_path: Path) -> None:
    built = library.stat().st_mtime_ns

    assert build(library.parents[1]) == library
    assert library.stat().st_mtime_ns == built
    assert library.name == "libnvidia-ml.so.1"


def test_without_gcc_tests_skip_with_one_line_or_fail_where_it_must_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nothing(name: str, *_: Any) -> None:
        return None

    monkeypatch.setattr(shutil, "which", nothing)
    monkeypatch.delenv("TANGRAM_REQUIRE_GCC", raising=False)

    with pytest.raises(NoCompiler, match="gcc is not on PATH"):
        build(tmp_path)
    with pytest.raises(pytest.skip.Exception, match="gcc is not on PATH"):
        built_for_tests(tmp_path)
    monkeypatch.setenv("TANGRAM_REQUIRE_GCC", "1")
    with pytest.raises(pytest.fail.Exception, match="gcc is not on PATH"):
        built_for_tests(tmp_path)


def test_a_machine_needs_a_model_of_the_catalog_and_a_state_of_this_build(
    library: Path, tmp_path: Path
) -> None:
    (tmp_path / "garbage").write_bytes(b"x" * 10**6)

    with pytest.raises(ValueError, match="no model 'V100'"):
        Machine.create(library, tmp_path / "state", "V100")
    with pytest.raises(ValueError, match="not the state"):
        Machine(library, tmp_path / "garbage")
    with pytest.raises(FileExistsError):
        Machine.create(library, tmp_path / "state", next(iter(MODELS)))
