"""A record read from JSON, and its policy from what the record says of it."""

from __future__ import annotations

import msgspec

from extender.policy import InForce, PolicyName
from extender.policy.file import MalformedPolicy, parsed
from extender.replay.faults import faults
from extender.replay.recorded import Recorded

VERSION = 1
"""Of the form that is read; another one is another program's."""

MOST_FAULTS = 20
"""Told of one file: what has more has been made wrongly throughout."""


class MalformedRecord(Exception):
    """The record cannot be played; the message names the file and each field."""


class _Form(msgspec.Struct):
    recorded: int


def record(content: bytes, source: str) -> Recorded:
    """Read a record; *source* is what to call it in messages.

    Raises:
        MalformedRecord: it is none, is of another form, or tells what cannot be.
    """
    try:
        form = msgspec.json.decode(content, type=_Form)
        if form.recorded != VERSION:
            raise MalformedRecord(
                f"{source}: $.recorded: is of form {form.recorded}; this program reads {VERSION}"
            )
        found = msgspec.json.decode(content, type=Recorded)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRecord(f"{source}: {error}") from error
    told: list[str] = []
    for path, text in faults(found):
        if len(told) == MOST_FAULTS:
            told.append(f"{source}: and more: mend these first")
            break
        told.append(f"{source}: {path}: {text}")
    if told:
        raise MalformedRecord("\n".join(told))
    return found


def policy_of(recorded: Recorded, source: str) -> InForce:
    """Return the policy that was in force, under the version it had.

    Raises:
        MalformedRecord: its document is neither a policy's name nor a policy file.
    """
    document = recorded.policy.document
    if document in {name.value for name in PolicyName}:
        found = InForce.of(PolicyName(document))
    else:
        try:
            found = parsed(document.encode(), f"{source}: $.policy.document").in_force
        except MalformedPolicy as error:
            raise MalformedRecord(str(error)) from error
    version = recorded.policy.version
    return msgspec.structs.replace(found, version=version) if version else found
