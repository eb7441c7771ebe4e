"""A second policy beside the live one: what it would decide, and what would come of it.

::

    what decisions rest on ──▶ Hearing ─▶ what waits ─▶ a thread: JSON lines ─▶ another process
       (the service's seam)                  │ too much                            Imagined: the
                                             └─▶ the stretch is over               fleet as it would
    /metrics, the page, tangram policy ◀── Standing ◀── a thread ◀── Evidence ◀─── be by now

The hooks do no more than append to a queue. All else is done by a process of its own, which goes
last of all on its processor. It decides by the code that replays do (``extender.replay``), on the
fleet as it is told of, with a ledger of its own: once it has placed a VM elsewhere, it goes on from
there.

Evidence is of one stretch, in which no news is lost and neither policy changes: whatever breaks it
off (news that came too fast, a process that ended or hangs, another policy, another leader), a new
one begins with the fleet as it stands. What of the live extender is no news at all, and so not
imagined, manifests/SHADOW.md has. Only the leader has a shadow, for its decisions count.

``news`` is what a shadow is told, ``hearing`` gathers it, ``beside`` is the door to the process and
``process`` what runs there, in short ``turns``, ``confined`` to what it may take; ``running`` keeps
it going.
``imagined`` plays the news: on ``ground``, whose ``mirror`` has the nodes as they are live;
``twins`` tell how long VMs stay, and ``patience`` how long they wait. ``evidence`` counts, and
``document`` is what is told of it.
"""

from extender.shadow.document import Evidence, Standing, State
from extender.shadow.running import Shadow

__all__ = ["Evidence", "Shadow", "Standing", "State"]
