"""What was decided is decided again, from what was written of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Set
from typing import Any

import msgspec
import pytest

from extender.decision_log.decoding import arguments
from extender.decision_log.hashing import NAME_LABEL, Names
from extender.decision_log.layout import DECISIONS, VETTED, Entry, Gap, LogUnreadable, Why
from extender.decision_log.outcomes import FEW, outcome
from extender.decision_log.reproduction import replayed
from extender.policy import InForce, PolicyName
from extender.policy.file import parsed
from extender.request import Unanswerable
from extender.service import Service
from extender.service.knowledge import PROMISES
from extender.service.seam import TOLD
from extender.verbs import bind as decide
from extender.verbs import verdicts
from extender.wire import MetaPod, MetaVictims, Pod, PreemptionArgs
from nodeagent.api import keys
from tests.decisions import Notebook
from tests.fakes.world import QUICK, World, bind_args, filter_args
from tests.waiting import until

NODES = ("node-1", "node-2", "node-3")

RULES = """\
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
tenants:
- {name: red, namespaces: {matchLabels: {team: red}}, caps: {memorySlices: 30}, dedicated: gpu}
pools:
- {name: racked, nodes: {matchLabels: {rack: a}}}
headroom: [{profile: 7g.80gb, keep: 1}]
"""


async def story(world: World, service: Service, *, burst: bool = True) -> None:
    """Let VMs come one by one, together and in a gang, be bound, preempt, fail and leave."""
    pods = [
        await world.add_pod(f"vm-{at}", wanted)
        for at, wanted in enumerate(("1-10C", "3-40C", "7-80C", "2-20C", "7-80C", "7-80C"))
    ]
    async with world.obedient(*NODES):
        for pod in pods:
            await scheduled(service, pod)
        several = await world.add_pod("several", "1-10C", "1-10C")
        await scheduled(service, several)
        await world.delete_pod(pods[0])
        await until(lambda: pods[0]["metadata"]["uid"] not in service.knowledge.pods)
        await scheduled(service, await world.add_pod("again", "1-10C"))
        service.knowledge.tick()
        gang = {keys.GANG: "g", keys.GANG_SIZE: "2"}
        members = [await world.add_pod(f"g-{n}", "1-10C", annotations=gang) for n in range(2)]
        for member in members:
            service.hooks.filter(filter_args(member, *NODES))
        await until(lambda: all(uid(each) in service.knowledge.assigned for each in members))
        await asyncio.gather(*(scheduled(service, each) for each in members))
        if burst:
            for each in [await world.add_pod(f"b-{n}", "1-10C") for n in range(10)]:
                service.hooks.filter(filter_args(each, *NODES))
            await until(lambda: service.knowledge.planned_at is not None)
    service.hooks.vetting.preempt(
        PreemptionArgs(
            msgspec.convert(await world.add_pod("urgent", "7-80C", priority=9), Pod),
            node_name_to_meta_victims={
                name: MetaVictims((MetaPod(uid(pod)),))
                for name, pod in zip(NODES, pods, strict=False)
            },
        )
    )


async def scheduled(service: Service, pod: dict[str, Any]) -> None:
    """Take a pod through the hooks as kube-scheduler does."""
    passed = service.hooks.filter(filter_args(pod, *NODES)).node_names or ()
    if passed:
        ranked = service.hooks.prioritize(filter_args(pod, *passed))
        best = max(ranked, key=lambda each: each.score).host
        await service.binder.bind(bind_args(pod, best))


def uid(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["uid"])


async def recorded(
    *, policy: InForce | PolicyName = PolicyName.DEFAULT, names: Names | None = None
) -> Notebook:
    notebook = Notebook(QUICK, policy, names=names)
    world = World()
    await world.add_namespace("default", team="red")
    for name in NODES:
        await world.add_node(name, gpus=2, rack="a")
    async with world.extender(QUICK, policy, witness=notebook) as service:
        await story(world, service)
    return notebook


async def test_every_decision_comes_out_the_same() -> None:
    notebook = await recorded()

    found = notebook.replayed()

    assert found.exact, found.different
    assert found.decisions == found.identical
    made = {call.name for call in notebook.calls}
    assert made >= DECISIONS
    assert {PROMISES, "Pending.planned", "Enlisted.welcome", "Knowledge.gpu_node"} <= made


async def test_every_decision_comes_out_the_same_by_a_policy_with_rules() -> None:
    policy = parsed(RULES.encode(), "rules").in_force
    notebook = await recorded(policy=policy)

    found = notebook.replayed()

    assert found.exact, found.different
    versions = {item.policy for item in notebook.items() if isinstance(item, Entry) and item.gave}
    assert versions == {policy.version}


async def test_what_was_told_is_what_is_read() -> None:
    notebook = await recorded()

    entries = [item for item in notebook.items() if isinstance(item, Entry)]

    assert len(entries) == len(notebook.calls)
    for entry, call in zip(entries, notebook.calls, strict=True):
        assert (entry.call, entry.at) == (call.name, call.readings)
        if call.name != PROMISES:
            given = arguments(entry)
            told = [*call.args, *call.named.values()]
            read = list(given.values())[: len(told)]
            assert [*map(plain, read)] == [*map(plain, told)], call.name


def plain(value: object) -> object:
    """Return a value as it is told apart: what is in a collection, whichever kind that is."""
    if isinstance(value, Set | list | tuple) and all(isinstance(each, str) for each in value):
        return sorted(value)
    return msgspec.to_builtins(value, enc_hook=list, order="sorted")


async def test_a_decision_that_comes_out_otherwise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = await recorded()

    monkeypatch.setattr(
        decide, "best", lambda *_: verdicts.Best(verdicts.UNREPORTED)
    )  # another program: it chooses nothing
    found = notebook.replayed()

    assert not found.exact
    assert found.differing > 0
    first = found.different[0]
    assert first.recorded != first.reproduced
    assert first.uid in {call.args[0].pod.uid for call in asked(notebook)}


def asked(notebook: Notebook) -> list[Any]:
    return [call for call in notebook.calls if call.name in DECISIONS]


async def test_of_what_follows_a_gap_nothing_is_claimed() -> None:
    notebook = await recorded()
    items = list(notebook.items())
    half = len(items) // 2

    found = replayed(notebook.header, [*items[:half], Gap(2, Why.OVERFLOW), *items[half + 2 :]])

    assert not found.exact
    assert (found.gaps, found.missing) == (1, 2)
    assert found.unclaimed > 0
    assert found.identical == found.decisions - found.unclaimed


async def test_a_log_whose_first_file_is_gone_is_a_gap() -> None:
    notebook = await recorded()

    found = replayed(notebook.header, list(notebook.items())[5:])

    assert (found.gaps, found.missing, found.identical) == (1, 5, 0)


async def test_names_are_hidden_and_decisions_come_out_the_same() -> None:
    notebook = await recorded(names=Names(b"0123456789abcdef"))
    text = b"\n".join(notebook.lines)

    found = notebook.replayed()

    assert found.exact, found.different
    pods = {call.args[0].pod for call in asked(notebook) if call.name == "Hooks.judge"}
    for pod in pods:
        assert f'"{pod.name}"'.encode() not in text
        assert pod.uid.encode() not in text
    assert b'"namespace":"default"' not in text
    assert b"node-1" in text


BY_NAME = """\
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
tenants:
- name: red
  namespaces: {matchLabels: {kubernetes.io/metadata.name: payroll}}
  profiles: [3g.40gb]
- name: others
  namespaces:
    matchExpressions:
    - {key: kubernetes.io/metadata.name, operator: In, values: [payroll, ledgers]}
  caps: {memorySlices: 0}
"""


async def test_a_namespaces_name_is_hidden_in_its_label_and_where_policies_select_by_it() -> None:
    policy = parsed(BY_NAME.encode(), "rules").in_force
    notebook = Notebook(QUICK, names=Names(b"0123456789abcdef"))
    before = Notebook(QUICK, policy, names=Names(b"0123456789abcdef"))
    world = World()
    for name in ("payroll", "ledgers"):
        await world.add_namespace(name, **{NAME_LABEL: name, "team": "red"})
    await world.add_node("node-1", gpus=2)
    async with world.extender(QUICK, witness=notebook) as service:
        service.knowledge.adopt(policy)
        for at, name in enumerate(("payroll", "payroll", "ledgers")):
            pod = await world.add_pod(f"vm-{at}", "3-40C", namespace=name)
            service.hooks.filter(filter_args(pod, "node-1"))

    found = notebook.replayed()

    text = b"\n".join([*notebook.lines, *before.lines])
    assert b"payroll" not in text
    assert b"ledgers" not in text
    assert b'"team":"red"' in text
    assert found.exact, found.different
    assert [len(gave["on"]) for gave in judgements(notebook)] == [1, 1, 0]


async def test_what_a_pods_author_wrote_is_hidden_where_it_can_never_be_met() -> None:
    notebook = Notebook(QUICK, names=Names(b"0123456789abcdef"))
    world = World()
    wrong = {keys.SPREAD_ANNOTATION: "our-merger"}
    pod = await world.add_pod("vm", "1-10C", annotations=wrong)
    async with world.extender(QUICK, witness=notebook) as service:
        facts = service.knowledge.pods[uid(pod)]

    assert isinstance(facts.asked, Unanswerable)
    assert "our-merger" in facts.asked.reason
    assert b"our-merger" not in b"\n".join(notebook.lines)
    assert notebook.replayed().exact


def test_who_is_to_leave_is_part_of_what_was_decided() -> None:
    nodes = {f"node-{at}": MetaVictims((MetaPod(f"uid-{at}"),), 1) for at in range(FEW + 2)}
    last = f"node-{FEW + 1}"  # of which nothing is told outright

    told = outcome(VETTED, nodes)

    assert outcome(VETTED, {**nodes}) == told
    assert outcome(VETTED, {**nodes, last: MetaVictims((MetaPod("other"),), 1)}) != told
    assert outcome(VETTED, {**nodes, last: MetaVictims(nodes[last].pods, 0)}) != told


async def test_a_run_without_an_end_is_not_exact() -> None:
    notebook = await recorded()

    found = replayed(notebook.header, notebook.items())

    assert (found.identical, found.unfinished) == (found.decisions, 1)
    assert not found.exact


def test_a_header_that_nothing_can_go_by_is_refused() -> None:
    settings = msgspec.structs.replace(QUICK, plan_burst_pods=2**63)

    with pytest.raises(LogUnreadable, match="its header makes no sense"):
        Notebook(settings).replayed()


async def test_the_pod_of_a_difference_is_read_as_the_call_reads_it() -> None:
    notebook = await recorded()
    items = list(notebook.items())
    ranked = next(item for item in items if isinstance(item, Entry) and item.call == "Hooks.rank")
    ranked.given["request"] = {"pod": "x"}
    assert ranked.gave is not None
    ranked.gave["digest"] = "another"

    (different,) = replayed(notebook.header, items).different

    assert different.uid == ranked.given["asked"]["pod"]["uid"]


def judgements(notebook: Notebook) -> Iterator[dict[str, Any]]:
    for item in notebook.items():
        if isinstance(item, Entry) and item.call == "Hooks.judge":
            assert item.gave is not None
            yield item.gave


def test_the_same_name_is_hidden_alike_by_one_key_only() -> None:
    one, again, other = Names(b"0123456789abcdef"), Names(b"0123456789abcdef"), Names()

    assert one.hidden("red") == again.hidden("red") != other.hidden("red")
    assert one.hidden("") == ""
    assert one.hidden("red") != one.hidden("blue")


def test_every_told_method_takes_what_can_be_read() -> None:
    for name in TOLD:
        try:
            assert arguments(Entry(n=1, call=name)) == {}, name
        except LogUnreadable as error:
            assert "missing required field" in str(error)  # noqa: PT017 (some take nothing)
