"""The learned policy by name: weights that come with the program, where the guard lets them decide.

Each file in ``extender/policy/weights`` was written by ``tangram policy train``. Weights belong to
a set of shapes, so that those of one eight-slice model serve all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import extender.policy
from extender.packing.learned import coefficients, weights
from extender.packing.states import shapes
from extender.packing.value import by_shape
from extender.policy import Policy, PolicyName, Shares
from extender.policy.file import PolicyFile, read
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Geometry

_STORED = Path(extender.policy.__file__).parent / "weights"


def nearest(geometry: Geometry, demand: Shares) -> Policy | None:
    """Return the stored policy of the geometry's shapes that was trained for the nearest mix.

    None where there is none. Distance is the share of requests that would have to be others.
    Whether the file's own guard found its weights better does not count: they are to be judged for
    the mix at hand.
    """
    best: tuple[float, Policy] | None = None
    wanted = by_shape(demand, geometry)
    for _, file in stored():
        assert file.trained is not None  # `tangram policy train` wrote it
        theirs = MODELS[file.trained.model].geometry
        if file.weights is None or shapes(theirs) != shapes(geometry):
            continue
        trained_for = by_shape(file.policy.demand, theirs)
        distance = sum(abs(wanted[each] - trained_for[each]) for each in wanted) / 2
        if best is None or distance < best[0]:
            ours = weights(geometry, coefficients(theirs, file.weights.weights))
            best = (distance, Policy(PolicyName.LEARNED, demand, ours))
    return None if best is None else best[1]


def stored() -> Iterator[tuple[str, PolicyFile]]:
    """Yield the policies that come with the program, by name."""
    for path in sorted(_STORED.glob("*.yaml")):
        yield path.stem, read(path)
