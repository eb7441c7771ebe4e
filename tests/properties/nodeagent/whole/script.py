"""What may happen to a node, as values that scripts are drawn of.

The values say nothing of what is there when their turn comes, for that depends on how far the agent
has got: one of several is named by a number, of which there may be fewer. So the same script can be
played again, and means the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import strategies as st

MOST = 64
"""Numbers are below this: more than there ever is of anything."""
EXCHANGES = (
    ("GetPreferredAllocation", "before"),
    ("GetPreferredAllocation", "after"),
    ("Allocate", "before"),
    ("Allocate", "after"),
)


class Planned(msgspec.Struct, frozen=True):
    """A pod is planned, at one place or two; *init* is what its init containers ask for."""

    half: bool
    places: tuple[int, ...]
    init: tuple[int, ...]
    apart: bool


class Withdrawn(msgspec.Struct, frozen=True):
    """A pod that does not run leaves the plan."""

    which: int


class Served(msgspec.Struct, frozen=True):
    """A planned pod is bound: the first that may be, or a certain one if it may be just now.

    It may be *rejected* for another reason, once it has its devices; or the agent may end at one of
    the kubelet's exchanges with it.
    """

    which: int | None
    rejected: bool
    struck: tuple[str, str] | None


class Ended(msgspec.Struct, frozen=True):
    """A running pod ends, and perhaps is deleted; the extender hears of it, or not yet."""

    which: int
    deleted: bool
    withdrawn: bool


class Intruded(msgspec.Struct, frozen=True):
    """All comes to rest, and then a pod comes that nobody has planned."""

    half: bool


class AgentRestarted(msgspec.Struct, frozen=True):
    """The agent ends, and another begins."""


class KubeletRestarted(msgspec.Struct, frozen=True):
    """The kubelet ends, and another begins."""


class Appeared(msgspec.Struct, frozen=True):
    """Somebody makes a GPU instance, or destroys the one he has."""

    where: int


class Rested(msgspec.Struct, frozen=True):
    """All comes to rest: every planned pod runs."""


Operation = (
    Planned
    | Withdrawn
    | Served
    | Ended
    | Intruded
    | AgentRestarted
    | KubeletRestarted
    | Appeared
    | Rested
)


class Step(msgspec.Struct, frozen=True):
    """An operation, and for how long (in seconds) everybody may go on after it."""

    operation: Operation
    pause: float


_numbers = st.integers(0, MOST - 1)
_WEIGHTS: Sequence[tuple[st.SearchStrategy[Operation], int]] = (
    (
        st.builds(
            Planned,
            half=st.sampled_from([False, False, False, True]),
            places=st.lists(_numbers, min_size=1, max_size=2).map(tuple),
            init=st.lists(st.integers(0, 2), max_size=2).map(tuple),
            apart=st.booleans(),
        ),
        8,
    ),
    (
        st.builds(
            Served,
            which=st.sampled_from([None, None, None, *range(3)]),
            rejected=st.sampled_from([False, False, False, False, True]),
            struck=st.sampled_from([None] * 12 + [*EXCHANGES]),
        ),
        10,
    ),
    (st.builds(Ended, which=_numbers, deleted=st.booleans(), withdrawn=st.booleans()), 7),
    (st.builds(Withdrawn, which=_numbers), 2),
    (st.builds(AgentRestarted), 3),
    (st.builds(KubeletRestarted), 3),
    (st.builds(Appeared, where=_numbers), 2),
    (st.builds(Intruded, half=st.booleans()), 1),
    (st.builds(Rested), 1),
)
_operations = st.sampled_from([each for each, weight in _WEIGHTS for _ in range(weight)])
_pauses = st.sampled_from([0.0, 0.0, 0.0, 0.002, 0.01, 0.03])


def scripts(length: int) -> st.SearchStrategy[list[Step]]:
    """Draw so many operations with their pauses."""
    step = st.builds(Step, operation=_operations.flatmap(lambda drawn: drawn), pause=_pauses)
    return st.lists(step, min_size=length, max_size=length)
