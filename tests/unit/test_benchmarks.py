"""The smallest size of each benchmark runs here, so that none of them rots."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import pytest

from benchmarks import (
    binds,
    bursts,
    churn,
    decision_log,
    explaining,
    hooks,
    made,
    populated,
    residents,
    restart,
    ruled,
    start,
)
from benchmarks.comparison import compare
from benchmarks.demands import DEMANDS
from benchmarks.extenders import started
from benchmarks.joint import __main__ as joint
from benchmarks.joint import stored
from benchmarks.joint.burst import burst, summary
from benchmarks.joint.losses import losses
from benchmarks.joint.served import served, views
from benchmarks.joint.sizes import restricted, size
from benchmarks.launchers import pod, question
from benchmarks.quality import cells, running, store
from benchmarks.quality.__main__ import main as quality_main
from benchmarks.quality.mapping import as_published, mapped
from benchmarks.quality.traced import cluster_sizes, traced
from extender.ledger import Promise
from extender.packing.spread import Spread
from extender.simulation.scenario import Scenario
from nodeagent.apiserver.memory import InMemoryApi


def test_the_hooks_are_measured_over_http_beside_their_floor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "results" / "hooks.json"
    size = ["--nodes", "30", "--rounds", "9", "--output", "json"]
    assert hooks.main([*size, "--out", str(kept)]) == 0

    row = json.loads(capsys.readouterr().out)
    assert json.loads(kept.read_text()) == [row]
    assert row["made"]["processor"]
    assert row["explaining"]["explanations"] > 0
    assert row["explaining"]["explanation_p50_s"] > 0
    assert (row["nodes"], row["gpus"], row["names"]) == (30, 240, 30)
    for part in (row, row["sampled"], row["floor"], row["sampled"]["floor"]):
        for verb in ("filter", "prioritize"):
            assert 0 < part[verb]["p50_ms"] <= part[verb]["p99_ms"]
    assert row["to_floor"]["filter"]["p50"] > 0
    assert row["cached"]["sampled_rejected"]["p50_ms"] > 0
    assert row["handler"]["sampled"]["prioritize"]["p50_ms"] > 0
    assert "30 nodes x 8 GPUs" in hooks.text(row)


def test_what_decision_log_and_shadow_cost_is_measured_beside_none(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decision_log, "SETTLED_SECONDS", 0.5)  # nothing here counts its reports
    monkeypatch.setattr(decision_log, "IN_A_ROW", 10)  # nor is what comes first to be settled
    kept = tmp_path / "decision-log.json"
    size = ["--nodes", "20", "--rounds", "9", "--shadow", "first-fit", "--output", "json"]
    assert decision_log.main([*size, "--out", str(kept)]) == 0

    row = json.loads(capsys.readouterr().out)
    assert json.loads(kept.read_text()) == [row]
    for verb in ("filter", "prioritize"):
        assert row["ratio"][verb]["p99_ms"] > 0
    assert row["log"]["calls"] > 9
    assert (row["log"]["lost"], row["log"]["bytes_a_call"] > 0) == (0, True)
    assert row["shadow"]["heard"] > 9
    assert (row["shadow"]["lost"], row["shadow"]["over"], row["shadow"]["failed"]) == (0, "", False)
    assert "20 nodes x 8 GPUs" in decision_log.text(row)


def test_filter_is_measured_while_binds_wait_and_nodes_change(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    size = ["--nodes", "40", "--names", "40", "--binds", "5", "--events", "100"]
    kept = tmp_path / "churn.json"
    assert churn.main([*size, "--pods", "40", "--per-second", "40", "--out", str(kept)]) == 0

    row = json.loads(capsys.readouterr().out)
    assert json.loads(kept.read_text()) == [row]
    assert row["planning"]["count"] > 0
    assert row["planning"]["p99_ms"] > 0
    assert 0 < row["quiet"]["p50_ms"] <= row["quiet"]["p99_ms"]
    assert 0 < row["busy"]["p50_ms"] <= row["busy"]["p99_ms"]
    assert row["binds_in_flight"] > 0
    assert row["binds_failed"] == 0
    assert row["events_per_second"] > 0


def test_many_binds_at_once_are_measured_with_and_without_certificates(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    size, kept = ["--nodes", "20", "--binds", "6", "--rounds", "2"], tmp_path / "binds.json"
    assert binds.main([*size, "--realised-after", "0.001", "--out", str(kept)]) == 0

    row = json.loads(capsys.readouterr().out)
    assert json.loads(kept.read_text()) == [row]
    assert (row["nodes"], row["binds"], row["rounds"]) == (20, 6, 2)
    for way in ("http", "mtls"):
        assert row[way]["failed"] == 0
        for kind in ("opening", "kept"):
            found = row[way][kind]
            assert 0 < found["p50_ms"] <= found["p99_ms"]
            assert found["per_second"] > 0


def test_an_extender_process_is_started_beside_a_full_cluster(
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = ["--nodes", "3", "--per-gpu", "full", "--samples", "3", "--changes", "5"]
    assert start.main([*size, "--lives", "2", "--settle", "0"]) == 0

    row = json.loads(capsys.readouterr().out)
    assert (row["nodes"], row["per_gpu"], row["lives"]) == (3, "full", 2)
    assert 3 * 8 * 4 < row["assignments"] <= 3 * 8 * 7
    assert row["changes_per_second"] > 0
    assert row["used_resident_mb"] >= row["resident_mb"]
    assert 2_000 < row["pod_bytes"] < 6_000
    assert row["processor_s"] > 0
    assert 10 < row["resident_mb"] <= row["peak_mb"]
    assert 0 < row["change_p50_ms"] <= row["change_p99_ms"]
    assert 0 < row["api_p50_ms"] <= row["api_p99_ms"]
    assert row["writes_gpunode"] <= 4, "the budget of a VM's whole life"
    assert row["bytes_gpunode"] > 0


def test_a_launcher_is_as_large_as_a_real_one() -> None:
    assert 15_000 < len(question(pod("vm", "nvidia.com/mig-1g.10gb"), ())) < 25_000

    resident = residents.pod(populated.Vm("vm", wanted="nvidia.com/mig-1g.10gb"))
    residents.lengthened(resident)
    assert 15_000 < len(msgspec.json.encode(resident)) < 25_000
    assert resident["metadata"]["name"] == "vm"


@pytest.mark.parametrize("per_gpu", [1, 5, 7, None])
def test_gpus_hold_as_many_vms_as_asked_for_or_as_find_room(per_gpu: int | None) -> None:
    nodes, geometry = 20, populated.MODEL.geometry
    gpus = nodes * populated.GPUS
    asked = None if per_gpu is None else gpus * per_gpu
    site = populated.drawn(nodes, asked, pending=0, seed=1)

    if per_gpu is None:
        assert 4.5 < site.assignments / gpus < 5.5
    else:
        assert site.assignments == gpus * per_gpu
    for node in site.nodes.values():
        for gpu in node.status.gpus:
            entries = [a for a in node.spec.assignments if a.gpu == gpu.uuid]
            taken = geometry.empty
            for entry in entries:
                assert not taken.mask & entry.placement.mask
                taken = geometry.occupied(taken, entry.profile_id, entry.placement)
            room = [geometry.by_id[id] for id in populated.SMALL]
            assert per_gpu is not None or not any(list(geometry.legal(taken, p)) for p in room)


def test_more_vms_than_a_gpu_can_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="no GPU has room for 8"):
        populated.drawn(1, 8 * populated.GPUS, pending=0, seed=1)


def test_explanations_are_timed_with_what_they_find(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kept = tmp_path / "results" / "explaining.json"
    size = ["--nodes", "4", "--rounds", "3", "--output", "json"]
    assert explaining.main([*size, "--out", str(kept)]) == 0

    row = json.loads(capsys.readouterr().out)
    assert json.loads(kept.read_text()) == [row]
    assert (row["nodes"], row["gpus"], row["vms"], row["rounds"]) == (4, 32, 160, 3)
    assert row["made"]["processor"]
    found = {tuple(each["asks"]): each for each in row["explanations"]}
    assert found.keys() == set(explaining.SHAPES)
    for each in found.values():
        assert each["cold_s"] > 0
        assert 0 < each["warm_s"] <= each["warm_most_s"]
        assert each["bytes"] > 0 < each["sentences"]
    whole = found["7-80C",]
    assert (whole["state"], whole["lack"]) == ("refused", "fragmentation")
    assert whole["moves"] or whole["proven"], "so few GPUs are all looked at"
    assert found["1-10C",]["state"] == "fits"


def test_what_is_told_of_explanations_is_what_is_stored() -> None:
    (row,) = json.loads((made.ROOT / "benchmarks/results/explaining.json").read_text())

    assert row["rounds"] >= 20
    assert explaining.text(row) in (made.ROOT / "benchmarks/README.md").read_text("utf-8")


def test_a_burst_is_placed_with_and_without_planning() -> None:
    row = bursts.measure(nodes=1, pods=20, fill=0.5, seeds=2)

    assert 0 < row["admitted_one_by_one"] <= row["free_slices"] + 8
    assert row["admitted_planned"] >= row["admitted_one_by_one"]


def test_placement_quality_is_run_once_checked_and_reported(tmp_path: Path) -> None:
    arguments = ["--size", "small", "--results", str(tmp_path)]
    for part in ("1/2", "2/2"):
        assert quality_main(["run", *arguments, "--shard", part]) == 0
    found = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    assert len(found) == 5

    assert quality_main(["run", *arguments]) == 0
    assert found == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    # So few requests prove nothing: the claims about all mixes must be seen to fail.
    assert quality_main(["report", *arguments]) == 1
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    assert page.count("<svg") == text.count(".svg)") == 6
    assert "## With a queue" in text
    assert "no policy without migration" in text
    assert "Where Tangram does not win" in text


def test_a_contender_that_joins_later_is_run_alone(tmp_path: Path) -> None:
    (cell, *_) = cells.small()

    for besides in (("mfi", "repack"), ("repack",), ()):
        running.run([cell], tmp_path, besides=besides, report=lambda _: None)
    together = store.load(cell, tmp_path)
    running.run([cell], tmp_path / "again", report=lambda _: None)

    assert together == store.load(cell, tmp_path / "again")


PODS = "name,num_gpu,gpu_milli,creation_time,deletion_time\n"


def test_a_trace_is_run_where_it_lies_and_reported_without_it(tmp_path: Path) -> None:
    trace, results = tmp_path / "elsewhere" / "pods.csv", tmp_path / "results"
    trace.parent.mkdir()
    shares = (1000, 470, 320, 230, 110)
    pods = [f"{n},1,{shares[n % 5]},{n},{n + 5 + 7 * (n % 11)}" for n in range(200)]
    trace.write_text(PODS + "\n".join(pods))
    arguments = ["--size", "small", "--results", str(results)]

    assert quality_main(["run", *arguments, "--trace", str(trace)]) == 0
    kept = {path: path.read_text() for path in results.glob("trace-*.json")}
    assert {path.stem.rpartition("-pods-")[2] for path in kept} == {
        *(f"a-{demand}" for demand in ("in-order", "0.85", "1")),
        *(f"a-shared-{demand}" for demand in ("in-order", "0.6", "0.85", "1")),
    }
    assert not any(str(trace.parent) in text for text in kept.values())

    trace.unlink()
    assert quality_main(["run", *arguments]) == 0
    assert quality_main(["report", *arguments]) == 1
    page, text = (results / "report.html").read_text(), (results / "report.md").read_text()
    assert page.count("<svg") == text.count(".svg)") == 7
    assert "## A public trace" in text
    assert "| pods, A, shared | 160 | 0.000 | 0.250 | 0.250 | 0.250 | 0.000 | 0.250 |  |" in text


def test_results_of_another_trace_of_the_same_name_do_not_count(tmp_path: Path) -> None:
    trace = tmp_path / "pods.csv"
    for lifetime in (10, 20):
        trace.write_text(PODS + f"a,1,1000,0,{lifetime}\nb,1,1000,5,{lifetime + 5}\n")
        (cell, *_) = traced(trace, small=True)

        assert store.load(cell, tmp_path) is None
        running.run([cell], tmp_path, report=lambda _: None)
        assert store.load(cell, tmp_path) is not None


def test_a_trace_is_played_on_as_many_gpus_as_could_hold_it(tmp_path: Path) -> None:
    trace = tmp_path / "pods.csv"
    # Two 4g are eight slices and need two GPUs; the third pod is gone when the last one comes.
    trace.write_text(PODS + "a,1,570,0,90\nb,1,570,10,90\nc,1,1000,20,30\nd,1,1000,30,90\n")

    assert cluster_sizes(Scenario(trace=str(trace))) == (2, 3)


def test_a_trace_that_cannot_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        quality_main(["run", "--results", str(tmp_path), "--trace", str(tmp_path / "absent.csv")])

    assert "absent.csv: cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("whole", "holds"), [(45_130, True), (45_160, False)])
def test_the_shares_of_a_known_trace_are_held_against_the_published_ones(
    whole: int, holds: bool
) -> None:
    # Published with three digits: 0.451, 0.313, 0.134, 0.091, 0, 0.010.
    counts = (whole, 76_430 - whole, 13_400, 9_120, 0, 1_050)
    profiles = ("7g.80gb", "4g.40gb", "3g.40gb", "2g.20gb", "1g.20gb", "1g.10gb")
    asked = {profile: [count] for profile, count in zip(profiles, counts, strict=True)}
    scenario = Scenario(trace="openb_pod_list_gpushare100.csv")
    result = store.Result("trace", scenario, (0,), {}, asked, {})

    (claim,) = as_published([result])
    assert claim.holds is holds
    assert [each.agrees for each in mapped([result])] == [holds]


@pytest.mark.parametrize("demand", DEMANDS)
def test_a_joint_plan_admits_no_less_than_one_by_one_and_no_more_than_its_bound(
    demand: str,
) -> None:
    row = burst(demand, fill=0.7, count=10, seed=3)

    assert row["joint"]["admitted"] >= row["arrival"]["admitted"]
    assert row["joint"]["admitted"] >= row["largest"]["admitted"]
    assert row["served"]["admitted"][0] <= row["joint"]["admitted"][0] <= row["bounds"][0]


def test_what_the_product_has_time_for_is_counted_beside_what_five_seconds_give() -> None:
    found = [burst("plain", fill=0.9, count=10, seed=seed) for seed in range(2)]
    found[1]["served"] = {"admitted": [0], "levels": [0, 0, 0], "gangs": 0}

    (row,) = summary(found)

    assert row["served_slices"] < row["joint_slices"]
    assert row["served_as_joint"] == row["served_admits_as_joint"] == 1
    assert row["served_loses_to_largest"] == 1
    (said,) = [line for line in losses([row], []) if "too short for 1 of 2 plans" in line]
    assert f"{row['served_slices']} slices for {row['joint_slices']}" in said


def test_a_plan_of_a_small_fleet_is_timed_and_proven() -> None:
    row = size(400, 50, repetitions=1, seed=1)

    assert row["status"] == "optimal"
    assert row["classes"] <= row["states"]
    assert row["least_s"] > 0


def test_restricted_requests_with_several_vgpus_on_a_gpu_are_planned_to_proven_optimality() -> None:
    row = restricted(400, 40, spreads=(Spread.SAME,), repetitions=1, seed=1)

    assert row["status"] == "optimal"
    assert row["gangs"] > 0
    assert row["with_several_vgpus"] > 0


def test_a_plan_is_timed_from_what_the_extender_knows() -> None:
    row = served(views(20, seed=1), 10, repetitions=1, seed=1)

    assert (row["nodes"], row["gpus"], row["placed"]) == (20, 160, 10)
    assert 0 < row["reading_least_s"] <= row["processor_first_s"]


def test_joint_planning_is_reported_from_what_is_stored_alone(tmp_path: Path) -> None:
    bursts = summary([burst(demand, fill=0.5, count=5, seed=1) for demand in DEMANDS])
    results = stored.Results(
        sizes=[size(gpus, 5, repetitions=1, seed=1) for gpus in (400, 800)],
        bursts=bursts,
        served=[served(views(5, seed=1), 3, repetitions=1, seed=1)],
        made={"bursts": stored.here("1")},
    )
    stored.save(tmp_path, results)

    joint.main(["--report", "--out", str(tmp_path)])
    text, page = (tmp_path / "joint.md").read_text(), (tmp_path / "joint.html").read_text()

    assert stored.load(tmp_path) == results
    assert all(f"## Bursts: {demand}" in text for demand in DEMANDS)
    assert "5 requests: " in text
    assert page.count("<svg") == text.count(".svg)") == len(DEMANDS) + 1
    measured = text.partition("## What was measured")[2].partition("##")[0].splitlines()
    (noted,) = [line for line in measured if line.startswith("| bursts on 100 GPUs |")]
    assert results.made["bursts"].processor in noted
    assert results.made["bursts"].commit in noted
    (unknown,) = [line for line in measured if line.startswith("| time by cluster size |")]
    assert unknown.count("not noted") == 6
    assert "_" not in "".join(line for line in text.splitlines() if line.startswith("| "))


def test_a_part_that_is_measured_anew_leaves_the_others(tmp_path: Path) -> None:
    before = stored.Results(bursts=summary([burst("plain", fill=0.5, count=5, seed=1)]))
    stored.save(tmp_path, before)

    joint.main(["--out", str(tmp_path), "--part", "sizes", "--most-gpus", "0"])

    after = stored.load(tmp_path)
    assert after.bursts == before.bursts
    assert set(after.made) == {"sizes"}


def test_the_report_says_of_a_plan_only_what_was_measured() -> None:
    quick = size(400, 5, repetitions=1, seed=1) | {"first_s": 0.4, "processor_least_s": 0.1}

    assert losses([], [quick]) == ["Nothing measured here shows where."]
    assert losses([], [quick | {"processor_least_s": 0.6}]) == [
        "5 requests on 400 GPUs take 0.6 s of one core, over 0.5 s."
    ]
    assert losses([], [quick | {"status": "feasible"}]) == [
        "5 requests on 400 GPUs: not proven on every level."
    ]
    row = served(views(5, seed=1), 3, repetitions=1, seed=1) | {"reading_least_s": 0.01}
    assert losses([], [], [row]) == ["Nothing measured here shows where."]
    assert losses([], [], [row | {"reading_least_s": 0.06}]) == [
        "3 pods that wait on 5 nodes: reading the cluster takes 0.06 s of processor, over 0.05 s."
    ]


async def test_a_restarted_extender_knows_all_that_its_predecessor_knew() -> None:
    row, found = await restart.on_twin(2000, seed=2)

    assert found.differing == ()
    assert 2000 - 40 <= row["assignments"] <= 2000  # 40 VMs leave, and as many come
    assert row["bound_before"] > 20
    assert found.compared["assignments"] == row["assignments"]
    compared = ("places not bound yet", "gangs", "decisions as bound", "answers", "caps", "bounds")
    for field in compared:
        assert found.compared[field] > 0
    assert row["held"] > 20


async def test_holds_and_rules_that_a_restarted_extender_gets_wrong_are_found() -> None:
    site = restart.ruled_site(3, 120, pending=2, seed=1)
    api, policy = InMemoryApi(chance=random.Random(1)), ruled.policy()
    await residents.create(api, site)
    await residents.label_namespace(api, ruled.NAMESPACE_LABELS)
    async with started(api, policy) as former, started(api, policy) as successor:
        known = successor.service.knowledge
        assert compare(former.service.knowledge, known).differing == ()
        (held, *_) = [(view, each) for view, each in known.entries() if each.pod is None]
        view, entry = held
        others = tuple(each for each in view.node.spec.assignments if each != entry)
        plan = msgspec.structs.replace(view.node.spec, assignments=others)
        newer = msgspec.structs.replace(
            view.node.metadata, generation=view.node.metadata.generation + 1
        )
        known.gpu_node(msgspec.structs.replace(view.node, metadata=newer, spec=plan))
        known.node(view.name, cordoned=False, labels={"rack": "elsewhere"})
        known.namespace("default", {"team": "guests"})
        differing = {each.field for each in compare(former.service.knowledge, known).differing}

    assert differing >= {"held", "holds", "labels", "caps", "bounds"}


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
