"""Which pods may come into being: what the admission webhook decides.

A pod that asks for a GPU instance and reaches a kubelet without the extender would take what was
made for another. So it is labelled to be watched, goes to a scheduler that asks the extender, and
may not choose its node itself. ``review`` is the API server's JSON, ``judge`` decides. Values and
computation only.
"""

from extender.admission.judge import Admitted, NotOurs, Refused, Schedulers, Verdict, judge
from extender.admission.review import AdmissionReview, answer

__all__ = [
    "AdmissionReview",
    "Admitted",
    "NotOurs",
    "Refused",
    "Schedulers",
    "Verdict",
    "answer",
    "judge",
]
