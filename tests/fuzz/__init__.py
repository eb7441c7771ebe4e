"""Hostile requests against the hooks: what comes is made here, what comes of it is judged here."""
