"""What a shadow is told, one JSON object a line: how things stand, and then what happens.

First ``Begins``, then the namespaces and nodes there are, then ``Ready``; from there on everything
in the order in which the live extender took it in. ``at`` is when, in seconds by its clock.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from extender.policy import InForce
from extender.request import Request
from nodeagent.api.gpunode import GpuNode


class _News(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True, gc=False):
    """How every line looks; its ``type`` is the class."""

    at: float


class Begins(_News, frozen=True):
    """A stretch: the policy to decide by, and the version of the live one."""

    policy: InForce
    live: str


class Namespace(_News, frozen=True):
    """A namespace, with its labels."""

    name: str
    labels: Mapping[str, str]


class NamespaceGone(_News, frozen=True):
    """A namespace that was deleted."""

    name: str


class Node(_News, frozen=True):
    """A Node, with its labels, and whether it takes nothing new: it is cordoned, or a rival's."""

    name: str
    closed: bool = False
    labels: Mapping[str, str] = {}


class Gone(_News, frozen=True):
    """A GpuNode that is there no more; one that was seen ``deleted`` is not to come back.

    Its ``uid`` tells it from its successor.
    """

    name: str
    uid: str
    deleted: bool = False


class Listed(_News, frozen=True):
    """The UIDs of all GpuNodes as of a version: those that are known and older are deleted."""

    uids: Collection[str]
    version: str


class Gpus(_News, frozen=True):
    """A node's GPUs and its plan; ``listed``: this is how it stands, whatever was told before."""

    node: GpuNode
    listed: bool = False


class Ready(_News, frozen=True):
    """All that stands is told. Pods that were asked about before are ``known``: they don't count.

    What became of them first lies before the stretch.
    """

    known: Collection[str] = ()


class Asked(_News, frozen=True):
    """A pod that filter was asked about, and whether any node passed; if not, ``codes`` say why.

    ``names`` are the nodes it may go to; none: those that were told of it before. They are told
    again when a node has joined since.
    """

    request: Request
    names: Collection[str] = ()
    passed: bool = False
    codes: tuple[str, ...] = ()


class Left(_News, frozen=True):
    """A pod that is no more, or is over."""

    uid: str


News = Begins | Namespace | NamespaceGone | Node | Gone | Listed | Gpus | Ready | Asked | Left


def _listed(value: Any) -> Any:
    """Return what JSON knows for what it does not, such as the keys of a mapping."""
    if isinstance(value, Collection):
        return list(value)
    raise NotImplementedError(f"no news has a {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(enc_hook=_listed)
_DECODER: msgspec.json.Decoder[News] = msgspec.json.Decoder(News)


def line(news: News) -> bytes:
    """Return news as a line: JSON has no line breaks, whatever names are like."""
    return _ENCODER.encode(news) + b"\n"


def read(text: bytes) -> News:
    """Read a line.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _DECODER.decode(text)
