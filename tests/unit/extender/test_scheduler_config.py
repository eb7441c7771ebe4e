"""``tangram scheduler-config``: what it prints, and what it says of a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from typer.testing import CliRunner, Result

from extender.cli.main import app
from extender.cli.scheduler_config import SERVICE
from extender.settings import Settings

SMALL = "nvidia.com/NVIDIA_H100XM-1-10C"


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No API server is known, whatever machine this is; logs are set up for a test alone."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setattr(
        "nodeagent.apiserver.credentials.kube_config.KUBE_CONFIG_DEFAULT_LOCATION",
        str(tmp_path / "none"),
    )
    yield
    structlog.reset_defaults()


def ran(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["scheduler-config", *arguments], input=stdin)


def printed(*arguments: str) -> dict[str, Any]:
    result = ran(*arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = yaml.safe_load(result.stdout)
    return found


def test_a_second_scheduler_gets_a_whole_configuration_of_its_own() -> None:
    document = printed("--resource", SMALL, "--name", "gpus")

    assert document["profiles"] == [{"schedulerName": "gpus"}]
    assert document["leaderElection"]["resourceName"] == "gpus-scheduler"
    (extender,) = document["extenders"]
    assert extender["urlPrefix"] == f"https://{SERVICE}:8443"
    assert extender["httpTimeout"] == f"{Settings().http_timeout_seconds:g}s"
    assert extender["managedResources"] == [{"name": SMALL, "ignoredByScheduler": False}]


def test_the_default_scheduler_gets_a_patch_that_leaves_all_else_as_it_is() -> None:
    document = printed("--for", "default", "--resource", SMALL)

    assert document.keys() == {"apiVersion", "kind", "percentageOfNodesToScore", "extenders"}


def test_an_address_is_told_what_the_certificate_says() -> None:
    (extender,) = printed("--resource", SMALL, "--url", "https://10.96.0.7:8443")["extenders"]

    assert extender["tlsConfig"]["serverName"] == SERVICE


def test_models_name_every_resource_they_have() -> None:
    (extender,) = printed("--model", "H100-80GB")["extenders"]
    names = [each["name"] for each in extender["managedResources"]]

    assert SMALL in names
    assert "nvidia.com/mig-1g.10gb" in names


def test_json_says_the_same() -> None:
    assert json.loads(ran("--resource", SMALL, "--output", "json").stdout) == printed(
        "--resource", SMALL
    )


def test_without_an_inventory_it_says_what_to_give() -> None:
    result = ran()

    assert result.exit_code == 2
    assert "--resource or --model" in result.stderr


def test_what_tangram_cannot_serve_is_refused() -> None:
    assert "nvidia.com/gpu" in ran("--resource", "nvidia.com/gpu").output
    assert ran("--model", "H1000").exit_code == 2


def test_what_it_prints_passes_its_own_check(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text(ran("--model", "all").stdout)

    result = ran("--check", str(file), "--model", "all")

    assert result.exit_code == 0
    assert "nothing is wrong" in result.stdout


def test_an_error_is_told_with_its_remedy_and_ends_with_1() -> None:
    text = ran("--resource", SMALL).stdout.replace("nodeCacheCapable: true", "ignorable: true")

    result = ran("--check", "-", "--resource", SMALL, stdin=text)

    assert result.exit_code == 1
    assert "error: extenders[0].nodeCacheCapable is false" in result.stdout
    assert "error: extenders[0].ignorable is true" in result.stdout
    assert result.stdout.count("remedy: ") == 2


def test_a_warning_alone_ends_with_0() -> None:
    text = ran("--resource", SMALL).stdout.replace("weight: 20", "weight: 5")

    result = ran("--check", "-", "--resource", SMALL, stdin=text)

    assert result.exit_code == 0
    assert "warning: extenders[0].weight is 5" in result.stdout


def test_without_an_api_server_all_but_the_resources_is_checked() -> None:
    result = ran("--check", "-", stdin=ran("--resource", SMALL).stdout)

    assert result.exit_code == 0
    assert "resources are not compared" in result.stderr
    assert "nothing is wrong" in result.stdout


def test_what_is_no_configuration_ends_with_2(tmp_path: Path) -> None:
    assert ran("--check", str(tmp_path / "none")).exit_code == 2
    assert "ignoreable" in ran("--check", "-", stdin="extenders: [{ignoreable: true}]").stderr
