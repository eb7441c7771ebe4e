"""A package, so that the module ``golden`` is told from the folder beside it."""
