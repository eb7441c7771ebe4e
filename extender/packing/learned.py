"""The learned value of a state: a weighted sum of features that any geometry has.

For each shape, whether an instance fits, and (where it has several starts) how many fit at once;
the expected time until the GPU and each of its halves is empty; and whether it holds anything. With
exponential lifetimes of mean 1, the last of k instances leaves after 1 + 1/2 + ... + 1/k on
average.
"""

from __future__ import annotations

from collections.abc import Sequence

from extender.packing.states import Layout, Shape, shapes
from extender.packing.value import MILLIONTHS, ValueFunction
from extender.policy import Shares, Weights
from nodeagent.api.geometry import Geometry, Occupancy


def features(geometry: Geometry, state: Layout) -> tuple[float, ...]:
    """Return the features of *state*, in the order of :func:`coefficients`."""
    known = shapes(geometry)
    half = geometry.memory_slices / 2
    lower = sum(placement.start < half for placement in state.placements)
    upper = len(state.placements) - lower
    if any(placement.size > half for placement in state.placements):
        lower = upper = 0  # what spans both halves empties them together
    return (
        *(float(bool(each.free(state.mask))) for each in known),
        *(float(each.together(state.mask)) for each in known if len(each.starts) > 1),
        _until_empty(len(state.placements)),
        _until_empty(lower),
        _until_empty(upper),
        float(bool(state.mask)),
    )


def coefficients(geometry: Geometry, weights: Weights) -> tuple[float, ...]:
    """Return *weights* in the order of :func:`features`; 0 for shapes they do not name."""
    known = shapes(geometry)
    fits, together = _by_shape(geometry, weights.fits), _by_shape(geometry, weights.together)
    return (
        *(fits.get(each, 0.0) for each in known),
        *(together.get(each, 0.0) for each in known if len(each.starts) > 1),
        weights.all_leave,
        weights.lower_leave,
        weights.upper_leave,
        weights.occupied,
    )


def weights(geometry: Geometry, values: Sequence[float]) -> Weights:
    """Return *values*, in the order of :func:`features`, by name."""
    known = shapes(geometry)
    several = [each for each in known if len(each.starts) > 1]
    names: dict[Shape, str] = {}
    for profile in geometry.profiles:
        names.setdefault(Shape(profile.size, profile.starts), profile.name)
    numbers = [float(value) for value in values]
    fits, rest = numbers[: len(known)], numbers[len(known) :]
    together, (all_leave, lower_leave, upper_leave, occupied) = rest[:-4], rest[-4:]
    return Weights(
        fits=tuple((names[each], value) for each, value in zip(known, fits, strict=True)),
        together=tuple((names[each], value) for each, value in zip(several, together, strict=True)),
        all_leave=all_leave,
        lower_leave=lower_leave,
        upper_leave=upper_leave,
        occupied=occupied,
    )


def learned_value(weights: Weights) -> ValueFunction:
    """Return the value function with these weights; states must be layouts."""

    def value(geometry: Geometry, state: Occupancy) -> int:
        assert isinstance(state, Layout)
        pairs = zip(coefficients(geometry, weights), features(geometry, state), strict=True)
        return round(MILLIONTHS * sum(weight * feature for weight, feature in pairs))

    return value


def _by_shape(geometry: Geometry, named: Shares) -> dict[Shape, float]:
    values = dict(named)
    found: dict[Shape, float] = {}
    for profile in geometry.profiles:
        if profile.name in values:
            found.setdefault(Shape(profile.size, profile.starts), values[profile.name])
    return found


def _until_empty(instances: int) -> float:
    return sum(1 / k for k in range(1, instances + 1))
