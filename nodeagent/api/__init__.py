"""What the node agent publishes and accepts: the contract both processes stand on.

Values and computation only: no I/O, no clock, nothing beyond the standard library and msgspec.
Both processes import this package; it imports neither.
"""
