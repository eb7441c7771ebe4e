"""What a pass found wrong, as conditions of the GpuNode.

``Ready`` is always there; each of the others only while it has something to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from nodeagent import drift
from nodeagent.api import keys
from nodeagent.api.gpunode import Condition, Inventory


class Findings(msgspec.Struct, frozen=True):
    """What is wrong, each part empty where nothing is.

    ``not_ready`` is a reason and a message; ``gpus`` is what is wrong with the annotation that
    chooses the GPUs; ``rivals`` says of each resource how a rival plugin shows, and ``needed`` of
    each GPU (by UUID) what keeps it from being made ready, where that was asked for.
    """

    not_ready: tuple[str, str] = ("", "")
    drift: Sequence[str] = ()
    gpus: str = ""
    rivals: Mapping[str, str] = {}
    needed: Mapping[str, str] = {}

    def conditions(self, before: Inventory, *, now: str) -> tuple[Condition, ...]:
        """Return them as conditions; those that *before* had as well keep their time."""
        found = [ready(*self.not_ready)]
        if self.drift:
            found.append(Condition(keys.DRIFT, "True", "NotByTangram", drift.told(self.drift)))
        if self.gpus:
            problem = f"{self.gpus}; the choice before it stays in force"
            found.append(Condition(keys.GPUS_CHOSEN, "False", "BadAnnotation", problem))
        if self.rivals:
            told = "; ".join(f"{resource}: {how}" for resource, how in sorted(self.rivals.items()))
            remedy = "remove that plugin, or leave the resource to it (--resource)"
            found.append(
                Condition(keys.RIVAL_PLUGINS, "True", "AdvertisedTwice", f"{told}; {remedy}")
            )
        if self.needed:
            told = "; ".join(f"{gpu}: {what}" for gpu, what in sorted(self.needed.items()))
            found.append(Condition(keys.GPUS_PREPARED, "False", "NotYet", told))
        return tuple(dated(each, before, now=now) for each in found)


def ready(reason: str, message: str) -> Condition:
    """Return whether the node is ready: it is, where there is no *reason* why not."""
    return Condition(keys.READY, "False" if reason else "True", reason or "Ready", message)


def dated(condition: Condition, before: Inventory, *, now: str) -> Condition:
    """Return *condition* with the time since when it has been so, if *before* says it."""
    since = next(
        (
            each.last_transition_time
            for each in before.conditions
            if (each.type, each.status) == (condition.type, condition.status)
        ),
        now,
    )
    return msgspec.structs.replace(condition, last_transition_time=since)
