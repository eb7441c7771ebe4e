"""How fast an order of moves may go on: by the policy, and by how long its last step takes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from extender.moving import Order, Restraint
from extender.policy.moving import Why
from extender.service.knowledge import Knowledge


class Pacing:
    """Paces the order under way; ``utc_now`` is what the policy's hours and windows go by."""

    def __init__(self, knowledge: Knowledge, utc_now: Callable[[], datetime]) -> None:
        self._knowledge = knowledge
        self._utc_now = utc_now
        self._since: tuple[object, float] = (None, 0.0)

    def restraint(self, order: Order) -> Restraint:
        """Return why the policy lets no move be begun."""
        begun = [datetime.fromisoformat(each) for each in order.begun]
        wait = self._knowledge.in_force.moving.wait(self._utc_now(), begun)
        match None if wait is None else wait.why:
            case None:
                return Restraint()
            case Why.PAUSED | Why.CLOSED as why:
                return Restraint(paused=why.value)
            case Why.ENOUGH_AN_HOUR as why:
                return Restraint(wait=why.value)
            case Why.NOT_APPLIED as why:
                return Restraint(stop=why.value)

    def waits(self, order: Order) -> str:
        """Return why the policy keeps an order from going on for now, "" where it does not."""
        if order.ending is not None:
            return ""
        restraint = self.restraint(order)
        return restraint.paused or (restraint.wait if order.departed is None else "")

    def overdue(self, order: Order, *, on_its_way: bool) -> bool:
        """Tell whether what was begun last takes too long, since this process has known of it.

        While the policy has it wait that is nobody's fault, and after that time counts anew. But no
        policy brings a VM back that is *on its way*, which is judged in any case; nor is one to
        wait once somebody has stopped it.
        """
        held_back = bool(self.waits(order)) and not on_its_way
        what = order.id, order.at, order.departed is None, held_back
        now = self._knowledge.clock()
        if self._since[0] != what:
            self._since = what, now
        if held_back and not order.stopping:
            return False
        return now - self._since[1] >= self._knowledge.settings.move_seconds
