"""A real kube-scheduler with Tangram, with an extender that decides nothing, and with none."""
