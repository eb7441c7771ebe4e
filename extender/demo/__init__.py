"""``tangram demo``: a whole simulated cluster in one process, driven as kube-scheduler drives it.

The service, the hooks' HTTP door and the node agents are the real ones; the API server is its
in-memory twin and the GPUs, kubelets and the scheduler are simulated. Time is compressed: a VM's
lifetime passes when nothing is left to do, not while a clock runs. Only while somebody watches
(``slow``) does it take its time.
"""
