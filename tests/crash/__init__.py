"""The agent is killed at every step that leaves a trace, and the next one makes good.

Each *case* is a site of its own (``site``): a fake GPU, a fake tree of the kernel's files, a fake
kubelet over real gRPC and the API server's twin, on which pods live their lives (``story``). The
agent is a process (``life``) put together as ``tangram-agent run`` does, and dies by SIGKILL at a
*point* (``points``); the next one, killed too or not, has two passes. Then the ``judge`` looks at
what there is, and once more when the story has ended. ``cases`` counts the points of an undisturbed
story and makes the matrix of them; ``run`` forks each case from a warm process.
"""
