"""What a cluster was asked for and what it decided, as one value: all that a replay begins with.

As JSON it is the file that ``tangram replay`` reads, ``{"recorded": 1, …}``: the number tells the
form of the rest. Times are seconds since the record begins. A GPU instance is told by its GPU, its
profile's name and its first memory slice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from extender.packing.spread import Spread
from extender.request import LARGEST_GANG
from nodeagent.api.catalog import MODELS
from nodeagent.api.geometry import Count, Geometry, Size, Start
from nodeagent.api.gpunode import Mode, VgpuType

LONGEST_NAME = 253
"""Of a Node or a pod; what else is named is shorter in Kubernetes, or of our own making."""

MOST_WANTED = 64
"""GPU instances of one pod: as many as are ever placed together, whatever a cluster's setting
(``Settings.devices_per_pod``, 16) lets a pod ask for."""

MOST_WAYS = 2**16
"""To have some of what a pod wants: as much work it is to place all of it (``packing.arrange``)."""

MOST_NODES = 20_000
"""In a record: four times as many as a cluster may have at once (Kubernetes: 5,000)."""

_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]*\Z"
_WORD = r"^[^\s\x00-\x1f\x7f-\x9f]+\Z"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME, pattern=_PRINTABLE)]
NodeName = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME, pattern=_WORD)]
Text = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME, pattern=_PRINTABLE)]
Resource = Annotated[
    str, msgspec.Meta(min_length=1, max_length=LONGEST_NAME + 64, pattern=_PRINTABLE)
]
Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=1e10)]
Priority = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
Labels = Mapping[str, str]


class _Told(
    msgspec.Struct,
    frozen=True,
    rename="camel",
    omit_defaults=True,
    forbid_unknown_fields=True,
    gc=False,
):
    """How every value of this module looks as JSON."""


class RecordedModel(_Told, frozen=True):
    """What GPUs of a model can be divided into, and which vGPU types their board has."""

    geometry: Geometry
    vgpu_types: tuple[VgpuType, ...] = ()


class Stranger(_Told, frozen=True):
    """A GPU instance that Tangram did not make: memory slices that are taken all the time."""

    start: Start
    size: Size


class RecordedGpu(_Told, frozen=True):
    """A GPU; ``model`` is one of the record's models or of the catalog's.

    A GPU that is not ``managed`` takes nothing new.
    """

    index: Count
    uuid: Name
    model: Name
    managed: bool = True
    occupied: tuple[Stranger, ...] = ()


class RecordedNode(_Told, frozen=True):
    """A node that takes pods from ``since`` on, ``until`` then; None: to the end.

    ``labels`` are the Node's, ``resources`` the only ones it hands out, none for no restriction.
    """

    name: NodeName
    gpus: tuple[RecordedGpu, ...]
    labels: Labels = {}
    mode: Mode = Mode.VGPU_VFIO
    resources: tuple[Resource, ...] = ()
    since: Seconds = 0.0
    until: Seconds | None = None


class Place(_Told, frozen=True, order=True):
    """Where a GPU instance is: ``gpu`` is the GPU's UUID, ``start`` its first memory slice."""

    node: NodeName
    gpu: Name
    profile: Name
    start: Start


class Resident(_Told, frozen=True):
    """A pod that had its places when the record began; it stays until its departure."""

    uid: Name
    namespace: Name
    name: Name
    places: tuple[Place, ...]


class RecordedGang(_Told, frozen=True):
    """Pods of a namespace that are placed together or not at all."""

    name: Name
    size: Annotated[int, msgspec.Meta(ge=2, le=LARGEST_GANG)]


class Arrival(_Told, frozen=True):
    """A pod as it was first asked about, and what it asks for.

    ``wanted`` has one resource for each GPU instance. ``nodes`` are those it may go to, None for
    all there are. ``priority`` is its own, without what its tenant adds.
    """

    at: Seconds
    uid: Name
    namespace: Name
    name: Name
    wanted: Annotated[tuple[Resource, ...], msgspec.Meta(min_length=1, max_length=MOST_WANTED)]
    nodes: tuple[NodeName, ...] | None = None
    spread: Spread = Spread.ANY
    priority: Priority = 0
    gang: RecordedGang | None = None


class Outcome(_Told, frozen=True):
    """What was decided for a pod at a time: its ``places``, or why it was ``refused``.

    One of both. A pod may be refused first and placed later: then there are two. It stays from the
    first with places on.
    ``refused`` is a code of ``verbs.reasons``.
    """

    at: Seconds
    uid: Name
    places: tuple[Place, ...] = ()
    refused: Text = ""


class Departure(_Told, frozen=True):
    """The end of a pod, whether it had its places or waited in vain.

    Its slices are free again when they are ``freed``; None: at once.
    """

    at: Seconds
    uid: Name
    freed: Seconds | None = None


class RecordedPolicy(_Told, frozen=True):
    """The policy in force: its ``document`` is the text of its file, or the name of a policy."""

    version: Text = ""
    document: str = "default"


class Recorded(_Told, frozen=True):
    """A fleet, the demand that came to it, and what became of it.

    ``begins`` is RFC 3339 UTC. ``namespaces`` have the labels of each; ``models`` are those GPU
    models that the catalog lacks, or that their driver reports otherwise. ``arrivals``,
    ``outcomes`` and ``departures`` are in the order in which they happened. ``gaps`` counts where
    something was left out of the log: then it is not all of the demand.
    """

    recorded: Literal[1]
    begins: Text
    policy: RecordedPolicy = RecordedPolicy()
    nodes: Annotated[tuple[RecordedNode, ...], msgspec.Meta(max_length=MOST_NODES)] = ()
    models: Mapping[str, RecordedModel] = {}
    namespaces: Mapping[str, Labels] = {}
    residents: tuple[Resident, ...] = ()
    arrivals: tuple[Arrival, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    departures: tuple[Departure, ...] = ()
    gaps: Count = 0

    def model(self, name: str) -> RecordedModel | None:
        """Return what GPUs of a model are, None if it is not known."""
        own = self.models.get(name)
        if own is not None:
            return own
        known = MODELS.get(name)
        return None if known is None else RecordedModel(known.geometry, known.vgpu_types)

    @property
    def ends(self) -> float:
        """When the last thing in it happened, in seconds."""
        lists = (self.arrivals, self.outcomes, self.departures)
        return max((each[-1].at for each in lists if each), default=0.0)
