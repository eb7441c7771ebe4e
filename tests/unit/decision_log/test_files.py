"""The log's files: what is begun is whole, what is kept is bounded, and lines come as written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extender.decision_log import LogUnreadable
from extender.decision_log import files as disk
from extender.decision_log.files import Files, Limits, found, lines, split, whose

HEAD = b"head\n"


def files_in(folder: Path, **limits: int) -> Files:
    return Files(folder, "run", Limits(**limits))


def old(folder: Path, size: int, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}{disk.SUFFIX}").write_bytes(bytes(size))


def test_what_is_begun_has_its_first_lines_on_the_disk(tmp_path: Path) -> None:
    files = files_in(tmp_path)

    files.begin("1", HEAD)

    assert files.number == 1
    assert [list(lines(path)) for path in found(tmp_path)] == [[b"head"]]
    files.close()


def test_what_cannot_be_begun_is_not_left_behind_and_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Files, piece: bytes) -> None:
        raise OSError(28, "No space left on device")

    old(tmp_path, 100, "1-old-000001", "2-old-000002")
    before = found(tmp_path)
    monkeypatch.setattr(Files, "_put", refuse)
    files = files_in(tmp_path, file_bytes=100, files=1)

    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            files.begin("3", HEAD)

    assert found(tmp_path) == before
    assert files.number == 0


def test_the_oldest_go_until_there_is_room_for_a_full_file(tmp_path: Path) -> None:
    old(tmp_path, 100, "1-old-000001", "2-old-000002", "3-old-000003", "4-old-000004")
    files = files_in(tmp_path, file_bytes=100, files=3)

    files.begin("5", HEAD)

    assert [whose(path) for path in found(tmp_path)] == [("old", 3), ("old", 4), ("run", 1)]
    assert files.kept_bytes == sum(path.stat().st_size for path in found(tmp_path))
    files.close()


def test_small_files_of_many_restarts_do_not_drive_the_large_ones_out(tmp_path: Path) -> None:
    old(tmp_path, 100, "1-old-000001")

    for again in range(2, 40):
        files = Files(tmp_path, f"run{again}", Limits(file_bytes=10_000, files=2))
        files.begin(f"{again:02}", HEAD)
        files.close()

    assert len(found(tmp_path)) == 39


def test_so_many_files_are_kept_and_no_more_however_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MOST_FILES", 3)
    old(tmp_path, 1, "1-old-000001", "2-old-000002", "3-old-000003")
    files = files_in(tmp_path, files=2)

    files.begin("4", HEAD)

    assert [whose(path)[1] for path in found(tmp_path)] == [2, 3, 1]
    files.close()


def test_a_clock_that_is_set_back_does_not_cost_the_file_that_is_written(tmp_path: Path) -> None:
    old(tmp_path, 100, "2-old-000001", "3-old-000002", "4-old-000003")
    files = files_in(tmp_path, file_bytes=100, files=2)

    files.begin("1", HEAD)
    files.end()

    assert [whose(path) for path in found(tmp_path)] == [("run", 1), ("old", 3)]


@pytest.mark.parametrize("step", [Files.flush, Files.end])
def test_a_file_that_was_removed_is_not_written_on(tmp_path: Path, step: object) -> None:
    files = files_in(tmp_path)
    files.begin("1", HEAD)
    found(tmp_path)[0].unlink()
    files.write(b"more\n")

    with pytest.raises(FileNotFoundError, match="the file was removed"):
        step(files)  # type: ignore[operator]
    files.close()


@pytest.mark.parametrize("name", ["stray", "a-b", "1-run-x", "1-run-2-3", "1-run-1234567890"])
def test_a_name_of_another_kind_tells_no_run(name: str) -> None:
    assert whose(Path(name + disk.SUFFIX)) == ("", 0)


@given(st.lists(st.sampled_from([b"a", b"bb", b"\n", b"c\n", b"\n\n", b"d\ne", b""])))
def test_lines_are_the_same_however_they_come_in_pieces(pieces: list[bytes]) -> None:
    *whole, _ = b"".join(pieces).split(b"\n")

    assert list(split(pieces)) == whole


def test_a_long_line_is_put_together_once() -> None:
    class Piece(bytes):
        def __radd__(self, other: bytes) -> bytes:
            raise AssertionError("what came before was copied")

    assert list(split([Piece(b"a" * 10), Piece(b"b" * 10), Piece(b"\n")])) == [
        b"a" * 10 + b"b" * 10
    ]


def test_a_line_without_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LONGEST_LINE_BYTES", 10)

    with pytest.raises(LogUnreadable, match="longer than 10 bytes"):
        list(split([b"a" * 6] * 2))
