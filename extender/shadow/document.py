"""What there is to tell of a shadow, as it is printed, drawn, and as JSON.

Lengths of time are seconds. ``live`` is the policy in force, ``shadow`` the one beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from extender.metrics import ShadowFigures
from extender.simulation.paired import Estimate


class _Said(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """How every value of this module looks as JSON."""


class Agreement(_Said, frozen=True):
    """VMs that were decided about by both, when they came: how many fared how.

    ``same`` have the same places, ``gpu`` are on the same GPUs, ``node`` on the same node, and
    ``elsewhere`` on others; ``refused`` were refused by both, ``live_refused`` by the live policy
    alone, and ``shadow_refused`` by the shadow alone.
    """

    same: int = 0
    gpu: int = 0
    node: int = 0
    elsewhere: int = 0
    refused: int = 0
    live_refused: int = 0
    shadow_refused: int = 0

    @property
    def decided(self) -> int:
        """All of them."""
        return self.placed_by_both + self.refused + self.live_refused + self.shadow_refused

    @property
    def placed_by_both(self) -> int:
        """Those that have places under both."""
        return self.same + self.gpu + self.node + self.elsewhere

    @property
    def alike(self) -> int:
        """Those of whom both decided the very same."""
        return self.same + self.refused


class Refusals(_Said, frozen=True):
    """Of VMs that were decided about, how many each refused when they came."""

    asked: int
    live: int
    shadow: int


class Gpus(_Said, frozen=True):
    """The GPUs under one policy, in the mean over the stretch.

    ``used``: memory slices that are taken. ``unusable``: free slices of GPUs in use that a shape
    cannot use, summed over shapes (FGU, as :mod:`extender.simulation.measures` has it). ``whole``:
    GPUs that are empty.
    """

    used: float = 0.0
    unusable: float = 0.0
    whole: float = 0.0


class Evidence(_Said, frozen=True):
    """What a stretch of so many ``seconds`` shows of a policy beside the live one.

    ``refusals_more``: how many more VMs the shadow refuses than the live policy; ``unusable_more``,
    ``whole_more``: how many more slices are unusable, and GPUs whole. Each with the half-width of
    its 95 % interval and the chance of such a difference where there is none, by batch means over
    at least ``blocks`` parts of the stretch (:mod:`extender.replay.blocks`); both None while it is
    too short to tell. ``predicted_within`` is the half-width of the wider interval that holds how
    many more the shadow would refuse were it live (95 %): of chance twice, in what was imagined and
    in what would happen.

    ``taken`` is how much news it is from. ``because`` counts whom the shadow refuses by reason (a
    code). ``uncounted`` are VMs that were there, or had been asked about, before the stretch began;
    ``waiting`` wait in the shadow.
    """

    policy: str
    live_policy: str
    seconds: float
    taken: int = 0
    agreement: Agreement = Agreement()
    refusals: Refusals = Refusals(asked=0, live=0, shadow=0)
    refusals_more: Estimate = Estimate(0.0)
    predicted_within: float | None = None
    live: Gpus = Gpus()
    shadow: Gpus = Gpus()
    unusable_more: Estimate = Estimate(0.0)
    whole_more: Estimate = Estimate(0.0)
    blocks: int = 0
    profiles: Mapping[str, Refusals] = {}
    tenants: Mapping[str, Refusals] = {}
    because: Mapping[str, int] = {}
    uncounted: int = 0
    waiting: int = 0

    def figures(self, of: ShadowFigures) -> ShadowFigures:
        """Return what is told Prometheus of it, beside what is *of* the process."""
        agreement = msgspec.structs.asdict(self.agreement)
        return msgspec.structs.replace(
            of,
            seconds=self.seconds,
            agreement=agreement,
            profiles={name: (each.live, each.shadow) for name, each in self.profiles.items()},
            tenants={name: (each.live, each.shadow) for name, each in self.tenants.items()},
            more=self.refusals_more.mean,
            more_interval=self.refusals_more.ci95,
            unusable=(self.live.unusable, self.shadow.unusable),
            whole=(self.live.whole, self.shadow.whole),
        )


class State(StrEnum):
    """How a shadow stands."""

    NONE = "none"
    """There is no policy for one."""
    WAITING = "waiting"
    """There is one, and this process does not lead, or the shadow's is yet to begin (anew)."""
    RUNNING = "running"
    """It decides beside the live policy."""


class Standing(_Said, frozen=True):
    """How a shadow stands, and what it has shown since its stretch ``began`` (RFC 3339 UTC).

    ``policy`` is its version, ``live_policy`` the live one's. The evidence is so much news
    ``behind``, and has been for ``lag_seconds``. ``fault`` is what is wrong with its
    policy file, "" if nothing. ``stretches`` have begun in this process; the last that ended did
    for ``ended``, after ``lost`` news had been lost in all.
    """

    state: State
    policy: str = ""
    live_policy: str = ""
    fault: str = ""
    began: str = ""
    stretches: int = 0
    ended: str = ""
    lost: int = 0
    behind: int = 0
    lag_seconds: float = 0.0
    evidence: Evidence | None = None
