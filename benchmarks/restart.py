"""How long an extender takes to know again all that its predecessor knew, and whether it does.

A cluster in full use (``benchmarks.populated``) lies in the API server's twin. An extender runs
beside it for a while, by a policy with rules (``benchmarks.ruled``): VMs leave, others come in,
agents report, and the places of VMs that are off are held. Then another one starts, from nothing
but what the API server has. What the two know is compared field by field, their answers word by
word, the decisions with those the pods bear.

Times are from the start until it would answer the hooks. Of them the twin itself takes ``lists_s``,
which a real API server takes elsewhere. ``stall_s`` is the longest time during which nothing else
had a turn.

    python -m benchmarks.restart --assignments 2000,10000,40000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from benchmarks import made, populated, residents, ruled
from benchmarks.comparison import Comparison, Difference, compare, decisions
from benchmarks.extenders import agents, asked, live, started
from benchmarks.populated import GPUS, NAMESPACE, PER_GPU, RESOURCES, SMALL, Site, Vm
from extender import wire
from extender.service import Hooks, Service
from nodeagent.api import keys
from nodeagent.api.gpunode import Decision
from nodeagent.apiserver.memory import InMemoryApi
from nodeagent.apiserver.protocol import GPU_NODES, LEASES, NODES, PODS, ApiServer

ASKED = 200  # pods that have their place, and are asked about again

Row = dict[str, Any]


def questions(site: Site, pods: Mapping[str, bytes], *, seed: int) -> list[wire.ExtenderArgs]:
    """Return what two extenders must answer alike: about new VMs of each type, and placed ones."""
    names = tuple(site.nodes)
    fresh = [residents.pod(Vm(f"new-{id}", wanted=RESOURCES[id])) for id in RESOURCES]
    for index, pod in enumerate(fresh):
        pod["metadata"]["uid"] = f"new-{index}"
    placed = sorted(name for name in pods if not name.startswith("pending"))
    again = random.Random(seed).sample(placed, min(ASKED, len(placed)))
    return [
        *(asked(msgspec.json.encode(pod), names) for pod in fresh),
        *(asked(pods[name], names) for name in again),
    ]


def answers(hooks: Hooks, args: wire.ExtenderArgs) -> tuple[object, object]:
    """Return what filter and prioritize answer."""
    found = hooks.filter(args)
    return found, hooks.prioritize(args) if found.node_names else ()


async def pods_by_name(api: ApiServer) -> dict[str, bytes]:
    """Return every VM's pod."""
    found: dict[str, bytes] = {}
    token = ""
    while True:
        page = await api.list(PODS, namespace=NAMESPACE, continue_token=token)
        found |= {msgspec.json.decode(raw)["metadata"]["name"]: raw for raw in page.items}
        token = page.continue_token
        if not token:
            return found


def places(decision: str) -> str:
    """Return a pod's decision without the policy's version, which no extender keeps."""
    entries = msgspec.json.decode(decision, type=list[Decision])
    bare = [msgspec.structs.replace(each, policy_version="") for each in entries]
    return msgspec.json.encode(bare).decode()


def unlike_what_was_bound(service: Service, pods: Mapping[str, bytes]) -> list[Difference]:
    """Return the bound pods whose decision is not what the extender says it was."""
    said = decisions(service.knowledge)
    unlike = []
    for name, raw in pods.items():
        pod = msgspec.json.decode(raw)
        if pod["spec"].get("nodeName"):
            bears = places(pod["metadata"]["annotations"][keys.DECISION_ANNOTATION])
            if said.get(name) != bears:
                unlike.append(Difference("decision as bound", name, bears, said.get(name)))
    return unlike


async def compared(
    api: ApiServer, site: Site, former: Service, successor: Service, *, seed: int
) -> tuple[Comparison, Mapping[str, bytes]]:
    """Compare what two extenders know, how they answer, and what the pods bear."""
    found = compare(former.knowledge, successor.knowledge)
    pods = await pods_by_name(api)
    unlike = unlike_what_was_bound(successor, pods)
    bound = sum(b'"nodeName":' in raw for raw in pods.values())
    asked_about = questions(site, pods, seed=seed)
    said = [(answers(former.hooks, q), answers(successor.hooks, q)) for q in asked_about]
    unlike += (
        Difference("answers", question.pod.metadata.name, *pair)
        for question, pair in zip(asked_about, said, strict=True)
        if pair[0] != pair[1]
    )
    counts = {**found.compared, "decisions as bound": bound, "answers": len(said)}
    return Comparison(counts, (*found.differing, *unlike)), pods


def ruled_site(nodes: int, assignments: int, *, pending: int, seed: int) -> Site:
    """Return a site with places that are held, and labels for the rules to look at."""
    site = populated.drawn(nodes, assignments, pending=pending, seed=seed, off=True)
    site.labels = {name: ruled.labels(number) for number, name in enumerate(site.nodes)}
    return site


async def on_twin(assignments: int, *, seed: int) -> tuple[Row, Comparison]:
    """Return what a restart with so many assignments takes, and the comparison."""
    nodes = -(-assignments // (GPUS * PER_GPU))
    site = ruled_site(nodes, assignments, pending=max(1, assignments // 200), seed=seed)
    api, policy = InMemoryApi(chance=random.Random(seed)), ruled.policy()
    await residents.create(api, site)
    await residents.label_namespace(api, ruled.NAMESPACE_LABELS)
    async with agents(api), started(api, policy) as former:
        came = await live(api, former.service, site, seed=seed)
        lists = await _lists(api)
        async with started(api, policy) as successor:
            first = await _first_answer(site, successor.service)
            found, pods = await compared(api, site, former.service, successor.service, seed=seed)
            planned = len(successor.service.knowledge.views)
            entries = [entry for _, entry in successor.service.knowledge.entries()]
    row: Row = {
        "nodes": planned,
        "assignments": len(entries),
        "held": sum(entry.pod is None for entry in entries),
        "pods": len(pods),
        "listed_mb": round(lists[1] / 1e6, 1),
        "bound_before": came,
        "ready_s": round(successor.ready, 2),
        "processor_s": round(successor.processor, 2),
        "lists_s": round(lists[0], 2),
        "stall_s": round(successor.stall, 2),
        "first_filter_ms": round(first * 1000, 1),
        "compared": sum(found.compared.values()),
        "differing": len(found.differing),
    }
    return row, found


async def _lists(api: ApiServer) -> tuple[float, int]:
    """Return how long it takes to list all that an extender lists, and its size in bytes."""
    began, size = time.perf_counter(), 0
    for kind in (NODES, LEASES, GPU_NODES, PODS):
        token = ""
        while True:
            page = await api.list(kind, continue_token=token)
            size += sum(map(len, page.items))
            token = page.continue_token
            if not token:
                break
    return time.perf_counter() - began, size


async def _first_answer(site: Site, service: Service) -> float:
    """Return the time of the first filter, over all nodes, which looks at every GPU."""
    pod = residents.pod(Vm("first", wanted=RESOURCES[SMALL[0]]))
    pod["metadata"]["uid"] = "first"
    args = asked(msgspec.json.encode(pod), tuple(site.nodes))
    began = time.perf_counter()
    service.hooks.filter(args)
    took = time.perf_counter() - began
    service.knowledge.pod_gone("first")
    return took


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as text, a column for each key."""
    return "\n".join(
        [
            "  ".join(f"{key:>15}" for key in rows[0]),
            *("  ".join(f"{value:>15}" for value in row.values()) for row in rows),
        ]
    )


def main(arguments: list[str]) -> int:
    """Print a table and what was compared; return 1 if anything differs."""
    parser = argparse.ArgumentParser(
        prog="make bench-restart BENCH_ARGS=…",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--assignments", default="2000,10000,40000", help="sizes, separated by commas"
    )
    parser.add_argument("--seed", type=int, default=1, help="what there is and what happens")
    parser.add_argument("--out", type=Path, help="folder for restart.json")
    options = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows, fields = [], {}
    wrong: list[Difference] = []
    for size in map(int, options.assignments.split(",")):
        print(f"{size} assignments", file=sys.stderr)
        row, found = asyncio.run(on_twin(size, seed=options.seed))
        rows.append(row)
        fields[size] = dict(found.compared)
        wrong += found.differing
    print(table(rows))
    print("\ncompared, in the largest:")
    for name, count in fields[size].items():
        print(f"{count:>10}  {name}")
    for each in wrong[:10]:
        print(f"differs: {each.field} of {each.about}: {each.former!r}, {each.successor!r}"[:500])
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        everything = {
            "seed": options.seed,
            "restarts": rows,
            "compared": fields,
            "made": msgspec.to_builtins(made.here()),
        }
        (options.out / "restart.json").write_text(json.dumps(everything, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
