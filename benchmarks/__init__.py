"""Measurements of this program, each a command of its own; LOG.md keeps what they said."""
