"""The scheduler's hooks as pure decisions: a snapshot and a request in, a value out.

No clock, no I/O, nothing awaited; ``service`` carries the decisions out.
"""
