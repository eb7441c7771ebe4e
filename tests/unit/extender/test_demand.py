"""What pods have asked for lately."""

from __future__ import annotations

from structlog.testing import capture_logs

from extender.policy import PolicyName
from extender.service.demand import LOOK_AGAIN_SECONDS, TELL_SECONDS, Demand
from extender.simulation.mixes import mix
from extender.snapshot import NodeView
from nodeagent.api.catalog import MODELS
from tests.builders import gpu_node, request


def test_what_is_asked_for_is_told_by_profile_in_the_form_that_simulate_takes() -> None:
    views = [NodeView(gpu_node("node-1"), PolicyName.DEFAULT, stale=False)]
    demand = Demand(0.0)
    for n in range(3):
        demand.asked(request("1-10C", pod=f"vm-{n}"), views, now=1.0)
    demand.asked(request("7-80C", pod="big"), views, now=1.0)
    demand.asked(request("1-10C", pod="while no node offers it"), [], now=1.0)

    with capture_logs() as logs:
        demand.tell(now=TELL_SECONDS - 1.0)
        demand.tell(now=TELL_SECONDS)
        demand.tell(now=TELL_SECONDS + 1.0)

    (told,) = logs
    assert told["mix"] == "1g.10gb=0.800,7g.80gb=0.200"
    geometry = MODELS["H100-80GB"].geometry
    assert mix(told["mix"], geometry, frozenset(geometry.by_id)) == {19: 0.8, 0: 0.2}


def test_a_resource_that_no_node_offers_has_no_share() -> None:
    demand = Demand(0.0)
    demand.asked(request("1-10C"), [], now=1.0)

    with capture_logs() as logs:
        demand.tell(now=TELL_SECONDS)

    assert not logs


def test_what_no_node_offered_is_looked_for_again_after_a_while() -> None:
    views = [NodeView(gpu_node("node-1"), PolicyName.DEFAULT, stale=False)]
    demand = Demand(0.0)
    demand.asked(request("1-10C"), [], now=1.0)

    demand.asked(request("1-10C"), views, now=LOOK_AGAIN_SECONDS)
    assert not demand.mix.counts
    demand.asked(request("1-10C"), views, now=1.0 + LOOK_AGAIN_SECONDS)
    assert demand.mix.counts
