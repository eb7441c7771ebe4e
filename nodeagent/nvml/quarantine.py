"""Why nothing new may be placed on a GPU, and when it may be again.

Some troubles the driver repeats whenever it is asked (``health``): they last as long as it does so.
Others it tells once, as an event, or they show only as a difference between two looks. These
*strike* a GPU, and hold until it has been reset, of which NVML tells nothing either. As a reset
counts any one of these:

* the node has another boot id,
* the driver has asked for a recovery action since, and asks for none now,
* the GPU was lost, and answers again,
* its volatile count of uncorrectable errors has gone down.

They are remembered by this process alone. What a driver does not repeat a restarted agent does not
know, and that is how to lift a strike by hand: ``nvidia-smi --gpu-reset`` needs every client of the
GPU to have left, the agent first of all.

The texts are stable: the extender tells them to the scheduler.
"""

from __future__ import annotations

import msgspec

from nodeagent.nvml.health import Signs

NOT_MIG_CAPABLE = "the GPU cannot be divided: it has no MIG"
REMAP_FAILED = "a memory row could not be remapped: the GPU needs service"
REMAP_PENDING = "a memory row is to be remapped: the GPU needs a reset"
RETIREMENT_PENDING = "a memory page is to be retired: the GPU needs a reset"
UNCORRECTED = "an uncorrectable memory error occurred: the GPU needs a reset"

ACTIONS = {
    1: "reset the GPU",
    2: "reboot the node",
    3: "drain the GPU's peer-to-peer traffic",
    4: "drain and reset the GPU",
    5: "recover the IMEX domain",
    6: "reset the GPU's bus",
    7: "reboot the system",
}
"""What NVML's recovery actions ask for (nvmlDeviceGpuRecoveryAction_t, API 13)."""


class _Record(msgspec.Struct):
    """What is remembered of one GPU: the last looks at it, and what has struck it."""

    struck: str = ""
    asked: bool = False
    lost: bool = False
    uncorrected: int | None = None
    remap_pending: bool = False
    remap_failed: bool = False


class Quarantine:
    """Remembers, for each GPU by UUID, what NVML does not repeat."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}

    def strike(self, gpu: str, reason: str) -> None:
        """Close a GPU for *reason* until it is reset; of several the first is told."""
        record = self._of(gpu)
        record.struck = record.struck or reason

    def lost(self, gpu: str) -> None:
        """Take note that a GPU does not answer."""
        self._of(gpu).lost = True

    def rebooted(self) -> None:
        """Forget everything: each GPU has been reset."""
        self._records.clear()

    def ailment(self, gpu: str, signs: Signs) -> str:
        """Return why a GPU takes nothing new, now that it shows these *signs*, "" if it does."""
        record = self._records[gpu] = self._since(self._of(gpu), signs)
        if record.remap_failed:
            return REMAP_FAILED
        if record.struck:
            return record.struck
        if signs.recovery_action:
            action = ACTIONS.get(
                signs.recovery_action, f"take recovery action {signs.recovery_action}"
            )
            return f"the driver asks to {action}"
        if record.remap_pending:
            return REMAP_PENDING
        if signs.retirement_pending:
            return RETIREMENT_PENDING
        if signs.mig_on != signs.mig_on_after_reset:
            return mig_pending(signs.mig_on_after_reset)
        return ""

    def _of(self, gpu: str) -> _Record:
        return self._records.setdefault(gpu, _Record())

    def _since(self, before: _Record, signs: Signs) -> _Record:
        """Return what is to be remembered after a look."""
        if _was_reset(before, signs):
            before = _Record()
        struck = before.struck
        count, last = signs.uncorrected, before.uncorrected
        if count is not None and last is not None and count > last:
            struck = struck or UNCORRECTED
        return _Record(
            struck=struck,
            asked=before.asked or bool(signs.recovery_action),
            uncorrected=last if count is None else count,
            remap_pending=_or_last(signs.remap_pending, before.remap_pending),
            remap_failed=_or_last(signs.remap_failed, before.remap_failed),
        )


def mig_pending(on: bool) -> str:
    """Say that the MIG mode will be another one, *on* or off."""
    return f"MIG mode will be {'on' if on else 'off'} after the next GPU reset"


def _was_reset(before: _Record, signs: Signs) -> bool:
    recovered = before.asked and signs.recovery_action == 0
    count, last = signs.uncorrected, before.uncorrected
    fell = count is not None and last is not None and count < last
    return before.lost or recovered or fell


def _or_last(now: bool | None, last: bool) -> bool:
    return last if now is None else now
