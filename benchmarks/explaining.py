"""What an explanation costs: processor time, and what is found for it, in a cluster in full use.

The cluster is that of ``benchmarks.populated``, as a service knows it. Pods that ask for different
things are explained one after the other: ``cold`` where nobody has asked for such a thing before,
so that every node is judged for it, and ``warm`` afterwards, as it is where kube-scheduler asks.

    python -m benchmarks.explaining --nodes 5000
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from typing import Any

import msgspec

from benchmarks import populated
from benchmarks.fleet import ready
from benchmarks.populated import GPUS, NAMESPACE, PER_GPU, Site
from extender.explain.explanation import Explanation, NoMoves
from extender.request import Request
from extender.service import Service
from extender.service.explaining import Explainer
from extender.service.ports import PodFacts
from nodeagent.api.gpunode import Assignment, OwnerRef, Plan, PodRef

VGPU = "nvidia.com/NVIDIA_H100XM-{}"
SHAPES = (("7-80C",), ("4-40C",), ("3-40C",), ("2-20C",), ("1-10C",), ("4-40C", "4-40C"))
AGAIN = 5


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


async def explained(service: Service, shape: tuple[str, ...]) -> dict[str, Any]:
    """Explain as many pods that ask for the same."""
    explainer, seconds = Explainer(service.knowledge), []
    said: Explanation | None = None
    for number in range(1 + AGAIN):
        pod = PodRef(NAMESPACE, f"asks-{'-'.join(shape)}-{number}", f"asks-{shape}-{number}")
        asked = Request(pod, tuple(map(VGPU.format, shape)))
        service.knowledge.pod(PodFacts(pod, asked, phase="Pending"))
        began = time.process_time()
        said = await explainer.explain(pod.namespace, pod.name)
        seconds.append(time.process_time() - began)
        service.knowledge.pod_gone(pod.uid)
    assert said is not None
    warm = sorted(seconds[1:])
    room = said.room
    return {
        "asks": list(shape),
        "cold_s": round(seconds[0], 4),
        "warm_s": round(warm[len(warm) // 2], 4),
        "state": said.state,
        "lack": None if said.missing is None else said.missing.lack,
        "moves": None if room is None or isinstance(room, NoMoves) else len(room.moves),
        "proven": room.proven if isinstance(room, NoMoves) else None,
    }


def served(nodes: int) -> Service:
    """Return a service that knows a cluster of so many nodes."""
    return known(populated.drawn(nodes, nodes * GPUS * PER_GPU, pending=0, seed=1))


async def _run(nodes: int) -> None:
    service = served(nodes)
    gc.collect()
    gc.freeze()  # as in a service, where it is collected between answers
    for shape in SHAPES:
        sys.stdout.write(json.dumps(await explained(service, shape)) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Run it at the size asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=5000)
    asyncio.run(_run(parser.parse_args().nodes))


if __name__ == "__main__":
    main()
