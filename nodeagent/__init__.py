"""Tangram's node agent: reports a node's GPU inventory and makes the planned GPU instances exist."""
