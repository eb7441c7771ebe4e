"""Performing the steps: too dull to be wrong.

``actuator`` calls the driver and the journal, ``work`` keeps account of one pass, from its
``intent`` to its outcome.
"""

from nodeagent.actuate.actuator import Actuator
from nodeagent.actuate.intent import Intent, Outcome

__all__ = ["Actuator", "Intent", "Outcome"]
