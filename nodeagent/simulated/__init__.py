"""Simulated GPUs and a simulated kubelet: the whole node agent on a machine that has neither.

``hardware`` are the GPUs, which outlive the agent; ``driver`` is the way to them. ``kubelet`` plays
the node's kubelet towards the agent and the API server, its ``admission`` towards the ``pods``.
"""
