"""The Kubernetes API server: the one door to it, for the agent and the extender alike.

``protocol`` says what can be asked and how it fails; ``rest`` asks a real API server; ``memory`` is
its in-memory twin for the demo and the tests; ``reflector`` keeps a list current through a watch.
Objects cross this door as JSON bytes or plain mappings; each caller parses what it reads, once.
"""
