"""A policy as it is gone by: how to rank, who may have what, who moves, and which it is."""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import msgspec

from extender.policy.moving import Moving
from extender.policy.names import PolicyName
from extender.policy.rules import NO_RULES, Rules
from extender.policy.values import Policy, Times, Weights


class InForce(msgspec.Struct, frozen=True):
    """Everything decisions take from a policy; ``version`` tells it from others.

    Of learned weights the version also tells where they decide: what was written, then a ``+``.
    """

    policy: Policy
    rules: Rules = NO_RULES
    times: Times = Times()
    version: str = ""
    moving: Moving = Moving()

    @classmethod
    def of(cls, policy: InForce | Policy | PolicyName) -> InForce:
        """Return a policy that is no more than a way to rank."""
        if isinstance(policy, InForce):
            return policy
        bare = Policy(policy) if isinstance(policy, PolicyName) else policy
        return cls(bare, version=digest(bare))

    @property
    def written(self) -> str:
        """The version of the policy as it was written, whatever was found of it since."""
        return self.version.partition("+")[0]

    @property
    def candidate(self) -> Weights | None:
        """The weights that have to prove themselves before they decide, None if there are none."""
        return self.policy.weights if self.policy.name is PolicyName.LEARNED else None

    def after(self, before: InForce) -> InForce:
        """Return it as it takes over: weights decide where the same ones have proven themselves."""
        same = self.candidate is not None and self.candidate == before.candidate
        return self.proven_on((before.policy.proven or ()) if same else ())

    def proven_on(self, geometries: Collection[str]) -> InForce:
        """Return it with its learned weights deciding on these geometries alone, by their hashes.

        A policy without such weights is returned as it is.
        """
        if self.candidate is None:
            return self
        policy = msgspec.structs.replace(self.policy, proven=tuple(sorted(geometries)))
        version = f"{self.written}+{digest(policy.proven)[:4]}"
        return msgspec.structs.replace(self, policy=policy, version=version)


def digest(value: object) -> str:
    """Return twelve digits that differ where values do, whatever the layout they came in."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()[:12]
