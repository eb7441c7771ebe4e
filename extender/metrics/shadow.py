"""How the policy beside the live one fares; nothing but zeros where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from extender.metrics.capacity import Key
from extender.metrics.series import OTHERS, gauge, single

MOST_PROFILES = 64
MOST_TENANTS = 50

POLICIES = ("live", "shadow")


class ShadowFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a shadow comes to in the stretch under way; all but the first four are of that.

    ``ended`` counts stretches by why they did, ``lost`` what was not told. So much news it is
    ``behind``, for ``lag_seconds``. What there is no evidence of is None, and not told.

    ``agreement`` counts VMs by how both decided. The refused are those of the ``live`` policy and
    of the ``shadow``: in all, and by profile and tenant. ``more`` is how many more the shadow
    refuses, with the half-width of its 95 % interval, None while that is not known. ``unusable``
    and ``whole`` are slices and GPUs, in the mean.
    """

    running: bool = False
    refused_policy: bool = False
    ended: Mapping[str, int] = {}
    lost: int = 0
    behind: int = 0
    lag_seconds: float = 0.0
    seconds: float | None = None
    agreement: Mapping[str, int] = {}
    profiles: Mapping[str, tuple[int, int]] = {}
    tenants: Mapping[str, tuple[int, int]] = {}
    more: float | None = None
    more_interval: float | None = None
    unusable: tuple[float, float] | None = None
    whole: tuple[float, float] | None = None


class Shadows(Collector):
    """Tells what ``read`` returns, which may be called by any thread."""

    def __init__(self) -> None:
        self.read: Callable[[], ShadowFigures] = ShadowFigures

    def describe(self) -> Iterator[Metric]:
        """Yield what there is to tell, before there is anything."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the shadow's figures."""
        of = self.read()
        yield single(
            "tangram_shadow_running", "1 while a policy runs beside the live one.", of.running
        )
        yield single(
            "tangram_shadow_policy_refused",
            "1 while the shadow's policy file has a fault, and is not used.",
            of.refused_policy,
        )
        ended = CounterMetricFamily(
            "tangram_shadow_stretches_ended",
            "Stretches of evidence that were broken off, by why.",
            labels=("why",),
        )
        for why, count in of.ended.items():
            ended.add_metric((why,), count)
        yield ended
        yield CounterMetricFamily(
            "tangram_shadow_lost",
            "Inputs and decisions that the shadow was not told of: each ends a stretch.",
            value=of.lost,
        )
        yield single(
            "tangram_shadow_behind",
            "Inputs and decisions of which the evidence does not tell yet.",
            of.behind,
        )
        yield single(
            "tangram_shadow_lag_seconds",
            "For how long the evidence has been behind: of a process that hangs it grows.",
            of.lag_seconds,
        )
        yield single(
            "tangram_shadow_stretch_seconds",
            "For how long there has been evidence without a gap.",
            of.seconds,
        )
        yield gauge(
            "tangram_shadow_decisions",
            "VMs in the stretch by how both policies decided about them when they came.",
            ("agreement",),
            {(how,): count for how, count in of.agreement.items()},
        )
        yield gauge(
            "tangram_shadow_refused",
            "VMs in the stretch that were refused when they came, by which policy and by profile.",
            ("by", "profile"),
            _by(of.profiles, MOST_PROFILES),
        )
        yield gauge(
            "tangram_shadow_tenant_refused",
            "VMs in the stretch that were refused when they came, by which policy and by tenant;"
            f" the {MOST_TENANTS} of whom most were, of those that a stretch names (the first 100),"
            f" and all others as {OTHERS}.",
            ("by", "tenant"),
            _by(of.tenants, MOST_TENANTS),
        )
        yield single(
            "tangram_shadow_refused_more",
            "How many more VMs the shadow refuses in the stretch than the live policy.",
            of.more,
        )
        yield single(
            "tangram_shadow_refused_more_interval",
            "Half-width of the 95 % interval of that difference; absent while it is not known.",
            of.more_interval,
        )
        for name, text, levels in (
            (
                "tangram_shadow_unusable_slices",
                "Free slices of GPUs in use that a shape cannot use, in the mean over the stretch,"
                " by policy.",
                of.unusable,
            ),
            (
                "tangram_shadow_whole_gpus",
                "GPUs that are empty, in the mean over the stretch, by policy.",
                of.whole,
            ),
        ):
            found = () if levels is None else zip(POLICIES, levels, strict=True)
            yield gauge(name, text, ("by",), {(by,): level for by, level in found})


def _by(refused: Mapping[str, tuple[int, int]], most: int) -> dict[Key, float]:
    """Return how many were refused by whom, of the names those of whom most were."""
    ordered = sorted(refused, key=lambda name: (-sum(refused[name]), name))
    found: dict[Key, float] = {}
    for at, name in enumerate(ordered):
        told = name if at < most else OTHERS
        for by, count in zip(POLICIES, refused[name], strict=True):
            found[by, told] = found.get((by, told), 0.0) + count
    return found
