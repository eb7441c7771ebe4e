"""This version and the one before, really run, one of each: no VM notices which is which."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.definition import define, read
from tests.e2e.previous import PINNED, VARIABLE, previous_version
from tests.e2e.process import ROOT
from tests.e2e.stack import CRD, artifacts
from tests.e2e.two_versions import LARGE, MEDIUM, SMALL, bounds_of, versions
from tests.manifests.roles import granted
from tests.manifests.test_crd_evolution import PREVIOUS


async def test_vms_come_stay_and_go_whichever_version_extender_and_agent_are_of(
    tmp_path: Path,
) -> None:
    before, now = previous_version(tmp_path), ROOT
    home = tmp_path / "node"
    home.mkdir()
    async with versions(artifacts(tmp_path), before, home) as cluster:
        await cluster.vms(come={"a": SMALL, "b": MEDIUM, "c": LARGE, "d": SMALL})

        # The order of an upgrade: the definition, the roles, the extender, the agents.
        await define(cluster.running.plane, read(CRD))
        await cluster.bounded_as_by(now)
        await cluster.extender_of(now)
        await cluster.vms(come={"e": SMALL, "f": SMALL}, go=("a",))
        await cluster.agent_of(now)
        await cluster.vms(come={"g": MEDIUM}, go=("b",))

        assert cluster.refusals() == {}

        # And back, the other one first: then the older extender has a newer agent.
        await cluster.bounded_as_by(before)
        await cluster.extender_of(before)
        await cluster.vms(come={"h": SMALL, "i": SMALL}, go=("d",))
        await cluster.agent_of(before)
        await define(cluster.running.plane, read(before / CRD.relative_to(ROOT)))
        await cluster.vms(come={"j": SMALL}, go=("e", "h"))

        await cluster.vms(come={}, go=("c", "f", "g", "i", "j"))
        assert cluster.node.instances == set()
        for account, refused in cluster.refusals().items():  # its roles were older than itself
            newer = granted(bounds_of(now), account) - granted(bounds_of(before), account)
            assert refused <= newer


def test_what_definitions_are_compared_with_is_the_previous_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PINNED)
    before = previous_version(tmp_path)

    assert read(PREVIOUS) == read(before / CRD.relative_to(ROOT))
