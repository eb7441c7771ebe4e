"""``--policy``: a policy's name, or the path of a policy file."""

from __future__ import annotations

from pathlib import Path

import typer

from extender.policy import Policy, PolicyName
from extender.policy.file import MalformedPolicy, WrittenTimes, read

HELP = f"{', '.join(PolicyName)}; or a policy file (YAML)."


def policy(text: str, *, option: str = "--policy") -> Policy:
    """Return the policy that *text* names; whatever is no name is a path. *option* is where from.

    Raises:
        typer.BadParameter: saying what is wrong with the name or the file.
    """
    if text in {name.value for name in PolicyName}:
        return Policy(PolicyName(text))
    path = Path(text)
    if not path.suffix and not path.exists():
        raise typer.BadParameter(
            f"{text!r} is neither a policy ({', '.join(PolicyName)}) nor a file",
            param_hint=option,
        )
    try:
        file = read(path)
    except MalformedPolicy as error:
        raise typer.BadParameter(str(error), param_hint=option) from error
    if file.rules or file.times != WrittenTimes():
        raise typer.BadParameter(
            f"{path}: pools, tenants, headroom, avoid and times are checked, but not enforced here",
            param_hint=option,
        )
    return file.policy
