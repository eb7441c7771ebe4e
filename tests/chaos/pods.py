"""A pod as it was last written, which is all the judge knows of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nodeagent.api import keys
from nodeagent.api.gpunode import Decision

_DECISIONS = msgspec.json.Decoder(list[Decision])


class Pod(msgspec.Struct):
    """A pod; ``gang`` is the name of the one it says it is in, of ``size`` pods.

    ``vm`` is the VM it runs: one that is migrated has two. ``runs`` is the UID of its instance.
    ``ready`` is whether it has ever been Ready, ``ready_at`` since when: it stays so until it ends.
    ``failed_at`` is when it was sent that it has Failed.
    """

    name: str
    uid: str
    gang: str = ""
    size: int = 1
    node: str = ""
    phase: str = ""
    deleting: bool = False
    wants: tuple[str, ...] = ()
    decisions: tuple[Decision, ...] = ()
    bound_at: float = 0.0
    ended: bool = False
    priority: int = 0
    evicted: bool = False
    vm: str = ""
    runs: str = ""
    ready: bool = False
    ready_at: float = 0.0
    failed_at: float = 0.0

    @classmethod
    def created(cls, value: Mapping[str, Any]) -> Pod:
        """Read what never changes of it."""
        meta, notes = value["metadata"], value["metadata"].get("annotations") or {}
        owner: Mapping[str, str] = next(iter(meta.get("ownerReferences", ())), {})
        amounts = value["spec"]["containers"][0]["resources"]["limits"]
        return cls(
            meta["name"],
            meta["uid"],
            notes.get(keys.GANG, ""),
            int(notes.get(keys.GANG_SIZE, 1)),
            priority=value["spec"].get("priority", 0),
            wants=tuple(r for r, n in sorted(amounts.items()) for _ in range(int(n))),
            vm=owner.get("name", ""),
            runs=owner.get("uid", ""),
        )

    @property
    def over(self) -> bool:
        """Whether it has ended, even if a kubelet behind its time says afterwards that it runs."""
        return self.ended or self.phase == "Failed"

    @property
    def alive(self) -> bool:
        """Whether it has neither ended nor been told to."""
        return not self.over and not self.deleting


def decisions(meta: Mapping[str, Any]) -> tuple[Decision, ...]:
    """Read what a pod's metadata say was decided for it."""
    text = (meta.get("annotations") or {}).get(keys.DECISION_ANNOTATION, "[]")
    return tuple(_DECISIONS.decode(text))
