"""The dashboard as a document: what Grafana needs, and nothing that is not told."""

from __future__ import annotations

from collections import Counter

from extender.service.reading import reading
from tests.monitoring.component import DASHBOARD, named, panels, queries
from tests.monitoring.stage import Stage

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def test_every_query_names_only_metrics_that_are_told() -> None:
    knowledge = Stage().service.knowledge
    knowledge.work.fleet.look(reading(knowledge))
    told = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in knowledge.work.registry.collect()
    }

    assert named(*(query for _, query in queries())) == told, "and none is left out"


def test_every_panel_asks_the_prometheus_that_was_chosen_and_says_what_it_shows() -> None:
    for panel in panels():
        assert panel["datasource"] == DATASOURCE
        assert panel["description"]
        for target in panel["targets"]:
            assert target["datasource"] == DATASOURCE


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    every = DASHBOARD["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    cells = Counter(
        (x, y)
        for place in (panel["gridPos"] for panel in every)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )

    assert max(cells.values()) == 1
    assert max(x for x, _ in cells) < 24, "Grafana's grid has 24 columns"


def test_pools_and_models_can_be_chosen() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}

    assert variables.keys() == {"datasource", "pool", "model"}
    for name in ("pool", "model"):
        assert variables[name]["definition"] == f"label_values(tangram_gpus, {name})"
