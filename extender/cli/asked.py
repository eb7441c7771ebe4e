"""A question put to a desk, its answer read, and what goes wrong said in one line."""

from __future__ import annotations

import asyncio
from typing import NoReturn, TypeVar

import msgspec
import typer

from extender.cli.desk import Ask, Query, Unanswered, Where, reached

_T = TypeVar("_T")


def answer(
    command: str,
    where: Where,
    path: str,
    query: Query,
    shape: type[_T],
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> _T:
    """Return what a desk answers; where it does not, say why and exit."""
    try:
        return once(where, path, query, shape, method=method, body=body)
    except (Unanswered, TimeoutError) as error:
        fail(command, error)


def once(
    where: Where,
    path: str,
    query: Query,
    shape: type[_T],
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> _T:
    """Return what a desk answers.

    Raises:
        Unanswered, TimeoutError: it does not.
    """

    async def asked() -> _T:
        async with reached(where) as ask:
            return await read(ask, path, query, shape, method=method, body=body)

    return asyncio.run(asked())


async def read(
    ask: Ask,
    path: str,
    query: Query,
    shape: type[_T],
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> _T:
    """Ask, and read the answer.

    Raises:
        Unanswered: it is not what this version of the command line reads.
    """
    said = await ask(path, query, method=method, body=body)
    try:
        return msgspec.json.decode(said, type=shape)
    except msgspec.MsgspecError as error:
        raise Unanswered(
            f"the answer cannot be read ({error}): is the extender of another version?"
        ) from error


def fail(command: str, error: Exception) -> NoReturn:
    """Say what went wrong with a command, and exit."""
    text = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    typer.echo(f"tangram {command}: {text}", err=True)
    raise typer.Exit(1)
