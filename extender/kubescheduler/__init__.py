"""kube-scheduler's configuration, as far as Tangram has a say in it.

``configuration`` are the fields, ``compose`` writes what Tangram asks for, ``check`` reads what an
administrator has, ``offered`` tells which resources there are to manage. Values and computation
only.
"""
