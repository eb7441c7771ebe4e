"""A policy with all it needs: its name, the demand it expects, the weights it learned."""

from __future__ import annotations

import msgspec

from extender.policy.names import PolicyName

Shares = tuple[tuple[str, float], ...]
"""A number for each MIG profile, by the profile's name; a tuple, so that policies can be keys."""


class Weights(msgspec.Struct, frozen=True):
    """What a learned value function adds up; profiles are named as the model's driver names them.

    ``fits``: that one instance of a profile fits; ``together``: how many of it fit at once.
    ``all_leave``, ``lower_leave`` and ``upper_leave``: the expected time, in mean lifetimes, until
    the GPU (its lower, its upper half) is empty. ``occupied``: that the GPU holds anything.
    """

    fits: Shares
    together: Shares
    all_leave: float
    lower_leave: float
    upper_leave: float
    occupied: float


PLAN_SECONDS = 0.3
"""2,000 pods on 40,000 GPUs are planned in a tenth of it (measured); it bounds the hard cases."""


class Policy(msgspec.Struct, frozen=True):
    """How placements are ranked.

    ``demand`` is the share of requests for each profile, where the policy asks for it; without it
    all profiles count alike. ``plan_seconds`` is how long the pending queue may be planned as one.

    ``learned`` without weights is ``default``, and so it is on GPUs of a geometry that is not among
    the ``proven``, by their hashes: those where the weights were found to be better. None: they
    decide everywhere, and whether they should is the caller's affair.
    """

    name: PolicyName
    demand: Shares = ()
    weights: Weights | None = None
    plan_seconds: float = PLAN_SECONDS
    proven: tuple[str, ...] | None = None

    @property
    def effective(self) -> PolicyName:
        """The name of the policy that really decides."""
        if self.name is PolicyName.LEARNED and (self.weights is None or self.proven == ()):
            return PolicyName.DEFAULT
        return self.name

    def on(self, geometry: str) -> Policy:
        """Return the policy that really decides on GPUs of a geometry, given its hash."""
        if self.proven is None:
            return self
        if geometry in self.proven:
            return msgspec.structs.replace(self, proven=None)
        return Policy(PolicyName.DEFAULT)


class Times(msgspec.Struct, frozen=True):
    """How long places are kept, in seconds; None: as it is anyway."""

    reservation_seconds: float | None = None
    presumption_seconds: float | None = None
    presumption_with_volumes_seconds: float | None = None
    restart_hold_seconds: float | None = None
