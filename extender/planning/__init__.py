"""The pending queue as one packing problem, and gangs: decisions in values.

Made from views, a ledger and the pods that wait; what comes out is for ``service`` to carry out.
"""
