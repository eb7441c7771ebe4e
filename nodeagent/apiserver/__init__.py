"""The Kubernetes API server: the one door to it, for the agent and the extender alike.

``protocol`` says what can be asked and how it fails; ``reflector`` keeps a list current through a
watch. Two stand behind the protocol. ``rest`` asks a real API server, over ``connection``, the only
importer of kubernetes_asyncio and aiohttp; ``answers`` says what its bytes mean. ``memory`` is its
in-memory twin for the demo and the tests: a ``store`` of each kind's ``history``, while
``semantics``, ``patches`` and ``selectors`` say what a kube-apiserver does with objects.
``events`` writes warnings for people.

Objects cross this door as JSON bytes or plain mappings; each caller parses what it reads, once.
"""
