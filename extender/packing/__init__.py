"""Which GPU and which memory slices: bin packing over occupancy states.

Knows nothing of Kubernetes, of time or of chance: values in, values out.
"""
