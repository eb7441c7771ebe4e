"""NVIDIA's ``sriov-manage`` for a fake machine, as an executable script.

It gives the GPU its virtual functions, which ends all that the GPU holds. While a client has the
GPU open it says that it cannot obtain the lock, and does nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fakes.nvml.machine import Machine
from tests.fakes.sysfs.kernel import Kernel
from tests.fakes.sysfs.tree import gpu_address

_SCRIPT = """#!{python}
import sys
sys.path.insert(0, {repository!r})
from tests.fakes.sysfs.sriov_manage import run
run({library!r}, {state!r}, {functions}, sys.argv[1:])
"""


def install(directory: Path, machine: Machine, functions: int) -> Path:
    """Write the script for *machine*, whose GPUs have that many *functions*, and return it."""
    script = directory / "sriov-manage"
    script.write_text(
        _SCRIPT.format(
            python=sys.executable,
            repository=str(Path(__file__).parents[3]),
            library=str(machine.library),
            state=str(machine.state),
            functions=functions,
        )
    )
    script.chmod(0o755)
    return script


def busy(machine: Machine, attempts: int) -> None:
    """Let the GPUs have a client during the next so many *attempts*."""
    _attempts(machine.state).write_text(str(attempts))


def run(library: str, state: str, functions: int, arguments: list[str]) -> None:
    """Do what the script does."""
    machine = Machine(Path(library), Path(state))
    option, address = arguments
    gpu = next(n for n in range(len(machine.uuids)) if gpu_address(n) == address)
    left = int(_attempts(machine.state).read_text()) if _attempts(machine.state).exists() else 0
    if option != "-e":
        raise SystemExit(f"no option {option}")
    if left:
        busy(machine, left - 1)
        raise SystemExit(f"Cannot obtain unbindLock for {address}")
    Kernel(machine).enable_functions(gpu, functions)
    print(f"Enabling VFs on {address}")


def _attempts(state: Path) -> Path:
    return state.with_name(state.name + ".unbindLock")
