"""The policy file that SREs write: YAML, read strictly.

apiVersion: tangram.dev/v1alpha1
kind: PlacementPolicy
value: learned
demand: {7g.80gb: 0.2, 3g.40gb: 0.3, 1g.10gb: 0.5}
weights: ...          # as `tangram policy train` writes them
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from extender.policy.names import PolicyName
from extender.policy.values import PLAN_SECONDS, Policy, Weights

# YAML knows .inf and .nan; tables are sums in millionths, and have to come out as integers.
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]
Weight = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=60.0)]


class MalformedPolicy(Exception):
    """The policy file cannot be used; the text names the file, the place and the remedy."""


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


class PolicyFile(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """The file as written. ``demand`` need not add up to 1."""

    api_version: Literal["tangram.dev/v1alpha1"]
    kind: Literal["PlacementPolicy"]
    value: PolicyName
    demand: dict[str, Share] = {}
    weights: WrittenWeights | None = None
    trained: Trained | None = None
    deadlines: Deadlines = Deadlines()

    @property
    def policy(self) -> Policy:
        """The policy it asks for; weights that were found no better are left out."""
        total = sum(self.demand.values())
        demand = tuple((name, share / total) for name, share in self.demand.items() if share)
        if self.weights is None or (self.trained is not None and not self.trained.better):
            weights = None
        else:
            weights = self.weights.weights
        return Policy(self.value, demand, weights, self.deadlines.plan_seconds)


def read(path: Path) -> PolicyFile:
    """Read a policy file.

    Raises:
        MalformedPolicy: if it cannot be read, is not such a file, or asks for what makes no sense.
    """
    try:
        file = msgspec.yaml.decode(path.read_bytes(), type=PolicyFile)
    except OSError as error:
        raise MalformedPolicy(f"{path}: cannot be read: {error.strerror}") from error
    except msgspec.ValidationError as error:
        remedy = ""
        if "$.value" in str(error):
            remedy = f"; use one of {', '.join(PolicyName)}"
        elif "unknown field" in str(error):
            remedy = "; remove it, or correct its spelling"
        raise MalformedPolicy(f"{path}: {error}{remedy}") from error
    except msgspec.DecodeError as error:
        raise MalformedPolicy(f"{path}: is not YAML: {error}") from error
    if file.weights is not None and file.value is not PolicyName.LEARNED:
        raise MalformedPolicy(
            f"{path}: $.weights are for value learned, but $.value is {file.value};"
            " remove the weights or say `value: learned`"
        )
    if file.value is PolicyName.LEARNED and file.weights is None:
        raise MalformedPolicy(
            f"{path}: $.value is learned without $.weights; `tangram policy train` writes them"
        )
    if file.demand and not sum(file.demand.values()):
        raise MalformedPolicy(f"{path}: $.demand asks for nothing; give a profile a share above 0")
    return file


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
