"""A policy with rules of every kind, none of which keeps many VMs of ``benchmarks.populated`` out.

What an extender works out from rules has to be worked out anew after a restart.
"""

from __future__ import annotations

from extender.policy import InForce
from extender.policy.file import parsed

TENANT = "residents"
NAMESPACE_LABELS = {"team": TENANT}
OLD = 13  # every so manieth node is

TEXT = f"""\
apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
pools:
- {{name: even, nodes: {{matchLabels: {{rack: even}}}}}}
tenants:
- name: {TENANT}
  namespaces: {{matchLabels: {{team: {TENANT}}}}}
  caps: {{memorySlices: 500000, profiles: {{1g.10gb: 200000}}}}
- {{name: guests, namespaces: {{matchLabels: {{team: guests}}}}, dedicated: gpu}}
headroom:
- {{pool: even, profile: 3g.40gb, keep: 2}}
avoid:
- {{nodes: {{matchLabels: {{old: "true"}}}}}}
times: {{restartHoldSeconds: 86400}}
"""


def policy() -> InForce:
    """Return what decisions take from it."""
    return parsed(TEXT.encode(), "ruled").in_force


def labels(number: int) -> dict[str, str]:
    """Return what the Node of a *number* bears of the labels that the rules look at."""
    old = {"old": "true"} if number % OLD == OLD - 1 else {}
    return {"rack": "odd" if number % 2 else "even", **old}
