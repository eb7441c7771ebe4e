"""A Harvester cluster on a real control plane, whose GPUs, kubelets and controllers are fakes.

The API server, etcd and kube-scheduler are real, and so are Tangram's extender and agents, each a
process of its own. In the test's process are, for each node, Harvester's controller with its device
plugins, and a kubelet with its VMs; and for the cluster KubeVirt and Harvester's webhooks, which
the API server calls. Time is the clock's; Harvester's scan may be had sooner than every 30 s.
"""
