"""The default overlay as it is: containers, on agents that have their own account and node."""

from __future__ import annotations

from pathlib import Path

from extender.cli.scheduler_config import SERVICE
from nodeagent.api import keys
from nodeagent.api.resources import of_profile
from nodeagent.apiserver.protocol import PODS
from tests.e2e import occasions, strangers
from tests.e2e.bounds import GPU_NODES, LEASES, Caller
from tests.e2e.deployed import CLIENT
from tests.e2e.gpus import ContainerGpus
from tests.e2e.handshakes import complaints, serial, shown, trusting
from tests.e2e.installation import Installer
from tests.e2e.running import Installed, installed
from tests.e2e.stack import artifacts
from tests.waiting import until

AT_FIRST, MEANWHILE, AFTERWARDS = 40, 30, 42
PODS_IN_ALL = AT_FIRST + MEANWHILE + AFTERWARDS
"""As many sevenths as 16 GPUs have: there is no room for another pod."""
FALLEN_OFF_THE_BUS = 79
"""The Xid error of a GPU that does not answer any more."""


async def certificates_are_renewed(running: Installed, *, pods: int, meanwhile: int) -> None:
    """Renew both sides' while pods come, beside those there are; then have all connect anew."""
    authority, ca = running.plane.authority, running.plane.ca_file
    server, client = authority.issue("renewed", SERVICE), authority.issue(CLIENT)
    running.secrets.extender.put(server, ca)
    running.secrets.scheduler.put(client, ca)
    await running.create_vms(meanwhile)

    trust = trusting(ca, client)

    async def renewed() -> bool:
        shows = [await shown(url, trust) for url in (running.webhook, running.hooks)]
        return shows == [serial(server)] * 2

    await until(renewed, within=60, every=0.2)
    await running.running(pods + meanwhile)
    for way in running.ways:
        way.cut()


async def a_gpu_fails_under_pods(gpus: ContainerGpus) -> None:
    """Let a GPU that containers have open fall off the bus: its agent warns them."""
    (node, *_) = (node for node in gpus.there.values() if node.opened)
    (place, *_) = node.opened.values()
    node.machine.xid(place[0], FALLEN_OFF_THE_BUS)


async def forged(running: Installed, by: str, of: str, gpus: ContainerGpus) -> dict[str, int]:
    """Let the agent of one node write what is another's; return the answers' statuses."""
    installer = Installer(running.plane, running.session)
    agent = Caller(running.session, await installer.token(gpus.account, gpus.pod(by)))
    report = {"status": {"sequence": 1_000_000, "gpus": []}}
    taken = {"spec": {"holderIdentity": by}}
    answers = {
        "inventory": await agent.merge(f"{GPU_NODES}/{of}/status", report),
        "life": await agent.merge(f"{LEASES}/{keys.lease_name(of)}", taken),
        "plan": await agent.merge(f"{GPU_NODES}/{of}", {"spec": {"assignments": []}}),
    }
    return {what: status for what, (status, _) in answers.items()}


async def test_pods_on_every_seventh_have_their_gpu_instances_and_nobody_else_gets_in(
    tmp_path: Path,
) -> None:
    (foreign := tmp_path / "foreign").mkdir()
    gpus = ContainerGpus(tmp_path / "nodes")
    async with installed(artifacts(tmp_path), gpus) as running:
        first, second = gpus.there
        leaving = await occasions.owned(running)
        await occasions.a_drain_is_planned(running, leaving)
        await running.create_vms(AT_FIRST - len(leaving))
        await running.running(AT_FIRST)
        assert await strangers.at_the_hooks(running, foreign) == strangers.KEPT_OUT
        assert await strangers.past_the_extender(running, first) == strangers.TOLD

        await certificates_are_renewed(running, pods=AT_FIRST, meanwhile=MEANWHILE)
        await running.create_vms(AFTERWARDS)
        await running.running(PODS_IN_ALL)
        await running.planned(PODS_IN_ALL)
        assert await complaints(running) == []
        assert await running.violations() == []
        for node in gpus.there.values():
            assert sorted(node.opened.values()) == sorted(node.instances)
        assert sum(len(node.opened) for node in gpus.there.values()) == PODS_IN_ALL

        for name in leaving:  # before any of them may be evicted
            await running.api.delete(PODS, name, namespace="default")
        await running.running(PODS_IN_ALL - len(leaving))
        await running.planned(PODS_IN_ALL - len(leaving))
        await occasions.one_of_high_priority_makes_room(running, {of_profile("7g.80gb"): "1"})
        there = [pod["metadata"]["name"] for pod in await running.pods()]
        for name in there[: PODS_IN_ALL // 2]:
            await running.api.delete(PODS, name, namespace="default")
        staying = PODS_IN_ALL - len(leaving) - PODS_IN_ALL // 2
        await running.running(staying)
        await running.planned(staying)
        assert await running.violations() == []
        for node in gpus.there.values():
            assert sorted(node.opened.values()) == sorted(node.instances)
            assert node.tries_to_destroy_what_is_open == []

        await occasions.a_node_comes_and_goes(running)
        await occasions.a_pod_loses_its_label(running)
        await occasions.a_policy_is_refused(running)
        await occasions.metrics_are_read(running)
        await a_gpu_fails_under_pods(gpus)
        assert await occasions.unused(running) == {}
        assert running.refusals() == {}

        refused = await forged(running, first, second, gpus)
        assert refused == {"inventory": 403, "life": 403, "plan": 403}
        assert running.refusals() == {
            gpus.account: {
                ("tangram.dev", "gpunodes/status", "patch"),
                ("coordination.k8s.io", "leases", "patch"),
                ("tangram.dev", "gpunodes", "patch"),
            }
        }
