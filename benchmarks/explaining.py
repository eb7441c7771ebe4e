"""What an explanation costs: processor time, and what is found for it, in a cluster in full use.

The cluster is that of ``benchmarks.populated``, as a service knows it. Pods that ask for different
things are explained one after the other: ``cold_s`` where nobody has asked for such a thing before,
so that every node is judged for it, and ``warm_s`` afterwards, as it is where kube-scheduler asks:
the median of ``rounds`` explanations, ``warm_most_s`` the longest. ``bytes`` are those of the JSON
that the desk answers with, ``sentences`` what it says in words.

    python -m benchmarks.explaining --nodes 5000 --out FILE
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import made, populated
from benchmarks.fleet import ready
from benchmarks.populated import GPUS, NAMESPACE, PER_GPU, Site
from extender.explain.explanation import Explanation, Moves, NoMoves
from extender.explain.text import told
from extender.request import Request
from extender.service import Service
from extender.service.explaining import Explainer
from extender.service.ports import PodFacts
from nodeagent.api.gpunode import Assignment, OwnerRef, Plan, PodRef

VGPU = "nvidia.com/NVIDIA_H100XM-{}"
SHAPES = (("7-80C",), ("4-40C",), ("3-40C",), ("2-20C",), ("1-10C",), ("4-40C", "4-40C"))

Row = dict[str, Any]


def known(site: Site) -> Service:
    """Return a service that knows a site: every VM of it runs where its plan has it."""
    service = ready()
    knowledge = service.knowledge
    for name, node in site.nodes.items():
        entries = tuple(_with_pod(each) for each in node.spec.assignments)
        knowledge.node(name, cordoned=name in site.cordoned)
        if name not in site.leaseless:
            knowledge.lease(name, "1")
        knowledge.gpu_node(msgspec.structs.replace(node, spec=Plan(entries)))
        for each in entries:
            assert each.pod is not None  # it was given one
            asked = Request(each.pod, (each.resource,))
            bound = site.vms[each.id].node
            knowledge.pod(PodFacts(each.pod, asked, bound, "Running" if bound else "Pending"))
    return service


def _with_pod(entry: Assignment) -> Assignment:
    owner = OwnerRef("VirtualMachineInstance", NAMESPACE, entry.id)
    return msgspec.structs.replace(
        entry, pod=PodRef(NAMESPACE, f"launcher-{entry.id}", entry.id), owner=owner
    )


async def explained(service: Service, shape: tuple[str, ...], *, rounds: int) -> Row:
    """Explain so many pods that ask for the same, after a first one."""
    explainer, seconds = Explainer(service.knowledge), []
    said: Explanation | None = None
    for number in range(1 + rounds):
        pod = PodRef(NAMESPACE, f"asks-{'-'.join(shape)}-{number}", f"asks-{shape}-{number}")
        asked = Request(pod, tuple(map(VGPU.format, shape)))
        service.knowledge.pod(PodFacts(pod, asked, phase="Pending"))
        began = time.process_time()
        said = await explainer.explain(pod.namespace, pod.name)
        seconds.append(time.process_time() - began)
        service.knowledge.pod_gone(pod.uid)
    assert said is not None
    cold, *warm = seconds
    room, answer = said.room, told(said)
    return {
        "asks": list(shape),
        "cold_s": round(cold, 4),
        "warm_s": round(statistics.median(warm), 4),
        "warm_most_s": round(max(warm), 4),
        "state": said.state,
        "lack": None if said.missing is None else said.missing.lack,
        "moves": len(room.moves) if isinstance(room, Moves) else None,
        "proven": room.proven if isinstance(room, NoMoves) else None,
        "bytes": len(msgspec.json.encode(answer)),
        "sentences": len(answer.sentences),
    }


def served(nodes: int, *, seed: int = 1) -> Service:
    """Return a service that knows a cluster of so many nodes."""
    return known(populated.drawn(nodes, nodes * GPUS * PER_GPU, pending=0, seed=seed))


async def measure(nodes: int, *, rounds: int, seed: int) -> Row:
    """Return all that is measured at one size."""
    service = served(nodes, seed=seed)
    gc.collect()
    gc.freeze()  # as in a service, where it is collected between answers
    try:
        found = [await explained(service, shape, rounds=rounds) for shape in SHAPES]
    finally:
        gc.unfreeze()
    return {
        "nodes": nodes,
        "gpus": nodes * GPUS,
        "vms": sum(1 for _ in service.knowledge.entries()),
        "rounds": rounds,
        "seed": seed,
        "explanations": found,
        "made": msgspec.to_builtins(made.here()),
    }


def text(row: Mapping[str, Any]) -> str:
    """Return a table for people, of one size."""
    return "\n".join(
        (
            "| asks for | found | first, s | then p50, most, s | bytes | sentences |",
            "|---|---|---:|---:|---:|---:|",
            *map(_line, row["explanations"]),
        )
    )


def _line(each: Mapping[str, Any]) -> str:
    cells = (
        " + ".join(each["asks"]),
        _found(each),
        f"{each['cold_s']:.2f}",
        f"{each['warm_s']:.2f}, {each['warm_most_s']:.2f}",
        f"{each['bytes']:,}",
        str(each["sentences"]),
    )
    return f"| {' | '.join(cells)} |"


def _found(each: Mapping[str, Any]) -> str:
    if each["lack"] in (None, "nothing"):
        return str(each["state"])
    if each["moves"] is not None:
        return f"{each['lack']}; moves: {each['moves']}"
    if each["proven"] is not None:
        return f"{each['lack']}; no moves, {'proven' if each['proven'] else 'not proven'}"
    return str(each["lack"])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found at each size."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="make bench-explaining BENCH_ARGS=…",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--nodes", default="5000", help="sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=20, help="explanations of each thing asked")
    parser.add_argument("--seed", type=int, default=1, help="what the nodes hold")
    parser.add_argument("--output", choices=("text", "json"), default="text")
    parser.add_argument("--out", type=Path, help="keep what was found in this file")
    options = parser.parse_args(argv)
    rows = []
    for nodes in map(int, options.nodes.split(",")):
        print(f"explaining on {nodes} nodes x {GPUS} GPUs", file=sys.stderr)
        rows.append(row := asyncio.run(measure(nodes, rounds=options.rounds, seed=options.seed)))
        print(json.dumps(row) if options.output == "json" else text(row), flush=True)
    if options.out:
        made.keep(options.out, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
