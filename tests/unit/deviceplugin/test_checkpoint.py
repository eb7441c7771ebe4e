from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nodeagent.deviceplugin import checkpoint
from nodeagent.deviceplugin.checkpoint import Entry
from nodeagent.kubelet import KubeletError
from tests.fakes.kubelet import checkpoint as written
from tests.unit.deviceplugin.node import SMALL, slot


def text(devices: Any, **others: Any) -> str:
    entry = {"PodUID": "u", "ContainerName": "c", "ResourceName": SMALL, "DeviceIDs": devices}
    entry |= {"AllocResp": "AAAA"} | others
    return json.dumps({"Data": {"PodDeviceEntries": [entry], "RegisteredDevices": {}}})


@pytest.mark.parametrize(
    ("devices", "read"),
    [
        ({"-1": [slot(3), slot(4)]}, (slot(3), slot(4))),
        ({"0": [slot(3)], "1": [slot(3), slot(4)]}, (slot(3), slot(4))),
        ({"0": None}, ()),
        (None, ()),
        ([slot(3)], (slot(3),)),
    ],
    ids=["no NUMA", "two NUMA nodes", "null", "none", "through 1.19"],
)
def test_both_forms_of_a_checkpoint_are_read(
    tmp_path: Path, devices: Any, read: tuple[str, ...]
) -> None:
    path = tmp_path / "checkpoint"
    path.write_text(text(devices))

    assert checkpoint.read(path) == [Entry("u", SMALL, read)]


def test_what_a_kubelet_writes_without_pods_has_none(tmp_path: Path) -> None:
    written.write(tmp_path / "checkpoint", [], {SMALL: [slot(0)]})

    assert checkpoint.read(tmp_path / "checkpoint") == []


def test_fields_of_later_kubelets_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.write_text(text({"-1": [slot(3)]}, Later={"a": 1}))

    assert checkpoint.read(path) == [Entry("u", SMALL, (slot(3),))]


def test_no_checkpoint_is_not_an_empty_one(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path / "checkpoint") is None


@pytest.mark.parametrize("length", [0, 1, 40, 100, 170])
def test_a_torn_checkpoint_is_no_checkpoint(tmp_path: Path, length: int) -> None:
    path = tmp_path / "checkpoint"
    path.write_text(text({"-1": [slot(3)]})[:length])

    with pytest.raises(KubeletError, match="drain the node") as error:
        checkpoint.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "null",
        "{}",
        '{"Data": {}}',
        '{"Data": {"PodDeviceEntries": [{}]}}',
        text({"-1": [3]}),
        text("slot"),
        text({"-1": ["a"]}, PodUID=None),
        "\xff",
        "[" * 10_000,
    ],
)
def test_what_is_not_a_checkpoint_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "checkpoint"
    path.write_bytes(content.encode("latin-1"))

    with pytest.raises(KubeletError, match="is no checkpoint"):
        checkpoint.read(path)


def test_a_link_a_pipe_and_a_directory_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text(text(None))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()

    for name in ("link", "pipe", "directory"):
        with pytest.raises(KubeletError, match="cannot be read"):
            checkpoint.read(tmp_path / name)


def test_no_more_is_read_than_a_kubelet_would_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "LARGEST", 100)
    (tmp_path / "checkpoint").write_text(text(None) + " " * 100)

    with pytest.raises(KubeletError, match="larger than 100 bytes"):
        checkpoint.read(tmp_path / "checkpoint")
