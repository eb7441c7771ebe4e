"""The record of whose vGPU is whose, on disk."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nodeagent.api.geometry import Placement
from nodeagent.driver import VgpuError
from nodeagent.vgpu.record import Entry, Named, Record

ENTRY = Entry("a1", "GPU-1", 14, Placement(0, 1), "boot", Named("0000:10:00.4", 7))
OTHER = Entry("a2", "GPU-1", 14, Placement(1, 1), "boot")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep/vgpus.json"


def test_what_was_put_is_there_for_the_next_process(path: Path) -> None:
    record = Record(path)
    record.put(ENTRY)
    record.put(OTHER)

    assert Record(path).entries == record.entries == (ENTRY, OTHER)


def test_an_assignment_has_one_entry_the_latest(path: Path) -> None:
    record = Record(path)
    for entry in (ENTRY, OTHER, msgspec.structs.replace(ENTRY, vgpu=None)):
        record.put(entry)

    assert Record(path).entries == (OTHER, msgspec.structs.replace(ENTRY, vgpu=None))
    assert record.of("a1") == msgspec.structs.replace(ENTRY, vgpu=None)
    assert record.of("a3") is None


def test_what_has_changed_meanwhile_is_not_settled(path: Path) -> None:
    record = Record(path)
    record.put(ENTRY)
    record.put(OTHER)
    newer = msgspec.structs.replace(OTHER, vgpu=Named("0000:10:00.5", 7))
    record.put(newer)

    record.settle({ENTRY: None, OTHER: None})

    assert Record(path).entries == (newer,)


def test_without_a_path_it_lives_in_memory(tmp_path: Path) -> None:
    record = Record()
    record.put(ENTRY)

    assert record.entries == (ENTRY,)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"\xff", b'{"version":2,"entries":[]}', b'{"version":1}']
)
def test_what_cannot_be_read_is_set_aside(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)

    record = Record(path)

    assert record.entries == ()
    assert path.with_name("vgpus.json.unreadable").read_bytes() == content
    record.put(ENTRY)
    assert Record(path).entries == (ENTRY,)


def test_a_file_that_is_not_to_be_had_is_not_an_empty_one(path: Path) -> None:
    path.mkdir(parents=True)

    with pytest.raises(VgpuError, match=r"read /.*EISDIR"):
        _ = Record(path).entries


def test_what_could_not_be_written_is_not_remembered(path: Path) -> None:
    record = Record(path)
    record.put(OTHER)
    path.with_name("vgpus.json.new").mkdir()

    with pytest.raises(VgpuError, match=r"write /.*EISDIR"):
        record.put(ENTRY)
    assert record.entries == (OTHER,)
