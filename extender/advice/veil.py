"""What a reader may not know: whose VMs those of other namespaces are."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from extender.advice.document import Advice, Obstacle, Otherwise, Who


def namespaces(advice: Advice) -> frozenset[str]:
    """Return the namespaces of whose VMs advice tells."""
    told = [step.vm for step in advice.moves] + [place.pod for place in advice.places]
    told += [vm for step in advice.moves if step.otherwise for vm in step.otherwise.vms]
    told += [each.vm for each in advice.obstacles if each.vm is not None]
    return frozenset(who.namespace for who in told) - {""}


def veiled(advice: Advice, may_know: Callable[[str], bool]) -> Advice:
    """Return what is told to whoever may know of the VMs of some namespaces only."""

    def seen(who: Who) -> Who:
        return who if may_know(who.namespace) else Who()

    def known(each: Obstacle) -> Obstacle:
        if each.vm is None or may_know(each.vm.namespace):
            return each
        return replace(each, vm=Who(), answer="")  # that may name anybody

    def but_for(otherwise: Otherwise | None) -> Otherwise | None:
        if otherwise is None:
            return None
        return replace(otherwise, vms=tuple(map(seen, otherwise.vms)))

    replace = msgspec.structs.replace
    return replace(
        advice,
        moves=tuple(
            replace(step, vm=seen(step.vm), otherwise=but_for(step.otherwise))
            for step in advice.moves
        ),
        places=tuple(replace(place, pod=seen(place.pod)) for place in advice.places),
        obstacles=tuple(map(known, advice.obstacles)),
    )
