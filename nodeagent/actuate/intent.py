"""What a pass over a node shall bring about, and what it came to."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import msgspec

from nodeagent.api.gpunode import Assignment
from nodeagent.driver import Host
from nodeagent.journal import Made
from nodeagent.kubelet import Holder
from nodeagent.ownership import Observed


class Intent(msgspec.Struct, frozen=True):
    """What a pass shall bring about.

    ``claimed`` assignments keep their GPU instance whatever the plan says; for ``postponed`` ones
    nothing is created this time; ``lost`` ones are over and get none again. ``adopted`` is for the
    journal. ``holders`` have devices from elsewhere than our slots, ``unplanned`` what was made for
    them and has left the plan; the ``excluded`` GPUs (UUIDs) are not ours to use; ``barred`` says
    why nothing is created for a resource.
    """

    plan: Sequence[Assignment]
    claimed: Collection[str] = ()
    postponed: Collection[str] = ()
    lost: Collection[str] = ()
    adopted: tuple[Made, ...] = ()
    holders: Sequence[Holder] = ()
    unplanned: Sequence[Holder] = ()
    excluded: Collection[str] = ()
    barred: Mapping[str, str] = {}


class Outcome(msgspec.Struct, frozen=True):
    """What a pass came to.

    ``impossible`` follows from what is and what is planned; ``failures`` are creations the driver
    (or the journal) refused, which may succeed later. ``blocked`` counts GPU instances that
    should go, GPUs on which nothing can be created before something has become of a call, and what
    was put off.
    """

    host: Host
    observed: Mapping[str, tuple[Observed, ...]]
    live: frozenset[str]
    impossible: Mapping[str, str]
    failures: Mapping[str, str]
    blocked: int
