"""The only mutable place of the extender: what it knows, what it promised, and what it does next.

``knowledge`` holds the snapshot and the ledger and takes in what the cluster reports;
``freshness`` tells whether that is current. ``hooks`` answers filter, prioritize and preempt from
memory. ``pending`` has who waits, ``planner`` plans them; ``gangs`` knows where gangs stand,
``enlisted`` who is in them, ``reservation`` writes their places. ``binding`` carries a bind out,
``rendezvous`` holds it for its gang. ``reclaim`` takes back what nobody uses, ``adoption`` takes in
what was there before us, ``recording`` what kubelets have given otherwise; ``plans`` writes.
``tenancy`` keeps the policy's rules, ``usage`` and ``rooms`` what they are about, ``reloading`` the
policy; ``guarding`` has learned weights judged before they decide.
``ports`` says what the service needs of a cluster, ``reviewer`` of who knows what callers may do,
``events`` of where people are told.
"""

from extender.service.hooks import Hooks
from extender.service.knowledge import Knowledge
from extender.service.service import Service

__all__ = ["Hooks", "Knowledge", "Service"]
