"""A Harvester cluster on a real control plane, whose GPUs, kubelets and controllers are fakes.

The API server, etcd and kube-scheduler are real, and so are Tangram's extender and agents, each a
process of its own, installed as the overlay says (``tangram``): under its accounts, roles and
policies, with its webhook and its scheduler's configuration. In the test's process (``site``) are,
for each node, Harvester's controller with its device plugins, its driver's pod, and a kubelet with
its VMs; and for the cluster KubeVirt and Harvester's webhooks, which the API server calls. Time is
the clock's; Harvester's scan may be had sooner than every 30 s.

``witness`` watches from the beginning, ``judge`` says what is wrong; what agents write is in the
log of deeds by the API server's audit log (``writes``). What an administrator does is in
``by_hand``, and no fault of Tangram's (``administered``). ``endings`` end agents and controllers at
every step. ``timing`` is a benchmark.
"""
