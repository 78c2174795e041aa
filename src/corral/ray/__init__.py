"""Guests by Ray: a backend of its sandboxes (pip install 'corral[ray]'), and jobs of many guests (docs/fleet.md)."""
