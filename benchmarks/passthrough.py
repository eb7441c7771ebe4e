"""An extender that decides nothing and binds, on Tangram's own server: what an extender costs.

Every node passes, all scores are 0, and bind posts the Binding at once.

    python -m benchmarks.passthrough --kubeconfig FILE --port 9000
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from benchmarks.fleet import ready
from extender import wire
from extender.cli.garbage import collected_between_answers
from extender.cluster import KubernetesCluster
from extender.server import serving
from extender.service.binding import Binder
from extender.service.hooks import Hooks
from extender.service.ports import BindingRefused, ClusterUnavailable, Feed
from nodeagent.api.gpunode import PodRef
from nodeagent.apiserver.rest import RestApi

CONNECTIONS = 256
BIND_SECONDS = 10.0
HEARD_EVERY_SECONDS = 5.0


class PassesAll(Hooks):
    """Lets every node pass."""

    def __init__(self) -> None:
        pass

    def filter(self, args: wire.ExtenderArgs) -> wire.FilterResult:
        """Let all names pass."""
        return wire.FilterResult(args.node_names or ())

    def prioritize(self, args: wire.ExtenderArgs) -> tuple[wire.HostPriority, ...]:
        """Give each name 0."""
        return tuple([wire.HostPriority(name, 0) for name in args.node_names or ()])


class Binds(Binder):
    """Binds a pod where it is told to."""

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._door = cluster

    async def bind(self, args: wire.BindingArgs) -> wire.BindingResult:
        """Post the Binding."""
        pod = PodRef(args.pod_namespace, args.pod_name, args.pod_uid)
        try:
            await self._door.bind(pod, args.node, {}, version="", timeout=BIND_SECONDS)
        except (BindingRefused, ClusterUnavailable) as error:
            return wire.BindingResult(str(error))
        return wire.BindingResult()


async def serve(kubeconfig: Path, port: int) -> None:
    """Answer until cancelled."""
    async with RestApi(kubeconfig=kubeconfig, connections=CONNECTIONS) as api:
        cluster = KubernetesCluster(api)
        service = ready(cluster)
        service.hooks = PassesAll()
        service.binder = Binds(cluster)
        async with collected_between_answers(service), serving(service, port=port):
            while True:
                for feed in Feed:
                    service.knowledge.feed_synced(feed)
                await asyncio.sleep(HEARD_EVERY_SECONDS)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.passthrough")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    uvloop.run(serve(options.kubeconfig, options.port))
    return 0


if __name__ == "__main__":
    sys.exit(main())
