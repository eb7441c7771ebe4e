"""The decision log: what decisions rested on and what they were, kept in files and played again.

A log is a function's arguments: the calls that came across the service's seam, in their order, with
what the clock said meanwhile. :class:`DecisionLog` writes them, in a thread of its own and never in
the way of an answer; :func:`runs` reads them, as far as the files are whole; :func:`reproduced`
makes the calls again on a fresh state and compares every decision with the one that was written;
:func:`recorded` tells the demand, for other policies, and :func:`survey` how the fleet stood in the
end.

``layout`` says what lines there are, ``encoding`` and ``decoding`` turn calls into lines and back,
``outcomes`` tells decisions shortly, ``hashing`` hides names; ``files`` is the door: it alone knows
zstandard and the disk.
"""

from extender.decision_log.demand import recorded
from extender.decision_log.files import Limits, is_part
from extender.decision_log.hashing import Names
from extender.decision_log.layout import LogUnreadable
from extender.decision_log.reading import Run, runs
from extender.decision_log.reproduction import Difference, Reproduction, reproduced
from extender.decision_log.survey import survey
from extender.decision_log.writing import DecisionLog

__all__ = [
    "DecisionLog",
    "Difference",
    "Limits",
    "LogUnreadable",
    "Names",
    "Reproduction",
    "Run",
    "is_part",
    "recorded",
    "reproduced",
    "runs",
    "survey",
]
