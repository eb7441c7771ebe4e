"""The node agent: observe, decide, act, publish.

``loop`` runs it; ``passes`` makes one pass after the other, through ``handout`` (towards the
kubelet, or whatever else is ``handing`` devices out), ``reporter`` (towards the API server, if
there is ``news``) and ``alarms`` (towards those whose GPU has been closed).
"""

from nodeagent.agent.loop import Agent

__all__ = ["Agent"]
