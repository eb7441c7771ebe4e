"""Finding the driver's libraries in a pod, by its processes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nodeagent.driver import LibraryNotFound
from nodeagent.harvester.root import DriverRoot
from nodeagent.nvml import Location


class Proc:
    """A ``/proc``; files of a process's root are below ``files``."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "proc"
        self.path.mkdir()
        (self.path / "sys").mkdir()
        self._files = directory / "files"

    def start(self, pid: int, namespace: str, *, driver: bool, started: int | None = None) -> None:
        root = self._files / namespace
        root.mkdir(parents=True, exist_ok=True)
        if driver:
            tool = root / "usr/lib/nvidia/sriov-manage"
            tool.parent.mkdir(parents=True, exist_ok=True)
            tool.touch()
        home = self.path / str(pid)
        (home / "ns").mkdir(parents=True)
        (home / "root").symlink_to(root)
        (home / "ns/mnt").symlink_to(f"mnt:[{namespace}]")
        ticks = pid if started is None else started
        fields = " ".join(["S", *["0"] * 18, str(ticks), "0"])
        (home / "stat").write_text(f"{pid} (a (b) c) {fields}\n")

    def end(self, pid: int) -> None:
        shutil.rmtree(self.path / str(pid))

    def root(self, pid: int) -> Location:
        return Location(root=self.path / str(pid) / "root")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    made.start(1, "host", driver=False)
    made.start(700, "other", driver=False)
    return made


def test_the_oldest_process_with_the_drivers_files_leads_there(proc: Proc) -> None:
    proc.start(900, "driver", driver=True, started=5)
    proc.start(800, "driver-too", driver=True, started=9)

    assert DriverRoot(proc.path).location() == proc.root(900)


def test_it_is_kept_while_it_lives_and_another_is_found_after_it(proc: Proc) -> None:
    proc.start(800, "driver", driver=True)
    finder = DriverRoot(proc.path)
    first = finder.location()
    proc.start(750, "driver-2", driver=True, started=1)

    assert finder.location() == first == proc.root(800)
    proc.end(800)
    assert finder.location() == proc.root(750)


def test_a_process_that_has_taken_its_number_is_another(proc: Proc) -> None:
    proc.start(800, "driver", driver=True)
    finder = DriverRoot(proc.path)
    assert finder.location() == proc.root(800)
    proc.end(800)
    proc.start(800, "stranger", driver=False, started=77)
    proc.start(900, "driver", driver=True)

    assert finder.location() == proc.root(900)


def test_without_a_pod_the_host_may_have_it(proc: Proc) -> None:
    proc.start(2, "host", driver=True)
    assert DriverRoot(proc.path).location() == proc.root(1)
    proc.start(800, "driver", driver=True)

    assert DriverRoot(proc.path).location() == proc.root(800)


def test_that_there_is_none_is_said_with_the_remedy(proc: Proc) -> None:
    with pytest.raises(LibraryNotFound, match="nvidia-driver-toolkit"):
        DriverRoot(proc.path).location()


def test_links_of_the_pod_are_followed_below_its_root(proc: Proc, tmp_path: Path) -> None:
    proc.start(800, "driver", driver=False)
    inside = tmp_path / "files/driver"
    (inside / "opt/nvidia").mkdir(parents=True)
    (inside / "opt/nvidia/sriov-manage").touch()
    (inside / "usr/lib").mkdir(parents=True)
    os.symlink("/opt/nvidia", inside / "usr/lib/nvidia")  # the host has no /opt/nvidia

    assert DriverRoot(proc.path).location() == proc.root(800)
