"""Several extenders, one leader: who answers and writes, and how the lead passes on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from structlog.testing import capture_logs

from extender.cluster.lease import ApiLease
from extender.service.leadership import Claim, Record
from extender.service.memory import KEEP_SECONDS
from extender.service.ports import ClusterUnavailable
from nodeagent.api import keys
from nodeagent.apiserver.memory import Call
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, NODES, PODS, PatchType
from tests.builders import gpu_node
from tests.fakes.replicas import PATIENT, Member, Replicas, now, soon, speaking
from tests.fakes.world import bind_args, filter_args
from tests.virtual_time import in_virtual_time
from tests.waiting import until

NOT_LEADING = "vGPU: this extender does not lead"


def told(story: Callable[[Replicas], Awaitable[None]]) -> None:
    """Tell a story of a cluster with one node, ``node-1``."""

    async def begin() -> None:
        world = Replicas()
        await world.add_node("node-1", gpus=2)
        await story(world)

    in_virtual_time(begin())


def test_one_leads_and_the_other_answers_nothing_and_writes_nothing() -> None:
    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "1-10C")
        async with world.extenders("a", "b") as (a, b), world.obedient("node-1"):
            refused = b.service.hooks.filter(filter_args(pod, "node-1"))
            scores = b.service.hooks.prioritize(filter_args(pod, "node-1"))
            bind = await b.service.binder.bind(bind_args(pod, "node-1"))
            assert await a.schedule(pod) == ""
            await world.delete_pod(pod)
            await world.plan_holds(0)
            await asyncio.sleep(120)

        assert (refused.error, bind.error) == (NOT_LEADING, NOT_LEADING)
        assert refused.failed_and_unresolvable_nodes == {}
        assert [each.score for each in scores] == [0]
        assert {write.by for write in world.writes} == {"a"}
        assert {write.kind for write in world.writes} == {LEASES, GPU_NODES, PODS}

    told(story)


def test_who_waits_knows_what_the_leader_knows() -> None:
    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "3-40C")
        async with world.extenders("a", "b") as (a, b), world.obedient("node-1"):
            assert await a.schedule(pod) == ""
            await soon(lambda: b.service.knowledge.views["node-1"].fullness == 4)
            assert b.service.knowledge.not_warm() == ""
            assert b.service.knowledge.tenure.leader == "a_1"

    told(story)


def test_a_crashed_leader_is_replaced_and_nothing_is_lost_or_doubled() -> None:
    async def story(world: Replicas) -> None:
        pods = [await world.add_pod(f"vm-{i}", "1-10C") for i in range(8)]
        async with world.extenders("a", "b") as (a, b), world.obedient("node-1"):
            binds = [asyncio.create_task(a.schedule(pod)) for pod in pods]
            await until(lambda: world.written(GPU_NODES) == 1)  # and the others are on their way
            for bind in binds:
                bind.cancel()
            await a.kill()
            crashed = now()
            await soon(lambda: b.leads)
            took = now() - crashed
            for pod in pods:
                assert await b.schedule(pod) == ""
            plan = (await world.gpu_node("node-1")).spec.assignments

        assert 13 <= took <= 20
        assert sorted(a.pod.uid for a in plan if a.pod) == sorted(
            p["metadata"]["uid"] for p in pods
        )
        assert len({(a.gpu, a.start) for a in plan}) == len(plan) == 8

    told(story)


def test_a_leader_that_leaves_hands_over_at_once() -> None:
    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "1-10C")
        async with world.extenders("a", "b") as (a, b):
            bind = asyncio.create_task(a.schedule(pod))
            await world.plan_holds(1)
            (entry,) = (await world.gpu_node("node-1")).spec.assignments
            left = now()
            await a.leave()
            answer = await bind
            await soon(lambda: b.leads)
            took = now() - left
            async with world.obedient("node-1"):
                assert await b.schedule(pod) == ""
            (kept,) = await world.decision("vm")

        assert answer == "vGPU: the extender is going away, the place stays reserved"
        assert kept.id == entry.id
        assert took < 0.5

    told(story)


def test_a_leader_that_leaves_refuses_first_and_gives_the_lease_back_last() -> None:
    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "1-10C")
        order: list[str] = []

        async def watch(call: Call) -> None:
            if not call.done:
                if call.subresource == "binding":
                    order.append("binding begins")
                    leaving.append(asyncio.create_task(a.leave()))
                    await asyncio.sleep(0.5)
                    order.append(a.service.hooks.filter(filter_args(pod, "node-1")).error)
                    order.append(f"held by {await world.holder()}")
                return
            if call.subresource == "binding":
                order.append("bound")

        leaving: list[asyncio.Task[None]] = []
        async with world.extenders("a") as (a,), world.obedient("node-1"):
            world.api.disturbance = watch
            assert await a.schedule(pod) == ""
            await leaving[0]
            order.append(f"held by {await world.holder()}")
            world.api.disturbance = None

        assert order == [
            "binding begins",
            "vGPU: the extender is going away",
            "held by a_1",
            "bound",
            "held by ",
        ]

    told(story)


def test_the_lead_is_handed_over_at_once_whenever_that_is() -> None:
    async def story(world: Replicas) -> None:
        gaps = []
        async with world.extenders("a", "b") as (leader, other):
            for life, moment in enumerate((0.3, 1.1, 1.7, 2.1), start=2):
                await asyncio.sleep(moment)
                left = now()
                await leader.leave()
                await soon(lambda: other.leads)  # noqa: B023 -- awaited here
                gaps.append(now() - left)
                again = world.member(leader.name, identity=f"{leader.name}_{life}")
                again.start()
                leader, other = other, again
                await soon(lambda: not other.service.knowledge.not_warm())  # noqa: B023
            await leader.kill()
            await other.kill()

        assert max(gaps) < 0.2

    told(story)


def test_a_bind_between_two_calls_is_finished_before_the_leader_goes() -> None:
    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "1-10C")
        hasty = msgspec.structs.replace(PATIENT, http_timeout_seconds=4.0)
        async with world.extenders("a", settings=hasty) as (a,):
            assert "not ready yet" in await a.schedule(pod)  # its place is in the plan
            await world.obey("node-1")
            a.service.knowledge.requests.clear()  # as after a restart: the pod has to be read
            note = world.api.disturbance
            assert note is not None

            async def slow(call: Call) -> None:
                if (call.verb, call.name, call.done) == ("get", "vm", False):
                    await asyncio.sleep(0.5)
                await note(call)

            world.api.disturbance = slow
            bind = asyncio.create_task(a.service.binder.bind(bind_args(pod, "node-1")))
            await asyncio.sleep(0.1)
            await a.leave()
            world.api.disturbance = note
            answer = await bind

        assert answer.error == ""
        assert await world.bound("vm") == "node-1"

    told(story)


def test_the_lease_is_kept_until_what_was_cut_off_cannot_be_written_any_more() -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a", "b") as (a, b):
            note = world.api.disturbance
            assert note is not None
            begun: list[float] = []

            async def hang(call: Call) -> None:
                if (call.verb, call.name) == ("patch", "a"):
                    begun.append(now())
                    await asyncio.Event().wait()
                await note(call)

            world.api.disturbance = hang
            a.service.knowledge.room.set()  # the leader wakes whom it refused
            await soon(lambda: begun)
            ends = begun[0] + a.service.knowledge.tenure.seconds_left
            await asyncio.sleep(1)
            leaving = asyncio.create_task(a.leave())
            await soon(lambda: b.leads)
            followed = now()
            await leaving

        assert followed - begun[0] >= 7  # its time was at least what the tenure had then
        assert followed - ends < 3  # and with that over, nothing else is waited for

    told(story)


def test_a_leader_cut_off_answers_until_its_deadline_and_its_successor_waits_longer() -> None:
    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "1-10C")
        async with world.extenders("a", "b") as (a, b):
            world.cut_off.add("a")
            ends = now() + a.service.knowledge.tenure.seconds_left
            await asyncio.sleep(5)
            answered = a.service.hooks.filter(filter_args(pod, "node-1"))
            await soon(lambda: not a.leads)
            stopped = now()
            await soon(lambda: b.leads)
            followed = now()
            world.cut_off.clear()
            await soon(lambda: a.service.knowledge.tenure.leader == "b_1")
            refused = a.service.hooks.filter(filter_args(pod, "node-1"))
            await asyncio.sleep(60)
            later = {write.by for write in world.writes if write.at > stopped}

        assert answered.node_names == ("node-1",)
        assert refused.error == NOT_LEADING
        assert 0 <= stopped - ends < 0.1
        assert followed - stopped >= 15 - 10
        assert later == {"b"}

    told(story)


def test_a_bind_that_waits_when_the_lead_is_lost_is_answered_then() -> None:
    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "1-10C")
        patient = msgspec.structs.replace(PATIENT, http_timeout_seconds=60.0)
        async with world.extenders("a", "b", settings=patient) as (a, _):
            bind = asyncio.create_task(a.schedule(pod))
            await world.plan_holds(1)
            world.cut_off.add("a")
            began = now()
            answer = await bind

        assert answer == "vGPU: another extender leads by now, the place stays reserved"
        assert now() - began <= 10

    told(story)


def test_no_write_outlasts_the_time_of_the_leader_that_sent_it() -> None:
    """The API server is told how long it has: what it commits later, it must not."""

    async def story(world: Replicas) -> None:
        pod = await world.add_pod("vm", "1-10C")
        async with world.extenders("a") as (a,):
            note = world.api.disturbance
            assert note is not None

            async def slow(call: Call) -> None:
                if (call.kind, call.verb, call.subresource) == (GPU_NODES, "patch", ""):
                    begun.append(now())
                    await asyncio.sleep(60)  # it would be committed then
                if call.kind == LEASES:
                    await asyncio.Event().wait()
                await note(call)

            begun: list[float] = []
            world.api.disturbance = slow
            ends = now() + a.service.knowledge.tenure.seconds_left
            await asyncio.sleep(a.service.knowledge.tenure.seconds_left - 1.0)
            answer = await a.schedule(pod)
            ended = now()
            again = await a.schedule(pod)
            world.api.disturbance = None

        assert len(begun) == 1
        assert answer
        assert ended <= ends + 0.01
        assert again == NOT_LEADING
        assert (await world.gpu_node("node-1")).spec.assignments == ()

    told(story)


def test_a_successor_answers_only_once_everything_was_listed_anew() -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a", "b") as (a, b):
            go_on = asyncio.Event()
            note = world.api.disturbance
            assert note is not None

            async def hold(call: Call) -> None:
                if speaking.get() == "b" and (call.verb, call.kind) == ("list", GPU_NODES):
                    await go_on.wait()
                await note(call)

            world.api.disturbance = hold
            world.calls.clear()
            await a.leave()
            await asyncio.sleep(20)  # longer than a term: it is renewed meanwhile
            assert await world.holder() == "b_1"
            assert b.service.knowledge.not_ready() == NOT_LEADING
            go_on.set()
            await soon(lambda: b.leads)
            listed = {c.kind for who, c in world.calls if (who, c.verb) == ("b", "list") and c.done}

        assert {GPU_NODES, NODES, PODS, LEASES} <= listed

    told(story)


def test_the_service_finds_the_leader_and_nobody_else() -> None:
    async def story(world: Replicas) -> None:
        async def is_labelled(*names: str) -> bool:
            return await world.labelled() == set(names)

        async with world.extenders("a", "b", "c") as (a, b, c):
            await soon(lambda: is_labelled("a"))
            await a.kill()  # its pod stays what it was
            await asyncio.sleep(10)
            assert await is_labelled("a")
            await soon(lambda: b.leads or c.leads)
            second, third = (b, c) if b.leads else (c, b)
            await soon(lambda: is_labelled(second.name))
            await second.leave()
            await soon(lambda: is_labelled(third.name))

    told(story)


def test_a_label_somebody_removed_comes_back() -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a", "b"):
            await soon(lambda: world.labelled())
            await world.unlabel("a")
            assert await world.labelled() == set()
            await soon(lambda: world.labelled())
            assert await world.labelled() == {"a"}

    told(story)


def test_a_restarted_process_does_not_take_its_predecessors_lease_for_its_own() -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a") as (a,):
            await a.kill()
            killed = now()
            again = world.member("a", identity="a_2")
            again.start()
            await soon(lambda: again.leads)
            took = now() - killed
            await again.kill()

        assert 15 - 3 <= took <= 20

    told(story)


@pytest.mark.parametrize("verb", ["patch", "get"])
def test_an_election_goes_on_while_the_lease_cannot_be_had(verb: str) -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a") as (a,):
            note = world.api.disturbance
            assert note is not None
            hits = 0

            async def hang(call: Call) -> None:
                nonlocal hits
                if (call.verb, call.kind) == (verb, LEASES) and not call.done:
                    hits += 1
                    await asyncio.Event().wait()
                await note(call)

            world.api.disturbance = hang
            await asyncio.sleep(60)
            assert a.leads == (verb == "get")  # whoever renews need not look
            world.api.disturbance = note
            await soon(lambda: a.leads)
        assert hits > 5 or verb == "get"

    told(story)


@pytest.mark.parametrize("warm", [True, False], ids=["a warm standby", "a process that is new"])
def test_a_successor_does_not_give_away_what_the_agent_may_still_be_making(warm: bool) -> None:
    async def story(world: Replicas) -> None:
        first, second = [await world.add_pod(f"vm-{n}", "7-80C") for n in range(2)]
        await world.report("node-1", gpu_node("node-1", gpus=1).status)
        async with world.extenders("a", *(("b",) if warm else ())) as members:
            bind = asyncio.create_task(members[0].schedule(first))
            await world.plan_holds(1)  # the agent has not answered: it is making the instance
            await world.delete_pod(first)
            await bind
            await world.plan_holds(0)
            await members[0].kill()
            if warm:
                heir = members[1]
            else:
                await world.add_pod("b", namespace=keys.SYSTEM_NAMESPACE)
                heir = world.member("b")
                heir.start()
            try:
                await soon(lambda: heir.leads)
                early = heir.service.hooks.filter(filter_args(second, "node-1"))
                await world.obey("node-1")
                view = heir.service.knowledge.views
                await soon(lambda: view["node-1"].takes_new and not view["node-1"].releasing)
                late = heir.service.hooks.filter(filter_args(second, "node-1"))
            finally:
                await heir.kill()

        assert not early.error
        assert early.node_names == ()
        assert late.node_names == ("node-1",)

    told(story)


NUMBERS = itertools.count()


async def note(world: Replicas) -> str | None:
    """Return what the leader has left on its Lease for the next one."""
    lease = msgspec.json.decode(
        await world.api.get(LEASES, keys.LEADER_LEASE, namespace=keys.SYSTEM_NAMESPACE)
    )
    found = lease["metadata"].get("annotations", {}).get(keys.DEMAND_ANNOTATION)
    return None if found is None else str(found)


async def ask(world: Replicas, member: Member, *types: str) -> None:
    """Let pods come, and be asked about."""
    for vgpu in types:
        pod = await world.add_pod(f"asked-about-{next(NUMBERS)}", vgpu)
        member.service.hooks.filter(filter_args(pod, "node-1"))


def counts(member: Member) -> dict[str, float]:
    return dict(member.service.knowledge.demand.mix.counts)


@pytest.mark.parametrize("crashes", [False, True])
def test_what_was_asked_for_is_known_to_whoever_leads_next(*, crashes: bool) -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a", "b") as (a, b):
            await ask(world, a, *["1-10C"] * 3, "7-80C")
            await asyncio.sleep(3)  # the note goes with the next renewal
            await ask(world, a, "3-40C")
            await (a.kill() if crashes else a.leave())
            assert not counts(b)
            await soon(lambda: b.leads)

            lost = {} if not crashes else {"3g.40gb": 1.0}  # less than the note is old
            assert {**counts(b), **lost} == pytest.approx(
                {"1g.10gb": 3.0, "7g.80gb": 1.0, "3g.40gb": 1.0}, rel=1e-3
            )

    told(story)


def test_a_restart_of_the_only_replica_loses_nothing_that_was_asked_for() -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a") as (a,):
            await ask(world, a, *["1-10C"] * 5)
            await a.leave()
            again = world.member("a", identity="a_2")
            again.start()
            await soon(lambda: again.leads)
            found = counts(again)
            await ask(world, again, "1-10C")
            more = counts(again)
            await again.kill()

        assert found == pytest.approx({"1g.10gb": 5.0}, rel=1e-3)
        assert more == pytest.approx({"1g.10gb": 6.0}, rel=1e-3)

    told(story)


def test_the_note_is_written_rarely_and_by_the_leader_alone() -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a", "b") as (a, b):
            await ask(world, b, "7-80C")  # it does not lead, and counts nothing
            notes = set()
            for _ in range(3):
                await ask(world, a, "1-10C")
                for _ in range(60):
                    await asyncio.sleep(5)
                    notes.add(await note(world))

        assert len(notes) in (3, 4)  # in a quarter of an hour
        assert all(each is None or "7g.80gb" not in each for each in notes)

    told(story)


def test_a_note_that_is_refused_is_put_off_and_costs_nobody_the_lead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Something before the API server takes no Lease with so long an annotation, say."""
    usual, refused = ApiLease.write, list[float]()

    async def refuse(self: ApiLease, claim: Claim, *, timeout: float) -> Record:
        if claim.note is not None:
            refused.append(now())
            raise ClusterUnavailable("413: request entity too large", passing=False)
        return await usual(self, claim, timeout=timeout)

    async def story(world: Replicas) -> None:
        async with world.extenders("a", "b") as (a, b):
            monkeypatch.setattr(ApiLease, "write", refuse)
            await ask(world, a, "1-10C")
            ends = now() + KEEP_SECONDS + 60
            while now() < ends:
                await asyncio.sleep(1)
                assert (a.leads, b.leads) == (True, False)
            monkeypatch.undo()

        first, second = refused
        assert second - first >= KEEP_SECONDS

    told(story)


def test_a_note_that_somebody_has_spoilt_is_left_aside_and_written_over() -> None:
    async def story(world: Replicas) -> None:
        async with world.extenders("a", "b") as (a, b):
            await ask(world, a, "1-10C")
            await asyncio.sleep(3)
            await world.api.patch(
                LEASES,
                keys.LEADER_LEASE,
                {"metadata": {"annotations": {keys.DEMAND_ANNOTATION: "{}"}}},
                patch_type=PatchType.MERGE,
                namespace=keys.SYSTEM_NAMESPACE,
            )
            with capture_logs() as logs:
                await a.kill()
                await soon(lambda: b.leads)
            assert "demand_note_ignored" in [each["event"] for each in logs]
            assert not counts(b)
            await ask(world, b, "7-80C")
            await asyncio.sleep(5)
            assert "7g.80gb" in (await note(world) or "")

    told(story)
