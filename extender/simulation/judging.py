"""The guard in a process of its own: asked on standard input, it answers on standard output.

python -m extender.simulation.judging

It computes for half a minute, as nice as a process can be: who answers hooks is not to wait for it.
"""

from __future__ import annotations

import os
import sys

import msgspec

from extender.simulation.fleet import Fleet, Group, kinds
from extender.simulation.guard import guarded
from extender.simulation.question import Guarded, Question

NICENESS = 19  # the most there is


def judged(question: Question) -> Guarded:
    """Return what the guard finds; the same question has the same answer."""
    geometry, mix = question.geometry, dict(question.mix)
    fleet = Fleet((Group("observed", geometry, question.gpus),))
    asked = kinds([{p.name: p.id for p in geometry.profiles if p.name in mix}], fleet)
    shares = [mix[kind.name] for kind in asked]
    return guarded(question.candidate, fleet, asked, shares, question.load, question.trials)


if __name__ == "__main__":
    os.nice(NICENESS)
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(judged(question)))
