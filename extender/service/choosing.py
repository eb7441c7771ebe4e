"""What bind decides: the places of a pod on the node that the scheduler chose."""

from __future__ import annotations

from extender.ledger import promise
from extender.packing.choose import Choice
from extender.request import Request
from extender.service.hooks import NAMESPACE_UNKNOWN
from extender.service.knowledge import Knowledge
from extender.service.seam import Seam, told
from extender.verbs import bind as decide
from extender.verbs.verdicts import UNREPORTED, Refused


class Chooser:
    """Chooses places and assumes them."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    @property
    def seam(self) -> Seam:
        """The seam that it is behind."""
        return self._knowledge.seam

    @told
    def choose(self, request: Request, node: str) -> Choice | str:
        """Choose and assume a pod's places on a node, or say why not.

        Looked at and promised without an await in between: no other bind can come first.
        """
        knowledge = self._knowledge
        if not knowledge.tenancy.known(request.pod.namespace):
            return NAMESPACE_UNKNOWN
        view = knowledge.views.get(node)
        if view is None:
            return UNREPORTED.reason
        choice = decide.place(view, knowledge.ledger, knowledge.bounded(request))
        if isinstance(choice, Refused):
            return choice.reason
        promised = promise(node, choice.placed, request.pod.namespace)
        knowledge.ledger = knowledge.ledger.assume(request.pod.uid, promised)
        return choice
