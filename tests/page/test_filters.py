"""Which nodes the filters show."""

from __future__ import annotations

from typing import Any

import pytest

from tests.page.test_page import opened

pytestmark = pytest.mark.xdist_group("chromium")

INSTANCES = {
    "both-in-one": [("ml", "3g.40gb")],
    "each-in-another": [("ml", "1g.10gb"), ("web", "3g.40gb")],
    "neither": [("web", "1g.10gb")],
}
"""By node: the tenant and the profile of each of its instances."""


def node(name: str, instances: list[tuple[str, str]], state: str = "ready") -> dict[str, Any]:
    there = [
        {
            "profile": profile,
            "start": at,
            "size": 1,
            "state": "running",
            "namespace": f"{tenant}-prod",
            "tenant": tenant,
            "vm": f"{tenant}-vm",
        }
        for at, (tenant, profile) in enumerate(instances)
    ]
    return {
        "name": name,
        "state": state,
        "gpus": [{"uuid": name, "model": "H100", "slices": 8, "instances": there}],
    }


def shown(driver: Any, nodes: list[dict[str, Any]], **chosen: str) -> set[str]:
    found = driver.execute_async_script(
        "const [nodes, chosen, done] = arguments;"
        "import('/page/filters.js').then(({ Filters }) => {"
        "  const filters = new Filters(document.getElementById('filters'), () => {});"
        "  Object.assign(filters, chosen);"
        "  done(nodes.filter((node) => filters.shows(node)).map((node) => node.name)); });",
        nodes,
        {"text": "", "model": "", "tenant": "", "profile": "", "state": "", **chosen},
    )
    return set(found)


def test_a_tenant_and_a_profile_are_looked_for_in_one_instance(driver: Any, page: str) -> None:
    opened(driver, page)
    nodes = [node(name, instances) for name, instances in INSTANCES.items()]

    assert shown(driver, nodes) == set(INSTANCES)
    assert shown(driver, nodes, tenant="ml") == {"both-in-one", "each-in-another"}
    assert shown(driver, nodes, profile="3g.40gb") == {"both-in-one", "each-in-another"}
    assert shown(driver, nodes, tenant="ml", profile="3g.40gb") == {"both-in-one"}


def test_nodes_are_found_by_parts_of_names_by_model_and_by_trouble(driver: Any, page: str) -> None:
    opened(driver, page)
    nodes = [node("Node-1", [("ml", "p")]), node("node-2", [("web", "p")], state="stale")]

    assert shown(driver, nodes, text="node-1") == {"Node-1"}
    assert shown(driver, nodes, text="web-v") == {"node-2"}
    assert shown(driver, nodes, model="A100") == set()
    assert shown(driver, nodes, state="trouble") == {"node-2"}
    assert shown(driver, nodes, state="ready") == {"Node-1"}
