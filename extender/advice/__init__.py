"""Which VMs to move for a goal that people state: advice, and nothing is done.

``yard`` sees a cluster as the planner of moves does; ``advise`` plans, has the plan carried out on
the views of the nodes by the policy's rules, and tells it with names that people know.
"""

from extender.advice.advise import NOT_BORNE_OUT, Advised, advise, not_borne_out, with_reasons
from extender.advice.asked import Asked, Misstated
from extender.advice.document import Advice
from extender.advice.setting import (
    EVICTION_REFUSED,
    Guard,
    Manner,
    Setting,
    lets_go,
    presumed,
)

__all__ = [
    "EVICTION_REFUSED",
    "NOT_BORNE_OUT",
    "Advice",
    "Advised",
    "Asked",
    "Guard",
    "Manner",
    "Misstated",
    "Setting",
    "advise",
    "lets_go",
    "not_borne_out",
    "presumed",
    "with_reasons",
]
