"""Why nothing new may be placed on a GPU, as its driver tells it.

Errors that the driver only reports as events (XID) are not followed yet.
"""

from __future__ import annotations

from nodeagent.driver import FunctionNotFound, NotSupported
from nodeagent.nvml import gpus
from nodeagent.nvml.gpus import Device
from nodeagent.nvml.session import Nvml

NOT_MIG_CAPABLE = "the GPU cannot be divided: it has no MIG"

_ACTIONS = {
    1: "reset the GPU",
    2: "reboot the node",
    3: "drain the GPU's peer-to-peer traffic",
    4: "drain and reset the GPU",
    5: "recover the IMEX domain",
    6: "reset the GPU's bus",
    7: "reboot the system",
}


def ailment(nvml: Nvml, device: Device) -> str:
    """Return why a MIG-capable GPU takes nothing new, "" if it does."""
    on, after_reset = gpus.mig_mode(nvml, device)
    pending, failed = _remapped_rows(nvml, device)
    action = _recovery_action(nvml, device)
    if failed:
        return "a memory row could not be remapped: the GPU needs service"
    if action:
        return f"the driver asks to {_ACTIONS.get(action, f'take recovery action {action}')}"
    if pending:
        return "a memory row is to be remapped: the GPU needs a reset"
    if on != after_reset:
        return f"MIG mode will be {'on' if after_reset else 'off'} after the next GPU reset"
    return ""


def _remapped_rows(nvml: Nvml, device: Device) -> tuple[bool, bool]:
    try:
        return gpus.remapped_rows(nvml, device)
    except (NotSupported, FunctionNotFound):
        return False, False


def _recovery_action(nvml: Nvml, device: Device) -> int:
    try:
        return gpus.recovery_action(nvml, device)
    except (NotSupported, FunctionNotFound):
        return 0
