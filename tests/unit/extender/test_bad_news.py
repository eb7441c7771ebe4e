"""What is promised under bad news, each with the tests that show it; and a few of these tests."""

from __future__ import annotations

import ast
import asyncio
from functools import cache
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs

from extender.cluster import objects
from extender.ledger import Ledger
from extender.service import Service
from extender.service.ports import Feed
from extender.service.reading import reading
from nodeagent.api.rivals import rival_of
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import NODES, Gone, PatchType, Unavailable
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

pytestmark = pytest.mark.virtual_time

ROOT = Path(__file__).parents[3] / "tests"
EXTENDER, AGENT = "unit/extender", "unit/nodeagent"

SHOWN_BY: dict[str, tuple[str, ...]] = {
    "malformed request body: 400 with the path of the field, state untouched": (
        f"{EXTENDER}/test_server.py::of_a_malformed_body_the_path_of_the_field_is_told_and_nothing_is_kept",
        f"{EXTENDER}/test_server.py::a_malformed_body_is_a_400_that_names_the_field",
        f"{EXTENDER}/test_hostile_requests.py::a_thousand_hostile_requests_do_no_harm",
    ),
    "pod that asks nothing of ours: passes everywhere, no state": (
        f"{EXTENDER}/test_server.py::a_pod_that_is_not_ours_passes_everywhere",
        f"{EXTENDER}/test_bad_news.py::a_pod_that_asks_nothing_of_ours_leaves_no_trace",
    ),
    "unknown vGPU type or profile: unresolvable": (
        f"{EXTENDER}/test_verbs.py::a_type_of_another_board_is_unknown_here",
        f"{EXTENDER}/test_bad_news.py::what_no_gpu_here_has_is_unresolvable",
    ),
    "node unknown, stale, cordoned, MIG off, unhealthy, rival: its own stable code": (
        f"{EXTENDER}/test_verbs.py::each_refusal_has_its_own_code_and_a_stable_text",
        f"{EXTENDER}/test_avoidance.py::a_failing_node_is_refused_by_every_verb_with_a_reason_of_its_own",
    ),
    "inventory not loaded yet, not leader: Error and Connection: close": (
        f"{EXTENDER}/test_server.py::an_inventory_that_is_not_loaded_is_an_error_not_a_refusal",
        f"{EXTENDER}/test_server.py::a_replica_that_does_not_lead_says_who_does_and_closes_the_connection",
    ),
    "API server slow, 409, 422, 429, 500, timeout after commit: retried in time, read first": (
        f"{EXTENDER}/test_retries.py::one_bind_gets_over_what_passes",
        f"{EXTENDER}/test_retries.py::no_try_begins_when_the_callers_time_is_up",
        f"{EXTENDER}/test_retries.py::what_was_done_though_the_answer_says_otherwise_is_not_done_again",
        f"{EXTENDER}/test_retries.py::a_conflict_that_is_none_is_tried_again",
        f"{EXTENDER}/test_binding.py::a_plan_that_is_refused_for_good_is_not_written_again_and_again",
        f"{EXTENDER}/test_binding.py::a_write_of_unknown_outcome_is_looked_at_before_anything_is_decided",
        f"{AGENT}/test_reports.py::a_write_without_an_answer_is_made_good",
    ),
    "watch closed, 410: relisted, decisions go on for a while, the snapshot's age is told": (
        f"{EXTENDER}/test_bad_news.py::a_snapshot_that_grows_old_says_how_old_it_is_while_it_decides",
        f"{EXTENDER}/metrics/test_exposition.py::the_silence_of_feeds_and_agents_is_told",
        f"{EXTENDER}/test_bad_news.py::while_everything_is_listed_anew_decisions_go_on",
        f"{EXTENDER}/test_bad_news.py::a_snapshot_that_grew_too_old_decides_nothing",
        f"{EXTENDER}/test_freshness.py::a_short_silence_of_a_feed_is_borne_and_a_long_one_is_not",
        "unit/apiserver/test_reflector_misses_nothing.py::what_is_confirmed_is_true_whatever_happens",
    ),
    "agent cannot create the instance: withdrawn, the GPU avoided, the pod retried": (
        f"{AGENT}/test_failures.py::a_refused_creation_is_reported_at_once_and_tried_again",
        f"{EXTENDER}/test_binding.py::an_instance_that_cannot_be_created_gives_its_place_back",
        f"{EXTENDER}/test_binding.py::a_gpu_that_failed_is_chosen_last_for_a_while",
        f"{EXTENDER}/test_avoidance.py::a_gpu_that_fails_again_is_avoided_longer",
        f"{EXTENDER}/test_avoidance.py::a_node_whose_agent_keeps_failing_is_left_alone_and_then_tried_with_one_pod",
    ),
    "agent or extender killed anywhere; a rolling update drains first": (
        f"{AGENT}/test_crashes.py::an_agent_killed_anywhere_is_made_good_by_the_next",
        "crash/test_crash.py::an_agent_killed_anywhere_is_made_good_by_the_next",
        f"{EXTENDER}/test_binding.py::an_extender_killed_at_any_call_loses_and_doubles_nothing",
        f"{EXTENDER}/test_failover.py::a_crashed_leader_is_replaced_and_nothing_is_lost_or_doubled",
        f"{AGENT}/test_drain.py::an_agent_told_to_end_waits_until_the_tied_pod_has_its_slot",
        "chaos/test_histories.py::no_promise_is_broken_whatever_goes_wrong",
    ),
    "node reboot: nothing recreated for launchers, the successor inherits the place": (
        f"{AGENT}/test_restarts.py::a_reboot_ends_what_ran_and_what_ran_is_not_made_again",
        f"{AGENT}/test_restarts.py::vms_whose_places_swap_over_a_reboot_each_get_their_new_one",
        f"{EXTENDER}/test_restart_hold.py::vms_that_come_back_from_a_reboot_in_another_order_do_not_swap",
        f"{EXTENDER}/test_restart_hold.py::a_vm_on_a_node_that_rebooted_finds_its_place_again",
        f"{EXTENDER}/test_restart_hold.py::a_hold_ends_in_time_and_wakes_who_waits_for_the_room",
        f"{AGENT}/test_plans.py::what_was_over_before_its_entry_became_a_reservation_is_told_no_more",
    ),
    "GPU reset or node reboot under a restartable container: the same slot again": (
        f"{AGENT}/test_quarantine.py::a_reset_gives_a_container_its_gpu_instance_again_behind_the_same_slot",
        f"{AGENT}/test_restarts.py::a_reboot_gives_containers_their_instances_again",
    ),
    "agent first installed where VMs already run: adopted, GPUs opted in one by one": (
        f"{EXTENDER}/test_adoption.py::from_its_discovery_to_its_end_an_old_vm_is_like_any_other",
        f"{AGENT}/test_adoption.py::a_planned_adoption_disturbs_nothing_and_ends_with_the_vm",
        f"{AGENT}/test_purview.py::a_gpu_opted_in_is_used_at_once",
        f"{AGENT}/test_purview.py::a_gpu_handed_back_runs_ours_to_their_end_and_is_then_let_be",
    ),
    "rival owner of the GPUs: refused with the remedy": (
        f"{EXTENDER}/test_bad_news.py::where_a_rival_owns_the_gpus_nothing_new_comes_until_it_is_off",
        f"{EXTENDER}/test_bad_news.py::a_rival_shows_by_its_labels_and_is_told_by_another_how_to_end",
        f"{AGENT}/test_quarantine.py::a_rival_plugin_is_told_with_the_remedy_and_gets_no_competition",
        f"{EXTENDER}/test_verbs.py::where_a_rival_serves_one_resource_the_others_are_still_served",
    ),
    "somebody ran nvidia-smi: occupied, reported as drift, never destroyed": (
        f"{AGENT}/test_plans.py::a_foreign_instance_is_reported_and_never_destroyed",
        f"{AGENT}/test_quarantine.py::what_somebody_else_made_is_drift_and_let_be",
        f"{EXTENDER}/test_snapshot.py::a_foreign_instance_no_profile_explains_is_still_in_the_way",
    ),
    "GPU error: quarantined with the reason, assignments kept and flagged, Event on the VM": (
        f"{AGENT}/test_quarantine.py::a_sick_gpu_gets_nothing_new_and_keeps_what_runs_until_it_is_well",
        f"{AGENT}/test_quarantine.py::what_a_sick_gpu_does_not_show_stays_realized_and_is_flagged",
        f"{EXTENDER}/test_bad_news.py::a_bound_pod_keeps_its_place_on_a_gpu_that_falls_ill",
        f"{AGENT}/test_alarms.py::the_pod_and_the_vm_it_runs_are_told_why_their_gpu_is_closed_and_no_others",
        f"{AGENT}/test_alarms.py::it_is_told_once_whatever_follows_and_by_the_next_agent_neither",
        f"{AGENT}/test_alarms.py::what_keeps_events_from_being_written_keeps_nothing_else",
    ),
}
"""By news, and what is answered to it: the tests that show it."""


@cache
def defined_in(file: str) -> frozenset[str]:
    """Return the names of a file's tests."""
    tree = ast.parse((ROOT / file).read_text())
    defined = (
        each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return frozenset(each.name for each in defined)


@pytest.mark.parametrize("news", SHOWN_BY)
def test_every_piece_of_bad_news_has_tests_that_show_what_is_answered(news: str) -> None:
    shown_by = SHOWN_BY[news]

    assert shown_by
    for each in shown_by:
        file, _, name = each.partition("::")
        assert f"test_{name}" in defined_in(file), each


@pytest.fixture
async def world() -> World:
    made = World()
    await made.add_node("node-1")
    return made


async def test_a_pod_that_asks_nothing_of_ours_leaves_no_trace(world: World) -> None:
    pod = await world.add_pod("web")
    async with world.extender() as extender:
        knowledge = extender.knowledge
        answer = extender.hooks.filter(filter_args(pod, "node-1", "unknown"))
        scores = extender.hooks.prioritize(filter_args(pod, "node-1"))

        assert answer.node_names == ("node-1", "unknown")
        assert [each.score for each in scores] == [0]
        assert knowledge.ledger == Ledger()
        assert not any((knowledge.requests, knowledge.refused, knowledge.pending.waiting))


async def test_what_no_gpu_here_has_is_unresolvable(world: World) -> None:
    pod = await world.add_pod("vm", resources={"nvidia.com/NVIDIA_B200-9-999Q": "1"})
    async with world.extender() as extender:
        answer = extender.hooks.filter(filter_args(pod, "node-1"))

    assert answer.node_names == ()
    assert answer.failed_nodes == {}
    assert "no GPU here offers" in answer.failed_and_unresolvable_nodes["node-1"]


async def test_while_everything_is_listed_anew_decisions_go_on(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    async with world.extender() as extender:
        answers: list[bool] = []

        async def ask(call: Call) -> None:
            if call.verb == "list" and not call.done:
                answers.append(bool(extender.hooks.filter(filter_args(pod, "node-1")).node_names))

        world.api.disturbance = ask
        world.api.compact()
        world.api.drop_watches(Gone(410, "too old resource version"))
        await world.api.patch(
            NODES, "node-1", {"spec": {"unschedulable": True}}, patch_type=PatchType.MERGE
        )
        await until(lambda: answers and extender.knowledge.nodes["node-1"])
        world.api.disturbance = None

    assert answers[0]


async def test_a_snapshot_that_grows_old_says_how_old_it_is_while_it_decides(world: World) -> None:
    """``tangram_feed_silence_seconds`` tells it, by feed; 0 is as new as can be."""
    pod = await world.add_pod("vm", "1-10C")

    async def away(call: Call) -> None:
        if not call.done:
            raise Unavailable(0, "no answer in time")

    async with world.extender() as extender:
        assert set(told_ages(extender).values()) == {0.0}
        world.api.disturbance = away
        world.api.compact()
        world.api.drop_watches(Gone(410, "too old resource version"))
        await asyncio.sleep(3.0)
        answer = extender.hooks.filter(filter_args(pod, "node-1"))
        old = told_ages(extender)
        world.api.disturbance = None
        await until(lambda: not any(told_ages(extender).values()))

    assert answer.node_names == ("node-1",)
    assert set(old) == {each.value for each in Feed}
    assert all(2.0 < age <= 3.0 for age in old.values())


def told_ages(service: Service) -> dict[str, float]:
    """Return what the metrics are told of how old each part of the snapshot is, in seconds."""
    return dict(reading(service.knowledge).silences)


async def test_a_snapshot_that_grew_too_old_decides_nothing(world: World) -> None:
    pod = await world.add_pod("vm", "1-10C")
    settings = msgspec.structs.replace(QUICK, snapshot_age_seconds=0.2)

    async def away(call: Call) -> None:
        if not call.done:
            raise Unavailable(0, "no answer in time")

    async with world.extender(settings) as extender:
        world.api.disturbance = away
        world.api.drop_watches()
        await until(lambda: extender.knowledge.not_ready())
        answer = extender.hooks.filter(filter_args(pod, "node-1"))
        world.api.disturbance = None
        await until(lambda: not extender.knowledge.not_ready())
        after = extender.hooks.filter(filter_args(pod, "node-1"))

    assert "out of date" in answer.error
    assert after.node_names == ("node-1",)


async def test_a_bound_pod_keeps_its_place_on_a_gpu_that_falls_ill(world: World) -> None:
    pod, other = [await world.add_pod(name, "1-10C") for name in ("vm", "other")]
    async with world.extender() as extender:
        async with world.obedient("node-1"):
            assert (await extender.binder.bind(bind_args(pod, "node-1"))).error == ""
        node = await world.gpu_node("node-1")
        (well,) = node.status.gpus
        ill = msgspec.structs.replace(well, unhealthy="XID 79: GPU has fallen off the bus")
        await world.report("node-1", msgspec.structs.replace(node.status, gpus=(ill,)))
        await until(lambda: not extender.knowledge.views["node-1"].usable)
        await extender._reclaimer.sweep()
        refused = extender.hooks.filter(filter_args(other, "node-1"))
        kept = (await world.gpu_node("node-1")).spec.assignments

    assert refused.failed_and_unresolvable_nodes["node-1"] == (
        "vGPU: the node's GPUs are not healthy"
    )
    assert [each.pod and each.pod.uid for each in kept] == [pod["metadata"]["uid"]]


MIG_CONFIG, MIG_MANAGER = "nvidia.com/mig.config", "nvidia.com/gpu.deploy.mig-manager"


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        ({}, ""),
        ({"nvidia.com/mig.capable": "true"}, ""),
        # The GPU Operator sets it whether its MIG manager is enabled or not.
        ({"nvidia.com/gpu.deploy.mig-manager": "true"}, ""),
        ({MIG_CONFIG: "all-disabled"}, f"{MIG_MANAGER}=false"),
        ({MIG_CONFIG: "all-1g.10gb", MIG_MANAGER: "true"}, f"{MIG_MANAGER}=false"),
        ({MIG_CONFIG: "all-1g.10gb", MIG_MANAGER: "false"}, ""),
        ({MIG_CONFIG: "all-1g.10gb", "nvidia.com/gpu.deploy.operands": "false"}, ""),
        (
            {"nvidia.com/vgpu.config.state": "success"},
            "nvidia.com/gpu.deploy.vgpu-device-manager=false",
        ),
    ],
)
def test_a_rival_shows_by_its_labels_and_is_told_by_another_how_to_end(
    labels: dict[str, str], remedy: str
) -> None:
    raw = msgspec.json.encode({"metadata": {"name": "node-1", "labels": labels}})

    rival = objects.node(raw).rival

    assert (rival.remedy if rival else "") == (f"label the node {remedy}" if remedy else "")
    assert rival is None or rival_of({**labels, rival.off: "false"}) is None


async def test_where_a_rival_owns_the_gpus_nothing_new_comes_until_it_is_off(world: World) -> None:
    async def label(**labels: str) -> None:
        body = {"metadata": {"labels": labels}}
        await world.api.patch(NODES, "node-1", body, patch_type=PatchType.MERGE)

    bound, pod = [await world.add_pod(name, "1-10C") for name in ("bound", "vm")]
    await world.add_pod("extender-0", namespace="tangram-system")
    async with world.extender() as extender, world.obedient("node-1"):
        assert (await extender.binder.bind(bind_args(bound, "node-1"))).error == ""
        with capture_logs() as logs:
            await label(**{MIG_CONFIG: "all-balanced"})
            await until(lambda: not extender.knowledge.views["node-1"].takes_new)
        refused = extender.hooks.filter(filter_args(pod, "node-1"))
        late = await extender.binder.bind(bind_args(pod, "node-1"))
        kept = (await world.gpu_node("node-1")).spec.assignments
        woken = extender.wakes
        await label(**{MIG_MANAGER: "false"})
        await until(lambda: extender.knowledge.views["node-1"].takes_new)
        await until(lambda: extender.wakes > woken)
        passed = extender.hooks.filter(filter_args(pod, "node-1")).node_names

    why = (
        "vGPU: the GPU Operator's MIG manager owns the node's GPUs,"
        " label the node nvidia.com/gpu.deploy.mig-manager=false"
    )
    assert refused.failed_and_unresolvable_nodes == {"node-1": why}
    assert late.error == why
    assert [each.pod and each.pod.uid for each in kept] == [bound["metadata"]["uid"]]
    assert [each["node"] for each in logs if each["event"] == "rival_owner"] == ["node-1"]
    assert passed == ("node-1",)
