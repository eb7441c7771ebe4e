"""Each alert fires in its situation, after its time and not before; and none where all is well."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from extender.service import Service
from extender.service.reading import reading
from tests.monitoring.component import RUNBOOKS, alerts, named, rule_file
from tests.monitoring.situations import CAPPED, HEADROOM, SITUATIONS, lasting
from tests.monitoring.stage import Stage
from tests.monitoring.tools import tool

MINUTES = {"s": 1 / 60, "m": 1, "h": 60}


def waits(alert: str) -> int:
    """Return how many minutes an alert's condition must last before it fires."""
    (rule,) = (each for each in alerts() if each["alert"] == alert)
    lasts = re.fullmatch(r"(\d+)([smh])", rule.get("for", "0m"))
    assert lasts is not None
    number, unit = lasts.groups()
    return round(int(number) * MINUTES[unit])


def firing_at(minute: int, *expected: str) -> dict[str, Any]:
    """Expect exactly these alerts at a minute."""
    return {
        "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
        "eval_time": f"{minute}m",
        "exp_samples": [
            {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)
        ],
    }


def check(directory: Path, stage: Stage, *expectations: Mapping[str, Any]) -> None:
    """Have promtool play a stage's series against our rules."""
    (directory / "rules.yaml").write_text(rule_file())
    document = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in stage.series()
                ],
                "promql_expr_test": list(expectations),
            }
        ],
    }
    (directory / "test.yaml").write_text(yaml.safe_dump(document))
    command = [str(tool("promtool")), "test", "rules", str(directory / "test.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("alert", sorted(SITUATIONS))
async def test_it_fires_in_its_situation_after_its_time_and_nothing_else_does(
    alert: str, tmp_path: Path
) -> None:
    script, expected = SITUATIONS[alert]
    stage = await script()

    early = stage.begun + waits(alert) - 1
    check(
        tmp_path,
        stage,
        firing_at(stage.begun - 1),
        {
            "expr": f'ALERTS{{alertname="{alert}", alertstate="firing"}}',
            "eval_time": f"{max(early, stage.begun - 1)}m",
            "exp_samples": [],
        },
        firing_at(stage.length - 1, *expected),
    )
    assert stage.length > early


def test_every_alert_has_its_situation() -> None:
    assert {each["alert"] for each in alerts()} == SITUATIONS.keys()


@pytest.mark.parametrize("policy", ["", CAPPED, HEADROOM.replace("keep: 4", "keep: 3")])
def test_nothing_fires_where_all_is_well(policy: str, tmp_path: Path) -> None:
    stage = lasting(Stage(policy), 45)

    check(tmp_path, stage, *(firing_at(minute) for minute in (0, 5, 15, 44)))


def test_the_rules_are_what_prometheus_takes(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(rule_file())
    command = [str(tool("promtool")), "check", "rules", "--lint-fatal", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_its_runbook() -> None:
    text = RUNBOOKS.read_text()
    sections = re.split(r"^### (\w+)$", text, flags=re.MULTILINE)
    written = dict(zip(sections[1::2], sections[2::2], strict=True))

    assert written.keys() == {each["alert"] for each in alerts()}
    assert all(len(section.split()) > 20 for section in written.values())
    for each in alerts():
        file, _, anchor = each["annotations"]["runbook_url"].partition("#")
        assert (file, anchor) == (f"manifests/{RUNBOOKS.name}", each["alert"].lower())
        assert each["annotations"]["summary"]
        assert each["labels"]["severity"] in ("critical", "warning", "info")


def test_runbooks_point_to_sections_that_are_there() -> None:
    text = RUNBOOKS.read_text()
    anchors = {heading.lower() for heading in re.findall(r"^### (\w+)$", text, re.MULTILINE)}

    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= anchors


async def test_alerts_name_only_metrics_that_are_told() -> None:
    knowledge = (service := Stage().service).knowledge
    assert isinstance(service, Service)
    knowledge.work.fleet.look(reading(knowledge))
    told = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in knowledge.work.registry.collect()
    }

    assert named(*(each["expr"] for each in alerts())) <= told
