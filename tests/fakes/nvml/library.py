"""Compiles the fake library, once for each content of its sources.

::

    path = build(directory)          # …/libnvidia-ml.so.1, whose SONAME is that too
    ctypes.CDLL(str(path))           # from here on pynvml in this process uses it, or:
    env["LD_LIBRARY_PATH"] = str(path.parent)     # of a new process
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.fakes.nvml import tables

SONAME = "libnvidia-ml.so.1"
CONTROL = "libtangram-fake-control.so"
STATE_VARIABLE = "TANGRAM_FAKE_NVML_STATE"
REQUIRE_VARIABLE = "TANGRAM_REQUIRE_GCC"
_SOURCES = Path(__file__).parent / "source"
_FLAGS = [
    "-std=gnu11",
    "-O1",
    "-g",
    "-Wall",
    "-Wextra",
    "-Werror",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-pthread",
]


class NoCompiler(Exception):
    """There is no gcc, so there is no fake library."""


def build(directory: Path) -> Path:
    """Return the fake library in *directory*, compiled if it is not there yet.

    Beside it lies the library with which :class:`~tests.fakes.nvml.machine.Machine` works.
    """
    gcc = shutil.which("gcc")
    if gcc is None:
        raise NoCompiler("gcc is not on PATH: the fake libnvidia-ml.so.1 cannot be compiled")
    sources = sorted(_SOURCES.glob("*.[ch]"))
    generated = tables.source()
    content = hashlib.sha256(generated.encode() + " ".join(_FLAGS).encode())
    for path in sources:
        content.update(path.name.encode() + path.read_bytes())
    home = directory / content.hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:  # of several test processes one compiles
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / SONAME).exists():
            (home / "tables.c").write_text(generated)
            written = [*(path for path in sources if path.suffix == ".c"), home / "tables.c"]
            _run([gcc, *_FLAGS, f"-I{_SOURCES}", "-c", *map(str, written)], home)
            objects = {path.with_suffix(".o").name for path in written}
            _link(gcc, objects, home / CONTROL)
            _link(gcc, objects - {"control.o", "kernel.o"}, home / SONAME)
    return home / SONAME


def _link(gcc: str, objects: set[str], to: Path) -> None:
    partial = to.with_suffix(".partial")
    soname = f"-Wl,-soname,{to.name}"
    _run([gcc, "-shared", "-pthread", soname, "-o", str(partial), *sorted(objects)], to.parent)
    partial.replace(to)


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"gcc failed on the fake NVML:\n{done.stderr}")


def built_for_tests(directory: Path) -> Path:
    """Return the library, skip the test where there is no gcc, or fail it where there must be."""
    try:
        return build(directory)
    except NoCompiler as missing:
        if os.environ.get(REQUIRE_VARIABLE) == "1":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
