"""Advice over HTTP: what is known is planned on, who may ask, and whose VMs they are told of."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime

import aiohttp
import msgspec
import pytest

from extender.advice import Advice, Asked
from extender.advice.advise import NOT_FILTERED, OF_A_GANG
from extender.advice.document import Outcome, Who
from extender.moves.obstacles import NO_ROOM_GUARDED
from extender.policy import InForce, Policy, PolicyName
from extender.policy.moving import Mode, Moving
from extender.request import Gang
from extender.server import desk
from extender.service.advising import Advisor
from extender.service.ports import Budget, ClusterUnavailable, PodFacts
from extender.service.reviewer import Access
from extender.service.seam import Seam
from nodeagent.api.gpunode import PodRef
from tests.advised import CROWDED, FOUR, ONE, TWO, extender, known
from tests.builders import request
from tests.explained import Small, Vm
from tests.fakes.machines import Machines
from tests.fakes.occupied import guarded, placed
from tests.fakes.world import World
from tests.waiting import until

ADMITTED = Asked(admit=(("default", "name-me"),))
ADMIT = "/api/v1/moves?admit=default/name-me"


class Users:
    """``ops`` may do all, ``sre`` may list GpuNodes and get pods nowhere; others nothing."""

    async def may_get(self, token: str, path: str) -> Access:
        return Access.ALLOWED  # as Kubernetes has it for whatever is below /api

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return Access.ALLOWED if token == "ops" else Access.FORBIDDEN

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        return Access.ALLOWED if token == "ops" else Access.FORBIDDEN

    async def may_list_gpu_nodes(self, token: str) -> Access:
        if not token:
            return Access.UNKNOWN
        return Access.ALLOWED if token in ("ops", "sre") else Access.FORBIDDEN

    async def may_move(self, token: str) -> Access:
        if not token:
            return Access.UNKNOWN
        return Access.ALLOWED if token == "ops" else Access.FORBIDDEN

    async def who(self, token: str) -> str:
        return token


class Budgets:
    """Knows disruption budgets, and of which namespaces it was asked."""

    def __init__(self, *budgets: Budget, down: bool = False) -> None:
        self._budgets = budgets
        self._down = down
        self.asked: list[str] = []

    async def budgets(self, namespaces: Collection[str]) -> Sequence[Budget]:
        if self._down:
            raise ClusterUnavailable("etcd is away")
        self.asked += sorted(namespaces)
        return [each for each in self._budgets if each.namespace in namespaces]

    async def rehearse(self, pod: PodRef) -> None:
        raise AssertionError(f"advice asks to evict {pod.name}")

    async def evict(self, pod: PodRef) -> None:
        raise AssertionError(f"advice evicts {pod.name}")


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with desk(extender(), reviewer=Users()) as url:
        yield url


async def get(url: str, path: str = ADMIT, token: str = "ops") -> tuple[int, bytes]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{url}{path}", headers=headers) as answer,
    ):
        return answer.status, await answer.read()


async def advised(url: str, path: str = ADMIT, token: str = "ops") -> Advice:
    status, body = await get(url, path, token)
    assert status == 200, body
    return msgspec.json.decode(body, type=Advice)


async def test_a_pod_that_waits_is_planned_for_by_its_name_or_its_vms(url: str) -> None:
    said = await advised(url)

    assert said.outcome is Outcome.PLAN
    assert [(step.vm.name, step.target.node) for step in said.moves] == [("x", "b")]
    by_vm = await advised(url, "/api/v1/moves?admit=default/mine")
    assert (by_vm.goals, by_vm.moves) == (("admit default/mine",), said.moves)


async def test_nobody_is_moved_for_a_pod_whose_nodes_are_not_known() -> None:
    """As after another has come to lead: it might be kept from all to which it is planned."""
    made = extender()
    (uid,) = made.knowledge.pending.waiting
    made.knowledge.pending.gone(uid)
    said = await made.advisor.advise(ADMITTED)

    assert said.outcome is Outcome.UNKNOWN
    assert [(each.what, each.why) for each in said.obstacles] == [("default/name-me", NOT_FILTERED)]


async def test_of_a_pod_with_several_vgpus_nothing_is_said_to_be_impossible() -> None:
    made = extender()
    asked = request("3-40C", "1-10C", pod="me")
    made.knowledge.pod(PodFacts(asked.pod, asked))
    made.knowledge.pending.filtered(asked, made.knowledge.views)
    said = await made.advisor.advise(ADMITTED)

    assert (said.outcome, said.digest) == (Outcome.UNKNOWN, "")
    (why,) = said.obstacles
    assert (why.what, why.why.partition(":")[0]) == (
        "default/name-me",
        "it asks for several vGPUs",
    )


async def test_for_one_of_a_gang_no_moves_are_planned_as_none_would_be_made() -> None:
    made = extender()
    gang = Gang("default", "g", 2)
    asked = msgspec.structs.replace(request("3-40C", pod="me"), gang=gang)
    made.knowledge.pod(PodFacts(asked.pod, asked))
    made.knowledge.pending.filtered(asked, made.knowledge.views)
    said = await made.advisor.advise(ADMITTED)

    assert (said.outcome, said.moves, said.digest) == (Outcome.UNKNOWN, (), "")
    assert [(each.what, each.why) for each in said.obstacles] == [("default/name-me", OF_A_GANG)]


async def test_what_is_not_known_at_all_is_no_open_question() -> None:
    made = extender()
    (uid,) = made.knowledge.pending.waiting
    made.knowledge.pending.gone(uid)
    asked = msgspec.structs.replace(ADMITTED, drain=("nowhere",))
    said = await made.advisor.advise(asked)

    assert said.outcome is Outcome.INFEASIBLE
    assert [each.what for each in said.obstacles] == ["nowhere", "default/name-me"]


async def test_who_may_get_no_pods_is_told_what_moves_and_not_whose_it_is(url: str) -> None:
    said = await advised(url, token="sre")

    (step,) = said.moves
    assert step.vm == Who()
    assert (step.source.node, step.target.node) == ("a", "b")
    assert said.places[0].pod.name == ""


async def test_those_who_hold_a_node_are_named_to_those_only_who_may_get_them() -> None:
    stuck = Small.of([Vm("secret", ONE, "a", 0, 0, movable=False)], a=1, b=1)
    async with desk(extender(stuck), reviewer=Users()) as url:
        (open_,) = (await advised(url, "/api/v1/moves?drain=a")).obstacles
        status, body = await get(url, "/api/v1/moves?drain=a", "sre")

    assert open_.vm is not None
    assert open_.vm.name == "secret"
    assert status == 200
    assert b"secret" not in body


@pytest.mark.parametrize(("token", "status"), [("", 401), ("tenant", 403)])
async def test_nobody_else_learns_where_anything_is(url: str, token: str, status: int) -> None:
    answered, body = await get(url, token=token)

    assert answered == status
    assert b"slices" not in body


@pytest.mark.parametrize(
    "query", ["", "?admit=vm", "?headroom=many", "?empty-gpus=1e9", "?drain=%00", "?apply=1"]
)
async def test_what_cannot_be_read_is_refused(url: str, query: str) -> None:
    status, body = await get(url, f"/api/v1/moves{query}")

    assert status == 400
    assert body.endswith(b"\n")


async def test_an_extender_that_is_going_away_advises_nothing() -> None:
    service = extender()
    async with desk(service, reviewer=None) as url:
        service.stop()
        assert (await get(url))[0] == 503


async def test_where_the_policy_wants_no_moves_nobody_is_told_of_any() -> None:
    service = extender()
    off = InForce(Policy(PolicyName.DEFAULT), moving=Moving(mode=Mode.OFF))
    async with desk(service, reviewer=Users()) as url:
        service.knowledge.adopt(off)
        refused = await get(url)
        stranger, _ = await get(url, token="tenant")
        service.knowledge.adopt(InForce(Policy(PolicyName.DEFAULT), moving=Moving()))
        again, _ = await get(url)

    assert refused == (403, b"the policy has moves.mode: off, so no plan is made\n")
    assert (stranger, again) == (403, 200)


STAYING = """
tenants:
  - {name: bank, namespaces: {matchLabels: {team: bank}}, movable: false}
  - {name: red, namespaces: {matchLabels: {team: red}}}
"""


async def test_the_vms_of_a_tenant_that_is_not_moved_stay_and_others_are_told_with_theirs() -> None:
    bank = extender(by=STAYING, namespaces={"default": "bank"})
    red = extender(by=STAYING, namespaces={"default": "red"})
    async with desk(bank, reviewer=None) as url:
        held = await advised(url, "/api/v1/moves?drain=a")
    async with desk(red, reviewer=None) as url:
        said = await advised(url)

    assert held.outcome is Outcome.INFEASIBLE
    assert {each.why for each in held.obstacles} == {
        "of a VM whose tenant the policy has as movable: false"
    }
    assert [step.vm.tenant for step in said.moves] == ["red"]
    assert [place.pod.tenant for place in said.places] == ["red"]


async def test_budgets_are_looked_up_where_somebody_would_move() -> None:
    budgets = Budgets(Budget("default", "loose", frozenset({"x"}), 1))
    async with desk(known(CROWDED, evictor=budgets), reviewer=None) as url:
        said = await advised(url)

    assert (said.outcome, said.budgets, budgets.asked) == (Outcome.PLAN, True, ["default"])


async def test_a_budget_that_allows_nothing_makes_another_plan() -> None:
    two_ways = Small.of([Vm("x", ONE, "a", 0, 0), Vm("y", TWO, "b", 0, 0)], a=1, b=1)
    budgets = Budgets(Budget("default", "tight", frozenset({"x"}), 0))
    path = "/api/v1/moves?headroom=1x7g.80gb"
    async with desk(known(two_ways, evictor=budgets), reviewer=None) as url:
        said = await advised(url, path)
    async with desk(extender(two_ways), reviewer=None) as url:
        without = await advised(url, path)

    assert [step.vm.name for step in without.moves] == ["x"]
    assert not without.budgets
    assert [step.vm.name for step in said.moves] == ["y"]
    assert budgets.asked == ["default"]


async def test_however_many_budgets_forbid_it_the_vm_that_may_go_is_found() -> None:
    names = "abcdefgh"
    small = Small.of(
        [Vm(f"on-{name}", ONE, name, 0, 0) for name in names], **dict.fromkeys(names, 1)
    )
    tight = [Budget("default", name, frozenset({f"on-{name}"}), 0) for name in names[:-1]]
    last = Budget("default", "h", frozenset({"on-h"}), 0)
    budgets = Budgets(*tight)
    async with desk(known(small, evictor=budgets), reviewer=None) as url:
        said = await advised(url, "/api/v1/moves?headroom=1x7g.80gb")
    async with desk(known(small, evictor=Budgets(*tight, last)), reviewer=None) as url:
        held = await advised(url, "/api/v1/moves?headroom=1x7g.80gb")

    assert (said.outcome, [step.vm.name for step in said.moves]) == (Outcome.PLAN, ["on-h"])
    assert budgets.asked == ["default"]
    assert held.outcome is Outcome.INFEASIBLE
    assert [each.why for each in held.obstacles] == [NO_ROOM_GUARDED]


async def test_a_drain_that_a_budget_holds_up_says_so() -> None:
    budgets = Budgets(Budget("default", "tight", frozenset({"x"}), 0))
    async with desk(known(CROWDED, evictor=budgets), reviewer=None) as url:
        said = await advised(url, "/api/v1/moves?drain=a")

    assert said.outcome is Outcome.INFEASIBLE
    assert "the PodDisruptionBudget default/tight allows no disruption" in [
        each.why for each in said.obstacles
    ]


async def test_advice_goes_by_the_budgets_that_evictions_go_by() -> None:
    world = World()
    await world.add_node("node-1", gpus=2)
    async with world.extender() as extender, world.obedient("node-1"):
        await Machines(world).add("vm", "1-10C")
        await placed(world, extender, "vm", "1-10C", owner=("VirtualMachineInstance", "vm"))
        await until(lambda: extender.knowledge.views["node-1"].node.status.realized)
        (entry,) = (await world.gpu_node("node-1")).spec.assignments
        drained = Asked(drain_gpus=(entry.gpu,))
        free = await extender.advisor.advise(drained)
        await guarded(world, "db", "vm", allows=0)
        held = await extender.advisor.advise(drained)

    assert (free.outcome, free.budgets) == (Outcome.PLAN, True)
    assert held.outcome is Outcome.INFEASIBLE
    assert "the PodDisruptionBudget default/db allows no disruption" in [
        each.why for each in held.obstacles
    ]


async def test_without_the_budgets_there_is_no_advice() -> None:
    async with desk(known(CROWDED, evictor=Budgets(down=True)), reviewer=None) as url:
        status, body = await get(url)

    assert (status, body) == (503, b"cannot find out who may be evicted\n")


DEDICATED = """
tenants:
  - {name: red, namespaces: {matchLabels: {team: red}}, dedicated: node}
"""


async def test_no_vm_is_moved_to_a_node_that_another_tenant_has_for_itself() -> None:
    """The others are the red tenant's; only x and the pod that waits may share."""
    service = extender(by=DEDICATED, namespaces={"default": "red", "other": "none"})
    async with desk(service, reviewer=None) as url:
        assert (await advised(url)).outcome is Outcome.PLAN

    small = Small.of([Vm("x", ONE, "a", 0, 4), Vm("w", FOUR, "b", 0, 0)], a=1, b=1)
    service = extender(small, by=DEDICATED, namespaces={"default": "red"})
    node = small.views["a"].node
    (entry,) = node.spec.assignments
    assert entry.pod is not None
    theirs = msgspec.structs.replace(entry.pod, namespace="other")
    service.knowledge.namespace("other", {"team": "none"})
    plan = msgspec.structs.replace(entry, pod=theirs)
    service.knowledge.gpu_node(
        msgspec.structs.replace(
            node,
            spec=msgspec.structs.replace(node.spec, assignments=(plan,)),
            metadata=msgspec.structs.replace(node.metadata, resource_version="2"),
        )
    )
    async with desk(service, reviewer=None) as url:
        said = await advised(url, "/api/v1/moves?drain=a")

    assert said.outcome is Outcome.INFEASIBLE
    assert [each.why for each in said.obstacles] == ["there is no room, whatever is moved"]


KEPT = """
headroom:
  - {profile: 7g.80gb, keep: 1}
"""


async def test_moves_that_would_cost_the_headroom_that_is_kept_are_not_advised() -> None:
    """To drain a, its VM would have to go to the one GPU that is free."""
    small = Small.of([Vm("x", ONE, "a", 0, 0), Vm("full", 0, "b", 0, 0)], a=1, b=1, c=1)
    async with desk(extender(small, by=KEPT), reviewer=None) as url:
        said = await advised(url, "/api/v1/moves?drain=a")
    async with desk(extender(small), reviewer=None) as url:
        without = await advised(url, "/api/v1/moves?drain=a")

    assert without.outcome is Outcome.PLAN
    assert (said.outcome, said.moves) == (Outcome.UNKNOWN, ())
    assert [each.why for each in said.obstacles] == [
        "the moves of the plan found would cost headroom kept for 7g.80gb"
    ]


async def test_the_thread_that_works_out_advice_reads_no_clock_that_decisions_are_told_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = extender()
    readers = []

    def clock(seam: Seam) -> float:
        readers.append(threading.current_thread())
        return seam.elsewhere()

    monkeypatch.setattr(Seam, "clock", clock)
    knowledge = service.knowledge
    monkeypatch.setattr(knowledge, "clock", knowledge.seam.clock)

    said = await Advisor(knowledge, utc_now=lambda: datetime.now(UTC)).advise(ADMITTED)

    assert said.moves
    assert {*readers} <= {threading.current_thread()}
