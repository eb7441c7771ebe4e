"""What Prometheus is told: what this process does, and how the fleet stands.

``work`` counts and times as things happen; ``capacity`` reads a node's slices, ``fleet`` adds them
up when somebody asks. The only importer of prometheus_client.
"""

from extender.metrics.exposition import exposition
from extender.metrics.fleet import Fleet, FleetState
from extender.metrics.work import Outcome, Phase, Verb, Work

__all__ = ["Fleet", "FleetState", "Outcome", "Phase", "Verb", "Work", "exposition"]
