"""The kernel driver's table of MIG capabilities, as every machine with the driver has it."""

from __future__ import annotations

from pathlib import Path

GPUS, GPU_INSTANCES, COMPUTE_INSTANCES = 32, 15, 8


def write_mig_minors(root: Path) -> None:
    """Write ``/proc/driver/nvidia-caps/mig-minors`` below *root*.

    NVIDIA's MIG guide prints the table's first and last lines: it lists all that could ever be,
    ``config 1`` to ``gpu31/gi14/ci7/access 4322``.
    """
    names = ["config", "monitor"]
    for gpu in range(GPUS):
        for gi in range(GPU_INSTANCES):
            names.append(f"gpu{gpu}/gi{gi}/access")
            names += (f"gpu{gpu}/gi{gi}/ci{ci}/access" for ci in range(COMPUTE_INSTANCES))
    path = root / "proc/driver/nvidia-caps/mig-minors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name} {minor}\n" for minor, name in enumerate(names, 1)))
