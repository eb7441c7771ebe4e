"""The demo: what it simulates, how it judges itself, what it prints."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import aiohttp
import msgspec
import pytest

from extender.demo import world
from extender.demo.arrivals import Arrival, Departures, arrivals
from extender.demo.audit import audit, instances
from extender.demo.outcome import Outcome
from extender.demo.run import Options, run
from extender.demo.world import requestable
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.simulation.mixes import NAMED, UnknownMix, mix
from nodeagent.api import keys
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Placement
from nodeagent.api.gpunode import Decision, Mode
from nodeagent.driver import InstanceInUse
from nodeagent.simulated.hardware import Hardware, SimulatedGpu
from tests.builders import H100, raw_pod
from tests.commands import tangram

GEOMETRY = H100.geometry
ALL = frozenset(GEOMETRY.by_id)


# Demand.


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("model", MODELS)
def test_every_named_mix_suits_every_model(name: str, model: str) -> None:
    known = MODELS[model]
    shares = mix(name, known.geometry, frozenset(requestable(known)))

    assert sum(shares.values()) == pytest.approx(1)
    assert shares.keys() <= known.geometry.by_id.keys()


def test_a_mix_of_an_eight_slice_gpu_is_the_published_one() -> None:
    shares = mix("mid", GEOMETRY, ALL)

    assert shares == pytest.approx({0: 0.10, 5: 0.05, 9: 0.30, 14: 0.20, 15: 0.15, 19: 0.20})


def test_a_mix_may_be_given_by_profile() -> None:
    shares = mix("7g.80gb=.5, 1g.10gb+me=1, 1g.10gb+me=.5", GEOMETRY, ALL)

    assert shares == {0: 0.25, 20: 0.75}


@pytest.mark.parametrize(
    ("text", "hint"),
    [("nothing", "one of uniform"), ("9g.90gb=1", "this model has 1g.10gb"), ("7g.80gb=0", "asks")],
)
def test_a_mix_that_cannot_be_read_says_what_can(text: str, hint: str) -> None:
    with pytest.raises(UnknownMix, match=hint):
        mix(text, GEOMETRY, ALL)


def coming(count: int, *, seed: int = 1, load: float = 0.5) -> list[Arrival]:
    shares = mix("uniform", GEOMETRY, ALL)
    return list(arrivals(count, shares, GEOMETRY, total_slices=800, load=load, seed=seed))


def test_the_same_seed_brings_the_same_vms_and_another_seed_others() -> None:
    assert coming(50) == coming(50)
    assert coming(50) != coming(50, seed=2)


def test_demand_is_the_load_asked_for() -> None:
    vms = coming(20_000)
    asked = sum(GEOMETRY.by_id[vm.profile_id].size * (vm.until - vm.at) for vm in vms)

    assert asked / vms[-1].at / 800 == pytest.approx(0.5, rel=0.05)


def test_vms_leave_once_and_in_order() -> None:
    departures = Departures()
    for index, until in enumerate((3.0, 1.0, 2.0)):
        departures.add(Arrival(index, 19, 0.0, until))

    assert list(departures.until(2.5)) == [1, 2]
    assert list(departures.until(2.5)) == []
    assert list(departures.until(9.0)) == [0]


# Judging itself: every kind of broken promise is noticed.


@pytest.fixture
def node() -> Hardware:
    return Hardware("node-1", [H100], Mode.VGPU_VFIO)


def promised(node: Hardware, uid: str, start: int = 0, *, held: bool = True) -> dict[str, Any]:
    """A bound pod with a 3g instance, which it holds."""
    gpu = node.gpus[0]
    decision = Decision(f"a-{uid}", gpu.uuid, "3g.40gb", 9, start, 4, "resource")
    if held:
        gi_id = next(
            (g for g, i in gpu.instances.items() if i.placement.start == start), None
        ) or gpu.create(9, Placement(start, 4))
        node.open(gpu.uuid, gi_id, uid)
    note = msgspec.json.encode([decision]).decode()
    return {
        "metadata": {"uid": uid, "annotations": {keys.DECISION_ANNOTATION: note}},
        "spec": {"nodeName": "node-1"},
    }


def test_a_sound_cluster_breaks_no_promise(node: Hardware) -> None:
    pods = [promised(node, "a", 0), promised(node, "b", 4)]

    found = audit({"node-1": node}, pods)

    assert (found.double_promised, found.lost_assignments) == (0, 0)


def test_one_instance_with_two_users_is_noticed(node: Hardware) -> None:
    pods = [promised(node, "a", 0), promised(node, "b", 0)]

    assert audit({"node-1": node}, pods).double_promised == 1 + 4  # a user, and four slices


def test_slices_promised_to_two_pods_are_noticed(node: Hardware) -> None:
    pods = [promised(node, "a", 0), promised(node, "b", 0, held=False)]

    found = audit({"node-1": node}, pods)

    assert (found.double_promised, found.lost_assignments) == (4, 1)


def test_a_promise_without_an_instance_is_noticed(node: Hardware) -> None:
    pods = [promised(node, "a", 0)]
    node.reboot()

    assert audit({"node-1": node}, pods).lost_assignments == 1


def test_an_instance_that_stays_behind_is_noticed(node: Hardware) -> None:
    promised(node, "a", 0)

    assert instances({"node-1": node}) == 1


# The whole story.


async def play(**changes: Any) -> Outcome:
    options = Options(
        **{
            "model": H100,
            "nodes": 2,
            "gpus": 2,
            "vms": 40,
            "mix": "uniform",
            "load": 1.5,
            "seed": 3,
            "policy": InForce.of(PolicyName.DEFAULT),
            **changes,
        }
    )
    return await run(options, progress=lambda placed, refused: None)


async def test_a_story_adds_up_and_breaks_no_promise() -> None:
    outcome = await play()

    assert outcome.sound
    assert outcome.placed + outcome.refused == outcome.requested == 40
    assert outcome.refused > 0  # more is asked for than there is
    assert sum(outcome.refusals.values()) == outcome.refused
    assert outcome.refusals.keys() == {"no-room"}
    assert sum(count.placed for count in outcome.profiles.values()) == outcome.placed
    assert 0 < outcome.slices_used <= outcome.slices_total == 32


def ruled(text: str) -> InForce:
    head = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
    return parsed((head + text).encode(), "rules.yaml").in_force


async def test_a_policys_caps_are_kept() -> None:
    all_of_it = "namespaces: {matchLabels: {team: tenants}}, caps: {memorySlices: 12}"

    outcome = await play(policy=ruled(f"tenants: [{{name: all, {all_of_it}}}]"))

    assert outcome.sound
    assert 0 < outcome.slices_used <= 12
    assert outcome.refusals["over-cap"] > 0


async def test_a_policys_pool_has_its_profiles_alone() -> None:
    small = "nodes: {matchLabels: {pool: training}}, profiles: [1g.10gb]"

    def in_pool(outcome: Outcome) -> set[str]:
        first = [gpu for gpu in outcome.map if gpu.node == "gpu-node-0"]
        return {GEOMETRY.by_id[profile].name for gpu in first for profile, _ in gpu.instances}

    without = await play()
    ruled_by = await play(policy=ruled(f"pools: [{{name: small, {small}}}]"))

    assert ruled_by.sound
    assert in_pool(ruled_by) <= {"1g.10gb"} < in_pool(without) | {"1g.10gb"}


async def test_an_instance_that_will_not_go_is_counted_as_leaked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stuck(gpu: SimulatedGpu, gi_id: int) -> None:
        raise InstanceInUse("nvmlGpuInstanceDestroy")

    monkeypatch.setattr(SimulatedGpu, "destroy", stuck)
    monkeypatch.setattr(world, "SETTLED_WITHIN_SECONDS", 0.2)

    outcome = await play(vms=3, nodes=1, gpus=1, mix="7g.80gb=1", load=0.1)

    assert outcome.leaked_instances > 0
    assert not outcome.sound


async def test_vms_that_come_at_once_are_placed_as_one_problem() -> None:
    outcome = await play(burst=40)

    assert outcome.sound
    assert outcome.placed + outcome.refused == outcome.requested == 40
    # More is asked for than there is, and the plan leaves no more than the odd slice.
    assert outcome.slices_used >= outcome.slices_total - 1


async def test_what_two_users_had_at_once_for_a_time_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened, closed = Hardware.open, Hardware.close
    first: list[str] = []

    def open_to_an_intruder(node: Hardware, gpu: str, gi_id: int, client: str) -> None:
        opened(node, gpu, gi_id, client)
        if not first:
            first.append(client)
            opened(node, gpu, gi_id, "intruder")

    def close_with_the_intruder(node: Hardware, client: str) -> None:
        closed(node, client)
        if client in first:
            closed(node, "intruder")

    monkeypatch.setattr(Hardware, "open", open_to_an_intruder)
    monkeypatch.setattr(Hardware, "close", close_with_the_intruder)
    outcome = await play(vms=60)

    assert outcome.double_promised == 1
    assert not outcome.sound


async def test_a_bind_of_somebody_elses_while_the_hooks_linger_is_no_leak() -> None:
    """The hooks take a pod's word for it that it exists; its place is soon taken back."""

    async def bind(url: str, _: str) -> None:
        pod = raw_pod("1-10C", uid="stranger")
        args = {"Pod": pod, "NodeNames": ["gpu-node-0"]}
        binding = {"PodName": "vm-1", "PodNamespace": "default", "PodUID": "stranger"}
        async with aiohttp.ClientSession() as http:
            await http.post(f"{url}/filter", json=args)
            await http.post(f"{url}/bind", json=binding | {"Node": "gpu-node-0"})

    options = Options(
        model=H100,
        nodes=1,
        gpus=1,
        vms=1,
        mix="1g.10gb=1",
        load=0.1,
        seed=1,
        policy=InForce.of(PolicyName.DEFAULT),
    )
    outcome = await run(options, progress=lambda placed, refused: None, linger=bind)

    assert outcome.sound


async def test_the_same_seed_ends_in_the_same_map() -> None:
    assert (await play()).map == (await play()).map


@pytest.mark.parametrize("model", ["A30-24GB", "B200-180GB", "RTX-PRO-6000-Blackwell-96GB"])
async def test_other_models_have_their_story_too(model: str) -> None:
    outcome = await play(model=MODELS[model], vms=15, nodes=1)

    assert outcome.sound
    assert outcome.placed > 0


def test_json_is_one_document_on_stdout_and_all_else_is_on_stderr() -> None:
    small = ("--nodes", "1", "--gpus", "1", "--vms", "5", "--output", "json")
    command = [sys.executable, "-m", "extender", "demo", *small]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert ended.returncode == 0
    document = json.loads(ended.stdout)
    assert document["requested"] == 5
    for key in ("double_promised", "leaked_instances", "lost_assignments"):
        assert document[key] == 0
    assert document["filter_ms"].keys() == document["bind_ms"].keys() == {"p50", "p99"}
    assert "Tangram demo" in ended.stderr


def test_the_policy_told_is_the_one_that_decides() -> None:
    small = ("--nodes", "1", "--gpus", "1", "--vms", "1", "--output", "json")
    ended = tangram("demo", *small, "--policy", "learned")

    assert json.loads(ended.stdout)["policy"] == "default"  # learned has no weights by name
    assert "Policy: default, version " in " ".join(ended.stderr.split())


def test_text_shows_every_gpu_and_says_what_happened() -> None:
    ended = tangram("demo", "--nodes", "2", "--gpus", "3", "--vms", "12")

    assert ended.exit_code == 0
    assert sum(line.startswith("  gpu-node-") for line in ended.stdout.splitlines()) == 2
    assert "12 of 12 VMs were placed (100.0 %), each tried once." in ended.stdout
    assert "0 slices promised twice" in ended.stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("--mix", "nothing"), "--mix"),
        (("--model", "H1"), "H100-80GB"),
        (("--nodes", "0"), "--nodes"),
        (("--load", "0"), "--load"),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(arguments: tuple[str, str], hint: str) -> None:
    ended = tangram("demo", *arguments)

    assert ended.exit_code == 2
    assert hint in ended.stderr
    assert "Traceback" not in ended.stderr
