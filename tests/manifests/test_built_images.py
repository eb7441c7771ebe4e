"""What the Containerfiles build starts, for whom it is meant, with code that nobody may change.

They are carried out command by command, which takes root, PyPI and a minute or two, so only
``TANGRAM_IMAGES=1`` asks for it (``make test-images``).
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.manifests.bare_build import Trial, build_and_try, entrypoint
from tests.manifests.containerfile import stages
from tests.manifests.generate import MANIFESTS

IMAGES = MANIFESTS / "images"
NOBODY, ROOT_USER = "65532:65532", "0:0"
CHANGEABLE = "find /opt/tangram /usr/local -writable ! -type l 2>/dev/null | head -3"

pytestmark = pytest.mark.skipif(
    os.environ.get("TANGRAM_IMAGES") != "1", reason="images are built if TANGRAM_IMAGES=1"
)


def imports(module: str) -> str:
    return f"/opt/tangram/bin/python -c 'import {module}'"


def test_the_extenders_image(tmp_path: Path) -> None:
    file = IMAGES / "extender.Containerfile"
    (program,) = entrypoint(file)
    user = stages(file)[-1].last("USER")
    commands = (
        f"{program} --version",
        f"{program} serve --help",
        f"{program} scheduler-config --model all",
        imports("extender.cluster, extender.packing.solve"),
        imports("pytest"),
        CHANGEABLE,
    )

    tried = build_and_try(file, tmp_path, [Trial(each, user) for each in commands])

    version, helped, printed, solver, test_tools, changeable = tried
    assert user == NOBODY
    assert version.said.startswith("tangram 0."), version
    assert (helped.status, "--own-pod" in helped.said) == (0, True), helped
    assert yaml.safe_load(printed.said)["kind"] == "KubeSchedulerConfiguration"
    assert solver.status == 0, solver
    assert "ModuleNotFoundError" in test_tools.said
    assert changeable.said == ""


def test_the_agents_image(tmp_path: Path) -> None:
    file = IMAGES / "agent.Containerfile"
    (program,) = entrypoint(file)
    commands = [
        (f"{program} --version", NOBODY),
        (f"{program} inventory", stages(file)[-1].last("USER")),
        (f"{program} run --simulate H100-80GB --node n --kubeconfig /none", NOBODY),
        (imports("nodeagent.real_node, grpc, pynvml"), NOBODY),
        *((imports(module), NOBODY) for module in ("extender", "ortools", "numpy")),
        ("ls /opt/tangram/bin/tangram", NOBODY),
        (CHANGEABLE, NOBODY),
    ]

    tried = build_and_try(file, tmp_path, [Trial(*each) for each in commands])

    version, inventory, simulated, own, *missing, others, changeable = tried
    assert version.said.startswith("tangram-agent 0."), version
    assert (inventory.status, "no NVIDIA driver" in inventory.said) == (1, True), inventory
    assert (simulated.status, "/none" in simulated.said) == (1, True), simulated
    assert own.status == 0, own
    assert all("ModuleNotFoundError" in each.said for each in missing), missing
    assert others.status != 0
    assert changeable.said == ""
