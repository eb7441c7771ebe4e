from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nodeagent.deviceplugin import cdi
from nodeagent.kubelet import Device, KubeletError

MIG_3 = Device("a", "GPU-0", 3, "MIG-1", ("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12"))
FILE = "tangram.dev-gpu-instance.json"


def test_the_specification_describes_each_slots_device(tmp_path: Path) -> None:
    cdi.publish(tmp_path / "cdi", {"mig-1g.10gb-3": MIG_3})

    assert json.loads((tmp_path / "cdi" / FILE).read_text()) == {
        "cdiVersion": "0.5.0",
        "kind": "tangram.dev/gpu-instance",
        "devices": [
            {
                "name": "mig-1g.10gb-3",
                "containerEdits": {
                    "env": ["NVIDIA_VISIBLE_DEVICES=MIG-1"],
                    "deviceNodes": [
                        {"path": "/dev/nvidia0", "permissions": "rw"},
                        {"path": "/dev/nvidia-caps/nvidia-cap12", "permissions": "rw"},
                    ],
                },
            }
        ],
    }


def test_names_are_such_as_cdi_allows() -> None:
    """SPEC.md: vendor a DNS subdomain, class and device of letters, digits and some marks."""
    vendor, name = cdi.KIND.split("/")
    assert re.fullmatch(r"[a-z0-9]+(\.[a-z0-9]+)+", vendor)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*[A-Za-z0-9]", name)
    for slot in ("mig-1g.10gb-3", "mig-1g.10gb.me-12"):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]*[A-Za-z0-9]", slot)
        assert cdi.qualified(slot) == f"{cdi.KIND}={slot}"


def test_a_file_that_says_the_same_is_left_alone(tmp_path: Path) -> None:
    cdi.publish(tmp_path, {"mig-1g.10gb-3": MIG_3})
    before = (tmp_path / FILE).stat()
    cdi.publish(tmp_path, {"mig-1g.10gb-3": MIG_3})

    assert (tmp_path / FILE).stat().st_ino == before.st_ino


def test_without_devices_there_is_no_file(tmp_path: Path) -> None:
    cdi.publish(tmp_path / "missing", {})
    cdi.publish(tmp_path, {"mig-1g.10gb-3": MIG_3})
    cdi.publish(tmp_path, {})

    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_agent_has_left_half_written_is_no_specification(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.new").write_text("{")
    cdi.publish(tmp_path, {"mig-1g.10gb-3": MIG_3})

    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KubeletError, match=r"is .*/file mounted"):
        cdi.publish(tmp_path / "file", {"mig-1g.10gb-3": MIG_3})
