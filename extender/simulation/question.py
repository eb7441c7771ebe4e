"""What the guard is asked, and what it answers: values that travel between processes."""

from __future__ import annotations

import msgspec

from extender.policy import Policy, Shares
from extender.simulation.paired import Estimate
from nodeagent.api.geometry import Geometry


class Trials(msgspec.Struct, frozen=True):
    """How carefully the guard looks: so many demands of its own, of so many counted requests."""

    seeds: int = 20
    arrivals: int = 20_000
    first_seed: int = 700_000


TRIALS = Trials()


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Does the *candidate* beat ``default`` on so many GPUs, for this mix at this load?

    ``mix`` has the share of each profile of the geometry, by name.
    """

    candidate: Policy
    geometry: Geometry
    gpus: int
    mix: Shares
    load: float
    trials: Trials = TRIALS


class Guarded(msgspec.Struct, frozen=True):
    """The policy that may be used, and what the candidate gained.

    ``gain``: the mean of request and slice acceptance beyond ``default``, in percentage points.
    ``at_a_price``: one of the two is below ``default``, however much the other gains.
    """

    policy: Policy
    gain: Estimate
    at_a_price: bool = False

    @property
    def better(self) -> bool:
        """Whether the candidate itself may be used."""
        return self.gain.above_zero and not self.at_a_price
