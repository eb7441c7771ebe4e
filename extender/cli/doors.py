"""The doors of ``tangram serve``: hooks, probes, admission webhook and desk."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import msgspec

from extender.admission import Schedulers
from extender.server import Certificates, admitting, desk, probing, serving
from extender.server.admitting import last_answers
from extender.server.shadowed import none
from extender.service import Service
from extender.service.reviewer import Reviewer
from extender.shadow import Shadow


class Urls(msgspec.Struct, frozen=True):
    """Where each door is; "" for one that is not open."""

    hooks: str
    probes: str = ""
    webhook: str = ""
    desk: str = ""


class Doors(msgspec.Struct, frozen=True, kw_only=True):
    """Where what is answered, and to whom; a port of None is no door, 0 takes a free one.

    The hooks ask for client certificates by ``tls``, only of ``clients`` if there are any;
    ``anybody_tls`` is the same without. Webhook and desk are behind the latter.
    """

    host: str
    port: int
    probe_port: int | None = None
    admission_port: int | None = None
    desk_port: int | None = None
    prefix: str = ""
    tls: Certificates | None = None
    anybody_tls: Certificates | None = None
    clients: frozenset[str] = frozenset()
    schedulers: Schedulers

    @property
    def ports(self) -> tuple[int, ...]:
        """Those that are asked for."""
        ports = (self.port, self.probe_port, self.admission_port, self.desk_port)
        return tuple(port for port in ports if port is not None)

    @contextlib.asynccontextmanager
    async def opened(
        self, service: Service, reviewer: Reviewer | None, shadow: Shadow | None = None
    ) -> AsyncIterator[Urls]:
        """Open them all; the hooks' opens last and closes first, the probes' the other way.

        How a *shadow* stands is told at the desk.

        Raises:
            OSError: an address cannot be had.
        """
        host = self.host
        async with contextlib.AsyncExitStack() as stack:
            probes = webhook = looked_at = ""
            if self.probe_port is not None:
                door = probing(service, host=host, port=self.probe_port)
                probes = await stack.enter_async_context(door)
            if self.admission_port is not None:
                door = admitting(
                    self.schedulers,
                    host=host,
                    port=self.admission_port,
                    tls=self.anybody_tls,
                    parting=last_answers,
                )
                webhook = await stack.enter_async_context(door)
            if self.desk_port is not None:
                door = desk(
                    service,
                    reviewer=reviewer,
                    host=host,
                    port=self.desk_port,
                    tls=self.anybody_tls,
                    shadow=none if shadow is None else shadow.standing,
                )
                looked_at = await stack.enter_async_context(door)
            door = serving(
                service,
                host=host,
                port=self.port,
                prefix=self.prefix,
                tls=self.tls,
                clients=self.clients,
            )
            yield Urls(await stack.enter_async_context(door), probes, webhook, looked_at)
