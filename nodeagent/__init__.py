"""Tangram's node agent: reports a node's GPUs and makes the planned GPU instances exist."""
