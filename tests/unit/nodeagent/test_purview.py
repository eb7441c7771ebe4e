"""Which GPUs Tangram may use, and what becomes of those it may not."""

from __future__ import annotations

import msgspec
import pytest

from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Gpu, Inventory, Layout, Mode
from nodeagent.purview import Purview, excluded, without
from tests.unit.nodeagent.builders import ONE, SMALL, assignment, hardware
from tests.unit.nodeagent.station import Station, conditions, owners, reasons

FIRST, SECOND = hardware(2).host().gpus


def ours(annotation: str | None, *, all_gpus: bool = True) -> set[str]:
    return named(excluded(annotation, (FIRST, SECOND), Inventory(), all_gpus=all_gpus).gpus)


def named(not_ours: frozenset[str]) -> set[str]:
    names = {FIRST.uuid: "first", SECOND.uuid: "second"}
    return {name for uuid, name in names.items() if uuid not in not_ours}


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("all", {"first", "second"}),
        ("none", set()),
        (FIRST.uuid, {"first"}),
        (f" {SECOND.uuid.upper()} ", {"second"}),
        (f"{FIRST.uuid}, {SECOND.uuid}", {"first", "second"}),
        ("0000:11:00.0", {"second"}),
        ("00000000:11:00.0", {"second"}),
        ("10:00.0", {"first"}),
        (f"{FIRST.uuid},0000:10:00.0", {"first"}),
    ],
)
def test_an_annotation_chooses_gpus_by_uuid_or_pci_address(
    annotation: str, expected: set[str]
) -> None:
    assert ours(annotation) == expected


@pytest.mark.parametrize("all_gpus", [True, False])
def test_without_an_annotation_the_agents_own_setting_counts(all_gpus: bool) -> None:
    assert ours(None, all_gpus=all_gpus) == ({"first", "second"} if all_gpus else set())


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (None, {"second"}),
        ("all", {"second"}),
        ("none", set()),
        (FIRST.uuid, {"first"}),
        (f"{FIRST.uuid},{SECOND.uuid}", {"first", "second"}),
        ("nonsense", {"second"}),  # though it was ours before
    ],
)
def test_one_cut_by_hand_is_ours_only_if_it_is_named(
    annotation: str | None, expected: set[str]
) -> None:
    cut = msgspec.structs.replace(FIRST, cut_by_hand=True)
    before = Inventory(gpus=tuple(Gpu(g.uuid, g.pci_address, g.model, "g") for g in (cut, SECOND)))

    choice = excluded(annotation, (cut, SECOND), before, all_gpus=True)

    assert named(choice.gpus) == expected


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        ("", "a name is missing between the commas; say all, none, or which GPUs"),
        (f"{FIRST.uuid},", "a name is missing between the commas; say all, none, or which GPUs"),
        (f"all,{FIRST.uuid}", "all cannot be combined with anything else"),
        ("GPU-0", "the node has no GPU GPU-0"),
        ("0000:99:00.0", "the node has no GPU 0000:99:00.0"),
        ("first", "first is neither all, none, a GPU's UUID nor its PCI address"),
    ],
)
def test_a_bad_annotation_is_explained_and_changes_nothing(annotation: str, problem: str) -> None:
    second = Gpu(SECOND.uuid, SECOND.pci_address, SECOND.model, "g")
    before = Inventory(gpus=(second,))  # which knows nothing of the first
    choice = excluded(annotation, (FIRST, SECOND), before, all_gpus=True)

    assert choice.problem == f"tangram.dev/gpus: {problem}"
    assert named(choice.gpus) == {"second"}


@pytest.mark.parametrize("layout", [Layout.STATIC, Layout.UNMANAGED])
def test_with_harvester_a_gpu_that_is_not_ours_has_a_static_layout(layout: Layout) -> None:
    mode = Mode.HARVESTER if layout is Layout.STATIC else Mode.VGPU_MDEV
    host = msgspec.structs.replace(hardware(2).host(), mode=mode)

    told = without(host, {FIRST.uuid})

    assert [gpu.layout for gpu in told.gpus] == [layout, Layout.DYNAMIC]
    gpus = tuple(Gpu(g.uuid, g.pci_address, g.model, "g", layout=g.layout) for g in told.gpus)
    choice = excluded("nonsense", host.gpus, Inventory(mode=mode, gpus=gpus), all_gpus=True)
    assert named(choice.gpus) == {"second"}  # as it was before


async def test_on_a_gpu_that_is_not_ours_nothing_is_made(station: Station) -> None:
    await station.choose_gpus("none")
    async with station.serving():
        await station.plan(assignment("a", station.gpu))
        status = await station.until(lambda s: "a" in reasons(s))

    assert "not Tangram's to use" in reasons(status)["a"]
    assert status.gpus[0].layout is Layout.UNMANAGED
    assert status.summary.free_slices == 0
    assert not station.hardware.gpus[0].instances


async def test_a_gpu_opted_in_is_used_at_once(station: Station) -> None:
    async with station.serving(purview=Purview(all_gpus=False)):
        await station.plan(assignment("a", station.gpu))
        await station.until(lambda s: "a" in reasons(s))
        await station.choose_gpus(station.gpu)
        await station.until_realized("a")


async def test_a_gpu_handed_back_runs_ours_to_their_end_and_is_then_let_be(
    station: Station,
) -> None:
    pod = await station.create_pod("a", {SMALL: 1})
    async with station.serving():
        await station.plan(assignment("a", station.gpu, of=pod))
        await station.until_realized("a")
        await station.bind_pod("a")
        await station.until_pod("a", "Running")
        foreign = station.hardware.gpus[0].create(ONE, Placement(5, 1))

        await station.choose_gpus("none")
        status = await station.until(lambda s: s.gpus[0].layout is Layout.UNMANAGED)
        assert [each.id for each in status.realized] == ["a"]
        assert list(conditions(status)) == ["Ready"]  # whatever others do there is no drift

        await station.delete_pod("a")
        await station.plan()
        await station.until(lambda s: owners(s) == [""])
        await station.settle()

    assert station.journal.made == ()
    assert list(station.hardware.gpus[0].instances) == [foreign]


async def test_a_bad_annotation_is_a_condition_and_the_last_good_one_stays(
    station: Station,
) -> None:
    async with station.serving():
        await station.choose_gpus("none")
        await station.until(lambda s: bool(s.gpus) and s.gpus[0].layout is Layout.UNMANAGED)
        await station.choose_gpus("GPU-typo")
        status = await station.until(lambda s: "GpusChosen" in conditions(s))
        assert "the node has no GPU GPU-typo" in conditions(status)["GpusChosen"]

    async with station.serving():  # an agent that never heard the good one
        status = await station.until(lambda s: s.agent_epoch == "life-2")
        assert status.gpus[0].layout is Layout.UNMANAGED
        await station.choose_gpus(None)
        status = await station.until(lambda s: s.gpus[0].layout is Layout.DYNAMIC)

    assert "GpusChosen" not in conditions(status)


async def test_only_the_resources_it_was_told_of_are_handed_out(station: Station) -> None:
    async with station.serving(purview=Purview(resources=frozenset({SMALL}))):
        await station.plan(
            assignment("a", station.gpu), assignment("b", station.gpu, profile=9, start=4)
        )
        status = await station.until(
            lambda s: {"a"} == {r.id for r in s.realized} and s.failed != ()
        )

    assert status.resources == (SMALL,)
    assert "told not to hand out" in reasons(status)["b"]
