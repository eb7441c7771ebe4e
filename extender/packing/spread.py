"""How the vGPUs of one VM lie on the GPUs of its node."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Spread(StrEnum):
    """On any GPUs, all on the same, or each on a GPU of its own."""

    ANY = "any"
    SAME = "same"
    DISTINCT = "distinct"

    def allows(self, gpus: Collection[str]) -> bool:
        """Tell whether vGPUs may lie on these *gpus*, named once for each vGPU."""
        match self:
            case Spread.ANY:
                return True
            case Spread.SAME:
                return len(set(gpus)) <= 1
            case Spread.DISTINCT:
                return len(set(gpus)) == len(gpus)
