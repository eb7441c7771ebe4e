from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.nvml.host import boot_id, numa_node, pci_address


@pytest.mark.parametrize(
    ("nvml", "kernel"),
    [("00000000:3B:00.0", "0000:3b:00.0"), ("00010000:01:00.0", "10000:01:00.0")],
)
def test_a_pci_address_is_spelled_as_the_kernel_does(nvml: str, kernel: str) -> None:
    assert pci_address(nvml) == kernel


def test_the_boot_and_the_numa_node_are_read_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "proc/sys/kernel/random").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/random/boot_id").write_text("1f5e\n")
    (tmp_path / "sys/bus/pci/devices/0000:3b:00.0").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices/0000:3b:00.0/numa_node").write_text("1\n")

    assert boot_id(tmp_path) == "1f5e"
    assert numa_node(tmp_path, "0000:3b:00.0") == 1
    assert numa_node(tmp_path, "0000:3c:00.0") == -1
