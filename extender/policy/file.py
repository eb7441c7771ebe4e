"""The policy file that SREs write: YAML, read strictly.

apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
value: learned
demand: {7g.80gb: 0.2, 3g.40gb: 0.3, 1g.10gb: 0.5}
weights: ...          # as `tangram policy train` writes them
pools: ...            # who may have what, and where: see `rules`
tenants: ...
headroom: ...
avoid: ...
moves: ...            # whether VMs are moved, how fast and when: see `moving`
times: {reservationSeconds: 120}
deadlines: {planSeconds: 0.3}
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from extender.policy.in_force import InForce, digest
from extender.policy.moving import Mode, Moving
from extender.policy.names import PolicyName
from extender.policy.rules import Avoid, Headroom, Pool, Rules, Tenant
from extender.policy.sense import nonsense
from extender.policy.strict import Problem, excessive, problems, repeated
from extender.policy.values import PLAN_SECONDS, Policy, Times, Weights

# YAML knows .inf and .nan; tables are sums in millionths, and have to come out as integers.
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]
Weight = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=60.0)]


Lasting = Annotated[float, msgspec.Meta(ge=0.0, le=86_400.0)]


MOST_PROBLEMS = 100
"""Told of one file: who has more has sent something else."""


class MalformedPolicy(Exception):
    """The policy cannot be used; the text names the file, each place, and the remedy for it."""

    def __init__(self, source: str, *problems: Problem) -> None:
        super().__init__("\n".join(f"{source}: {each}" for each in problems))
        self.problems = problems


class WrittenWeights(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """The weights of ``learned`` by profile name; see :class:`extender.policy.Weights`."""

    fits: dict[str, Weight]
    together: dict[str, Weight]
    all_leave: Weight
    lower_leave: Weight
    upper_leave: Weight
    occupied: Weight

    @property
    def weights(self) -> Weights:
        """The same as a value that policies are made with."""
        return Weights(
            tuple(self.fits.items()),
            tuple(self.together.items()),
            self.all_leave,
            self.lower_leave,
            self.upper_leave,
            self.occupied,
        )


class Trained(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """Where weights come from, and how they did on other seeds of that demand.

    ``gain`` is the mean of request and slice acceptance beyond ``default``, in percentage points
    with the half-width of its 95 % interval; they are used only if ``better``.
    """

    model: str
    gpus: int
    load: float
    seed: int
    gain: float
    gain_ci95: float
    better: bool


class Deadlines(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """How long decisions may take: ``plan_seconds`` for the pending queue planned as one."""

    plan_seconds: Seconds = PLAN_SECONDS


class WrittenTimes(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """How long places are kept, in seconds; what is not said is as the command line has it.

    ``reservation``: for a pod that does not come to bind; ``presumption``: for prioritize's winner
    (one with volume claims: ``presumption_with_volumes``); ``restart_hold``: for the next pod of
    one that has ended.
    """

    reservation_seconds: Lasting | None = None
    presumption_seconds: Lasting | None = None
    presumption_with_volumes_seconds: Lasting | None = None
    restart_hold_seconds: Lasting | None = None

    @property
    def times(self) -> Times:
        """The same as a value."""
        return Times(
            self.reservation_seconds,
            self.presumption_seconds,
            self.presumption_with_volumes_seconds,
            self.restart_hold_seconds,
        )


class PolicyFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """The file as written. ``demand`` need not add up to 1."""

    api_version: Literal["tangram.dev/v1alpha1"]
    kind: Literal["PlacementPolicy"]
    value: PolicyName = PolicyName.DEFAULT
    demand: dict[str, Share] = {}
    weights: WrittenWeights | None = None
    trained: Trained | None = None
    pools: tuple[Pool, ...] = ()
    tenants: tuple[Tenant, ...] = ()
    headroom: tuple[Headroom, ...] = ()
    avoid: tuple[Avoid, ...] = ()
    moves: Moving = Moving()
    times: WrittenTimes = WrittenTimes()
    deadlines: Deadlines = Deadlines()

    @property
    def policy(self) -> Policy:
        """How it ranks placements."""
        total = sum(self.demand.values())
        demand = tuple((name, share / total) for name, share in self.demand.items() if share)
        if self.weights is None or (self.trained is not None and not self.trained.better):
            weights = None
        else:
            weights = self.weights.weights
        return Policy(self.value, demand, weights, self.deadlines.plan_seconds)

    @property
    def rules(self) -> Rules:
        """Who may have what, and where."""
        return Rules(
            pools=self.pools, tenants=self.tenants, headroom=self.headroom, avoid=self.avoid
        )

    @property
    def version(self) -> str:
        """Twelve digits that tell this policy from others, however it is laid out."""
        return digest(self)

    @property
    def in_force(self) -> InForce:
        """All that decisions take from it."""
        return InForce(self.policy, self.rules, self.times.times, self.version, self.moves)


def read(path: Path) -> PolicyFile:
    """Read a policy file.

    Raises:
        MalformedPolicy: if it cannot be read, is not such a file, or asks for what makes no sense.
    """
    return parsed(contents(path), str(path))


def contents(path: Path) -> bytes:
    """Return what is in a policy file.

    Raises:
        MalformedPolicy: if it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        text = f"cannot be read: {error.strerror}"
        instead = "give the path of a file that can be"
        raise MalformedPolicy(str(path), Problem("", text, instead)) from error


def parsed(content: bytes, source: str) -> PolicyFile:
    """Read a policy; *source* is what to call it in messages.

    Raises:
        MalformedPolicy: naming all that is wrong with it.
    """
    try:
        if excess := excessive(content):
            raise MalformedPolicy(source, excess)
        raw = _as_meant(msgspec.yaml.decode(content))
        every = chain(
            problems(raw, PolicyFile), repeated(content), _about_values(raw), nonsense(raw)
        )
        found = tuple(islice(every, MOST_PROBLEMS))
        if next(every, None) is not None:
            found += (Problem("", f"has more than {MOST_PROBLEMS} faults", "mend these first"),)
    except UnicodeDecodeError as error:
        text = f"is not text: {error}"
        raise MalformedPolicy(source, Problem("", text, "save it as UTF-8")) from error
    except MalformedPolicy:
        raise
    except Exception as error:
        text = " ".join(str(error).split())  # on one line, as all others are
        instead = "mend it there: indentation, brackets or quotes"
        raise MalformedPolicy(source, Problem("", f"is not YAML: {text}", instead)) from error
    if found:
        raise MalformedPolicy(source, *found)
    return msgspec.convert(raw, PolicyFile)


def _as_meant(raw: object) -> object:
    """Return *raw* with a bare ``off`` for a mode as its word: YAML 1.1 reads it as false."""
    moves = raw.get("moves") if isinstance(raw, dict) else None
    if not isinstance(raw, dict) or not isinstance(moves, dict) or moves.get("mode") is not False:
        return raw
    return {**raw, "moves": {**moves, "mode": Mode.OFF.value}}


def _about_values(raw: object) -> Iterator[Problem]:
    if not isinstance(raw, dict):
        return
    value, weights = raw.get("value", PolicyName.DEFAULT.value), raw.get("weights")
    others = [name.value for name in PolicyName if name is not PolicyName.LEARNED]
    if weights is not None and value in others:
        text = f"are for value learned, but $.value is {value}"
        yield Problem("$.weights", text, "remove them or say `value: learned`")
    if value == PolicyName.LEARNED and weights is None:
        text = "is learned without $.weights"
        yield Problem("$.value", text, "`tangram policy train` writes them")
    demand = raw.get("demand")
    if isinstance(demand, dict) and demand and not any(demand.values()):
        yield Problem("$.demand", "asks for nothing", "give a profile a share above 0")


def written(file: PolicyFile) -> bytes:
    """Return the YAML of a policy file."""
    return msgspec.yaml.encode(file)


def weights_as_written(weights: Weights) -> WrittenWeights:
    """Return weights as they stand in a file."""
    return WrittenWeights(
        fits=dict(weights.fits),
        together=dict(weights.together),
        all_leave=weights.all_leave,
        lower_leave=weights.lower_leave,
        upper_leave=weights.upper_leave,
        occupied=weights.occupied,
    )


def as_file(policy: InForce) -> PolicyFile:
    """Return a policy as a file says it; its version may be another, for shares add up to 1."""
    ranking, rules, times = policy.policy, policy.rules, policy.times
    return PolicyFile(
        api_version="tangram.dev/v1alpha1",
        kind="PlacementPolicy",
        value=ranking.name,
        demand=dict(ranking.demand),
        weights=None if ranking.weights is None else weights_as_written(ranking.weights),
        pools=rules.pools,
        tenants=rules.tenants,
        headroom=rules.headroom,
        avoid=rules.avoid,
        moves=policy.moving,
        times=WrittenTimes(
            reservation_seconds=times.reservation_seconds,
            presumption_seconds=times.presumption_seconds,
            presumption_with_volumes_seconds=times.presumption_with_volumes_seconds,
            restart_hold_seconds=times.restart_hold_seconds,
        ),
        deadlines=Deadlines(plan_seconds=ranking.plan_seconds),
    )
