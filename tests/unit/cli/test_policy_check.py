"""``tangram policy check --against URL``: what a running Tangram says a policy would come to."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner, Result

from extender.cli.main import app
from extender.cluster import KubernetesCluster
from extender.policy.file import MalformedPolicy, parsed
from extender.server import desk, proposed
from extender.server.proposed import MOST_BYTES, POLICY
from extender.service import Service
from extender.service.ports import Feed, PodFacts
from extender.service.reviewer import Access
from nodeagent.apiserver.memory import InMemoryApi
from tests.builders import request
from tests.explained import Small, Vm
from tests.fakes.reviewer import KnowsNobody
from tests.page.running import demo

HEAD = "apiVersion: tangram.dev/v1alpha1\nkind: PlacementPolicy\n"
RED = "tenants:\n- name: red\n  namespaces: {matchLabels: {team: red}}\n  "
LOOSE = HEAD + RED + "caps: {memorySlices: 9}"
TIGHT = HEAD + RED + "caps: {memorySlices: 4}\n  profiles: [1g.10gb, 4g.40gb]"
NEXT_TO_NOTHING = LOOSE + "\npools: [{name: typo, nodes: {matchLabels: {pol: big}}}]"

THERE = Small.of([Vm("big", 5, "a", 0, 0), Vm("x", 19, "a", 0, 4)], a=1, b=1)


@pytest.fixture
async def service() -> Service:
    """An extender with two VMs of one tenant, and two that wait: for a quarter, and for a whole."""
    made = Service(KubernetesCluster(InMemoryApi()), policy=parsed(LOOSE.encode(), "x").in_force)
    knowledge = made.knowledge
    for feed in Feed:
        knowledge.feed_synced(feed)
    knowledge.namespace("default", {"team": "red"})
    for name, there in THERE.views.items():
        knowledge.node(name, cordoned=False)
        knowledge.lease(name, "1")
        knowledge.gpu_node(there.node)
    for vm in THERE.vms.values():
        asked = request("1-10C", pod=vm.name)
        knowledge.pod(PodFacts(asked.pod, asked, vm.node, "Running"))
    for shape in ("2-20C", "7-80C"):
        asked = request(shape, pod=shape)
        knowledge.pod(PodFacts(asked.pod, asked, "", "Pending"))
    return made


@pytest.fixture
async def url(service: Service) -> AsyncIterator[str]:
    async with desk(service, reviewer=None) as url:
        yield url


async def check(folder: Path, policy: str, *args: str) -> Result:
    """Check a policy, in a thread, while the desk answers here."""
    file = folder / "policy.yaml"
    file.write_text(policy)
    plain = {"COLUMNS": "240", "NO_COLOR": "1", "TERM": "dumb"}
    command = ["policy", "check", str(file), *args]
    return await asyncio.to_thread(CliRunner(env=plain).invoke, app, command)


async def test_the_policy_in_force_changes_nothing(
    tmp_path: Path, url: str, service: Service
) -> None:
    result = await check(tmp_path, LOOSE, "--against", url)

    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "tenant red has 5 of 9 memory slices" in words
    assert "pods placed 2 have their place, and keep it pods" in words
    assert "pods waiting 2 wait; 1 would fit, each by itself (now 1); refused:" in words
    assert f"in force there: version {service.knowledge.in_force.version}" in words


async def test_what_a_tighter_policy_changes_is_told_in_counts(tmp_path: Path, url: str) -> None:
    result = await check(tmp_path, TIGHT, "--against", url)

    assert result.exit_code == 2
    words = " ".join(result.output.split())
    assert "WARNING: has 5 of 4 memory slices" in words
    # Either of the two has room within the cap alone, neither beside the other.
    assert (
        "WARNING: 2 have their place, and keep it; 2 would not be given it again, as after a"
        " restart (now 0); refused: tenant red is at its cap of memory slices (2)"
    ) in words
    assert (
        "WARNING: 2 wait; 0 would fit, each by itself (now 1); 1 do now and would not then, 0 the"
        " other way round; refused: tenant red may not use 2g.20gb (2)"
    ) in words


async def test_programs_read_the_same(tmp_path: Path, url: str) -> None:
    result = await check(tmp_path, TIGHT, "--against", url, "-o", "json")

    assert result.exit_code == 2
    said = json.loads(result.output)["cluster"]
    assert (said["placed"]["pods"], said["placed"]["refused"], said["placed"]["newly"]) == (2, 2, 2)
    assert (said["waiting"]["refusedNow"], said["waiting"]["refused"]) == (1, 2)
    assert said["placed"]["because"] == [
        {
            "code": "over-cap",
            "text": "vGPU: tenant red is at its cap of memory slices",
            "pods": 2,
            "newly": 2,
        }
    ]
    assert {
        "kind": "tenant",
        "name": "red",
        "text": "namespaces: 1 (default)",
        "warning": False,
    } in (said["effects"])


async def test_a_rule_that_matches_nothing_is_told_by_the_exit_status(
    tmp_path: Path, url: str
) -> None:
    result = await check(tmp_path, NEXT_TO_NOTHING, "--against", url)

    assert result.exit_code == 2
    assert "WARNING: GPUs: 0 on nodes: none" in result.output


async def test_nothing_of_it_is_in_force_afterwards(
    tmp_path: Path, url: str, service: Service
) -> None:
    before = service.knowledge.in_force, dict(service.knowledge.views)
    memos = {name: dict(view.memo) for name, view in service.knowledge.views.items()}

    await check(tmp_path, TIGHT, "--against", url)

    assert before == (service.knowledge.in_force, dict(service.knowledge.views))
    assert memos == {name: dict(view.memo) for name, view in service.knowledge.views.items()}


@pytest.mark.parametrize("there", ["clusters", "127.0.0.1:8444", "ftp://desk"])
async def test_what_is_neither_a_cluster_nor_a_url_is_refused(tmp_path: Path, there: str) -> None:
    result = await check(tmp_path, LOOSE, "--against", there)

    assert result.exit_code == 2
    assert "neither cluster nor the URL of a desk" in " ".join(
        result.output.replace("│", " ").split()
    )


async def test_a_desk_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    result = await check(tmp_path, LOOSE, "--against", "http://127.0.0.1:1")

    assert result.exit_code == 1
    assert "tangram policy check: cannot reach http://127.0.0.1:1" in result.output


async def test_a_running_demo_is_asked_like_any_other(tmp_path: Path) -> None:
    with demo("--nodes", "1", "--gpus", "2", "--vms", "6", "--mix", "1g.10gb=1") as page:
        whole = await check(tmp_path, HEAD, "--against", page, "-o", "json")
        vms = HEAD + "tenants: [{name: all, namespaces: {}, caps: {memorySlices: 0}}]"
        none = await check(tmp_path, vms, "--against", page, "-o", "json")

    assert (whole.exit_code, none.exit_code) == (0, 2)
    before, after = (json.loads(said.output)["cluster"]["placed"] for said in (whole, none))
    assert before["pods"] > 0 == before["refused"]
    assert after["newly"] == after["refused"] == after["pods"] > 0


async def test_a_policy_that_the_other_side_does_not_take_is_told_in_its_words(url: str) -> None:
    """As of another version: this one's command line would not have sent it."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}{POLICY}", data=b"kind: Elsewhere", headers=AS_YAML) as answer,
    ):
        assert answer.status == 400
        assert "$.kind" in await answer.text()


async def test_a_file_that_no_configmap_holds_is_not_read(url: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"{url}{POLICY}", data=io.BytesIO(b"#" * (MOST_BYTES + 1)), headers=AS_YAML
        ) as answer,
    ):
        assert answer.status == 413


@pytest.mark.parametrize("said", ["text/plain", "application/x-www-form-urlencoded"])
async def test_what_a_page_of_another_site_can_send_unasked_is_not_read(
    url: str, said: str
) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}{POLICY}", data=b"{}", headers={"Content-Type": said}) as answer,
    ):
        assert answer.status == 415
        assert "application/yaml" in await answer.text()


async def test_one_that_takes_too_long_keeps_nothing_but_those_that_ask_the_same(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, begun = threading.Event(), threading.Event()

    def slow(*_: object) -> None:
        begun.set()
        release.wait(10.0)
        raise MalformedPolicy("the policy")

    monkeypatch.setattr(proposed, "parsed", slow)
    monkeypatch.setattr(proposed, "WITHIN_SECONDS", 0.05)
    try:
        async with aiohttp.ClientSession() as http:
            for _ in range(3):
                post = http.post(f"{url}{POLICY}", data=b"{}", headers=AS_YAML)
                async with post as answer:
                    assert answer.status == 503
        assert begun.is_set()
        working = [each for each in threading.enumerate() if each.name.startswith("policy")]
        assert len(working) == 1
    finally:
        release.set()


AS_YAML = {"Content-Type": "application/yaml"}


class Users(KnowsNobody):
    """``ops`` may list everything, ``sre`` GpuNodes alone; others are not known."""

    async def may_get(self, token: str, path: str) -> Access:
        return Access.ALLOWED  # as Kubernetes has it for whatever is below /api

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return Access.ALLOWED if token == "ops" else Access.FORBIDDEN

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        return await self.may_list_pods(token, namespace)

    async def may_list_gpu_nodes(self, token: str) -> Access:
        return Access.ALLOWED if token in ("ops", "sre") else Access.UNKNOWN


@pytest.mark.parametrize(
    ("token", "status", "says"),
    [
        ("ops", 0, "have their place"),
        ("sre", 1, "you may not list the pods of all namespaces"),
        ("", 1, "give --token"),
    ],
)
async def test_it_is_for_who_may_list_all_that_it_tells_of(
    tmp_path: Path, service: Service, token: str, status: int, says: str
) -> None:
    async with desk(service, reviewer=Users()) as url:
        result = await check(tmp_path, LOOSE, "--against", url, "--token", token)

    assert (result.exit_code, says in result.output) == (status, True), result.output


async def test_nothing_is_told_before_all_is_known(tmp_path: Path) -> None:
    async with desk(Service(KubernetesCluster(InMemoryApi())), reviewer=None) as url:
        result = await check(tmp_path, LOOSE, "--against", url)

    assert result.exit_code == 1
    assert "tangram policy check: " in result.output
