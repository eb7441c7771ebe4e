"""Whole histories of a cluster in one process, with everything going wrong, judged from outside.

``loop`` is time and the order of events, and lets processes be killed and frozen; ``wire`` is what
lies between a process and the API server, ``gpus`` between an agent and its GPUs. ``cluster`` puts
the processes together, ``scheduler`` plays kube-scheduler. ``events`` are drawn from a seed,
``happenings`` and ``faults`` make them happen, and ``story`` tells one history from its beginning
to its end. ``judge`` follows the writes and the driver's calls, and nothing else, with ``holds``,
``claims``, ``gangs`` and ``moves``; ``rest`` says what must hold in the end. In some histories VMs
are moved: ``orders`` are given, and ``owners`` make the pods again. ``campaign`` runs many
histories, ``shrink`` makes a failing one short, and ``hunt`` lets histories loose on ``mutants``:
bugs to be caught.

Nothing here sleeps, and the same seed is the same history.
"""
