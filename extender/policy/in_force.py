"""A policy as it is gone by: how to rank, who may have what, for how long, and which it is."""

from __future__ import annotations

import hashlib

import msgspec

from extender.policy.names import PolicyName
from extender.policy.rules import NO_RULES, Rules
from extender.policy.values import Policy, Times


class InForce(msgspec.Struct, frozen=True):
    """Everything decisions take from a policy; ``version`` tells it from others."""

    policy: Policy
    rules: Rules = NO_RULES
    times: Times = Times()
    version: str = ""

    @classmethod
    def of(cls, policy: InForce | Policy | PolicyName) -> InForce:
        """Return a policy that is no more than a way to rank."""
        if isinstance(policy, InForce):
            return policy
        bare = Policy(policy) if isinstance(policy, PolicyName) else policy
        return cls(bare, version=digest(bare))


def digest(value: object) -> str:
    """Return twelve digits that differ where values do, whatever the layout they came in."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:12]
