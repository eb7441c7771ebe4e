"""An agent on a node of fakes: its container's arguments, and where things are there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nodeagent.deviceplugin import Places
from tests.e2e.process import ROOT, Process
from tests.fakes.nvml.library import STATE_VARIABLE
from tests.fakes.nvml.machine import Machine

PROGRAM = "nodeagent"
"""The module of ``tangram-agent``."""


def agent(
    log: Path,
    kubeconfig: Path,
    options: Sequence[str],
    *,
    node: str,
    root: Path,
    machine: Machine,
    places: Places,
    program: str = PROGRAM,
    tree: Path = ROOT,
) -> Process:
    """Return the agent of *node*, with *options*, and besides where things are.

    *root* is the node's; its kubelet has its directories in *places*. The *program* is of the code
    in *tree*.
    """
    return Process(
        log,
        *(program, *options, f"--node={node}"),
        *(f"--state-dir={root / 'agent'}", f"--kubeconfig={kubeconfig}"),
        *(f"--library={machine.library}", f"--host-root={root}"),
        f"--kubelet-dir={places.device_plugins}",
        f"--pod-resources={places.pod_resources}",
        f"--cdi-dir={places.cdi}",
        tree=tree,
        environment={STATE_VARIABLE: str(machine.state)},
    )
