"""How placements are to be ranked: policies by name and from the file that SREs write.

Nothing here decides, or knows a GPU.
"""

from extender.policy.in_force import InForce
from extender.policy.names import PolicyName
from extender.policy.values import Policy, Shares, Weights

__all__ = ["InForce", "Policy", "PolicyName", "Shares", "Weights"]
