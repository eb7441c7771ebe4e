"""Whether a shadow's word holds: what it says a policy would refuse, and what that does live.

``site`` is an extender that decides live; ``experiment`` lets two policies change places before the
same demand, and holds what each shadow said against what then happened.
"""
