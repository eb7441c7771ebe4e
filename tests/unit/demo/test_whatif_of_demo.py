"""``tangram simulate --from cluster`` asks a demo that runs, through the desk's own door."""

from __future__ import annotations

import asyncio

from extender.cli.desk import Where
from extender.cli.whatif import answered, source
from extender.demo.run import Options, run
from extender.policy import InForce, PolicyName
from extender.simulation.more import More
from extender.simulation.whatif import Answer
from tests.builders import H100


async def test_what_the_demo_has_and_what_would_fit_with_a_node_more_and_one_less() -> None:
    answers: list[Answer] = []

    async def linger(hooks: str, page: str) -> None:
        for adding, removing in (((), ()), (("H100-80GB:2x1",), ()), ((), ("gpu-node-1",))):
            found = await asyncio.to_thread(
                answered,
                source("cluster", Where(page)),
                policy="default",
                adding=adding,
                removing=removing,
                mix="mid",
                seeds=range(5),
                save=None,
            )
            answers.append(found)

    options = Options(
        model=H100,
        nodes=2,
        gpus=2,
        vms=12,
        mix="mid",
        load=0.7,
        seed=3,
        policy=InForce.of(PolicyName.DEFAULT),
        lifetime=3600.0,
    )
    outcome = await run(options, progress=lambda placed, refused: None, linger=linger)

    as_it_is, more, less = answers
    assert outcome.sound
    assert (as_it_is.fleet.gpus, more.fleet.gpus, less.fleet.gpus) == (4, 6, 2)
    assert as_it_is.fleet.used_slices > 0
    assert sum(as_it_is.wanted.values()) > 0
    for name, room in as_it_is.profiles.items():
        assert less.profiles[name].now <= room.now <= room.at_best
        assert more.profiles[name].now >= room.now
    assert more.profiles["7g.80gb"].now >= 2
    assert isinstance(more.mix, More)
    assert more.mix.requests.mean > 2
