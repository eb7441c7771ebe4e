"""Explanations: why a pod is refused or where it is, what is missing, and what would help.

Computation only: a ``situation`` in, an ``explanation`` out; ``text`` tells it to people. Work is
bounded whatever the cluster's size: each node is judged once, ``census`` counts GPUs that are alike
for the other profiles, ``board`` and ``room`` look for moves on so many GPUs, in so many windows.
"""

from extender.explain.explain import explain, explain_none
from extender.explain.explanation import Explanation
from extender.explain.situation import Holdings, Situation

__all__ = ["Explanation", "Holdings", "Situation", "explain", "explain_none"]
