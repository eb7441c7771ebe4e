"""The fake kubelet's checkpoint is a kubelet's, to its checksum."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.kubelet import checkpoint
from tests.fakes.kubelet.checkpoint import Corrupt, Entry

ENTRIES = [
    Entry(
        "u1",
        "compute",
        "nvidia.com/NVIDIA_H100XM-1-10C",
        {-1: ["NVIDIA_H100XM-1-10C-3", 'a"b']},
        b"hello world, this is more than sixteen bytes\n",
    ),
    Entry("u2", "c", "r", {1: ["x"], 0: ["y", "z"]}, b""),
]
REGISTERED = {"b": ["1", "2"], "c": []}


@pytest.mark.parametrize(
    ("entries", "registered", "checksum"),
    [
        ([], {}, 3467439661),
        (ENTRIES, REGISTERED, 1158763654),
    ],
)
def test_its_checksum_is_what_kubernetes_1_36_writes(
    entries: list[Entry], registered: dict[str, list[str]], checksum: int
) -> None:
    """By checkpoint.New(…).MarshalCheckpoint() of k8s.io/kubernetes v1.36.4."""
    assert checkpoint.checksum(entries, registered) == checksum


def test_its_text_is_what_kubernetes_writes() -> None:
    assert checkpoint.text([], {}) == (
        b'{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{}},"Checksum":3467439661}'
    )


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "checkpoint", ENTRIES, REGISTERED)

    assert checkpoint.read(tmp_path / "checkpoint") == (ENTRIES, REGISTERED)


def test_one_byte_amiss_is_found(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(checkpoint.text(ENTRIES, REGISTERED).replace(b"compute", b"computf"))

    with pytest.raises(Corrupt):
        checkpoint.read(path)
