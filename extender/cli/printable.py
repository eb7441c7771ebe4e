"""Text of others made fit for a terminal: nothing in it moves the cursor, or is taken as markup."""

from __future__ import annotations

from rich.text import Text

INSTEAD = "\ufffd"


def printable(text: str) -> str:
    """Return a text in one line, with a sign instead of what cannot be printed."""
    return "".join(each if each.isprintable() else INSTEAD for each in text)


def literal(text: str) -> Text:
    """Return a text as rich prints it to the letter."""
    return Text(printable(text))
