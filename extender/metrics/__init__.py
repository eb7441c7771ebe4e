"""What Prometheus is told: what this process does, and how the fleet stands.

``work`` counts and times as things happen; ``capacity`` reads a node's slices, ``fleet`` adds them
up when somebody asks: by pool (``pools``) and by whose they are (``tenants``). ``causes`` tells
fragmentation from want of capacity; ``decisions`` tells how the decision log
fares, ``shadow`` how the policy beside the live one does. The only importer of prometheus_client.
"""

from extender.metrics.causes import Cause, cause
from extender.metrics.decisions import LogFigures
from extender.metrics.exposition import exposition
from extender.metrics.fleet import Fleet
from extender.metrics.preempting import Evicted, Preempted
from extender.metrics.shadow import ShadowFigures
from extender.metrics.state import FleetState
from extender.metrics.work import Outcome, Phase, Reload, Verb, Work

__all__ = [
    "Cause",
    "Evicted",
    "Fleet",
    "FleetState",
    "LogFigures",
    "Outcome",
    "Phase",
    "Preempted",
    "Reload",
    "ShadowFigures",
    "Verb",
    "Work",
    "cause",
    "exposition",
]
