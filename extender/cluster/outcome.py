"""How a call to the API server ended, in the service's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from extender.service.ports import ClusterUnavailable
from nodeagent.apiserver.protocol import ApiError, Overloaded, Throttled, Unavailable


@contextmanager
def outcome(*expected: type[ApiError]) -> Iterator[None]:
    """Let through the errors the caller tells apart; any other leaves the outcome unknown.

    Flow control is none of those: it has not looked at what was asked.
    """
    try:
        yield
    except ApiError as error:
        if isinstance(error, expected) and not isinstance(error, Overloaded):
            raise
        raise ClusterUnavailable(
            str(error),
            undone=not isinstance(error, Unavailable),
            passing=isinstance(error, Unavailable | Throttled),
            retry_after=error.retry_after,
        ) from error
    except msgspec.MsgspecError as error:
        text = f"the API server's answer does not decode: {error}"
        raise ClusterUnavailable(text, passing=False) from error
