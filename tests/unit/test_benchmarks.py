"""The smallest size of each benchmark runs here, so that none of them rots."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from benchmarks import bursts, decisions, joint, populated, residents, restart
from benchmarks.comparison import compare
from benchmarks.demands import DEMANDS
from benchmarks.extenders import started
from benchmarks.quality import cells, running, store
from benchmarks.quality.__main__ import main as quality_main
from extender.ledger import Promise
from extender.packing.problem import Spread
from nodeagent.apiserver.memory import InMemoryApi


def test_decisions_are_measured_beside_their_floor() -> None:
    row = decisions.measure(4, rounds=2, seed=1)

    assert row["nodes"] == 4
    assert row.keys() >= {"floor_ms", "filter_ms", "filter_to_floor", "prioritize_ms"}
    assert all(value > 0 for value in row.values())


def test_a_burst_is_placed_with_and_without_planning() -> None:
    row = bursts.measure(nodes=1, pods=20, fill=0.5, seeds=2)

    assert 0 < row["admitted_one_by_one"] <= row["free_slices"] + 8
    assert row["admitted_planned"] >= row["admitted_one_by_one"]


def test_placement_quality_is_run_once_checked_and_reported(tmp_path: Path) -> None:
    arguments = ["--size", "small", "--results", str(tmp_path)]
    for part in ("1/2", "2/2"):
        assert quality_main(["run", *arguments, "--shard", part]) == 0
    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(stored) == 3

    assert quality_main(["run", *arguments]) == 0
    assert stored == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    # So few requests prove nothing: the claims about all mixes must be seen to fail.
    assert quality_main(["report", *arguments]) == 1
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert page.count("<svg") == text.count(".svg)") == 5
    assert "Where Tangram does not win" in text


def test_a_contender_that_joins_later_is_run_alone(tmp_path: Path) -> None:
    (cell, *_) = cells.small()

    for besides in (("mfi", "repack"), ("repack",), ()):
        running.run([cell], tmp_path, besides=besides, report=lambda _: None)
    together = store.load(cell, tmp_path)
    running.run([cell], tmp_path / "again", report=lambda _: None)

    assert together == store.load(cell, tmp_path / "again")


@pytest.mark.parametrize("demand", DEMANDS)
def test_a_joint_plan_admits_no_less_than_one_by_one_and_no_more_than_its_bound(
    demand: str,
) -> None:
    row = joint.burst(demand, fill=0.7, count=10, seed=3)

    assert row["joint"]["admitted"] >= row["arrival"]["admitted"]
    assert row["joint"]["admitted"] >= row["largest"]["admitted"]
    assert row["joint"]["admitted"][0] <= row["bounds"][0]


def test_a_plan_of_a_small_fleet_is_timed_and_proven() -> None:
    row = joint.size(400, 50, repetitions=1, seed=1)

    assert row["status"] == "optimal"
    assert row["classes"] <= row["states"]
    assert row["least_s"] > 0


def test_restricted_requests_with_several_vgpus_on_a_gpu_are_planned_to_proven_optimality() -> None:
    row = joint.restricted(400, 40, spreads=(Spread.SAME,), repetitions=1, seed=1)

    assert row["status"] == "optimal"
    assert row["gangs"] > 0
    assert row["with_several_vgpus"] > 0


def test_the_report_has_a_table_for_each_kind_of_burst() -> None:
    bursts = [joint.burst(demand, fill=0.5, count=5, seed=1) for demand in DEMANDS]

    text = joint.report(bursts, [joint.size(400, 5, repetitions=1, seed=1)], [])

    assert all(f"## Bursts: {demand}" in text for demand in DEMANDS)


async def test_a_restarted_extender_knows_all_that_its_predecessor_knew() -> None:
    row, found = await restart.on_twin(2000, seed=2)

    assert found.differing == ()
    assert 2000 - 40 <= row["assignments"] <= 2000  # 40 VMs leave, and as many come
    assert row["bound_before"] > 20
    assert found.compared["assignments"] == row["assignments"]
    for field in ("places not bound yet", "gangs", "decisions as bound", "answers"):
        assert found.compared[field] > 0


async def test_whatever_a_restarted_extender_does_not_know_is_found() -> None:
    site = populated.drawn(1, 40, pending=2, seed=1)
    api = InMemoryApi(chance=random.Random(1))
    await residents.create(api, site)
    async with started(api) as former, started(api) as successor:
        known = successor.service.knowledge
        assert compare(former.service.knowledge, known).differing == ()
        (name,) = site.nodes
        pod = next(iter(known.pods.values()))
        node = known.views[name].node
        fewer = msgspec.structs.replace(node.spec, assignments=node.spec.assignments[1:])
        newer = msgspec.structs.replace(node.metadata, generation=node.metadata.generation + 1)
        known.gpu_node(msgspec.structs.replace(node, metadata=newer, spec=fewer))
        known.node(name, cordoned=True)
        known.pod(msgspec.structs.replace(pod, phase="Failed"))
        known.ledger = known.ledger.assume("pod-1", Promise(name, ()))
        differing = {each.field for each in compare(former.service.knowledge, known).differing}

    assert differing >= {"assignments", "releasing", "places of pods", "decisions"}
    assert differing >= {"nodes", "versions", "suitability", "pods", "assumptions"}
