"""The hooks as decisions."""

from __future__ import annotations

import pytest

from extender.ledger import Ledger, Promise
from extender.packing.choose import Choice
from extender.snapshot import NodeView, Taken
from extender.verbs.bind import place
from extender.verbs.filter import filter
from extender.verbs.fleet import Fleet
from extender.verbs.preempt import sufficient
from extender.verbs.prioritize import WINNER_SCORE, prioritize
from extender.verbs.verdicts import Code, Refused
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Layout, Mode, VgpuType
from nodeagent.api.rivals import RIVALS
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, request, view

FULL = gpu(instances=(instance(0, 0),))
HALF = gpu(instances=(instance(5, 0),))


def views(**nodes: NodeView) -> Fleet:
    return Fleet(nodes)


def node(name: str, *gpus: object, **fields: object) -> NodeView:
    return view(gpu_node(name, gpus=gpus or 1), **fields)  # type: ignore[arg-type]


def test_every_candidate_is_answered_for_and_nothing_else() -> None:
    answer = filter(
        views(a=node("a"), b=node("b", FULL), other=node("other")),
        Ledger(),
        request("1-10C"),
        ["b", "a", "unknown"],
    )

    assert answer.passed == ("a",)
    assert list(answer.refused) == ["b", "unknown"]
    assert answer.codes == {Code.NO_ROOM, Code.NO_INVENTORY}


@pytest.mark.parametrize(
    ("candidate", "code"),
    [
        pytest.param(node("n", FULL), Code.NO_ROOM, id="full"),
        pytest.param(node("n", stale=True), Code.STALE, id="stale"),
        pytest.param(node("n", cordoned=True), Code.CORDONED, id="cordoned"),
        pytest.param(node("n", failing=True), Code.AGENT_FAILING, id="its agent keeps failing"),
        pytest.param(
            view(gpu_node("n", generation=2, observed=1), unanswered=2),
            Code.UNSETTLED,
            id="its plan came about unseen",
        ),
        pytest.param(view(gpu_node("n", reported=False)), Code.NO_INVENTORY, id="no inventory"),
        pytest.param(node("n", rival=RIVALS[0]), Code.RIVAL, id="a rival owns its GPUs"),
        pytest.param(node("n", gpu(mig_enabled=False)), Code.MIG_DISABLED, id="MIG off"),
        pytest.param(node("n", gpu(unhealthy="lost")), Code.UNHEALTHY, id="unhealthy"),
        pytest.param(node("n", gpu(layout=Layout.STATIC)), Code.STATIC_LAYOUT, id="static"),
        pytest.param(node("n", gpu(layout=Layout.UNMANAGED)), Code.UNMANAGED, id="not ours"),
        pytest.param(
            node("n", gpu(layout=Layout.UNMANAGED, mig_enabled=False)),
            Code.UNMANAGED,
            id="not ours, whatever else",
        ),
        pytest.param(
            view(gpu_node("n", rivals=[VGPU + "7-80C"])), Code.RIVAL, id="a rival advertises it"
        ),
        pytest.param(
            node("n", gpu(instances=(instance(0, 0, vacant=True),))),
            Code.FOREIGN_INSTANCE,
            id="a free instance would take it",
        ),
        pytest.param(
            view(gpu_node("n", resources=[VGPU + "1-10C"])),
            Code.UNKNOWN_RESOURCE,
            id="not handed out there",
        ),
        pytest.param(view(gpu_node("n", gpus=0)), Code.NO_INVENTORY, id="no GPUs"),
        pytest.param(
            view(gpu_node("n", mode=Mode.CONTAINER)), Code.UNKNOWN_RESOURCE, id="containers only"
        ),
    ],
)
def test_each_refusal_has_its_own_code_and_a_stable_text(candidate: NodeView, code: Code) -> None:
    answer = filter(Fleet({"n": candidate}), Ledger(), request("7-80C"), ["n"])

    assert answer.codes == {code}
    assert answer.refused["n"].startswith("vGPU: ")
    assert "n" not in answer.refused["n"].split()


def test_a_free_instance_of_somebody_else_excludes_only_its_profile_on_its_gpu() -> None:
    gpus = [gpu(0, instances=(instance(19, 6, vacant=True),)), gpu(1)]
    one = view(gpu_node("a", gpus=gpus))
    both = view(gpu_node("a", gpus=[gpus[0], gpu(1, instances=(instance(19, 0, vacant=True),))]))

    placed = place(one, Ledger(), request("1-10C"))
    assert isinstance(placed, Choice)
    assert placed.placed[0].uuid == "GPU-1"
    assert isinstance(place(both, Ledger(), request("2-20C")), Choice)
    refused = place(both, Ledger(), request("1-10C"))
    assert isinstance(refused, Refused)
    assert refused.code is Code.FOREIGN_INSTANCE


def test_where_a_rival_serves_one_resource_the_others_are_still_served() -> None:
    contested = view(gpu_node("a", rivals=[VGPU + "7-80C"]))

    assert isinstance(place(contested, Ledger(), request("1-10C")), Choice)


def test_a_type_of_another_board_is_unknown_here() -> None:
    pcie = request("nvidia.com/NVIDIA_H100-1-10C")

    answer = filter(views(a=node("a")), Ledger(), pcie, ["a"])

    assert answer.codes == {Code.UNKNOWN_RESOURCE}


def test_a_type_that_shares_its_instance_is_not_served() -> None:
    shared = gpu_node("a", vgpu_types=[VgpuType("NVIDIA H100XM-1-10C", 19, max_per_instance=2)])

    answer = filter(views(a=view(shared)), Ledger(), request("1-10C"), ["a"])

    assert answer.codes == {Code.UNKNOWN_RESOURCE}


def test_several_vgpus_must_fit_together() -> None:
    one_half_free = views(a=node("a", HALF))

    assert filter(one_half_free, Ledger(), request("3-40C"), ["a"]).passed == ("a",)
    both = filter(one_half_free, Ledger(), request("3-40C", "3-40C"), ["a"])
    assert both.refused["a"] == f"vGPU: no free placement for 2 x {VGPU}3-40C"


def test_many_different_vgpus_are_judged_exactly() -> None:
    gpus = [gpu(i, instances=(instance(19, start),)) for i, start in enumerate((4, 4, 1, 6))]
    hard = ["1-10CME"] * 3 + ["1-20C"] + ["2-20C"] * 5 + ["3-40C"] * 3

    answer = filter(views(a=node("a", *gpus)), Ledger(), request(*hard), ["a"])

    assert answer.codes == {Code.NO_ROOM}
    assert answer.refused["a"].startswith("vGPU: no free placement for 3 x ")


def test_a_pod_with_a_place_passes_there_alone() -> None:
    answer = filter(
        views(a=node("a"), b=node("b", FULL)), Ledger(), request("1-10C"), ["a", "b"], assigned="b"
    )

    assert answer.passed == ("b",)
    assert answer.codes == {Code.RESERVED_ELSEWHERE}


def test_a_pod_whose_place_is_no_candidate_is_judged_as_new() -> None:
    answer = filter(views(a=node("a")), Ledger(), request("1-10C"), ["a"], assigned="gone")

    assert answer.passed == ("a",)


def assumed(node: str, profile_id: int, start: int, size: int) -> Ledger:
    taken = Taken("GPU-0", profile_id, Placement(start, size))
    return Ledger().assume("other", Promise(node, (taken,)))


def test_what_another_pod_is_assumed_to_get_is_taken() -> None:
    book = assumed("a", 0, 0, 8)

    assert not filter(views(a=node("a")), book, request("1-10C"), ["a"]).passed


def test_what_another_pod_is_presumed_to_get_is_avoided_not_refused() -> None:
    taken = Taken("GPU-0", 0, Placement(0, 8))
    book = Ledger().presume("other", Promise("a", (taken,)), until=1.0)
    both = views(a=node("a"), b=node("b"))

    assert filter(both, book, request("1-10C"), ["a", "b"]).passed == ("a", "b")
    assert prioritize(both, book, request("1-10C"), ["a", "b"]).winner == "b"
    assert prioritize(both, book, request("1-10C"), ["a"]).winner == "a"


def test_one_winner_gets_ten_and_the_others_at_most_two() -> None:
    candidates = {n: node(n, *([HALF] if n == "d" else [])) for n in "abcde"}

    ranked = prioritize(Fleet(candidates), Ledger(), request("3-40C"), list("abcde"))

    assert ranked.winner == "d"
    assert ranked.scores["d"] == WINNER_SCORE
    assert max(score for name, score in ranked.scores.items() if name != "d") <= 2
    assert set(ranked.scores) == set("abcde")


def test_a_node_that_does_not_fit_scores_nothing() -> None:
    ranked = prioritize(
        views(a=node("a"), b=node("b", FULL)), Ledger(), request("1-10C"), ["a", "b", "x"]
    )

    assert ranked.scores == {"a": WINNER_SCORE, "b": 0, "x": 0}


def test_equal_nodes_are_told_apart_by_name() -> None:
    candidates = {n: node(n) for n in "cab"}

    assert prioritize(Fleet(candidates), Ledger(), request("1-10C"), ["c", "a", "b"]).winner == "a"


def test_bind_gives_what_prioritize_chose() -> None:
    candidates = {"a": node("a", HALF, gpu(1))}
    ranked = prioritize(Fleet(candidates), Ledger(), request("1-10C"), ["a"])

    choice = place(candidates["a"], Ledger(), request("1-10C"))

    assert choice == ranked.choice


def test_bind_on_a_full_node_says_why_not() -> None:
    choice = place(node("a", FULL), Ledger(), request("1-10C"))

    assert not isinstance(choice, Choice)
    assert isinstance(choice, Refused)
    assert choice.code is Code.NO_ROOM


def test_a_proposed_eviction_that_makes_room_is_kept() -> None:
    whole = assignment("a", 0, 0, pod="victim")
    candidates = {
        "helps": view(gpu_node("helps", plan=[whole])),
        "does-not": view(gpu_node("does-not", gpus=[FULL])),
    }
    victims = {"helps": ["victim"], "does-not": ["victim"], "unknown": ["victim"]}

    assert sufficient(candidates, Ledger(), request("7-80C"), victims) == ("helps",)


def test_an_eviction_without_victims_is_never_kept() -> None:
    assert sufficient({"a": node("a")}, Ledger(), request("1-10C"), {"a": []}) == ()


def test_a_victims_instance_counts_as_leaving() -> None:
    plan = [assignment("a", 0, 0, pod="victim")]
    running = gpu_node("a", gpus=[FULL], plan=plan)

    assert sufficient({"a": view(running)}, Ledger(), request("7-80C"), {"a": ["victim"]}) == ("a",)


def test_a_pods_own_place_is_no_obstacle_to_its_preemption() -> None:
    held = view(gpu_node("a", plan=[assignment("x", 0, 0, pod="pod-1")]))

    assert sufficient({"a": held}, Ledger(), request("7-80C"), {"a": ["cpu-hog"]}) == ("a",)
