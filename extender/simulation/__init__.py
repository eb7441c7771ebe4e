"""Policies tried on simulated demand, through the tables that decide in the cluster.

Seeded and paired: the same seed brings every policy the same requests. No I/O beyond reading a
trace, and no chance but :mod:`extender.simulation.chance`.
"""
