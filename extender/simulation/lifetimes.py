"""How long VMs stay, in mean lifetimes: every law here has mean 1."""

from __future__ import annotations

import math
from collections.abc import Callable

from extender.simulation.chance import Chance

Law = Callable[[Chance], float]


class UnknownLifetime(Exception):
    """The law of lifetimes cannot be read."""


def lifetime(text: str) -> Law:
    """Return the law called *text*: exponential, uniform, or lognormal:SIGMA.

    Raises:
        UnknownLifetime: saying which laws there are.
    """
    name, _, parameter = text.partition(":")
    if name == "exponential" and not parameter:
        return Chance.exponential
    if name == "uniform" and not parameter:
        return lambda chance: 2.0 * chance.uniform()
    try:
        sigma = float(parameter)
    except ValueError:
        sigma = math.nan
    if name == "lognormal" and 0 < sigma <= 5:
        return lambda chance: math.exp(sigma * chance.normal() - sigma * sigma / 2)
    raise UnknownLifetime(
        f"lifetime {text!r} is none of exponential, uniform, lognormal:SIGMA (0 < SIGMA <= 5)"
    )
