"""An explanation as the API tells it, as the page says it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.page.test_page import opened

pytestmark = pytest.mark.xdist_group("chromium")

SPOT = {"node": "node-1", "gpu": 3, "uuid": "GPU-3", "start": 4, "size": 1}


def said(driver: Any, told: dict[str, Any]) -> str:
    """Return the text of what the page makes of an explanation."""
    return str(
        driver.execute_async_script(
            "const [told, done] = arguments;"
            "import('/page/explanation.js').then(({ rendered }) => {"
            "  const element = rendered(told); document.body.append(element);"
            "  done(element.innerText); element.remove(); });",
            told,
        )
    )


def test_what_is_missing_and_which_move_would_help_is_said(driver: Any, page: str) -> None:
    opened(driver, page)
    text = said(
        driver,
        {
            "missing": {"lack": "fragmentation", "needed": 4, "free": 9, "mostFree": 3},
            "room": {
                "type": "moves",
                "moves": [
                    {
                        "namespace": "vision",
                        "kind": "VirtualMachineInstance",
                        "name": "vm-7",
                        "profile": "1g.10gb",
                        "source": SPOT,
                        "target": {**SPOT, "node": "node-2", "gpu": 0, "start": 6},
                        "means": "restart",
                        "priority": 7,
                        "evictable": False,
                    }
                ],
                "on": [{**SPOT, "size": 4}],
                "fewest": True,
            },
            "alternatives": [{"resource": "r", "profile": "2g.20gb", "slices": 2, "nodes": 31}],
        },
    )

    assert "It takes 4 slices in a row. 9 are free, at most 3 of them on one GPU" in text
    assert "It would fit on node-1, GPU 3, slices 4\u20137 if 1 VM moved, and nothing else:" in text
    assert (
        "vision/vm-7 (1g.10gb, priority 7, not safe to evict) from node-1, GPU 3, slice 4"
        " to node-2, GPU 0, slice 6"
    ) in text
    assert "Moving a VM restarts it: vGPUs do not migrate live before KubeVirt 1.9." in text
    assert "PodDisruptionBudgets were not looked at." in text
    assert "It would fit as 2g.20gb on 31 nodes." in text


def test_who_refuses_and_what_the_tenant_has_is_said(driver: Any, page: str) -> None:
    opened(driver, page)
    text = said(
        driver,
        {
            "missing": {"lack": "cap"},
            "room": {"type": "no-moves", "most": 3, "proven": False},
            "rights": {
                "tenant": "ml",
                "caps": [{"profile": "", "used": 14, "most": 16, "within": False}],
            },
            "groups": [
                {
                    "pool": "training",
                    "gpus": "8 x H100",
                    "nodes": 40,
                    "fits": 0,
                    "reasons": [
                        {"code": "stale", "text": "vGPU: no report", "nodes": 2, "example": "n7"}
                    ],
                }
            ],
        },
    )

    assert "Its tenant has as much as it may have." in text
    assert "No 3 moves of other VMs would make room, as far as was looked." in text
    assert "Has 14 of 16 memory slices: too few are left." in text
    assert "40 nodes with 8 x H100 in pool training" in text
    assert "no report: 2, such as n7" in text


def test_markup_in_names_is_text(driver: Any, page: str) -> None:
    opened(driver, page)
    text = said(driver, {"rights": {"tenant": "<img src=x onerror=alert(1)>"}})

    assert "<img src=x onerror=alert(1)>" in text
