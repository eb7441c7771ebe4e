"""Containerfiles as far as ours go: stages, their instructions, arguments with their defaults."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Step(NamedTuple):
    """An instruction, such as RUN, and what comes after it."""

    instruction: str
    text: str

    @property
    def words(self) -> list[str]:
        """What comes after it, by words."""
        return self.text.split()


class Stage(NamedTuple):
    """What is built on an image; ``name`` is "" for the last one."""

    base: str
    name: str
    steps: tuple[Step, ...]

    def last(self, instruction: str) -> str:
        """Return what an instruction says the last time."""
        return [step.text for step in self.steps if step.instruction == instruction][-1]


def stages(file: Path) -> list[Stage]:
    """Return the stages of a Containerfile; arguments have the values that are in it."""
    arguments: dict[str, str] = {}
    found: list[Stage] = []
    for step in _steps(file):
        match step.instruction:
            case "ARG" if not found:
                name, _, value = step.text.partition("=")
                arguments[name] = value
            case "FROM":
                base, *named = string.Template(step.text).substitute(arguments).split(" AS ")
                found.append(Stage(base, "".join(named), ()))
            case _:
                before = found[-1]
                found[-1] = before._replace(steps=(*before.steps, step))
    return found


def _steps(file: Path) -> Iterator[Step]:
    kept = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    for line in "\n".join(kept).replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, text = line.strip().partition(" ")
            yield Step(instruction, " ".join(text.split()))
