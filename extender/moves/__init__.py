"""Which VMs to move, where to and in which order, so that a goal is attained at the least cost.

Pure and free of Kubernetes: GPUs with what is on them, what of it may move and at what cost, and
goals come in; a plan, or why there is none, comes out. Fewest moves first, then least cost. A move
holds its target before it leaves its source, so that each state on the way is legal.
"""

from extender.moves.instead import Instead, instead
from extender.moves.judge import Fault, faults
from extender.moves.planner import plan
from extender.moves.problem import (
    Admit,
    Consolidate,
    Drain,
    Goal,
    Headroom,
    Host,
    How,
    Movable,
    Occupant,
    Problem,
    Wanted,
)
from extender.moves.result import Infeasible, Move, Obstacle, Place, Plan

__all__ = [
    "Admit",
    "Consolidate",
    "Drain",
    "Fault",
    "Goal",
    "Headroom",
    "Host",
    "How",
    "Infeasible",
    "Instead",
    "Movable",
    "Move",
    "Obstacle",
    "Occupant",
    "Place",
    "Plan",
    "Problem",
    "Wanted",
    "faults",
    "instead",
    "plan",
]
