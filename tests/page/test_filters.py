"""Which nodes the filters show."""

from __future__ import annotations

from typing import Any

import pytest

from tests.page.reader import opened

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


PODS: list[dict[str, Any]] = [
    {"pod": "launcher-a", "vm": "vision-1", "tenant": "ml", "profiles": ["1g.10gb"]},
    {"pod": "launcher-b", "vm": "", "namespace": "web", "profiles": ["1g.20gb", "3g.40gb"]},
    {"pod": "launcher-c", "vm": "search-3", "namespace": "web"},
]


def waiting(driver: Any, **chosen: str) -> list[str]:
    found = driver.execute_async_script(
        "const [pods, nodes, chosen, done] = arguments;"
        "import('/page/filters.js').then(({ Filters }) => {"
        "  const filters = new Filters(document.getElementById('filters'), () => {});"
        "  Object.assign(filters, chosen);"
        "  done(filters.waiting(pods, nodes).map((pod) => pod.pod.slice(-1))); });",
        PODS,
        [node(name, instances) for name, instances in INSTANCES.items()],
        {"text": "", "model": "", "tenant": "", "profile": "", "state": "", **chosen},
    )
    return list(found)


def test_pods_that_wait_are_found_by_tenant_profile_and_name(driver: Any, page: str) -> None:
    opened(driver, page)

    assert waiting(driver) == ["a", "b", "c"]
    assert waiting(driver, tenant="ml") == ["a"]
    assert waiting(driver, tenant="web") == ["b", "c"]
    assert waiting(driver, profile="3g.40gb") == ["b"]
    assert waiting(driver, profile="7g.80gb") == []
    assert waiting(driver, text="launcher-c") == ["c"]
    assert waiting(driver, text="vision") == ["a"]
    assert waiting(driver, text="nowhere") == []


def test_what_is_said_of_nodes_alone_keeps_no_pod_back(driver: Any, page: str) -> None:
    opened(driver, page)

    assert waiting(driver, text="both-in") == ["a", "b", "c"]
    assert waiting(driver, model="A100", state="trouble") == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("shown", "told", "total", "title", "says"),
    [
        (0, 0, 0, "", "Every pod that asked has its place."),
        (2, 2, 2, "2", ""),
        (2, 3, 3, "2 of 3", ""),
        (0, 3, 3, "0 of 3", "None of the 3 pods that wait match the filters."),
        (0, 1, 1, "0 of 1", "The one pod that waits does not match the filters."),
        (3, 3, 2000, "3 of 2,000", "1,997 more wait, less long."),
        (
            0,
            500,
            2000,
            "0 of 2,000",
            "None of the 500 pods that wait longest match the filters; 1,500 more wait.",
        ),
    ],
)
def test_the_panel_says_how_many_wait_and_why_it_shows_fewer(
    driver: Any, page: str, shown: int, told: int, total: int, title: str, says: str
) -> None:
    opened(driver, page)
    found = driver.execute_async_script(
        """
        const [pods, told, total, done] = arguments;
        import("/page/pending.js").then(({ PendingPods }) => {
          const section = document.createElement("section");
          section.append(document.createElement("h2"), document.createElement("div"));
          section.lastChild.className = "body";
          new PendingPods(section, new URLSearchParams()).show(pods, told, total);
          const hint = section.querySelector(".hint");
          done([
            section.querySelectorAll("details").length,
            section.querySelector("small").textContent,
            hint.hidden ? "" : hint.textContent,
          ]);
        });
        """,
        [{**PODS[0], "uid": str(at), "wanted": [], "since": ""} for at in range(shown)],
        told,
        total,
    )

    assert found == [shown, title, says]


def test_those_that_wait_longest_stand_first_whatever_the_filters_hid_before(
    driver: Any, page: str
) -> None:
    opened(driver, page)
    orders = driver.execute_async_script(
        """
        const [pods, done] = arguments;
        import("/page/pending.js").then(({ PendingPods }) => {
          const section = document.createElement("section");
          section.append(document.createElement("h2"), document.createElement("div"));
          section.lastChild.className = "body";
          const panel = new PendingPods(section, new URLSearchParams());
          const uid = (pod) => pod.dataset.uid;
          const order = () => [...section.querySelectorAll("details")].map(uid);
          done([pods, pods.slice(1), pods].map((some) => (panel.show(some, 3, 3), order())));
        });
        """,
        [{**PODS[0], "uid": str(at), "wanted": [], "since": ""} for at in range(3)],
    )

    assert orders == [["0", "1", "2"], ["1", "2"], ["0", "1", "2"]]
