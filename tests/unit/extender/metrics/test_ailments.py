"""What agents really say of their GPUs falls under a kind of trouble."""

from __future__ import annotations

import pynvml
import pytest

from extender.metrics.ailments import Ailment, ailment
from nodeagent.driver import DISCOVER, GpuLost
from nodeagent.nvml import quarantine
from nodeagent.nvml.events import Event, strike


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (strike(Event("GPU-0", pynvml.nvmlEventTypeXidCriticalError, 79)), Ailment.XID),
        (strike(Event("GPU-0", pynvml.nvmlEventTypeDramRetirementFailure)), Ailment.MEMORY),
        (quarantine.REMAP_FAILED, Ailment.MEMORY),
        (quarantine.REMAP_PENDING, Ailment.MEMORY),
        (quarantine.RETIREMENT_PENDING, Ailment.MEMORY),
        (quarantine.UNCORRECTED, Ailment.MEMORY),
        *(
            (f"the driver asks to {action}", Ailment.RECOVERY_ACTION)
            for action in quarantine.ACTIONS.values()
        ),
        (quarantine.mig_pending(True), Ailment.MIG_MODE),
        (quarantine.NOT_MIG_CAPABLE, Ailment.MIG_MODE),
        (str(GpuLost(DISCOVER)), Ailment.LOST),
        ("the cat sat on the GPU", Ailment.OTHER),
    ],
)
def test_each_reason_has_its_kind(reason: str, kind: Ailment) -> None:
    assert ailment(reason) is kind
