"""The images have what their programs need, in the versions that are tested, and no more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manifests.generate import MANIFESTS, ROOT

IMAGES = MANIFESTS / "images"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
each_image = pytest.mark.parametrize("image", ["extender", "agent"])


def locked(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", file.read_text(), re.MULTILINE))


def required(*groups: list[str]) -> Iterator[str]:
    for group in groups:
        for each in group:
            name = re.match(r"[A-Za-z0-9_.-]+", each)
            assert name is not None
            yield name[0].lower().replace("_", "-")


def instructions(image: str) -> list[list[str]]:
    text = (IMAGES / f"{image}.Containerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


@each_image
def test_an_image_has_what_its_program_requires(image: str) -> None:
    needed = set(required(PROJECT["dependencies"], PROJECT["optional-dependencies"][image]))

    assert needed <= locked(IMAGES / f"{image}.lock").keys()


@pytest.mark.parametrize("lock", ["extender", "agent", "build"])
def test_it_has_the_versions_that_are_tested(lock: str) -> None:
    found = locked(IMAGES / f"{lock}.lock")

    assert found
    assert found.items() <= locked(ROOT / ".ci/requirements.lock").items(), "run `make lock`"


def test_the_privileged_image_has_neither_solver_nor_test_tools() -> None:
    found = locked(IMAGES / "agent.lock").keys()

    assert not found & {"ortools", "numpy", "pytest", "cryptography", "hatchling"}


@each_image
def test_a_containerfile_copies_what_is_there_and_installs_by_hash(image: str) -> None:
    steps = instructions(image)
    sources = [
        source
        for step in steps
        if step[0] == "COPY" and not step[1].startswith("--from")
        for source in step[1:-1]
    ]
    installs = [step for step in steps if step[0] == "RUN" and "--requirement" in step]

    assert sources
    assert all((ROOT / source).exists() for source in sources)
    for step in installs:
        assert step.count("--require-hashes") == step.count("--requirement")
    assert any("PYTHONDONTWRITEBYTECODE=1" in step for step in steps)


@pytest.mark.parametrize(("image", "script"), [("extender", "tangram"), ("agent", "tangram-agent")])
def test_an_image_starts_its_program(image: str, script: str) -> None:
    assert instructions(image)[-1] == ["ENTRYPOINT", f'["/opt/tangram/bin/{script}"]']
    assert script in PROJECT["scripts"]


def test_the_extender_is_nobody_in_its_image() -> None:
    assert ["USER", "65532:65532"] in instructions("extender")
