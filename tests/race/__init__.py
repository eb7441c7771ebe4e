"""Many pods race for one last slot, through the hooks, again and again: exactly one may win.

A *round* is a small cluster as ``tests.chaos`` has it (two nodes with a GPU each, agents, two
extenders, the API server's twin, a seeded order of events) on which there is room for one more pod
of a kind. So many of that kind come at once. The ``contest`` plays kube-scheduler: it filters one
pod after the other, dawdles, and binds them side by side, some of them twice. In some rounds the
``lead`` changes in the middle of it: the leader is paused, killed, sent away or cut off between two
steps of a bind, and binds go on being called at both.

At the end one pod is bound, and all others were refused for want of room, after that and in words
that do not change. Then the winner leaves, and exactly one of the others takes its place. The chaos
tests' judge, which follows the writes alone, has the last word.
"""
