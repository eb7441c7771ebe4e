"""Every option of both programs as a page, from their own help: ``make settings``."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args

import typer

from extender.cli.main import app as tangram
from nodeagent.__main__ import app as tangram_agent
from nodeagent.api import keys
from tests.manifests.generate import MANIFESTS, ROOT

PAGE = MANIFESTS / "SETTINGS.md"
HEADER = """\
# Every setting

Written by `make settings` from the programs' own help. What a placement policy may say is in
[samples/placement-policy.yaml](samples/placement-policy.yaml); what kube-scheduler is to be told,
`tangram scheduler-config` prints. There is nothing else to be set: what is not here is fixed.
"""
ON_OBJECTS = (
    ("Node", '`tangram.dev/gpu-node: "true"`', "you", "an agent runs there"),
    (
        "GpuNode",
        f"`{keys.GPUS_ANNOTATION}`",
        "you",
        "which GPUs may be used: `all`, `none`, a list",
    ),
    ("pod", f"`{keys.GANG}`", "its tenant", "with which pods of its namespace it is placed"),
    ("pod", f"`{keys.GANG_SIZE}`", "its tenant", "how many pods these are"),
    (
        "pod",
        f"`{keys.SPREAD_ANNOTATION}`",
        "its tenant",
        "whether its vGPUs share a GPU: `same`, `distinct`",
    ),
    (
        "pod, VirtualMachine",
        f'`{keys.MOVABLE}: "false"`, or any value but `true` and `restart`',
        "its tenant",
        "its VM is moved by nobody's plan",
    ),
    (
        "pod",
        f"`{keys.MOVABLE}: restart`",
        "its tenant",
        "an applied plan may restart its VM, though its eviction is refused",
    ),
    ("pod", f'`{keys.MANAGED_LABEL}: "true"`', "the webhook, or its tenant", "it is watched"),
    (
        "pod",
        f"`{keys.DECISION_ANNOTATION}`",
        "the extender",
        "where its GPU instances are, and by which policy, as JSON",
    ),
    (
        "pod",
        f"`{keys.UNBOUND_ANNOTATION}`",
        "the extender",
        "its place is being given back: no Binding posted before comes through any more",
    ),
    (
        "extender's pod",
        f"`{keys.LEADER_LABEL}`",
        "the extender",
        "it leads, and its Service selects it",
    ),
    (
        "extender's pod",
        f"`{keys.WAKE_ANNOTATION}`",
        "the extender",
        "room has appeared: pods are tried",
    ),
    (
        "PrometheusRule",
        "`tangram.dev/runbooks`",
        "you",
        "the URL of the runbooks, to which alerts link",
    ),
    ("Lease", f"`{keys.AGENT_LABEL}`", "the agent", "it is an agent's"),
    (
        "Lease",
        f"`{keys.DEMAND_ANNOTATION}`",
        "the extender",
        "what was asked for lately, for the next one that leads",
    ),
    (
        "VGPUDevice",
        f"`{keys.ASSIGNMENT_ANNOTATION}`",
        "the agent",
        "for which assignment it is enabled",
    ),
    (
        "SRIOVGPUDevice",
        f"`{keys.LEFT_ALONE_ANNOTATION}`",
        "the agent",
        "nobody has the GPU open: Harvester may try again",
    ),
    (
        "MigConfiguration",
        f"`{keys.NEUTRAL_ANNOTATION}`",
        "the agent",
        "it was made neutral, or is being handed back",
    ),
)
"""On what, which label or annotation, who writes it, and what it says."""
PROGRAMS = (
    ("The extender", "tangram", tangram, "serve"),
    ("The node agent", "tangram-agent", tangram_agent, "run"),
)
NOT_SETTINGS = frozenset({"--help", "--version"})

Option = Any
"""An option as the parser of the command line holds it."""


def text() -> str:
    """Return the page."""
    return "\n".join(_lines())


def options(app: typer.Typer, command: str) -> Iterator[tuple[str, Option]]:
    """Yield where an option is to be written, before or after the command, and the option."""
    group: Any = typer.main.get_command(app)
    for where, each in ((group.name, group), (command, group.commands[command])):
        for option in each.params:
            if not NOT_SETTINGS & set(option.opts):
                yield where, option


def _lines() -> Iterator[str]:
    yield HEADER
    for title, program, app, command in PROGRAMS:
        yield f"## {title}: `{program} {command}`\n"
        yield "| option | unless said | meaning |"
        yield "|---|---|---|"
        for where, option in options(app, command):
            meaning = option.help
            if where != command:
                meaning += f" Said before `{command}`."
            if option.envvar:
                meaning += f" Or by `{option.envvar}` in the environment."
            yield f"| {_written(option)} | {_default(option)} | {_cell(meaning)} |"
        yield ""
    yield "## On objects\n"
    yield "| on | label or annotation | who writes it | what it says |"
    yield "|---|---|---|---|"
    for row in ON_OBJECTS:
        yield f"| {' | '.join(row)} |"
    yield ""


def _written(option: Option) -> str:
    name = max(option.opts, key=len)
    if option.is_flag:
        return ", ".join(f"`{each}`" for each in (name, *option.secondary_opts))
    return f"`{name} {_cell(option.metavar or _kind(option))}`"


def _kind(option: Option) -> str:
    """Return what is to be said for an option, in a word."""
    kind = option.type_descriptor.annotation
    (kind,) = get_args(kind) or (kind,)
    if issubclass(kind, StrEnum):
        return "|".join(kind)
    return {str: "TEXT", Path: "PATH", int: "INTEGER", float: "NUMBER"}[kind]


def _default(option: Option) -> str:
    if option.required:
        return "must be said"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag and not option.secondary_opts:
        return "no"
    if option.default in (None, "", ()):
        return ""
    value = getattr(option.default, "value", option.default)
    return f"`{value}`"


def _cell(words: str) -> str:
    return " ".join(words.split()).replace("|", "\\|")


def main() -> None:
    """Write it."""
    PAGE.write_text(text())
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
