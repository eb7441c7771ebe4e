"""What a policy would come to in a cluster, before it is in force there.

Whom its rules match, what is over them already, and how the pods that are there stand to it:
judged by what would decide, on a copy of what there is. Nothing is changed.
"""

from extender.outlook.document import Because, Effect, Outlook, Tally
from extender.outlook.outlook import outlook
from extender.outlook.there import There

__all__ = ["Because", "Effect", "Outlook", "Tally", "There", "outlook"]
