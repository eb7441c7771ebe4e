"""Finding the driver's libraries in a pod, by its processes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from nodeagent.driver import LibraryNotFound
from nodeagent.harvester.cgroups import pod_of
from nodeagent.harvester.root import DriverRoot
from nodeagent.nvml import Location

DRIVER = "01234567-89ab-cdef-0123-456789abcdef"
NEXT = "11111111-89ab-cdef-0123-456789abcdef"
TENANT = "fedcba98-7654-3210-fedc-ba9876543210"


class Proc:
    """A ``/proc``; files of a process's root are below ``files``."""

    def __init__(self, directory: Path) -> None:
        self.pods: frozenset[str] | None = frozenset({DRIVER, NEXT})
        self.path = directory / "proc"
        self.path.mkdir()
        (self.path / "sys").mkdir()
        self._files = directory / "files"

    def start(
        self,
        pid: int,
        files: str,
        *,
        driver: bool,
        started: int | None = None,
        cgroup: str = f"0::/kubepods/besteffort/pod{DRIVER}/1",
    ) -> None:
        root = self._files / files
        root.mkdir(parents=True, exist_ok=True)
        if driver:
            tool = root / "usr/lib/nvidia/sriov-manage"
            tool.parent.mkdir(parents=True, exist_ok=True)
            tool.touch()
        home = self.path / str(pid)
        home.mkdir()
        (home / "root").symlink_to(root)
        (home / "cgroup").write_text(f"{cgroup}\n")
        ticks = pid if started is None else started
        fields = " ".join(["S", *["0"] * 18, str(ticks), "0"])
        (home / "stat").write_text(f"{pid} (a (b) c) {fields}\n")

    def end(self, pid: int) -> None:
        shutil.rmtree(self.path / str(pid))

    def finder(self) -> DriverRoot:
        return DriverRoot(self.path, lambda: self.pods)

    def root(self, pid: int) -> Location:
        return Location(root=self.path / str(pid) / "root")


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    made = Proc(tmp_path)
    made.start(1, "host", driver=False, cgroup="0::/init.scope")
    made.start(700, "other", driver=False)
    return made


def test_the_oldest_process_with_the_drivers_files_leads_there(proc: Proc) -> None:
    proc.start(900, "driver", driver=True, started=5)
    proc.start(800, "driver-too", driver=True, started=9)

    assert proc.finder().location() == proc.root(900)


def test_it_is_kept_while_it_lives_and_another_is_found_after_it(proc: Proc) -> None:
    proc.start(800, "driver", driver=True)
    finder = proc.finder()
    first = finder.location()
    proc.start(750, "driver-2", driver=True, started=1)

    assert finder.location() == first == proc.root(800)
    proc.end(800)
    assert finder.location() == proc.root(750)


def test_a_process_that_has_taken_its_number_is_another(proc: Proc) -> None:
    proc.start(800, "driver", driver=True)
    finder = proc.finder()
    assert finder.location() == proc.root(800)
    proc.end(800)
    proc.start(800, "stranger", driver=False, started=77)
    proc.start(900, "driver", driver=True)

    assert finder.location() == proc.root(900)


def test_without_a_pod_the_host_may_have_it(proc: Proc) -> None:
    proc.start(2, "host", driver=True, cgroup="0::/system.slice/some.service")
    assert proc.finder().location() == proc.root(1)
    proc.start(800, "driver", driver=True)

    assert proc.finder().location() == proc.root(800)


def test_that_there_is_none_is_said_with_the_remedy(proc: Proc) -> None:
    with pytest.raises(LibraryNotFound, match="nvidia-driver-toolkit"):
        proc.finder().location()


def test_links_of_the_pod_are_followed_below_its_root(proc: Proc, tmp_path: Path) -> None:
    proc.start(800, "driver", driver=False)
    inside = tmp_path / "files/driver"
    (inside / "opt/nvidia").mkdir(parents=True)
    (inside / "opt/nvidia/sriov-manage").touch()
    (inside / "usr/lib").mkdir(parents=True)
    os.symlink("/opt/nvidia", inside / "usr/lib/nvidia")  # the host has no /opt/nvidia

    assert proc.finder().location() == proc.root(800)


def systemd(uid: str) -> str:
    return f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods.slice/kubepods-burstable.slice/{systemd(TENANT)}/cri-1.scope",
        # Below its own directory a container names control groups as it likes.
        f"0::/kubepods.slice/{systemd(TENANT)}/cri-1.scope/{systemd(DRIVER)}",
        f"0::/kubepods/burstable/pod{TENANT}/1/pod{DRIVER}",
        f"0::/../../{systemd(TENANT)}/cri-1.scope/pod{DRIVER}",
        f"5:cpu:/kubepods/pod{TENANT}/1\n4:memory:/kubepods/pod{DRIVER}/1",
        "0::/user.slice/user-1000.slice",
        "",
    ],
)
def test_a_root_that_looks_like_the_drivers_is_none_outside_its_pod(
    proc: Proc, cgroup: str
) -> None:
    proc.start(800, "forged", driver=True, started=1, cgroup=cgroup)
    with pytest.raises(LibraryNotFound, match="no process of Harvester's driver pod has"):
        proc.finder().location()

    proc.start(900, "driver", driver=True)
    assert proc.finder().location() == proc.root(900)


def test_a_driver_pod_that_is_replaced_is_followed_and_nobody_elses_meanwhile(proc: Proc) -> None:
    proc.pods = frozenset({DRIVER})
    proc.start(800, "driver", driver=True)
    finder = proc.finder()
    assert finder.location() == proc.root(800)
    proc.end(800)
    proc.start(750, "forged", driver=True, cgroup=f"0::/kubepods/pod{TENANT}/1")
    proc.start(900, "driver-2", driver=True, cgroup=f"0::/kubepods/pod{NEXT}/1")

    with pytest.raises(LibraryNotFound):
        finder.location()
    proc.pods = frozenset({NEXT})
    assert finder.location() == proc.root(900)


def test_before_the_pods_are_known_not_even_the_host_is_taken(proc: Proc) -> None:
    proc.start(2, "host", driver=True, cgroup="0::/init.scope")
    proc.pods = None

    with pytest.raises(LibraryNotFound, match="not known yet"):
        proc.finder().location()


@pytest.mark.parametrize(
    "cgroup",
    [
        f"0::/kubepods.slice/kubepods-burstable.slice/{systemd(DRIVER)}/cri-containerd-1.scope",
        f"0::/../../{systemd(DRIVER)}/cri-containerd-1.scope",
        f"0::/kubepods/besteffort/pod{DRIVER}/1234",
        f"0::/../../pod{DRIVER}/1234",
        f"12:pids:/kubepods/pod{DRIVER}/1\n11:cpu,cpuacct:/kubepods/pod{DRIVER}/1\n10:rdma:/",
        f"1:name=systemd:/kubepods.slice/{systemd(DRIVER)}/crio-1.scope\n0::/",
    ],
)
def test_the_pod_of_a_process_is_told_by_its_control_groups(cgroup: str) -> None:
    assert pod_of(cgroup) == DRIVER
