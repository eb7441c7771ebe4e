"""What the gauges are made of: how things stand at a moment."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from extender.policy.rules import Headroom, Rules
from extender.snapshot import NodeView


class FleetState(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at a moment; ages and silences are in seconds by the process's own clock.

    ``pending``, ``refused`` and ``presumed`` are numbers of pods, ``avoided`` of GPUs,
    ``unrealized`` of a plan's entries that no agent has answered for; ``oldest_unrealized`` is how
    long the first of these has waited. ``plan_age``: since the last joint plan, None if there was
    none. ``tenants`` maps namespaces to tenants, "" for none. ``headroom``: with each, how many of
    its instances there is room for. ``silences``: by feed, how long nothing could be heard of it.
    ``oldest_renewal``: since the Lease of the most silent agent was renewed; None without agents.
    """

    views: Mapping[str, NodeView]
    leads: bool
    ready: bool
    version: str
    policy: str
    policy_version: str
    rules: Rules
    tenants: Mapping[str, str]
    headroom: tuple[tuple[Headroom, int], ...]
    pending: int
    refused: int
    presumed: int
    avoided: int
    unrealized: int
    oldest_unrealized: float
    plan_age: float | None
    silences: Mapping[str, float]
    oldest_renewal: float | None
