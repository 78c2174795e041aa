"""Processes that have Python and Corral loaded, and wait for a command (docs/pool.md)."""
