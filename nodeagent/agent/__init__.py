"""The node agent: observe, decide, act, publish.

``loop`` runs it; ``passes`` makes one pass after the other, through ``handout`` (towards the
kubelet) and ``reporter`` (towards the API server, if there is ``news``).
"""

from nodeagent.agent.loop import Agent

__all__ = ["Agent"]
