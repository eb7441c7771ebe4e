"""Tangram's scheduler extender: decides which node, GPU and memory slices a VM gets."""
