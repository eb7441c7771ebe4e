"""Parts of what is built, by what they are: objects, pods, options as programs read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from extender.cli.main import app as tangram
from extender.kubescheduler.configuration import Configuration, read
from nodeagent.api import keys
from tests.manifests.kustomize import OVERLAYS, Manifest

EXTENDER, AGENT, SCHEDULER = "tangram-extender", "tangram-agent", "tangram-scheduler"
each_overlay = pytest.mark.parametrize("name", OVERLAYS)


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """Return the one object of a kind that has a name."""
    (found,) = (m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name)
    return found


def pod(manifests: list[Manifest], kind: str, name: str) -> dict[str, Any]:
    """Return the pod that a workload makes."""
    spec: dict[str, Any] = find(manifests, kind, name)["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest], kind: str, name: str) -> dict[str, Any]:
    """Return the one container of a workload's pod."""
    (only,) = pod(manifests, kind, name)["containers"]
    found: dict[str, Any] = only
    return found


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the names of all workloads, and their pods."""
    for each in manifests:
        if "template" in each.get("spec", {}):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def parsed(app: typer.Typer, container: dict[str, Any], **values: str) -> dict[str, Any]:
    """Parse the container's arguments as the program does; the kubelet replaces ``$(NAME)``."""
    known = {each["name"] for each in container.get("env", ())}
    assert values.keys() <= known

    def value(match: re.Match[str]) -> str:
        assert match[1] in known
        return values[match[1]]

    command, *arguments = (
        re.sub(r"\$\(([A-Z_]+)\)", value, argument) for argument in container["args"]
    )
    group: Any = typer.main.get_command(app)
    return dict(group.commands[command].make_context(command, list(arguments)).params)


def serve_options(manifests: list[Manifest]) -> dict[str, Any]:
    """Return the extender's options as it reads them."""
    return parsed(
        tangram,
        container(manifests, "Deployment", EXTENDER),
        POD_IP="10.0.0.7",
        POD_NAME="extender-0",
        POD_NAMESPACE=keys.SYSTEM_NAMESPACE,
    )


def scheduler_configuration(manifests: list[Manifest]) -> Configuration:
    """Return the configuration that is mounted into the second scheduler."""
    mounted = {v["name"]: v for v in pod(manifests, "Deployment", SCHEDULER)["volumes"]}
    name = mounted["configuration"]["configMap"]["name"]
    (text,) = find(manifests, "ConfigMap", name)["data"].values()
    return read(text.encode())


def webhook(manifests: list[Manifest]) -> dict[str, Any]:
    """Return the only webhook."""
    (found,) = find(manifests, "MutatingWebhookConfiguration", "tangram-pods")["webhooks"]
    return dict(found)
