"""Whole histories of a cluster in one process, with everything going wrong, judged from outside.

``loop`` is time and the order of events, and lets processes be killed and frozen; ``wire`` is what
lies between a process and the API server, ``gpus`` between an agent and its GPUs. ``cluster`` puts
the processes together, ``scheduler`` plays kube-scheduler; ``story`` draws what happens from a seed
and makes it happen. ``judge`` follows the writes and the driver's calls, and nothing else.
``shrink`` makes a failing history short; ``mutants`` are bugs that must be caught.

Nothing here sleeps, and the same seed is the same history.
"""
