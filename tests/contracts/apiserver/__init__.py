"""What an API server must do for Tangram: one exam, for the in-memory twin and a kube-apiserver.

The real one is asked through ``RestApi``, so that passes with it. Nothing is shared between two
tests: each has its own namespace, and GpuNodes named and labelled for it alone.
"""
