"""The images have what their programs need, in the versions that are tested, and no more."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.manifests.containerfile import Stage, stages
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


def built(image: str) -> list[Stage]:
    return stages(IMAGES / f"{image}.Containerfile")


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
def test_an_image_is_built_in_two_stages_on_one_base_that_is_pinned_by_its_digest(
    image: str,
) -> None:
    build, final = built(image)
    (base,) = {build.base, final.base} | {built("extender")[0].base}
    python = re.fullmatch(
        r"docker\.io/library/python:3\.([0-9]+)\.[0-9]+-slim-trixie@sha256:[0-9a-f]{64}", base
    )

    assert python is not None, base
    assert 11 <= int(python[1]) <= 14  # what the project says it runs on
    assert (build.name, final.name) == ("build", "")
    # The tools that build are left behind, with all but what they have built.
    assert [step.text for step in final.steps if step.instruction in ("COPY", "ADD", "RUN")] == [
        "--from=build /opt/tangram /opt/tangram"
    ]


@each_image
def test_a_containerfile_copies_what_is_there_and_installs_by_hash(image: str) -> None:
    build, _ = built(image)
    sources = [
        source for step in build.steps if step.instruction == "COPY" for source in step.words[:-1]
    ]
    installs = [
        step.words
        for step in build.steps
        if step.instruction == "RUN" and "--requirement" in step.words
    ]

    assert sources
    assert all((ROOT / source).exists() for source in sources)
    assert installs
    for words in installs:
        assert words.count("--require-hashes") == words.count("--requirement")
        assert words.count("--only-binary") == words.count("--requirement")


@pytest.mark.parametrize(("image", "script"), [("extender", "tangram"), ("agent", "tangram-agent")])
def test_an_image_starts_its_program_which_writes_nothing_beside_its_code(
    image: str, script: str
) -> None:
    _, final = built(image)

    assert final.last("ENTRYPOINT") == f'["/opt/tangram/bin/{script}"]'
    assert script in PROJECT["scripts"]
    assert "PYTHONDONTWRITEBYTECODE=1" in final.last("ENV").split()


def test_the_extender_is_nobody_in_its_image_and_the_agent_root() -> None:
    users = {image: built(image)[-1].last("USER") for image in ("extender", "agent")}

    assert users == {"extender": "65532:65532", "agent": "0:0"}


@each_image
def test_an_image_is_what_the_manifests_name(image: str) -> None:
    kustomization = yaml.safe_load((MANIFESTS / "overlays/default/kustomization.yaml").read_text())
    (named,) = (each for each in kustomization["images"] if each["name"] == f"tangram-{image}")
    text = (IMAGES / f"{image}.Containerfile").read_text()

    assert named["newTag"] == PROJECT["version"]
    assert f"-t tangram-{image}:{PROJECT['version']} ." in text
