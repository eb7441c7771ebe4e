"""A real Kubernetes control plane for tests, on loopback: no kubelet, no container runtime.

Nothing here knows Tangram. `binaries` finds or builds the programs, at the versions go.mod names;
`cluster` runs them.
"""
