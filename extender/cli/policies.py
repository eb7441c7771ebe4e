"""``--policy``: a policy's name, or the path of a policy file."""

from __future__ import annotations

from pathlib import Path

import typer

from extender.cluster import PolicySource, ShadowSource
from extender.policy import InForce, Policy, PolicyName
from extender.policy.file import MalformedPolicy, as_file, contents, parsed, written
from extender.policy.values import Times

HELP = f"{', '.join(PolicyName)}; or a policy file (YAML)."


def in_force(text: str, *, option: str = "--policy") -> tuple[InForce, PolicySource | None]:
    """Return the policy that *text* names, and its file, where it is one.

    Whatever is no name is a path; *option* is where it is from.

    Raises:
        typer.BadParameter: saying what is wrong with the name or the file.
    """
    if text in {name.value for name in PolicyName}:
        return InForce.of(PolicyName(text)), None
    path = _path(text, option)
    try:
        content = contents(path)
        return parsed(content, str(path)).in_force, PolicySource(path, content)
    except MalformedPolicy as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def policy(text: str, *, option: str = "--policy") -> Policy:
    """Return the ranking that *text* names, for what keeps no rules.

    Raises:
        typer.BadParameter: saying what is wrong with the name or the file.
    """
    found, _ = in_force(text, option=option)
    if found.rules or found.times != Times():
        raise typer.BadParameter(
            f"{text}: pools, tenants, headroom, avoid and times are kept by `tangram serve` and"
            " `tangram demo` alone; leave them out here",
            param_hint=option,
        )
    return found.policy


def beside(text: str) -> ShadowSource:
    """Return where the policy is read from that runs beside the one in force.

    What a file says is looked at when it runs: one with a fault is no reason not to decide, and one
    may come later.

    Raises:
        typer.BadParameter: it is neither a name nor like a file's.
    """
    if text in {name.value for name in PolicyName}:
        of = written(as_file(InForce.of(PolicyName(text))))
        return ShadowSource(text, lambda: of)
    return ShadowSource(text, _path(text, "--shadow-policy").read_bytes)


def _path(text: str, option: str) -> Path:
    """Return the path that a text is which is no policy's name.

    Raises:
        typer.BadParameter: it is rather a name that was misspelt.
    """
    path = Path(text)
    if path.suffix or path.exists():
        return path
    raise typer.BadParameter(
        f"{text!r} is neither a policy ({', '.join(PolicyName)}) nor a file", param_hint=option
    )
