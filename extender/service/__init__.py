"""The only mutable place of the extender: what it knows, what it promised, and what it does next.

``state`` holds the snapshot and the ledger and takes in what the cluster reports; ``hooks``
answers filter, prioritize and preempt from memory; ``binding`` carries a bind out; ``reclaim``
takes back what nobody uses; ``ports`` says what the service needs of a cluster.
"""

from extender.service.hooks import Hooks
from extender.service.service import Service
from extender.service.state import State

__all__ = ["Hooks", "Service", "State"]
