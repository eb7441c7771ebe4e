"""The dashboard as a document: what Grafana needs, and nothing that is not told."""

from __future__ import annotations

import re
from collections import Counter

from extender.service.reading import reading
from tests.monitoring.component import DASHBOARD, named, panels, queries
from tests.monitoring.stage import Stage

UNITS = {"none", "percentunit", "reqps", "s"}
"""Those used, of the ids that Grafana knows (its ``fieldConfig.defaults.unit``)."""

TYPES = {"row", "stat", "table", "timeseries"}
"""Those used, of the panels that Grafana brings along."""

SINCE_UNIQUE_DATASOURCES = 36
"""The ``schemaVersion`` from which panels name data sources by type and uid; what is older Grafana
migrates as it loads it."""

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


def test_the_dashboard_is_what_grafana_takes_as_it_is() -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", DASHBOARD["uid"])
    assert DASHBOARD["title"]
    assert DASHBOARD["schemaVersion"] >= SINCE_UNIQUE_DATASOURCES
    assert "id" not in DASHBOARD, "that is the database's, of the Grafana it was exported from"
    assert not DASHBOARD.keys() & {"__inputs", "__requires"}, "for those an import would ask"
    (source,) = (each for each in DASHBOARD["templating"]["list"] if each["type"] == "datasource")
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    for variable in DASHBOARD["templating"]["list"]:
        if variable is not source:
            assert variable["type"] == "query"
            assert variable["datasource"] == DATASOURCE
            assert variable["query"]["query"] == variable["definition"]
            assert (variable["includeAll"], variable["allValue"]) == (True, ".*")


def test_every_panel_is_of_a_kind_and_in_units_that_grafana_knows() -> None:
    assert {panel["type"] for panel in DASHBOARD["panels"]} == TYPES
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in panels()} == UNITS
    for panel in panels():
        assert panel.keys() >= {"title", "description", "gridPos", "fieldConfig", "options"}
        for override in panel["fieldConfig"]["overrides"]:
            assert override["matcher"].keys() == {"id", "options"}
            assert all(each.keys() == {"id", "value"} for each in override["properties"])


def test_every_query_has_a_letter_of_its_own_in_its_panel() -> None:
    for panel in panels():
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == list("ABCDEFGH"[: len(letters)]), panel["title"]
        for target in panel["targets"]:
            assert target["expr"].strip()
            at_once = target.get("instant", False)
            assert at_once is (panel["type"] == "table"), panel["title"]
            if panel["type"] == "table":
                assert target["format"] == "table"


def test_rows_are_open_and_everything_stands_below_one() -> None:
    rows = [panel for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert all(row["panels"] == [] and row["collapsed"] is False for row in rows)
    assert all((row["gridPos"]["x"], row["gridPos"]["w"]) == (0, 24) for row in rows)
    assert DASHBOARD["panels"][0] in rows
    order = [(panel["gridPos"]["y"], panel["gridPos"]["x"]) for panel in DASHBOARD["panels"]]
    assert order == sorted(order), "Grafana shows panels under the last row before them"
