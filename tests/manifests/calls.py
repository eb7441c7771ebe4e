"""What a program asks of the API server, read from its source: each call of the one door there is.

The door's methods take the kind first, as one of the constants in ``nodeagent.apiserver.protocol``,
or as a name that was looked up in a table of these; ``reflect`` lists and watches one. A call whose
kind cannot be read is an error, not a gap.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from nodeagent.apiserver import protocol
from nodeagent.apiserver.protocol import Kind

KINDS = {name: each for name, each in vars(protocol).items() if isinstance(each, Kind)}
VERBS = frozenset({"get", "list", "watch", "create", "patch", "delete"})

Permission = tuple[str, str, str]
"""API group, resource with its subresource, verb."""


class Unreadable(Exception):
    """A call of the door whose kind or subresource is no constant."""


def calls(files: Iterable[Path]) -> frozenset[Permission]:
    """Return the permissions that the code in *files* needs."""
    return frozenset(needed for file in files for needed in _of_file(file))


def _of_file(file: Path) -> Iterator[Permission]:
    module = ast.parse(file.read_text())
    kinds = Kinds(module)
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            try:
                yield from _of_call(node, kinds)
            except Unreadable as error:
                raise Unreadable(f"{file}:{node.lineno}: {error}") from error


def _of_call(call: ast.Call, kinds: Kinds) -> Iterator[Permission]:
    match call.func:
        case ast.Name("reflect"):
            if not isinstance(call.args[1], ast.Attribute):  # else of a table, whose rows are below
                yield from _permissions(kinds.of(call.args[1]), ("list", "watch"))
        case ast.Name("_Followed"):
            yield from _permissions(kinds.of(call.args[1]), ("list", "watch"))
        case ast.Attribute(value=receiver, attr=verb) if verb in VERBS and _is_door(receiver):
            subresources = [word.value for word in call.keywords if word.arg == "subresource"]
            yield from _permissions(kinds.of(call.args[0]), (verb,), *map(_text, subresources))


def _permissions(
    kinds: Iterable[Kind], verbs: Iterable[str], subresource: str = ""
) -> Iterator[Permission]:
    for kind in kinds:
        resource = f"{kind.plural}/{subresource}" if subresource else kind.plural
        for verb in verbs:
            yield kind.group, resource, verb


def _is_door(receiver: ast.expr) -> bool:
    """Tell whether that is an API server by its name, as everywhere in the code."""
    match receiver:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.removeprefix("_") in ("api", "fenced")
    return False


class Kinds:
    """What names stand for kinds in a module: constants, and what is looked up in its tables."""

    def __init__(self, module: ast.Module) -> None:
        tables = {
            table.id: {KINDS[value.id] for value in values if isinstance(value, ast.Name)}
            for statement in module.body
            if isinstance(statement, ast.AnnAssign)
            and isinstance(table := statement.target, ast.Name)
            and isinstance(statement.value, ast.Dict)
            and all(isinstance(v, ast.Name) and v.id in KINDS for v in statement.value.values)
            for values in (statement.value.values,)
        }
        self._looked_up: dict[str, set[Kind]] = {}
        for node in ast.walk(module):
            match node:
                case ast.Assign(
                    targets=[ast.Name(id=name)],
                    value=ast.Call(func=ast.Attribute(value=ast.Name(id=known), attr="get")),
                ) if known in tables:
                    self._looked_up[name] = tables[known]

    def of(self, argument: ast.expr) -> Iterable[Kind]:
        """Return the kinds that an expression may be."""
        match argument:
            case ast.Name(id=name) if name in KINDS:
                return (KINDS[name],)
            case ast.Name(id=name) if name in self._looked_up:
                return self._looked_up[name]
        raise Unreadable(f"of what kind is {ast.unparse(argument)}?")


def _text(argument: ast.expr) -> str:
    match argument:
        case ast.Constant(value=str(text)):
            return text
    raise Unreadable(f"which subresource is {ast.unparse(argument)}?")
