"""Student's t distribution for whole degrees of freedom, by its finite series.

Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import math


def two_sided(t: float, freedom: int) -> float:
    """Return the probability that \\|T\\| exceeds \\|*t*\\|."""
    angle = math.atan(abs(t) / math.sqrt(freedom))
    cosine, sine = math.cos(angle), math.sin(angle)
    if freedom % 2:
        within, term = angle, sine * cosine
        for k in range(3, freedom + 1, 2):
            within += term
            term *= cosine * cosine * (k - 1) / k
        return max(0.0, 1.0 - 2.0 / math.pi * within)
    total = term = sine
    for k in range(2, freedom, 2):
        term *= cosine * cosine * (k - 1) / k
        total += term
    return max(0.0, 1.0 - total)


def quantile(confidence: float, freedom: int) -> float:
    """Return the t for which \\|T\\| stays below it with probability *confidence*."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > 1.0 - confidence:
        high *= 2.0
    for _ in range(80):
        middle = (low + high) / 2
        if two_sided(middle, freedom) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high
