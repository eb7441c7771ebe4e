"""What the outcome of assignments says about GPUs and agents, brought to where decisions see it.

How long a thing is avoided is reckoned in ``avoidance``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import structlog

from extender.ledger import Promise
from extender.service.knowledge import Knowledge
from extender.service.ports import ClusterUnavailable, PlanConflict
from extender.snapshot import NodeView

log = structlog.get_logger()


class Trust:
    """Hears how assignments end; changes the knowledge's ledger and views accordingly."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    def not_realized(self, view: NodeView, ids: Collection[str]) -> None:
        """Avoid the GPUs that could not realize a pod's assignments, where there is a choice.

        Their drivers may go on refusing, and by its cost the same place would be chosen again. Of a
        node that fails again and again nothing more is asked for a while.
        """
        knowledge, avoidance = self._knowledge, self._knowledge.avoidance
        knowledge.work.not_realized()
        avoidance.heard(ids)
        for gpu, whole in view.failed_on(ids).items():
            promise, until = Promise(view.name, (whole,)), avoidance.gpu_failed(gpu)
            knowledge.ledger = knowledge.ledger.avoid(gpu, promise, until=until)
            seconds = round(until - knowledge.clock())
            log.info("gpu_avoided", node=view.name, gpu=gpu, seconds=seconds)
        lasts = avoidance.node_failed(view.name, min(ids))  # a pod counts once
        if lasts:
            log.warning("node_avoided", node=view.name, seconds=round(lasts))
        knowledge.refresh_failing(view.name)

    def realized(self, view: NodeView, ids: Collection[str]) -> None:
        """Trust the GPUs and the agent that realized a pod's assignments, if that is news.

        A bind that is made again finds realized what was so long ago: that says nothing about now.
        """
        knowledge = self._knowledge
        if not knowledge.avoidance.heard(ids):
            return
        gpus = {each.gpu for each in view.node.spec.assignments if each.id in ids}
        knowledge.ledger = knowledge.ledger.trust(gpus)
        if knowledge.avoidance.succeeded(view.name, gpus):
            log.info("node_trusted_again", node=view.name)
        knowledge.refresh_failing(view.name)

    @contextlib.contextmanager
    def probing(self, node: str, ids: Collection[str]) -> Iterator[None]:
        """Write assignments meanwhile, which may show how a failing node does now.

        Nothing else is written to such a node before the outcome is heard, or, if nobody knows
        whether they were written, before they could be no more.
        """
        avoidance = self._knowledge.avoidance
        avoidance.probe(node, ids)
        avoidance.awaits(ids)
        self._knowledge.refresh_failing(node)
        try:
            yield
        except BaseException as error:
            if _not_written(error):
                avoidance.not_probed(node)
            else:
                avoidance.doubted(node)
            self._knowledge.refresh_failing(node)
            raise

    def awaits(self, ids: Collection[str]) -> None:
        """Note what is written beside that."""
        self._knowledge.avoidance.awaits(ids)


def _not_written(error: BaseException) -> bool:
    """Tell whether a write that ended so has certainly changed nothing."""
    return isinstance(error, PlanConflict) or (
        isinstance(error, ClusterUnavailable) and error.undone
    )
