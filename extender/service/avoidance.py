"""What is avoided because GPU instances could not be made there: single GPUs, and whole nodes.

A GPU on which one could not be made is chosen last for a while, longer with each time: by single
pods, by plans for several and by gangs, only where nothing else will do. Where the agent fails
whatever it is asked, choosing another GPU does not help: after so many failures in a row its node
takes nothing new. It is a circuit breaker, per node::

    closed ──▶ open ──▶ half open ──▶ closed      the one assignment let through was realized
                 ▲          │
                 └──────────┘                     it failed, too: twice as long

What was learnt fades: a failure counts for less the longer nothing has failed since. It is this
process's own, and not handed over with the lead, as the demand is: whoever leads next has it again
after the first few failures, while a note might be of a GPU that was mended meanwhile, and would
have to be kept at each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import msgspec

from extender.service.ports import PLAN_TIMEOUT_SECONDS, TRANSIT_SECONDS
from extender.service.seam import UNHEARD, Call, Seam, meant, restores, restoring, told, told_at
from extender.settings import Settings

MOST_DOUBLINGS = 32
WRITTEN_WITHIN_SECONDS = PLAN_TIMEOUT_SECONDS + TRANSIT_SECONDS


class Strikes(msgspec.Struct, frozen=True):
    """How often something has failed, and until when it is avoided for that."""

    count: int = 0
    until: float = float("-inf")

    def again(self, *, now: float, first: float, longest: float) -> Strikes:
        """Return the strikes after another failure: it is avoided twice as long, up to *longest*.

        For each time *longest* that went by in peace, one strike is forgotten.
        """
        forgotten = int(max(0.0, now - self.until) // longest) if self.count else 0
        count = max(0, self.count - forgotten) + 1
        lasts = min(longest, first * 2.0 ** min(count - 1, MOST_DOUBLINGS))
        return Strikes(count, now + lasts)


class Circuit(msgspec.Struct, frozen=True):
    """A node's circuit. ``failures`` are the assignments that failed in a row, with their times.

    ``open`` is whether it has opened and not closed since: half open once the strikes' time is up.
    ``probe`` are the assignments let through, which are one pod's or one gang's, and
    ``probe_until`` is for how long they may take; () where it is not known which they are.
    """

    failures: tuple[tuple[float, str], ...] = ()
    strikes: Strikes = Strikes()
    open: bool = False
    probe_until: float = float("-inf")
    probe: tuple[str, ...] = ()

    def refuses(self, *, now: float) -> bool:
        """Tell whether nothing new may go to the node."""
        return self.open and now < max(self.strikes.until, self.probe_until)

    def failed(self, id: str, *, now: float, settings: Settings) -> Circuit:
        """Return the circuit after an assignment failed; the same one again is no news."""
        first = settings.circuit_seconds
        longest = max(first, settings.circuit_longest_seconds)
        since = now - settings.circuit_window_seconds
        failures = tuple((at, known) for at, known in self.failures if at > since and known != id)
        failures = (*failures, (now, id))
        probed = self.probe_until > float("-inf") and (not self.probe or id in self.probe)
        if self.open and (now < self.strikes.until or not probed):
            return self  # begun before it opened: no news
        if not self.open and len(failures) < settings.circuit_failures:
            return msgspec.structs.replace(self, failures=failures)
        strikes = self.strikes.again(now=now, first=first, longest=longest)
        return Circuit(strikes=strikes, open=True)

    def succeeded(self) -> Circuit:
        """Return the circuit after an assignment was realized."""
        return Circuit(strikes=self.strikes)

    def probed(self, ids: Collection[str] = (), *, until: float) -> Circuit:
        """Return the circuit with assignments of *ids* let through, if it is open."""
        if not self.open:
            return self
        return msgspec.structs.replace(self, probe=tuple(sorted(ids)), probe_until=until)

    def doubted(self, *, until: float) -> Circuit:
        """Return the circuit with a probe that may never have been written: another may soon go."""
        return msgspec.structs.replace(self, probe_until=min(until, self.probe_until))


class Avoidance:
    """By GPU and by node, what has failed of late; ``clock`` is monotonic, in seconds."""

    def __init__(
        self, settings: Settings, clock: Callable[[], float], seam: Seam = UNHEARD
    ) -> None:
        self.seam = seam
        self._settings = settings
        self._clock = clock
        self._gpus: dict[str, Strikes] = {}
        self._nodes: dict[str, Circuit] = {}
        self._awaited: dict[str, float] = {}

    @property
    def nodes(self) -> Collection[str]:
        """The nodes on which something has failed."""
        return self._nodes.keys()

    @told
    def gpu_failed(self, gpu: str) -> float:
        """Note that an instance could not be made on a GPU; return until when it is avoided."""
        settings = self._settings
        self._gpus[gpu] = self._gpus.get(gpu, Strikes()).again(
            now=self._clock(),
            first=settings.avoidance_seconds,
            longest=max(settings.avoidance_longest_seconds, settings.avoidance_seconds),
        )
        return self._gpus[gpu].until

    @told
    def node_failed(self, node: str, id: str) -> float:
        """Note that an assignment failed; return for how many seconds its node takes nothing new.

        0 if it still does, or if that was known already.
        """
        if not self._settings.circuit_failures:
            return 0.0
        now, before = self._clock(), self._nodes.get(node, Circuit())
        after = self._nodes[node] = before.failed(id, now=now, settings=self._settings)
        return after.strikes.until - now if after.open and after is not before else 0.0

    @told
    def succeeded(self, node: str, gpus: Collection[str]) -> bool:
        """Note that instances were made; return whether the node was thought unable to."""
        for gpu in gpus:
            self._gpus.pop(gpu, None)
        circuit = self._nodes.get(node)
        if circuit is None:
            return False
        self._nodes[node] = circuit.succeeded()
        return circuit.open

    @told
    def probe(self, node: str, ids: Collection[str] = ()) -> None:
        """Note that assignments are being written: to a half open circuit, the only ones."""
        circuit = self._nodes.get(node)
        if circuit is not None:
            until = self._clock() + self._settings.reservation_seconds
            self._nodes[node] = circuit.probed(ids, until=until)

    @told
    def not_probed(self, node: str) -> None:
        """Note that they were certainly not written after all."""
        circuit = self._nodes.get(node)
        if circuit is not None:
            self._nodes[node] = circuit.probed(until=float("-inf"))

    @told
    def doubted(self, node: str) -> None:
        """Note that nobody knows whether they were written, or may be yet for a moment."""
        circuit = self._nodes.get(node)
        if circuit is not None:
            until = self._clock() + WRITTEN_WITHIN_SECONDS
            self._nodes[node] = circuit.doubted(until=until)

    def awaits(self, ids: Collection[str]) -> None:
        """Note assignments that are written, of whose outcome nothing was heard yet.

        What was not heard of within twice a reservation's time is heard of no more.
        """
        now = self._clock()
        gone = now - 2 * self._settings.reservation_seconds
        self._awaited = {id: at for id, at in self._awaited.items() if at > gone}
        self._awaited.update(dict.fromkeys(ids, now))

    def heard(self, ids: Collection[str]) -> bool:
        """Tell whether the outcome of assignments is news, which it is once."""
        news = self._awaited.keys() & set(ids)
        for id in news:
            del self._awaited[id]
        return bool(news)

    def refuses(self, node: str) -> bool:
        """Tell whether nothing new may go to a node."""
        circuit = self._nodes.get(node)
        return circuit is not None and circuit.refuses(now=self._clock())

    def restated(self) -> Call:
        """Return what leads here."""
        return restoring("Avoidance.restore", *_timed(self._gpus, self._nodes, told_at))

    @restores
    def restore(self, gpus: Mapping[str, Strikes], nodes: Mapping[str, Circuit]) -> None:
        """Take in what has failed."""
        self._gpus, self._nodes = _timed(gpus, nodes, meant)


def _timed(
    gpus: Mapping[str, Strikes], nodes: Mapping[str, Circuit], by: Callable[[float], float]
) -> tuple[dict[str, Strikes], dict[str, Circuit]]:
    """Return them with each time *by* what it is told."""

    def struck(strikes: Strikes) -> Strikes:
        return msgspec.structs.replace(strikes, until=by(strikes.until))

    return {gpu: struck(each) for gpu, each in gpus.items()}, {
        node: msgspec.structs.replace(
            each, strikes=struck(each.strikes), probe_until=by(each.probe_until)
        )
        for node, each in nodes.items()
    }
