"""``tangram simulate --from``: a desk or a file is asked what if, and wrong options are named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner, Result

from extender.cli.simulate import DESCRIBING, simulate
from extender.cluster import KubernetesCluster
from extender.server import desk
from extender.server.surveyed import BASELINE
from extender.service import Service
from extender.service.ports import Feed, PodFacts
from extender.service.reviewer import Access
from extender.simulation.baseline import Node, Requests
from extender.simulation.history import History
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import request
from tests.explained import Small, Vm
from tests.fakes.reviewer import KnowsNobody
from tests.simulated import baseline, gpu

TOKEN = "a-token"

app = typer.Typer()  # not the whole program: that would send later tests' logs to a closed stream
app.command()(simulate)


def ran(*args: str) -> Result:
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    return CliRunner(env=plain).invoke(app, list(args))


def words(result: Result) -> str:
    return " ".join(result.output.replace("│", " ").split())


@pytest.fixture
def kept(tmp_path: Path) -> str:
    """A file with a fleet of two nodes, which a cluster's owner has kept."""
    history = History()
    for day in range(10):
        history = history.noted(day, {"1g.10gb": 3 * day})
    of = baseline(
        Node("gpu-node-1", gpus=(gpu(("3g.40gb", 4)), gpu())),
        Node("gpu-node-2", gpus=(gpu(("7g.80gb", 0)),)),
        requests=Requests({"1g.10gb": 60.0, "7g.80gb": 20.0}, {"1g.10gb": 27}, history),
    )
    path = tmp_path / "kept.json"
    path.write_bytes(msgspec.json.encode(of))
    return str(path)


def answer(*args: str) -> dict[str, Any]:
    result = ran(*args, "--seeds", "3", "--output", "json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_programs_get_all_that_was_found_out(kept: str) -> None:
    found = answer(
        "--from", kept, "--add-node", "H100-80GB:1x2", "--remove-node", "gpu-node-2", "--mix", "mid"
    )

    assert found["adding"] == [{"model": "H100-80GB", "gpus": 1, "nodes": 2}]
    assert found["fleet"] == {
        "nodes": 3, "ready_nodes": 3, "gpus": 4, "slices": 32, "used_slices": 4, "gpus_aside": 0,
    }  # fmt: skip
    assert found["displaced"] == {"7g.80gb": 1}
    assert found["homeless"] == {}
    assert found["profiles"]["7g.80gb"] == {"now": 2, "at_best": 2, "before": 1}
    assert found["mix"]["shares"]["3g.40gb"] == pytest.approx(0.3)
    assert found["mix"]["requests"]["ci95"] > 0
    assert found["gpus_needed"]["H100-80GB"] > 2
    assert found["growing"]["slices"]["median"] == 3.0


def test_the_same_seeds_give_the_same_answer_and_others_another(kept: str) -> None:
    one = answer("--from", kept)

    assert answer("--from", kept) == one
    assert answer("--from", kept, "--first-seed", "5")["mix"] != one["mix"]


def test_the_fleets_own_policy_decides_unless_another_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    of = msgspec.structs.replace(baseline([gpu()]), policy="mfi")
    path.write_bytes(msgspec.json.encode(of))

    assert answer("--from", str(path))["policy"] == "mfi"
    assert answer("--from", str(path), "--policy", "first-fit")["policy"] == "first-fit"


def test_people_get_a_table_and_sentences(kept: str) -> None:
    said = words(ran("--from", kept, "--remove-node", "gpu-node-1"))

    assert "As of 2026-01-05T00:00:00Z, policy default: 2 of 2 nodes take something new" in said
    assert "With gpu-node-1 removed: 1 of 1 nodes take something new" in said
    assert "On the removed: 1 x 3g.40gb. Of these find no room without moving others: 1 x" in said
    assert "Of the mix 7g.80gb 25%, 1g.10gb 75%: 0.0" in said
    assert "It grows by +3.0 memory slices a day (95 %: +3.0 to +3.0; 8 seen)." in said
    assert "from 2026-01-05 (95 %: 2026-01-05 to 2026-01-05; in 100% of" in said


def test_what_is_not_known_is_not_claimed(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(msgspec.json.encode(baseline([gpu()])))

    said = words(ran("--from", str(path)))

    assert "Of a mix: nothing is claimed. 0 requests seen of late, and 30 are needed" in said
    assert "say it with --mix" in said
    assert "When it runs out: nothing is claimed. 0 whole periods of 24 h were seen" in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("--add-node", "H300:8"), "--add-node: 'H300:8': no model H300; there are"),
        (("--add-node", "many"), "--add-node: 'many' is not MODEL:GPUSxNODES"),
        (("--remove-node", "gpu-node-3"), "--remove-node: 'gpu-node-3': no such node; did you"),
        (("--mix", "most"), "--mix: mix 'most' is neither one of"),
        (("--mix", "9g.90gb=1"), "no profile 9g.90gb"),
        (("--policy", "best"), "--policy: 'best' is none of"),
        (("--policy", "absent.yaml"), "--policy: absent.yaml: cannot be read"),
        (("--save", "/nowhere/x.json"), "--save: /nowhere/x.json: cannot be written"),
        (("--load", "0.5"), "--load: --from takes the GPUs and the demand of"),
    ],
)
def test_a_wrong_option_is_named_with_what_to_do(
    kept: str, args: tuple[str, ...], says: str
) -> None:
    result = ran("--from", kept, *args)

    assert result.exit_code == 2
    assert says in words(result)


@pytest.mark.parametrize("option", ["--add-node", "--remove-node", "--save", "--desk"])
def test_what_is_about_a_fleet_that_is_there_needs_one(option: str) -> None:
    result = ran(option, "x")

    assert result.exit_code == 2
    assert (
        f"{option}: it is about a fleet that is there: give --from cluster, a log or a file"
        in words(result)
    )


def test_every_option_that_describes_simulated_demand_exists() -> None:
    """Or one that is renamed would be taken beside --from, and ignored."""
    (command,) = typer.main.get_group(_two()).commands.values()

    assert set(DESCRIBING) <= {each.name for each in command.params}


def _two() -> typer.Typer:
    grouped = typer.Typer()
    grouped.callback()(lambda: None)
    grouped.command()(simulate)
    return grouped


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("kept", None, "cannot be read: No such file or directory; give cluster, a decision log,"),
        ("kept", b"\x28\xb5\x2f\xfd log", "not what `tangram simulate --from cluster --save`"),
        ("kept", b"{}", "Object missing required field"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd log", "is no file of a decision log"),
        ("a.jsonl.zst", None, "cannot be read"),
        ("", None, "there is no file of a decision log"),
    ],
)
def test_a_file_that_is_no_fleet_is_told(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    result = ran("--from", str(path))

    assert result.exit_code == 1
    assert words(result).startswith(f"tangram simulate --from: {path}: ")
    assert says in words(result)


class OneToken(KnowsNobody):
    """Lets in who shows the one token; everybody may GET what is below /api, as Kubernetes does."""

    async def may_get(self, token: str, path: str) -> Access:
        return Access.ALLOWED

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return Access.FORBIDDEN

    async def may_list_gpu_nodes(self, token: str) -> Access:
        return {TOKEN: Access.ALLOWED, "tenant": Access.FORBIDDEN}.get(token, Access.UNKNOWN)

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        return Access.FORBIDDEN


@pytest.fixture
async def url() -> AsyncIterator[str]:
    service = Service(KubernetesCluster(InMemoryApi()))
    knowledge = service.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    small = Small.of([Vm("x", 19, "a", 0, 4), Vm("big", 0, "b", 0, 0)], a=1, b=1)
    for name, there in small.views.items():
        knowledge.node(name, cordoned=False)
        knowledge.lease(name, "1")
        knowledge.gpu_node(there.node)
    for vm in small.vms.values():
        asked = request("1-10C", pod=vm.name)
        knowledge.pod(PodFacts(asked.pod, asked, vm.node, "Running"))
    for _ in range(31):
        asked = request("3-40C", pod=f"pod-{_}")
        knowledge.demand.asked(asked, knowledge.views.values(), now=knowledge.clock())
    knowledge.pending.filtered(asked, ["a", "b"])
    async with desk(service, reviewer=OneToken()) as at:
        yield at


async def test_a_desk_is_asked_and_what_it_says_can_be_kept(url: str, tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    there = ("--from", "cluster", "--desk", url, "--token", TOKEN)

    found = await asyncio.to_thread(answer, *there, "--save", str(path))
    again = await asyncio.to_thread(answer, "--from", str(path))

    assert found == again
    assert found["wanted"] == {"1g.10gb": 1, "7g.80gb": 1, "3g.40gb": 1}
    assert found["waiting"] == {"3g.40gb": 1}
    assert found["profiles"]["4g.40gb"]["now"] == 1
    assert found["mix"]["shares"] == {"3g.40gb": 1.0}
    assert found["mix"]["first_refused"] == {"3g.40gb": 1.0}


@pytest.mark.parametrize(
    ("token", "says"),
    [("tenant", "you may not list gpunodes.tangram.dev"), ("stranger", "give --token")],
)
async def test_it_is_for_who_may_list_gpu_nodes(url: str, token: str, says: str) -> None:
    result = await asyncio.to_thread(ran, "--from", "cluster", "--desk", url, "--token", token)

    assert result.exit_code == 1
    assert says in words(result)


def test_the_path_is_the_desks() -> None:
    assert BASELINE == "/api/v1/baseline"  # which scripts may ask for, too
