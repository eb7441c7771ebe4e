"""The lines of a decision log, one JSON object each; the README's page tells people.

::

    {"decisionLog": 2, "run": …, "file": 1, "policy": …, "settings": …}   what the file is about
    {"list": 1, "are": ["node-1", …]}                                     names referred to later
    {"restates": 6, "call": "Knowledge.restore_pod", "with": {…}}         what was known before
    {"restated": 6, "calls": 80}                                          all of that
    {"n": 7, "at": [12.5], "call": "Knowledge.lease", "with": {…}}        what came in
    {"n": 8, "at": [12.6], "call": "Hooks.judge", "with": …, "gave": …, "policy": …}      a decision
    {"lost": 12, "why": "overflow"}                                       a gap
    {"end": 8}                                                            the log was closed here

``n`` counts the calls of a run, lost ones too: it is the version of the state a decision rests on.
A reader takes no other ``decisionLog`` than those it knows, and leaves out fields it does not know.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from extender.policy import InForce
from extender.settings import Settings

FORMAT = 2
"""Raised when a reader of before would misread what is written; fields may come without.

2: a file may begin with what was known, where 1 had nothing but calls.
"""

READABLE = frozenset({1, FORMAT})

VETTED = "Vetting.vet"

DECISIONS = frozenset({"Hooks.judge", "Hooks.rank", VETTED, "Chooser.choose"})
"""The calls that decide: filter, prioritize, preempt, and the place that bind takes."""


class LogUnreadable(Exception):
    """What was given is no decision log, or one of another format; the text says which, and why."""


class Header(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The first line of each file; *run* is the process's, *file* counts its files from 1.

    ``began`` is when the file was (RFC 3339 UTC, for people), ``leads`` is whether the process led
    from the start, ``hashed`` whether names are.
    """

    decision_log: int = FORMAT
    program: str
    run: str
    file: int
    began: str
    leads: bool
    hashed: bool = False
    policy: InForce
    settings: Settings


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call; ``at`` are the clock's readings, in seconds, ``given`` the arguments by name.

    ``gave`` is what was decided, by the policy of version ``policy``.
    """

    n: int
    at: tuple[float, ...] = ()
    call: str
    given: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    gave: dict[str, Any] | None = None
    policy: str = ""


class Restating(msgspec.Struct, frozen=True):
    """A call that leads to the state as it was after call ``n``: one of several."""

    n: int = msgspec.field(name="restates")
    call: str
    given: dict[str, Any] = msgspec.field(name="with", default_factory=dict)


class Restated(msgspec.Struct, frozen=True):
    """These calls, so many in all, have led to the state as it was after call ``n``."""

    n: int = msgspec.field(name="restated")
    calls: int


class Names(msgspec.Struct, frozen=True):
    """Names that calls after it in the file refer to, by ``{"list": number}``."""

    number: int = msgspec.field(name="list")
    are: tuple[str, ...]


class Why(StrEnum):
    """Why calls are missing."""

    OVERFLOW = "overflow"
    """They came faster than they were written."""
    DISK = "disk"
    """They could not be written."""
    FAULT = "fault"
    """They could not be encoded, which is a fault of the program."""


class Gap(msgspec.Struct, frozen=True):
    """Calls that are missing here, and how many they are."""

    lost: int
    why: Why


class End(msgspec.Struct, frozen=True):
    """The log was closed in good order, after so many calls."""

    end: int


Line = Header | Restating | Restated | Entry | Names | Gap | End
