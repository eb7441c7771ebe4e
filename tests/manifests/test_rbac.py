"""Each role allows exactly what the program that has it asks of the API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nodeagent.api import keys
from tests.manifests.calls import Permission, Unreadable, calls
from tests.manifests.generate import MANIFESTS, ROOT

LEASES = "coordination.k8s.io"

WARNING = ROOT / "nodeagent/apiserver/events.py"  # both programs write Events by it
# The fence is itself a door, and passes on what it is asked.
EXTENDER = (
    WARNING,
    *(path for path in (ROOT / "extender/cluster").glob("*.py") if path.name != "fence.py"),
)
AGENT = (
    WARNING,
    *(path for path in (ROOT / "nodeagent").glob("*.py") if path.name != "__main__.py"),
    *(
        path
        for package in ("agent", "actuate", "deviceplugin", "nvml", "vgpu")
        for path in (ROOT / "nodeagent" / package).rglob("*.py")
    ),
)
SIMULATED = (
    ROOT / "nodeagent/publish.py",
    *(ROOT / "nodeagent/simulated").glob("*.py"),
)
ELSEWHERE = (
    "extender/cli",  # people's commands, by their own kubeconfigs
    "extender/cluster/fence.py",
    "extender/demo",  # on the API server's twin
    "nodeagent/apiserver/reflector.py",  # a door: what it follows, its callers name
    "nodeagent/harvester",  # overheard at work, in test_harvester_rbac
)
"""Where else the API server is asked."""


def rules(file: str, name: str) -> Iterator[dict[str, list[str]]]:
    for each in yaml.safe_load_all((MANIFESTS / file).read_text()):
        if each["kind"] in ("Role", "ClusterRole") and each["metadata"]["name"] == name:
            yield from each["rules"]


def allowed(*granted: tuple[str, str]) -> frozenset[Permission]:
    return frozenset(
        (group, resource, verb)
        for file, name in granted
        for rule in rules(file, name)
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


def test_the_extender_may_do_what_it_does_and_nothing_else() -> None:
    always = allowed(("base/extender/rbac.yaml", "tangram-extender"))
    to_move = allowed(("components/moves/rbac.yaml", "tangram-extender-moves"))

    assert always | to_move == calls(EXTENDER)
    assert always.isdisjoint(to_move)


def test_an_agent_may_do_what_it_does_and_nothing_else() -> None:
    assert allowed(("base/nodeagent/rbac.yaml", "tangram-agent")) == calls(AGENT)


def test_a_simulated_agent_may_do_what_it_does_and_nothing_else() -> None:
    own = allowed(("components/simulated-gpus/rbac.yaml", "tangram-simulated-agent"))
    shared = allowed(("base/nodeagent/rbac.yaml", "tangram-agent"))  # by a binding to its Role

    assert own | {each for each in shared if each[0] == LEASES} == calls(SIMULATED)


def test_nobody_else_asks_the_api_server() -> None:
    read = {*EXTENDER, *AGENT, *SIMULATED}
    for file in (*(ROOT / "extender").rglob("*.py"), *(ROOT / "nodeagent").rglob("*.py")):
        if file not in read:
            within = any(file.is_relative_to(ROOT / each) for each in ELSEWHERE)
            assert within or not calls([file]), f"{file}: whose role allows what it asks for?"


def test_of_leases_and_config_maps_the_extender_writes_its_own_alone() -> None:
    def named(file: str, role: str) -> dict[tuple[str, ...], set[str]]:
        return {
            (*rule["apiGroups"], *rule["resources"], *rule["resourceNames"]): {*rule["verbs"]}
            for rule in rules(file, role)
            if "resourceNames" in rule
        }

    order = ("", "configmaps", keys.ORDER_CONFIG_MAP)
    assert named("base/extender/rbac.yaml", "tangram-extender") == {
        (LEASES, "leases", keys.LEADER_LEASE): {"get", "patch"},
        order: {"get"},
    }
    assert named("components/moves/rbac.yaml", "tangram-extender-moves") == {order: {"patch"}}


@pytest.mark.parametrize("file", sorted(MANIFESTS.rglob("rbac.yaml")), ids=str)
def test_no_rule_is_a_wildcard(file: Path) -> None:
    for each in yaml.safe_load_all(file.read_text()):
        for rule in each.get("rules", ()):
            words = [word for values in rule.values() for word in values]
            assert not any("*" in word for word in words)


def test_a_call_whose_kind_cannot_be_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "known.py").write_text(
        "async def f(self):\n"
        "    await self._api.create(PODS, {}, name='p', subresource='binding')\n"
        "    reflect(api, NODES)\n"
    )
    (tmp_path / "unknown.py").write_text("async def f(api, kind): await api.get(kind, 'x')\n")

    assert calls([tmp_path / "known.py"]) == {
        ("", "pods/binding", "create"),
        ("", "nodes", "list"),
        ("", "nodes", "watch"),
    }
    with pytest.raises(Unreadable, match=r"unknown\.py:1.*kind"):
        calls([tmp_path / "unknown.py"])
