"""Guests that have a name: a folder for each, by which other commands find them (docs/background.md)."""
