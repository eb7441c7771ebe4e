"""Experiments on Tangram. Each compares ratios within one run; the machines are noisy."""
