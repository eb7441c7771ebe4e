"""A plan of moves that is carried out: what is kept of it, and what there is to do next.

Pure: an order and what is seen of the cluster come in, the next step comes out. Whoever carries
orders out keeps each change of one where a successor finds it, before acting on it.
"""

from extender.moving.arriving import held_up, on_its_way
from extender.moving.course import next_step
from extender.moving.given import digest, order_of
from extender.moving.order import (
    Admitted,
    Departure,
    Kind,
    Leg,
    Made,
    Order,
    Outcome,
    Seat,
)
from extender.moving.steps import (
    Again,
    Arrived,
    Depart,
    Desist,
    End,
    Hold,
    Over,
    Release,
    Restraint,
    Skip,
    Step,
    Wait,
)
from extender.moving.there import There, planned_at

__all__ = [
    "Admitted",
    "Again",
    "Arrived",
    "Depart",
    "Departure",
    "Desist",
    "End",
    "Hold",
    "Kind",
    "Leg",
    "Made",
    "Order",
    "Outcome",
    "Over",
    "Release",
    "Restraint",
    "Seat",
    "Skip",
    "Step",
    "There",
    "Wait",
    "digest",
    "held_up",
    "next_step",
    "on_its_way",
    "order_of",
    "planned_at",
]
