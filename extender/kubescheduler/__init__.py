"""kube-scheduler's configuration, as far as Tangram has a say in it, and what it lets nodes take.

``configuration`` are the fields, ``compose`` writes what Tangram asks for, ``check`` reads what an
administrator has, ``offered`` tells which resources there are to manage; ``eligible`` tells which
nodes a pod may run on. Values and computation only.
"""
