"""The kernel's files, as they are read and written."""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePosixPath

import pytest

from nodeagent.driver import NoPermission, VgpuError
from nodeagent.vgpu.interface import Vgpu
from nodeagent.vgpu.mdev import Mdev
from nodeagent.vgpu.sysfs import MDEV_BUS, MDEV_DEVICES, PCI_DEVICES, Sysfs
from nodeagent.vgpu.vfio import VendorVfio, types

GPU = "0000:10:00.0"
VF = "0000:10:00.4"
UUID = "d428884a-e9ef-5127-85ea-b1c832eb5882"


@pytest.fixture
def sysfs(tmp_path: Path) -> Sysfs:
    (tmp_path / "proc/1/fd").mkdir(parents=True)
    return Sysfs(tmp_path)


def put(sysfs: Sysfs, path: PurePosixPath | str, text: str = "") -> Path:
    at = sysfs.root / path
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text(text)
    return at


def link(sysfs: Sysfs, path: PurePosixPath | str, target: str) -> None:
    at = sysfs.root / path
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(target)


@pytest.mark.parametrize(
    "path",
    [
        f"{PCI_DEVICES}/{VF}/remove",
        f"{PCI_DEVICES}/{GPU}/remove",
        f"{MDEV_DEVICES}/remove",
        f"{MDEV_DEVICES}//remove",
        f"{MDEV_DEVICES}/../{UUID}/remove",
        f"{MDEV_DEVICES}/{UUID}/../remove",
        f"{MDEV_DEVICES}/{UUID.upper()}/remove",
        f"{MDEV_DEVICES}/{VF}/remove",
        f"{MDEV_BUS}/{VF}/remove",
        f"{MDEV_BUS}/{VF}/mdev_supported_types/nvidia-/create",
        f"{MDEV_BUS}/{VF}/mdev_supported_types/nvidia-1/../../remove",
        f"{PCI_DEVICES}/{VF}/nvidia/../remove",
        f"{PCI_DEVICES}/{VF}/nvidia/vgpu_params",
        f"{PCI_DEVICES}/{VF}/nvidia/current_vgpu_type\n",
        f"/{PCI_DEVICES}/{VF}/nvidia/current_vgpu_type",
        "sys/class/../bus/pci/rescan",
    ],
)
def test_nothing_is_written_but_what_makes_and_removes_vgpus(sysfs: Sysfs, path: str) -> None:
    def every_file() -> list[str]:
        return [each.read_text() for each in sorted(sysfs.root.rglob("*")) if each.is_file()]

    put(sysfs, f"{PCI_DEVICES}/{VF}/remove")
    put(sysfs, f"{PCI_DEVICES}/{VF}/nvidia/current_vgpu_type")
    put(sysfs, f"{MDEV_DEVICES}/{UUID}/remove")

    with pytest.raises(VgpuError, match="no file that makes or removes a vGPU"):
        sysfs.write(PurePosixPath(path), "1")
    assert set(every_file()) == {""}


@pytest.mark.parametrize(
    "path",
    [
        f"{MDEV_BUS}/{VF}/mdev_supported_types/nvidia-474/create",
        f"{MDEV_DEVICES}/{UUID}/remove",
        f"{PCI_DEVICES}/{VF}/nvidia/current_vgpu_type",
    ],
)
def test_what_makes_and_removes_vgpus_is_written(sysfs: Sysfs, path: str) -> None:
    file = put(sysfs, path)

    sysfs.write(PurePosixPath(path), "1")

    assert file.read_text() == "1"


@pytest.mark.parametrize("uuid", ["", ".", "..", "x", UUID.upper(), f"{UUID}/..", f"../{VF}"])
def test_a_vgpu_without_a_proper_uuid_is_never_removed(sysfs: Sysfs, uuid: str) -> None:
    """An empty one would leave ``<function>/remove``, which takes the function off the bus."""
    hot_remove = put(sysfs, f"{PCI_DEVICES}/{VF}/remove")
    beside = put(sysfs, MDEV_DEVICES / "remove")

    with pytest.raises(VgpuError, match="no UUID"):
        Mdev(sysfs).remove(Vgpu(uuid, VF, type_id=1, gi_id=1, group=1))

    assert (hot_remove.read_text(), beside.read_text()) == ("", "")


def test_a_missing_file_is_an_error_with_its_path(sysfs: Sysfs) -> None:
    with pytest.raises(VgpuError, match=r"write /sys/.*current_vgpu_type: .*\(ENOENT\)") as caught:
        sysfs.write(PCI_DEVICES / VF / "nvidia/current_vgpu_type", "1")
    assert caught.value.code == errno.ENOENT


def test_a_device_that_is_no_pci_address_is_not_looked_for(sysfs: Sysfs) -> None:
    with pytest.raises(VgpuError, match="no PCI address"):
        VendorVfio(sysfs).existing("../../..")


# -- vendor VFIO -----------------------------------------------------------------------------------


def a_function(sysfs: Sysfs, current: str = "0", gi_id: str | None = None) -> PurePosixPath:
    """Give the GPU a virtual function; return the directory of its vGPU files."""
    link(sysfs, PCI_DEVICES / GPU / "virtfn0", f"../{VF}")
    put(sysfs, PCI_DEVICES / VF / "nvidia/current_vgpu_type", f"{current}\n")
    link(sysfs, PCI_DEVICES / VF / "iommu_group", "../../../kernel/iommu_groups/77")
    told = PCI_DEVICES / VF / "nvidia/gpu_instance_id"
    if gi_id is None:
        os.mknod(sysfs.root / told, 0o140444)  # a socket: ENXIO to whoever opens it
    else:
        put(sysfs, told, gi_id)
    return PCI_DEVICES / VF / "nvidia"


def test_a_function_without_a_vgpu_is_not_one(sysfs: Sysfs) -> None:
    a_function(sysfs)

    assert VendorVfio(sysfs).existing(GPU) == ()


def test_a_vgpu_is_told_with_all_that_its_files_say(sysfs: Sysfs) -> None:
    a_function(sysfs, "1145", "0")
    put(sysfs, PCI_DEVICES / VF / "vfio-dev/vfio3/dev")

    (vgpu,) = VendorVfio(sysfs).existing(GPU)

    assert vgpu == Vgpu(VF, VF, type_id=1145, gi_id=0, group=77, cdev="vfio3")
    assert vgpu.nodes == ("/dev/vfio/vfio", "/dev/vfio/77")
    assert vgpu.is_open(frozenset({"/dev/vfio/77"}))
    assert vgpu.is_open(frozenset({"/dev/vfio/devices/vfio3"}))
    assert not vgpu.is_open(frozenset({"/dev/vfio/vfio", "/dev/vfio/7", "/dev/vfio/3"}))


def test_no_such_device_is_no_gpu_instance(sysfs: Sysfs) -> None:
    a_function(sysfs, "1145")

    (vgpu,) = VendorVfio(sysfs).existing(GPU)
    assert vgpu.gi_id is None


def test_a_gpu_instance_id_that_is_not_told_at_all_is_an_error(sysfs: Sysfs) -> None:
    nvidia = a_function(sysfs, "1145", "1")
    (sysfs.root / nvidia / "gpu_instance_id").unlink()

    with pytest.raises(VgpuError, match="gpu_instance_id"):
        VendorVfio(sysfs).existing(GPU)


def test_a_function_of_another_driver_is_passed_over(sysfs: Sysfs) -> None:
    a_function(sysfs, "1145", "1")
    link(sysfs, PCI_DEVICES / GPU / "virtfn1", "../0000:10:00.5")
    (sysfs.root / PCI_DEVICES / "0000:10:00.5").mkdir()

    assert len(VendorVfio(sysfs).existing(GPU)) == 1


def test_functions_are_taken_in_the_kernels_order(sysfs: Sysfs) -> None:
    for number in (10, 2, 1):
        address = f"0000:10:01.{number % 8}"
        link(sysfs, PCI_DEVICES / GPU / f"virtfn{number}", f"../{address}")
        nvidia = PCI_DEVICES / address / "nvidia"
        put(sysfs, nvidia / "current_vgpu_type", "0")
        put(sysfs, nvidia / "creatable_vgpu_types", "ID : vGPU Name\n7 : NVIDIA A30-1-6C")

    order = VendorVfio(sysfs).order(GPU, "NVIDIA A30-1-6C", "a1")

    assert (order.id, order.type_id, order.text) == ("0000:10:01.1", 7, "7")


@pytest.mark.parametrize("text", ["", "N/A", "none", "-1", "1145 1146"])
def test_a_garbled_type_is_an_error_with_its_path(sysfs: Sysfs, text: str) -> None:
    a_function(sysfs, text)

    with pytest.raises(VgpuError, match=r"current_vgpu_type: not a number"):
        VendorVfio(sysfs).existing(GPU)


def test_a_list_of_types_is_read_as_the_driver_writes_it() -> None:
    text = "ID    : vGPU Name\n1145  : NVIDIA L40S-1B\n  12 : NVIDIA A100-1-5CME \n\n"

    assert types(text, PurePosixPath("f")) == {"NVIDIA L40S-1B": 1145, "NVIDIA A100-1-5CME": 12}
    assert types("ID    : vGPU Name", PurePosixPath("f")) == {}
    assert types("N/A", PurePosixPath("f")) == {}


@pytest.mark.parametrize("line", ["1145", "x : y", "1145 :", ": NVIDIA", "0 : none", "no types"])
def test_a_line_that_is_no_type_is_an_error_with_its_path(line: str) -> None:
    with pytest.raises(VgpuError, match="read /the/file: no vGPU type"):
        types(f"ID    : vGPU Name\n{line}", PurePosixPath("the/file"))


def test_a_function_that_holds_another_vgpu_by_now_is_not_cleared(sysfs: Sysfs) -> None:
    nvidia = a_function(sysfs, "1146", "1")

    VendorVfio(sysfs).remove(Vgpu(VF, VF, type_id=1145, gi_id=1, group=77))

    assert (sysfs.root / nvidia / "current_vgpu_type").read_text() == "1146\n"


# -- mdev ------------------------------------------------------------------------------------------


def a_device(sysfs: Sysfs, name: str = UUID, function: str = VF) -> PurePosixPath:
    """Make a mediated device; return its directory."""
    if not (sysfs.root / PCI_DEVICES / GPU / "virtfn0").is_symlink():
        link(sysfs, PCI_DEVICES / GPU / "virtfn0", f"../{VF}")
    home = PurePosixPath("sys/devices/pci0000:00") / function / name
    link(sysfs, MDEV_DEVICES / name, f"../../../devices/pci0000:00/{function}/{name}")
    link(sysfs, home / "mdev_type", "../mdev_supported_types/nvidia-474")
    link(sysfs, home / "iommu_group", "../../../../kernel/iommu_groups/77")
    put(sysfs, home / "nvidia/gpu_instance_id", "3\n")
    return home


def test_a_mediated_device_is_told_with_all_that_its_files_say(sysfs: Sysfs) -> None:
    a_device(sysfs)

    assert Mdev(sysfs).existing(GPU) == (Vgpu(UUID, VF, type_id=474, gi_id=3, group=77),)


def test_mediated_devices_of_others_are_no_concern_whatever_their_names(sysfs: Sysfs) -> None:
    a_device(sysfs)
    a_device(sysfs, "not-a-uuid", "0000:20:00.4")

    assert len(Mdev(sysfs).existing(GPU)) == 1


@pytest.mark.parametrize("name", ["not-a-uuid", UUID.upper()])
def test_a_mediated_device_of_ours_with_a_strange_name_is_an_error(sysfs: Sysfs, name: str) -> None:
    a_device(sysfs, name)

    with pytest.raises(VgpuError, match="no UUID"):
        Mdev(sysfs).existing(GPU)


@pytest.mark.parametrize("missing", ["mdev_type", "iommu_group", "nvidia/gpu_instance_id"])
def test_a_mediated_device_lacks_no_file(sysfs: Sysfs, missing: str) -> None:
    home = a_device(sysfs)
    (sysfs.root / home / missing).unlink()

    with pytest.raises(VgpuError, match=f"{missing}: .*ENOENT"):
        Mdev(sysfs).existing(GPU)


def test_a_mediated_device_of_no_type_is_an_error(sysfs: Sysfs) -> None:
    home = a_device(sysfs)
    (sysfs.root / home / "mdev_type").unlink()
    link(sysfs, home / "mdev_type", "../mdev_supported_types/i915-GVTg_V5_4")

    with pytest.raises(VgpuError, match="mdev_type: no vGPU type"):
        Mdev(sysfs).existing(GPU)


def a_type(sysfs: Sysfs, free: str) -> None:
    link(sysfs, PCI_DEVICES / GPU / "virtfn0", f"../{VF}")
    directory = MDEV_BUS / VF / "mdev_supported_types/nvidia-474"
    put(sysfs, directory / "name", "NVIDIA A100-1-5C\n")
    put(sysfs, directory / "available_instances", free)


def test_a_type_is_ordered_where_one_is_available(sysfs: Sysfs) -> None:
    a_type(sysfs, "1\n")

    order = Mdev(sysfs).order(GPU, "NVIDIA A100-1-5C", "a1")

    assert (order.id, order.text, order.type_id) == (UUID, UUID, 474)
    assert str(order.path) == f"{MDEV_BUS}/{VF}/mdev_supported_types/nvidia-474/create"


@pytest.mark.parametrize("wanted", ["NVIDIA A100-1-5C", "NVIDIA A100-1-5"])
def test_what_is_not_available_or_not_offered_is_refused(sysfs: Sysfs, wanted: str) -> None:
    a_type(sysfs, "0" if wanted.endswith("C") else "1")

    with pytest.raises(VgpuError, match="no free virtual function offers the type") as caught:
        Mdev(sysfs).order(GPU, wanted, "a1")
    assert caught.value.code == errno.ENOSPC


def test_a_garbled_number_of_available_instances_is_not_zero(sysfs: Sysfs) -> None:
    a_type(sysfs, "many")

    with pytest.raises(VgpuError, match="available_instances: not a number: 'many'"):
        Mdev(sysfs).order(GPU, "NVIDIA A100-1-5C", "a1")


# -- who has what open -----------------------------------------------------------------------------


def test_what_processes_have_open_is_told(sysfs: Sysfs) -> None:
    link(sysfs, "proc/4711/fd/3", "/dev/vfio/77")
    link(sysfs, "proc/4711/fd/4", "socket:[1]")
    put(sysfs, "proc/self/fd/9")

    assert sysfs.opened() == {"/dev/vfio/77", "socket:[1]"}


def test_a_process_that_has_vanished_has_nothing_open(sysfs: Sysfs) -> None:
    (sysfs.root / "proc/4711").mkdir()

    assert sysfs.opened() == frozenset()


def test_not_to_see_any_process_is_not_to_know(tmp_path: Path) -> None:
    with pytest.raises(VgpuError, match="no process is to be seen"):
        Sysfs(tmp_path).opened()


class Guarded(Sysfs):
    """Files of which one cannot be accessed."""

    guarded = PurePosixPath()
    code = errno.EACCES

    def _list(self, path: PurePosixPath) -> list[str]:
        self._guard(path)
        return super()._list(path)

    def _follow(self, path: PurePosixPath) -> str:
        self._guard(path)
        return super()._follow(path)

    def _guard(self, path: PurePosixPath) -> None:
        if path == self.guarded:
            raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("path", ["proc/4711/fd", "proc/4711/fd/3"])
@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_what_may_not_be_looked_into_is_not_taken_for_closed(
    tmp_path: Path, path: str, code: int
) -> None:
    sysfs = Guarded(tmp_path)
    link(sysfs, "proc/4711/fd/3", "/dev/vfio/77")
    sysfs.guarded, sysfs.code = PurePosixPath(path), code

    with pytest.raises(NoPermission, match="must see all processes of the node"):
        sysfs.opened()


def test_any_other_error_of_looking_into_a_process_is_told(tmp_path: Path) -> None:
    sysfs = Guarded(tmp_path)
    link(sysfs, "proc/4711/fd/3", "/dev/vfio/77")
    sysfs.guarded, sysfs.code = PurePosixPath("proc/4711/fd/3"), errno.EIO

    with pytest.raises(VgpuError, match="EIO"):
        sysfs.opened()


def test_several_iommufd_files_of_one_vgpu_are_an_error(sysfs: Sysfs) -> None:
    a_function(sysfs, "1145", "1")
    for name in ("vfio3", "vfio4"):
        put(sysfs, PCI_DEVICES / VF / "vfio-dev" / name / "dev")

    with pytest.raises(VgpuError, match="not one VFIO device"):
        VendorVfio(sysfs).existing(GPU)
