"""Faults on a real control plane under load: ``make chaos-e2e``.

Each round measures the load, lets one thing go wrong, measures how long that is felt, and judges:

* ``site`` is the cluster: etcd, kube-apiserver, kube-scheduler, two extenders, simulated agents
  (``machines``), and a ``link`` wherever the network may fail;
* ``demand`` says who comes: VMs with one vGPU or several, VMs that restart, and gangs; ``load``
  makes them come and go, and calls the hooks as a second scheduler would;
* ``faults`` are what can go wrong;
* ``history`` reads every write from etcd itself, whoever else is dead meanwhile; ``checker`` judges
  each of them, with ``holds`` for the places of VMs that restart and with ``gangs``; ``census``
  counts them, and ``verdict`` judges what is left when all is at rest;
* ``campaign`` runs the rounds, and ``report`` tells of them.
"""
