from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeagent.__main__ import app
from nodeagent.driver import LibraryNotFound
from nodeagent.nvml.library import Location, load


def test_in_a_driver_container_the_library_directories_are_searched() -> None:
    candidates = list(Location(root=Path("/run/nvidia/driver")).candidates)

    assert Path("/run/nvidia/driver/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1") in candidates
    assert Path("/run/nvidia/driver/usr/lib64/libnvidia-ml.so.1") in candidates


def test_the_library_itself_goes_before_a_root() -> None:
    location = Location(library=Path("/lib/mine.so"), root=Path("/run/nvidia/driver"))

    assert list(location.candidates) == [Path("/lib/mine.so")]


def test_what_is_no_library_is_said_so_with_the_loaders_reason(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_text("no library")

    with pytest.raises(LibraryNotFound, match=r"cannot be loaded .* 12.*libnvidia-ml\.so\.1"):
        load(Location(library=tmp_path / "libnvidia-ml.so.1"))


@pytest.mark.parametrize(
    ("option", "reason"),
    [("--library", "it is not at {}"), ("--root", "it is in no library directory under {}")],
)
def test_inventory_without_a_driver_says_so_in_one_line(
    tmp_path: Path, option: str, reason: str
) -> None:
    nowhere = str(tmp_path / "nowhere")
    result = CliRunner().invoke(app, ["inventory", option, nowhere])

    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "tangram-agent: no NVIDIA driver: libnvidia-ml.so.1 cannot be loaded "
        f"({reason.format(nowhere)}); give --library or --root\n"
    )
