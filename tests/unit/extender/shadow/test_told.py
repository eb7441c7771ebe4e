"""How a shadow is told of: at the desk by who asks, to Prometheus in bounds, in a terminal."""

from __future__ import annotations

import io

import aiohttp
import msgspec
import pytest
from rich.console import Console

from extender.cli.shadowed import show
from extender.cluster import KubernetesCluster
from extender.metrics import ShadowFigures, exposition
from extender.metrics.series import OTHERS
from extender.metrics.shadow import MOST_PROFILES, MOST_TENANTS
from extender.server import desk
from extender.server.shadowed import A_FAULT
from extender.service import Service
from extender.service.reviewer import Access
from extender.shadow import Evidence, Standing, State
from extender.shadow.document import Agreement, Gpus, Refusals
from extender.simulation.paired import Estimate
from nodeagent.apiserver.memory import InMemoryApi

HOSTILE = "[bold]\x1b[31m" + 'name"} 1\n'


def evidence(tenants: int = 1, name: str = "n") -> Evidence:
    each = Refusals(asked=10, live=3, shadow=1)
    return Evidence(
        policy="new",
        live_policy="old",
        seconds=7200.0,
        agreement=Agreement(same=6, node=1, live_refused=2, refused=1),
        refusals=each,
        refusals_more=Estimate(-2.0, 1.0, 0.01),
        live=Gpus(used=5.0, unusable=3.5, whole=1.0),
        shadow=Gpus(used=5.0, unusable=2.5, whole=2.0),
        unusable_more=Estimate(-1.0),
        whole_more=Estimate(1.0),
        blocks=10,
        profiles={"1g.10gb": each},
        tenants={f"{name}{number}": each for number in range(tenants)},
        because={"no-room": 1},
        uncounted=4,
    )


def running(of: Evidence | None = None) -> Standing:
    return Standing(state=State.RUNNING, policy="new", live_policy="old", evidence=of)


class Reader:
    """Lets everybody see the fleet, and list all pods only whose token is ``all``."""

    async def may_get(self, token: str, path: str) -> Access:
        assert path == "/fleet"
        return Access.ALLOWED if token in ("some", "all") else Access.FORBIDDEN

    async def may_list_pods(self, token: str, namespace: str) -> Access:
        return Access.ALLOWED if token == "all" else Access.FORBIDDEN

    async def may_get_pods(self, token: str, namespace: str) -> Access:
        raise AssertionError("of pods nothing is asked")

    async def may_list_gpu_nodes(self, token: str) -> Access:
        raise AssertionError("of nodes nothing is asked")

    async def may_move(self, token: str) -> Access:
        raise AssertionError("nothing is moved")

    async def who(self, token: str) -> str:
        return token


async def asked(reader: Reader | None, token: str, said: Standing) -> tuple[int, Standing | None]:
    service = Service(KubernetesCluster(InMemoryApi()))
    async with (
        desk(service, reviewer=reader, shadow=lambda: said) as url,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
        http.get(f"{url}/api/v1/shadow") as answer,
    ):
        body = await answer.read()
        found = msgspec.json.decode(body, type=Standing) if answer.status == 200 else None
        return answer.status, found


async def test_who_may_list_all_pods_is_told_whose_vms_were_refused() -> None:
    said = running(evidence())
    assert await asked(Reader(), "all", said) == (200, said)


async def test_who_may_see_the_fleet_alone_is_told_no_tenants() -> None:
    status, found = await asked(Reader(), "some", running(evidence()))

    assert status == 200
    assert found is not None
    assert found.evidence is not None
    assert found.evidence.tenants == {}
    assert found.evidence.refusals.asked == 10


async def test_what_is_wrong_with_its_file_is_told_in_words_only_to_who_may_list_all_pods() -> None:
    said = Standing(state=State.WAITING, fault="shadow.yaml: $.tenants[0].name: secret-customer")
    assert await asked(Reader(), "all", said) == (200, said)

    _, found = await asked(Reader(), "some", said)
    assert found is not None
    assert found.fault == A_FAULT


async def test_who_may_not_see_the_fleet_is_told_nothing() -> None:
    assert await asked(Reader(), "nobody", running(evidence())) == (403, None)


async def test_without_a_shadow_the_desk_says_so() -> None:
    service = Service(KubernetesCluster(InMemoryApi()))
    async with (
        desk(service, reviewer=None) as url,
        aiohttp.ClientSession() as http,
        http.get(f"{url}/api/v1/shadow") as answer,
    ):
        assert (await answer.json())["state"] == "none"


def told(figures: ShadowFigures) -> str:
    service = Service(KubernetesCluster(InMemoryApi()))
    service.knowledge.work.shadow.read = lambda: figures
    body, _ = exposition(service.knowledge.work.registry, "text/plain")
    return "\n".join(
        line for line in body.decode().splitlines() if line.startswith("tangram_shadow")
    )


def test_prometheus_is_told_the_evidence() -> None:
    lines = told(evidence().figures(ShadowFigures(running=True, ended={"died": 2})))

    for line in (
        "tangram_shadow_running 1.0",
        'tangram_shadow_stretches_ended_total{why="died"} 2.0',
        'tangram_shadow_decisions{agreement="live_refused"} 2.0',
        'tangram_shadow_refused{by="live",profile="1g.10gb"} 3.0',
        'tangram_shadow_tenant_refused{by="shadow",tenant="n0"} 1.0',
        "tangram_shadow_refused_more -2.0",
        "tangram_shadow_refused_more_interval 1.0",
        'tangram_shadow_unusable_slices{by="shadow"} 2.5',
        'tangram_shadow_whole_gpus{by="live"} 1.0',
    ):
        assert line in lines.splitlines()


def test_what_is_not_known_is_not_told_as_nothing() -> None:
    lines = [line.partition(" ")[0] for line in told(ShadowFigures()).splitlines()]

    assert set(lines) == {
        "tangram_shadow_running",
        "tangram_shadow_policy_refused",
        "tangram_shadow_lost_total",
        "tangram_shadow_behind",
        "tangram_shadow_lag_seconds",
    }


def test_however_many_names_there_are_series_are_bounded() -> None:
    figures = ShadowFigures(
        profiles={f"p{n}": (1, 1) for n in range(500)},
        tenants={f"t{n}": (n, 0) for n in range(500)},
    )
    lines = told(figures).splitlines()

    assert sum(line.startswith("tangram_shadow_refused{") for line in lines) == 2 * (
        MOST_PROFILES + 1
    )
    tenants = [line for line in lines if line.startswith("tangram_shadow_tenant_refused{")]
    assert len(tenants) == 2 * (MOST_TENANTS + 1)
    assert any(f'by="live",tenant="{OTHERS}"' in line for line in tenants)
    assert any('tenant="t499"' in line for line in tenants), "those of whom most were refused"


def printed(said: Standing) -> str:
    out = io.StringIO()
    show(said, Console(file=out, width=120, highlight=False))
    return out.getvalue()


def test_people_are_told_who_refuses_fewer() -> None:
    text = printed(running(evidence()))

    assert "-2 ± 1" in text
    assert "The shadow refuses fewer VMs, beyond what chance would bring about" in text
    assert "Alike: 7 of 10 (70.0%)" in text


def test_names_are_printed_to_the_letter() -> None:
    text = printed(running(evidence(name=HOSTILE)))

    assert "[bold]" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("state", State)
def test_without_evidence_people_are_told_why(state: State) -> None:
    assert "hadow" in printed(Standing(state=state))


def test_people_are_told_when_what_they_see_is_behind() -> None:
    said = msgspec.structs.replace(running(evidence()), behind=12, lag_seconds=600.0)

    assert "behind by 12 inputs and decisions" in printed(said)
    assert "behind" not in printed(running(evidence()))


def test_a_fault_of_its_file_is_told() -> None:
    said = Standing(state=State.WAITING, fault="x: $.value: is nonsense")
    assert "is nonsense" in printed(said)
