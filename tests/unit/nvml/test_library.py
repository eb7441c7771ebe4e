from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeagent.__main__ import app
from nodeagent.api.gpunode import Mode
from nodeagent.driver import LibraryNotFound, VersionMismatch
from nodeagent.nvml import NvmlDriver
from nodeagent.nvml.library import NAME, Location, inside, load
from tests.unit.nvml.node import Node

NodeOf = Callable[..., Node]


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


def linked(directory: Path, name: str, target: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / name
    link.symlink_to(target)
    return link


def test_links_in_a_driver_container_are_followed_below_its_root(tmp_path: Path) -> None:
    root = tmp_path / "driver"
    real = root / "usr/lib/x86_64-linux-gnu/nvidia/libnvidia-ml.so.580.95.05"
    real.parent.mkdir(parents=True)
    real.touch()
    linked(root / "usr/lib64", NAME, f"/usr/lib/x86_64-linux-gnu/nvidia/{real.name}")
    linked(root / "usr/lib", NAME, f"x86_64-linux-gnu/nvidia/{real.name}")
    linked(root, "lib64", "/usr/lib64")
    linked(root / "lib", NAME, f"../../../../../../usr/lib64/{NAME}")  # no way out of the root

    for directory in ("usr/lib64", "usr/lib", "lib64", "lib"):
        assert inside(root, f"{directory}/{NAME}") == real
        assert real in Location(root=root).candidates


def test_links_that_go_round_lead_nowhere(tmp_path: Path) -> None:
    linked(tmp_path / "usr/lib64", NAME, f"/usr/lib64/{NAME}")

    with pytest.raises(LibraryNotFound, match="in no library directory under"):
        load(Location(root=tmp_path))


async def test_a_driver_containers_library_is_loaded(node_of: NodeOf, tmp_path: Path) -> None:
    node = node_of()
    home = tmp_path / "driver/usr/lib64"
    home.mkdir(parents=True)
    shutil.copy(node.library, home / "libnvidia-ml.so.580.95.05")
    linked(home, NAME, "/usr/lib64/libnvidia-ml.so.580.95.05")

    async with NvmlDriver(Location(root=tmp_path / "driver"), Mode.CONTAINER, root=node.root) as it:
        assert len((await it.discover()).gpus) == 1


async def test_a_library_that_was_replaced_serves_until_it_is_needed_anew(
    node_of: NodeOf, tmp_path: Path
) -> None:
    node = node_of()
    library = tmp_path / NAME
    shutil.copy(node.library, library)
    async with NvmlDriver(Location(library), Mode.CONTAINER, root=node.root) as driver:
        await driver.discover()
        newer = tmp_path / "newer"
        shutil.copy(node.library, newer)
        newer.replace(library)

        assert len((await driver.discover()).gpus) == 1
        async with driver.closed():
            pass
        with pytest.raises(VersionMismatch) as caught:
            await driver.discover()

    assert str(caught.value) == (
        "dlopen: the NVML library was replaced: restart the agent (NVML error 18): " + str(library)
    )


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


async def test_a_library_that_has_moved_is_opened_where_it_is_now(
    node_of: NodeOf, tmp_path: Path
) -> None:
    """A driver's pod that has been replaced is reached through another process."""
    node = node_of()
    roots = []
    for name in ("before", "after"):
        home = tmp_path / name / "usr/lib64"
        home.mkdir(parents=True)
        shutil.copy(node.library, home / NAME)
        roots.append(Location(root=tmp_path / name))
    now = [roots[0]]

    async with NvmlDriver(lambda: now[0], Mode.CONTAINER, root=node.root) as driver:
        for _ in range(2):
            await driver.discover()
        assert symbols(node, "nvmlInitWithFlags", "nvmlShutdown") == ["nvmlInitWithFlags"]

        now[0] = roots[1]
        assert len((await driver.discover()).gpus) == 1

    assert symbols(node, "nvmlInitWithFlags", "nvmlShutdown") == [
        "nvmlInitWithFlags",
        "nvmlShutdown",
        "nvmlInitWithFlags",
        "nvmlShutdown",
    ]


async def test_while_it_is_nowhere_nothing_can_be_asked(node_of: NodeOf) -> None:
    node = node_of()
    there = [True]

    def location() -> Location:
        if not there[0]:
            raise LibraryNotFound("dlopen", detail="the driver's pod is being replaced")
        return Location(node.library)

    async with NvmlDriver(location, Mode.CONTAINER, root=node.root) as driver:
        await driver.discover()
        there[0] = False
        with pytest.raises(LibraryNotFound, match="is being replaced"):
            await driver.discover()
        there[0] = True
        assert len((await driver.discover()).gpus) == 1


def symbols(node: Node, *wanted: str) -> list[str]:
    return [call.symbol for call in node.machine.calls() if call.symbol in wanted]
