"""The monitoring component's files as the tests read them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Set
from typing import Any

import yaml

from tests.manifests.generate import MANIFESTS

HERE = MANIFESTS / "components/monitoring"
RUNBOOKS = MANIFESTS / "RUNBOOKS.md"

RULES: Mapping[str, Any] = yaml.safe_load((HERE / "prometheusrule.yaml").read_text())
DASHBOARD: Mapping[str, Any] = json.loads((HERE / "dashboard.json").read_text())

_NAME = re.compile(r"\btangram_[a-z_]+\b")
_OF_A_HISTOGRAM = re.compile(r"_(bucket|sum|count)$")


def rule_file() -> str:
    """Return the rules as Prometheus reads them without an operator."""
    return yaml.safe_dump({"groups": RULES["spec"]["groups"]})


def alerts() -> Iterator[Mapping[str, Any]]:
    """Yield each alerting rule."""
    for group in RULES["spec"]["groups"]:
        yield from group["rules"]


def panels() -> Iterator[Mapping[str, Any]]:
    """Yield each panel that shows something."""
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> Iterator[tuple[str, str]]:
    """Yield each panel's title with each of its queries, as Grafana sends them."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], sent(target["expr"])


def sent(query: str) -> str:
    """Fill in what Grafana does: everything is chosen, and Prometheus scrapes every half second."""
    return re.sub(r"\$(pool|model)\b", ".*", query).replace("$__rate_interval", "4s")


def named(*queries: str) -> Set[str]:
    """Return the families of metrics that queries name."""
    return {
        _OF_A_HISTOGRAM.sub("", name) if "duration_seconds" in name else name
        for query in queries
        for name in _NAME.findall(query)
    }
