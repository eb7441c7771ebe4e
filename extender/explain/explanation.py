"""What an explanation says, as values: what was asked, who refuses it, and what would help.

Slices are memory slices. GPUs are told by their index among all of their node, as ``nvidia-smi``
counts them, and by UUID.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from extender.verbs.reasons import Code


class _Said(msgspec.Struct, frozen=True, rename="camel"):
    """How every value of this module looks as JSON."""


class State(StrEnum):
    """How a pod stands."""

    PLACED = "placed"
    FITS = "fits"
    REFUSED = "refused"
    NEVER = "never"
    """It asks in a way that can never be met."""
    OVER = "over"
    """It has ended."""
    NOT_OURS = "not-ours"
    """It asks for no GPU instance: Tangram has no say in where it goes."""


class Amount(_Said, frozen=True):
    """``count`` GPU instances of a resource; the ``profiles`` that serve it, the smallest first.

    ``slices`` is what one takes at least; 0 where no GPU serves it: then ``nearest`` are names like
    it that some GPU serves.
    """

    resource: str
    count: int
    profiles: tuple[str, ...]
    slices: int
    nearest: tuple[str, ...] = ()


class Asked(_Said, frozen=True):
    """What a pod asks for; ``slices`` is what all of it takes at least."""

    amounts: tuple[Amount, ...]
    slices: int
    priority: int = 0
    gang: str = ""
    owner: str = ""


class Reason(_Said, frozen=True):
    """Why ``nodes`` of a group refuse a pod; ``example`` is one of them."""

    code: str
    text: str
    nodes: int
    example: str


class Group(_Said, frozen=True):
    """Nodes alike in pool and GPUs: on how many the pod ``fits``, and why not on the others."""

    pool: str
    gpus: str
    nodes: int
    fits: int
    reasons: tuple[Reason, ...]


class Lack(StrEnum):
    """What is missing, in one word."""

    NOTHING = "nothing"
    WAITING = "waiting"
    """For the rest of its gang, or for the plan of the pods it came with."""
    OFFER = "offer"
    """No GPU here serves what is asked for."""
    NODES = "nodes"
    """The nodes that could serve it take nothing new at the moment."""
    RULES = "rules"
    """The policy's rules: pools, profiles, sharing."""
    CAP = "cap"
    HEADROOM = "headroom"
    CAPACITY = "capacity"
    """Fewer slices are free than it takes."""
    FRAGMENTATION = "fragmentation"
    """Slices enough are free, but not where its profile may sit."""


class Missing(_Said, frozen=True):
    """What is missing.

    ``free`` counts the free slices of usable GPUs on the nodes that lack nothing but room for it,
    ``most_free`` those of the emptiest of these GPUs; ``needed`` is what the pod takes at least.
    """

    lack: Lack
    needed: int = 0
    free: int = 0
    most_free: int = 0


class Spot(_Said, frozen=True):
    """Slices on a GPU of a node, from ``start`` on."""

    node: str
    gpu: int
    uuid: str
    start: int
    size: int


class Means(StrEnum):
    """How something comes to be elsewhere: never while it runs."""

    RESTART = "restart"
    """The VM is stopped and started again: vGPUs do not migrate live before KubeVirt 1.9."""
    RECREATION = "recreation"
    """The pod ends, and its controller makes another."""


class Move(_Said, frozen=True):
    """A VM's move; ``kind`` and ``name`` are its owner's, or its pod's.

    ``evictable``: its owner says nothing against eviction by annotation. What a VM's eviction
    strategy and PodDisruptionBudgets say is not looked at. Where the reader may not know of it,
    ``namespace``, ``kind`` and ``name`` are "", and no priority is told.
    """

    namespace: str
    kind: str
    name: str
    profile: str
    source: Spot
    target: Spot
    means: Means = Means.RESTART
    priority: int = 0
    evictable: bool = True


class Moves(_Said, frozen=True, tag="moves"):
    """If these VMs moved, in this order, the pod would fit ``on`` these slices.

    Nothing else changes. ``fewest``: no plan takes fewer moves.
    """

    moves: tuple[Move, ...]
    on: tuple[Spot, ...]
    fewest: bool


class NoMoves(_Said, frozen=True, tag="no-moves"):
    """No plan of at most ``most`` moves makes room; ``proven`` unless not all were looked at."""

    most: int
    proven: bool


class Staying(_Said, frozen=True):
    """GPU instances that are not moved, and why."""

    why: str
    instances: int


class Cleared(_Said, frozen=True):
    """A place on a node that is its own once so many ``pods`` have left; some are ``ending``.

    ``moved``: an order of moves makes the place, and goes on though pods are ending.
    """

    node: str
    pods: int
    ending: int
    moved: bool = False


class Alternative(_Said, frozen=True):
    """On so many nodes as many of another profile would fit now."""

    resource: str
    profile: str
    slices: int
    nodes: int


class Cap(_Said, frozen=True):
    """What a tenant has of what it may have; ``profile`` is "" where memory slices are counted.

    ``within``: what the pod asks for is left.
    """

    profile: str
    used: int
    most: int
    within: bool


class KeptFree(_Said, frozen=True):
    """Headroom that this pod may not use: ``free`` places of a profile, ``keep`` of which stay."""

    profile: str
    pool: str
    keep: int
    free: int


class Rights(_Said, frozen=True):
    """What the rules say to the pod's tenant ("" for none). Without names, all is allowed."""

    tenant: str
    profiles: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    dedicated: str = ""
    caps: tuple[Cap, ...] = ()
    headroom: tuple[KeptFree, ...] = ()


class Rated(_Said, frozen=True):
    """A place, and what it costs by the policy's value of GPU states; less is better."""

    on: tuple[Spot, ...]
    cost: int


class Then(_Said, frozen=True):
    """What was found when a pod's node was chosen; ``next_best`` is "" if it fitted on no other."""

    node: str
    cost: int
    next_best: str
    next_cost: int
    policy_version: str


class Here(_Said, frozen=True):
    """Why a pod is where it is: its place and the best elsewhere, rated as things are now.

    ``then`` is what decided, where this process remembers that.
    ``rank`` is that of its node among the ``nodes`` on which it would fit, 1 for the best; 0 and no
    rating where the place cannot be rated, such as on a node that takes nothing new.
    """

    on: tuple[Spot, ...]
    profiles: tuple[str, ...]
    realized: bool
    failure: str = ""
    rank: int = 0
    nodes: int = 0
    cost: int = 0
    runner_up: Rated | None = None
    then: Then | None = None


class Explanation(_Said, frozen=True):
    """All there is to say of one pod, as of one moment.

    ``reason`` is the text kube-scheduler was given where there is one; ``nodes`` and ``gpus`` are
    how many were looked at. ``sentences`` say the rest for people, but for ``groups``; they are
    written last (``text.told``), of what the reader may know.
    """

    namespace: str
    pod: str
    uid: str
    state: State
    policy: str
    policy_version: str
    nodes: int
    gpus: int
    reason: str = ""
    asked: Asked | None = None
    groups: tuple[Group, ...] = ()
    missing: Missing | None = None
    room: Moves | NoMoves | None = None
    staying: tuple[Staying, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    rights: Rights | None = None
    here: Here | None = None
    cleared: Cleared | None = None
    sentences: tuple[str, ...] = ()


RULES = frozenset(
    {Code.PROFILE_NOT_ALLOWED, Code.POOL_NOT_ALLOWED, Code.NOT_IN_POOL, Code.NOT_SHARED}
)
"""Refusals by the policy's rules, whatever room there is."""
