"""Explanations over HTTP: what the extender knows, to whom it is told, and how often worked out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec
import pytest

from extender.cli.explain import STATES, shown
from extender.cluster import Reviews, objects
from extender.explain import Explanation, explain
from extender.explain.explanation import Moves, NoMoves, State
from extender.explain.nodes import Roster
from extender.request import NotOurs
from extender.server import desk
from extender.service import Service, explaining
from extender.service.ports import PodFacts
from nodeagent.api.gpunode import Mode, OwnerRef, Realized
from nodeagent.apiserver.protocol import TOKEN_REVIEWS, ApiServer, Kind, Unavailable
from tests.advised import CROWDED, extender
from tests.builders import VGPU, assignment, gpu, gpu_node, instance, raw_pod, request
from tests.fakes.world import filter_args

FOUR, TWO, ONE = 5, 14, 19


class Reviewing:
    """An API server that only reviews: each user may get the pods of the namespace of their name.

    ``ops`` may of all, and list the GpuNodes. Everybody may GET what is below /api, as Kubernetes
    has it.
    """

    def __init__(self) -> None:
        self.down = False
        self.asked: list[Mapping[str, Any]] = []

    async def create(self, kind: Kind, body: Mapping[str, Any], **_: Any) -> bytes:
        if self.down:
            raise Unavailable(503, "etcd is away")
        spec = body["spec"]
        if kind == TOKEN_REVIEWS:
            known = spec["token"] in ("ops", "default", "other")
            status: Any = {"authenticated": known, "user": {"username": spec["token"]}}
        else:
            self.asked.append(spec)
            about = spec.get("resourceAttributes", {})
            if not about:
                assert spec["nonResourceAttributes"]["path"].startswith("/api/")
                return msgspec.json.encode({"status": {"allowed": True}})
            asked = (about.get("group", ""), about["resource"], about["verb"])
            assert asked in (("", "pods", "get"), ("tangram.dev", "gpunodes", "list"))
            own = about.get("namespace") == spec["user"]
            status = {"allowed": spec["user"] == "ops" or own}
        return msgspec.json.encode({"status": status})


@pytest.fixture
def reviewing() -> Reviewing:
    return Reviewing()


@pytest.fixture
async def url(service: Service, reviewing: Reviewing) -> AsyncIterator[str]:
    """The desk of an extender on whose one node a VM of namespace ``other`` is in the way."""
    crowded(service)
    only_reviews: ApiServer = reviewing  # type: ignore[assignment]
    async with desk(service, reviewer=Reviews(only_reviews)) as url:
        yield url


def crowded(service: Service) -> None:
    """Let node-1 have two GPUs: one with 1g in the way of a 3g, another with a slice for it."""
    knowledge = service.knowledge
    plan, gpus = [], []
    for at, held in enumerate((((FOUR, 0), (ONE, 4)), ((FOUR, 0), (TWO, 4)))):
        entries = [
            assignment(f"{at}-{start}", profile, start, gpu=f"GPU-{at}", pod=f"p-{at}-{start}")
            for profile, start in held
        ]
        plan += [msgspec.structs.replace(e, pod=other(e.pod.uid)) for e in entries if e.pod]
        gpus.append(
            gpu(
                at,
                instances=tuple(instance(e.profile_id, e.start, assignment=e.id) for e in entries),
            )
        )
    realized = [Realized(each.id) for each in plan]
    knowledge.gpu_node(
        gpu_node("node-1", gpus=gpus, plan=plan, realized=realized, version=2, mode=Mode.VGPU_VFIO)
    )
    for each in plan:
        assert each.pod is not None
        asked = msgspec.structs.replace(request("1-10C"), pod=each.pod)
        knowledge.pod(PodFacts(each.pod, asked, "node-1", "Running"))
    asked = request("3-40C", pod="me")
    knowledge.pod(PodFacts(asked.pod, asked))


def other(uid: str) -> Any:
    return msgspec.structs.replace(request("1-10C", pod=uid).pod, namespace="other", name=uid)


async def get(url: str, path: str, token: str | None = None) -> tuple[int, bytes]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.read()


ME = "/api/v1/explain?namespace=default&pod=name-me"


async def explained(url: str, token: str | None = None) -> Explanation:
    status, body = await get(url, ME, token)
    assert status == 200, body
    return msgspec.json.decode(body, type=Explanation)


async def test_a_tenant_sees_its_pod_and_not_whose_vm_is_in_the_way(url: str) -> None:
    said = await explained(url, "default")

    assert said.state is State.REFUSED
    assert isinstance(said.room, Moves)
    (move,) = said.room.moves
    assert (move.namespace, move.kind, move.name) == ("", "", "")
    assert (move.source.gpu, move.source.start, move.target.gpu) == (0, 4, 1)


async def test_the_sentences_name_nobody_of_whom_the_reader_may_not_know(url: str) -> None:
    tenant = " ".join((await explained(url, "default")).sentences)
    operator = " ".join((await explained(url, "ops")).sentences)

    assert "a VM you may not see (1g.10gb on node node-1, GPU 0, slice 4) moved to" in tenant
    assert "p-0-4" not in tenant
    assert "other/p-0-4 (1g.10gb" in operator


async def test_who_may_get_the_other_pod_sees_its_name(url: str) -> None:
    said = await explained(url, "ops")

    assert isinstance(said.room, Moves)
    assert [(move.namespace, move.name) for move in said.room.moves] == [("other", "p-0-4")]


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("stranger", 401), ("other", 403)])
async def test_nobody_else_learns_even_whether_a_pod_exists(
    url: str, token: str | None, status: int
) -> None:
    for pod in ("name-me", "nobody"):
        path = f"/api/v1/explain?namespace=default&pod={pod}"
        answered, body = await get(url, path, token)
        assert answered == status
        assert b"vGPU" not in body


async def test_the_nodes_are_for_who_may_get_them(url: str) -> None:
    assert (await get(url, "/api/v1/nodes", "default"))[0] == 403
    status, body = await get(url, "/api/v1/nodes", "ops")

    assert status == 200
    (row,) = msgspec.json.decode(body, type=Roster).nodes
    assert (row.name, row.state, row.gpus) == ("node-1", "ready", "2 x H100-80GB")
    assert (row.slices, row.used, row.vms) == (16, 11, 4)
    assert row.fits["1g.10gb"] == 3  # slice 7 is for larger ones alone
    assert row.unusable == 0
    assert row.largest in ("2g.20gb", "1g.20gb")


async def test_a_token_passed_on_by_the_api_server_counts(url: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}{ME}", headers={"X-Tangram-Authorization": "Bearer default"}) as answer,
    ):
        assert answer.status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/explain", 400),
        ("/api/v1/explain?namespace=default", 400),
        (f"/api/v1/explain?namespace=default&pod={'x' * 300}", 400),
        ("/api/v1/explain?namespace=default&pod=nobody", 404),
    ],
)
async def test_what_cannot_be_explained_is_refused_with_what_to_ask(
    url: str, path: str, status: int
) -> None:
    answered, body = await get(url, path, "ops")

    assert answered == status
    assert b"namespace" in body or b"tangram.dev/managed" in body


async def test_without_the_api_server_nothing_is_told(url: str, reviewing: Reviewing) -> None:
    reviewing.down = True

    assert (await get(url, ME, "default"))[0] == 503


async def test_an_extender_that_is_going_away_explains_nothing(url: str, service: Service) -> None:
    service.stop()

    assert (await get(url, ME, "default"))[0] == 503
    assert (await get(url, "/api/v1/nodes", "ops"))[0] == 503


async def test_a_pod_that_only_filter_has_seen_is_explained_with_its_candidates(
    service: Service, url: str
) -> None:
    pod = {
        "metadata": {"name": "new", "namespace": "default", "uid": "new"},
        "spec": {"containers": [{"resources": {"limits": {VGPU + "1-10C": "1"}}}]},
    }
    service.hooks.filter(filter_args(pod, "node-2"))

    status, body = await get(url, "/api/v1/explain?namespace=default&pod=new", "ops")

    assert status == 200
    said = msgspec.json.decode(body, type=Explanation)
    assert said.groups[0].reasons[0].code == "not-considered"


async def test_what_prioritize_found_is_remembered_for_who_asks_why(service: Service) -> None:
    knowledge = service.knowledge
    knowledge.node("node-2", cordoned=False)
    knowledge.lease("node-2", "1")
    knowledge.gpu_node(gpu_node("node-2", uid="uid-2", gpus=[gpu(instances=(instance(TWO, 4),))]))
    pod = raw_pod("1-10C", name="new", uid="new")
    scores = service.hooks.prioritize(filter_args(pod, "node-1", "node-2"))
    winner = max(scores, key=lambda each: each.score).host
    other_one = ({"node-1", "node-2"} - {winner}).pop()

    then = knowledge.decided.get("new")

    assert then is not None
    assert (then.node, then.next_best) == (winner, other_one)
    assert then.cost <= then.next_cost
    service.hooks.filter(filter_args(pod, "node-1"))
    then = knowledge.decided.get("new")
    assert then is not None
    assert (then.node, then.next_best) == ("node-1", "")


async def test_one_explanation_serves_all_who_ask_within_a_moment(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded(service)
    worked_out = []

    def counted(situation: Any) -> Explanation:
        worked_out.append(situation)
        return explain(situation)

    monkeypatch.setattr(explaining, "explain", counted)
    async with desk(service, reviewer=None) as url:
        for _ in range(3):
            assert isinstance((await explained(url)).room, Moves)
    assert len(worked_out) == 1


async def test_a_vm_may_be_named_instead_of_its_pod(service: Service) -> None:
    vm = OwnerRef("VirtualMachineInstance", "default", "vm")
    for pod, phase in (("old", "Succeeded"), ("new", "Pending")):
        asked = request("1-10C", pod=pod, owner=vm)
        service.knowledge.pod(PodFacts(asked.pod, asked, phase=phase))
    async with desk(service, reviewer=None) as url:
        _, running = await get(url, "/api/v1/explain?namespace=default&pod=vm")
        _, ended = await get(url, "/api/v1/explain?namespace=default&pod=name-old")

    assert msgspec.json.decode(running, type=Explanation).uid == "new"
    assert msgspec.json.decode(ended, type=Explanation).state is State.OVER


async def test_a_pod_that_asks_for_nothing_is_told_so(service: Service) -> None:
    crowded(service)
    ref = msgspec.structs.replace(request("1-10C", pod="plain").pod, name="plain")
    service.knowledge.pod(PodFacts(ref, NotOurs(ref)))
    async with desk(service, reviewer=None) as url:
        status, body = await get(url, "/api/v1/explain?namespace=default&pod=plain")

    assert status == 200
    said = msgspec.json.decode(body, type=Explanation)
    assert (said.state, said.reason) == (State.NOT_OURS, "it asks for no GPU instance")
    heading, sentence, *_ = (str(each) for each in shown(said))
    assert heading == "default/plain is not for Tangram to place."
    assert sentence.strip() == "It asks for no GPU instance."


def test_every_state_has_words_on_the_command_line() -> None:
    assert STATES.keys() == set(State)


@pytest.mark.parametrize(("value", "movable"), [("false", False), ("true", True), ("", True)])
def test_a_pod_says_whether_its_vm_may_be_moved(value: str, movable: bool) -> None:
    pod = raw_pod("1-10C")
    if value:
        pod["metadata"]["annotations"] = {"tangram.dev/movable": value}

    assert objects.pod(msgspec.json.encode(pod), devices_per_pod=64).movable is movable


async def test_a_tenant_that_is_not_moved_is_in_no_proposal_and_is_counted() -> None:
    async def said(movable: str) -> Explanation:
        named = "name: bank, namespaces: {matchLabels: {team: bank}}"
        by = f"tenants: [{{{named}, movable: {movable}}}]"
        service = extender(by=by, namespaces={"default": "bank"})
        found = await service.explainer.explain("default", "name-me")
        assert found is not None
        return found

    moved, stays = await said("true"), await said("false")

    assert isinstance(moved.room, Moves)
    assert stays.room == NoMoves(3, proven=True)
    assert [(each.why, each.instances) for each in stays.staying] == [
        ("of a VM whose tenant the policy has as movable: false", len(CROWDED.vms))
    ]


@pytest.mark.parametrize(("value", "evictable"), [("false", False), ("true", True), ("", True)])
def test_a_pod_says_whether_it_is_safe_to_evict(value: str, evictable: bool) -> None:
    pod = raw_pod("1-10C")
    if value:
        named = "cluster-autoscaler.kubernetes.io/safe-to-evict"
        pod["metadata"]["annotations"] = {named: value}

    assert objects.pod(msgspec.json.encode(pod), devices_per_pod=64).evictable is evictable
